"""A held-out part of a list with as much of every class as its share (iterative stratification).

Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011: the rarest class among the
images that are left is shared out first, each image to the part that still needs it most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def stratified(
    tags: Mapping[str, Sequence[int]], groups: Iterable[Sequence[str]], share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Split images into a training and a held-out part.

    Args:
        tags: id -> classes that it shows.
        groups: ids that stay together, such as copies of one image; ids that are not in ``tags`` are skipped.
        share: of the held-out part, 0 to 1; 0 gives an empty one. Otherwise each class of two or more images gets one.
        seed: of the order in which images of a class are shared out.

    Returns:
        ids of the training and of the held-out part, sorted.
    """
    members = [[image_id for image_id in group if image_id in tags] for group in groups]
    left = {k: ids for k, ids in enumerate(members) if ids}
    shown = {k: sorted({tag for image_id in ids for tag in tags[image_id]}) for k, ids in left.items()}
    counts: dict[int, int] = {}
    for k in left:
        for tag in shown[k]:
            counts[tag] = counts.get(tag, 0) + 1
    wanted = {tag: max(1, round(share * n)) if share > 0 and n > 1 else 0 for tag, n in counts.items()}
    order = {int(k): place for place, k in enumerate(np.random.default_rng(seed).permutation(len(members)))}
    train: list[str] = []
    val: list[str] = []
    while left:
        remaining = {tag: sum(tag in shown[k] for k in left) for tag in counts}
        present = [tag for tag, n in remaining.items() if n]
        rarest = min(present, key=lambda tag: (remaining[tag], tag)) if present else None
        for k in sorted((k for k in left if rarest is None or rarest in shown[k]), key=order.__getitem__):
            need = [wanted[tag] for tag in shown[k]]
            # Held out while the class needs it, unless that would take more of another class than its share.
            held = rarest is not None and wanted[rarest] > 0 and min(need) > 0
            (val if held else train).extend(left.pop(k))
            for tag in shown[k] if held else ():
                wanted[tag] -= 1
    return sorted(train), sorted(val)
