"""s2c: where masks compete for a pixel, the product of the mask's confidence and its mean activation decides; see S2C.

S2C prompts SAM with the peaks of each class's CAM, gives each pixel the class whose mask has the highest product, and makes
the rest background. ``generate_sam_masks.py --prompt cam`` makes such masks, which compete for their class alone. A mask
without a class competes for the class of its highest mean activation; the background, 1 - highest class, is one of them.

Source: Kweon and Yoon, "From SAM to CAMs: Exploring Segment Anything Model for Weakly Supervised Semantic Segmentation", CVPR
2024, confidence-based aggregation; code at github.com/sangrockEG/S2C (no licence). Its confidence is SAM's mask logit at
each pixel; here it is the mask's predicted IoU, which files hold, and 1 where it is unknown.
"""

from __future__ import annotations

import numpy as np

from merge.painting import good_masks, mean_activation, named_classes, paint
from util.data.masks import Masks


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    quality: float = 0.0,
    keep: bool = False,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        quality: masks of a lower predicted IoU are left out; the authors leave out none.
        keep: whether pixels under no mask keep their label.
    """
    masks, classes = good_masks(masks, quality), named_classes(label, tags)
    if not len(masks) or not len(classes):
        return label.copy(order="F")
    means = mean_activation(label, masks, classes, cam)
    means = np.column_stack([_background(label, masks, classes, cam), means])
    column = _prompted_column(masks, classes, means.argmax(axis=1))
    scores = means[np.arange(len(masks)), column] * np.nan_to_num(masks.predicted_iou, nan=1.0)
    values = np.append(0, classes)[column]
    order = np.lexsort((-values, scores))
    return paint(label if keep else np.zeros_like(label), masks, values, order[column[order] >= 0])


def _background(label: np.ndarray, masks: Masks, classes: np.ndarray, cam: dict[int, np.ndarray] | None) -> np.ndarray:
    """float64 K: the mean of 1 - highest class in each mask."""
    maps = cam or {}
    highest = np.max([maps.get(int(value), label == value) for value in classes], axis=0)
    return masks.sums(1 - highest.astype(np.float64)) / masks.areas


def _prompted_column(masks: Masks, classes: np.ndarray, best: np.ndarray) -> np.ndarray:
    """int64 K: for a mask of a class, that class's column, -1 where the image does not show it; else the best column."""
    column = {int(value): place for place, value in enumerate(classes, 1)}
    return np.array([column.get(int(value), -1) if value > 0 else k for value, k in zip(masks.classes, best)])
