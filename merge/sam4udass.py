"""sam4udass: each mask takes the class of most of its pixels, large masks below small ones; see SAM4UDASS.

Two rules make up for what a majority does to small things: a smaller mask is painted over a larger one, and a mask that is
mostly a large class goes to the small class that comes second there with at least ``alpha`` of its pixels. Pixels under
no mask keep their label.

Source: Yan et al., "SAM4UDASS: When SAM Meets Unsupervised Domain Adaptive Semantic Segmentation in Intelligent Vehicles", IEEE
Trans. Intelligent Vehicles 2024, semantic-guided mask labelling and the first fusion; code at github.com/ywher/SAM4UDASS
(Apache 2.0). Its large and small classes are those of street scenes; here the background is large, and every class small.
Its other fusions name pairs of street classes, and are left out.
"""

from __future__ import annotations

import numpy as np

from merge.merge_base import foreground_classes
from merge.painting import good_masks, paint
from util.data.masks import Masks

SEARCH = {"alpha": (0.1, 0.15, 0.2, 0.25, 0.3)}  # values worth trying
ORDER_MATTERS = True  # of classes with equally many pixels in a mask, the higher class id wins


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    alpha: float = 0.2,
    quality: float = 0.0,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        alpha: least pixels of a class, as a share of those of the background, for the class to take a mask.
        quality: masks of a lower predicted IoU are left out; the authors' generator leaves out those below 0.88.
    """
    masks = good_masks(masks, quality)
    values = np.append(0, foreground_classes(label)).astype(np.int64)
    if not len(masks) or len(values) == 1:
        return label.copy(order="F")
    counts = masks.overlaps(label, values)
    ranked = np.argsort(counts, axis=1, kind="stable")[:, ::-1]  # of equal counts, the higher class id first
    first, second = ranked[:, 0], ranked[:, 1]
    rows = np.arange(len(masks))
    large = (first == 0) & (counts[rows, second] > 0) & (counts[rows, second] >= alpha * counts[rows, first])
    winners = values[np.where(large, second, first)]
    order = np.lexsort((winners, -masks.areas))
    return paint(label, masks, winners, order[counts[order].any(axis=1)])
