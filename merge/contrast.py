"""contrast: each good mask takes the class that stands out in it against the image's other masks, or becomes background.

A CAM that is weak in a whole image is still strongest on its object. So a class's mean activations are stretched: the mask
with the highest has 1, and the lowest has 0, or the rest of the image where no mask is. A mask in which no class exceeds the
threshold is background. Masks are painted in the order of their activation, the surest last. It trusts masks more than
labels; `auto` decides when to.

Where a class has no soft CAM, its label takes its place, 1 inside the class and 0 outside. It does not show how far an object
that was found in part may reach; so there a mask that holds nearly all of the class is its own, too.

Sources: the stretched means are FMA-WSSS's, see `fma_wsss`; the rule of coverage is `max_iou_imp2`'s. New here: the rest of
the image counts as a mask, so that an image with a single good mask has its class; pixels under no mask keep their label;
masks of poor quality are left out.
"""

from __future__ import annotations

import numpy as np

from merge.painting import mean_activation, named_classes, paint
from util.data.masks import Masks

SEARCH = {"quality": (0.7, 0.75, 0.8, 0.88), "threshold": (0.4, 0.5, 0.6)}  # values worth trying
ORDER_MATTERS = True  # of classes that stand out equally, the lower class id wins a mask

LEAST_REST = 0.02  # of the image, for what is under no mask to count as a mask


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    quality: float = 0.75,
    threshold: float = 0.5,
    coverage: float = 0.85,
    keep: bool = True,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        quality: masks whose predicted IoU or stability score is known and below this are left out.
        threshold: stretched mean activation that the class of a mask must exceed,
        coverage: or the share of the class's pixels in the label that the mask must hold, where the class has no soft CAM.
        keep: whether pixels under no mask keep their label. Where every object has a mask, they are background.
    """
    score = np.fmin(masks.predicted_iou, masks.stability_score)
    masks = masks.select(np.flatnonzero((masks.areas > 0) & ~(score < quality)))
    classes = named_classes(label, tags)
    if not len(masks) or not len(classes):
        return label.copy(order="F")
    means, rest = mean_activation(label, masks, classes, cam), ~masks.union()
    anchors = np.vstack([means, *_means_of_rest(label, rest, classes, cam or {})])
    lowest, highest = anchors.min(axis=0), anchors.max(axis=0)
    stretched = (means - lowest) / (highest - lowest + 1e-7)
    own = stretched > threshold
    sizes = [np.count_nonzero(label == value) if value not in (cam or {}) else np.inf for value in classes]
    overlaps = masks.overlaps(label, classes)
    own |= ~own.any(axis=1, keepdims=True) & (overlaps > 0) & (overlaps >= coverage * np.array(sizes))
    evidence = np.where(own, stretched, -1)
    best, values = evidence.max(axis=1), classes[evidence.argmax(axis=1)]
    below = np.where(rest & keep, label, 0).astype(np.uint8)
    order = np.lexsort((values, best))
    return paint(below, masks, values, order[best[order] >= 0])


def _means_of_rest(
    label: np.ndarray, rest: np.ndarray, classes: np.ndarray, cam: dict[int, np.ndarray]
) -> list[np.ndarray]:
    """The mean activations (float64 C) of what is under no mask (bool HxW); an empty list where that is little."""
    if rest.mean() <= LEAST_REST:
        return []
    maps = (cam.get(value, label == value) for value in classes.tolist())
    return [np.array([values[rest].mean() for values in maps])]
