"""Your own strategy: edit this file, run ``python main.py --mode compare ...`` again, and compare.

Unedited, every mask goes to the class that holds the largest share of it, when that share is large enough; where
masks overlap, the purer one wins; pixels under no winning mask keep their label.
"""

import numpy as np

from merge.merge_base import foreground_classes
from util.data.masks import Masks

SEARCH = {"purity": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)}  # values for --split-half and --sensitivity


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    purity: float = 0.5,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        purity: the smallest share of a mask that its class must hold.
    """
    classes = foreground_classes(label)
    result = label.copy(order="F")
    if not len(masks) or not len(classes):
        return result
    share = masks.overlaps(label, classes) / np.maximum(masks.areas, 1)[:, None]  # K x classes
    best, winner = share.max(axis=1), classes[share.argmax(axis=1)]
    # Purer masks come last and paint over; the class settles ties, so the order of the masks in the file does not.
    order = np.lexsort((winner, best))
    for k in order[best[order] > purity]:
        result[masks.dense(k)] = winner[k]
    return result
