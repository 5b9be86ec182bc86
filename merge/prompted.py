"""prompted: masks that know their class become the label; the CAM label stays where no such mask speaks.

Masks from class-aware prompts (``generate_sam_masks.py --prompt cam|tags|points|boxes``) carry a category and a score. The
rules:

1. Only categories among the image's tags count, when there are tags, and only scores above ``score``, the threshold that
   the masks were written with.
2. A peak of a CAM asks for one mask, however wrong. A mask that a CAM asked for must fit the CAM label: if the label has
   its class, it has to hold much of the mask, or the mask most of the class.
3. Where masks of one class overlap, they are united.
4. Where masks of two classes overlap, the smaller mask is in front, since small objects are in front of large ones
   (the order of Kirillov et al., "Segment Anything", arXiv 2304.02643, for display). When their sizes are alike, the
   better score wins; when the scores are alike as well, the pixel is void.
5. Where no mask speaks, the CAM label stays; with ``keep`` off, or without a CAM label, the rest is background.
"""

from __future__ import annotations

import numpy as np

from util.data.masks import LEAST_SCORE, Masks
from util.data.voc import VOID


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    score: float = LEAST_SCORE,
    agreement: float = 0.3,
    coverage: float = 0.7,
    size_ratio: float = 0.7,
    score_margin: float = 0.05,
    keep: bool = True,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        score: masks need a higher score, 0 to 1.
        agreement: share of a mask that must carry its class in the label, where a CAM asked for it; 0: any mask fits.
        coverage: or share of the label's pixels of that class that the mask must hold.
        size_ratio: the smaller mask is in front when it has less than this share of the other's pixels, 0 to 1.
        score_margin: two scores differ when they are further apart than this.
        keep: whether the CAM label stays where no mask speaks.
    """
    counts = (masks.classes > 0) & (masks.scores > score) & _fits(label, masks, agreement, coverage)
    if tags is not None:
        counts &= np.isin(masks.classes, tags)
    result = label.copy() if keep else np.zeros_like(label)
    owner = np.full(masks.shape, -1, np.int64)
    below_first = np.lexsort((masks.scores, -masks.areas))  # large ones first
    for k in below_first[counts[below_first]].tolist():
        inside = masks.dense(k)
        result[inside & (owner < 0)] = masks.classes[k]
        for below in np.unique(owner[inside]):
            contested = inside & (owner == below)
            result[contested] = _winner(masks, k, int(below), size_ratio, score_margin)
        owner[inside] = k
    return result


def _fits(label: np.ndarray, masks: Masks, agreement: float, coverage: float) -> np.ndarray:
    """bool K: all masks but those that a CAM asked for and whose class the label has elsewhere."""
    values, column = np.unique(masks.classes, return_inverse=True)
    shared = masks.overlaps(label, values)[np.arange(len(masks)), column]
    of_class = np.array([np.count_nonzero(label == value) for value in values], np.int64)[column]
    from_cam = np.array([prompt == "cam" for prompt in masks.prompts], bool)
    return ~from_cam | (of_class == 0) | (shared >= agreement * masks.areas) | (shared >= coverage * of_class)


def _winner(masks: Masks, above: int, below: int, size_ratio: float, score_margin: float) -> int:
    """The class of pixels in both masks; the one above is not larger."""
    classes = masks.classes[above], masks.classes[below]
    if below < 0 or classes[0] == classes[1] or masks.areas[above] < size_ratio * masks.areas[below]:
        return int(classes[0])
    difference = masks.scores[above] - masks.scores[below]
    if abs(difference) <= score_margin:
        return VOID
    return int(classes[0] if difference > 0 else classes[1])
