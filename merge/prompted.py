"""prompted: masks that know their class become the label; the CAM label stays where no such mask speaks.

Masks from class-aware prompts (``generate_sam_masks.py --prompt cam|tags|points|boxes``) carry a category and a score. The
rules:

1. Only categories among the image's tags count, when there are tags, and only scores of at least ``score``.
2. Where masks of one class overlap, they are united.
3. Where masks of two classes overlap, the smaller mask is in front, since small objects are in front of large ones
   (the order of Kirillov et al., "Segment Anything", arXiv 2304.02643, for display). When their sizes are alike, the
   better score wins; when the scores are alike as well, the pixel is void.
4. Where no mask speaks, the CAM label stays; with ``keep`` off, or without a CAM label, the rest is background.
"""

from __future__ import annotations

import numpy as np

from util.data.masks import Masks
from util.data.voc import VOID


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    score: float = 0.5,
    size_ratio: float = 0.7,
    score_margin: float = 0.05,
    keep: bool = True,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        score: masks with a lower score are left out, 0 to 1.
        size_ratio: the smaller mask is in front when it has less than this share of the other's pixels, 0 to 1.
        score_margin: two scores differ when they are further apart than this.
        keep: whether the CAM label stays where no mask speaks.
    """
    used = [k for k in range(len(masks)) if _counts(masks, k, tags, score)]
    result = label.copy() if keep else np.zeros_like(label)
    owner = np.full(masks.shape, -1, np.int64)
    for k in sorted(used, key=lambda k: (-masks.areas[k], masks.scores[k])):  # large ones first, below
        inside = masks.dense(k)
        result[inside & (owner < 0)] = masks.classes[k]
        for below in np.unique(owner[inside]):
            contested = inside & (owner == below)
            result[contested] = _winner(masks, k, int(below), size_ratio, score_margin)
        owner[inside] = k
    return result


def _counts(masks: Masks, k: int, tags: tuple[int, ...] | None, score: float) -> bool:
    value = masks.classes[k]
    return value > 0 and masks.scores[k] >= score and (tags is None or value in tags)


def _winner(masks: Masks, above: int, below: int, size_ratio: float, score_margin: float) -> int:
    """The class of pixels in both masks; the one above is not larger."""
    classes = masks.classes[above], masks.classes[below]
    if below < 0 or classes[0] == classes[1] or masks.areas[above] < size_ratio * masks.areas[below]:
        return int(classes[0])
    difference = masks.scores[above] - masks.scores[below]
    if abs(difference) <= score_margin:
        return VOID
    return int(classes[0] if difference > 0 else classes[1])
