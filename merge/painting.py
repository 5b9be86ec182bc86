"""What the rules of other papers share: masks that each get one class and are painted one over the other."""

from __future__ import annotations

import numpy as np

from merge.merge_base import foreground_classes
from util.data.masks import Masks


def good_masks(masks: Masks, quality: float) -> Masks:
    """The masks that hold a pixel, without those whose predicted IoU is known and below ``quality``."""
    return masks.select(np.flatnonzero((masks.areas > 0) & ~(masks.predicted_iou < quality)))


def named_classes(label: np.ndarray, tags: tuple[int, ...] | None) -> np.ndarray:
    """int64 C: the ascending classes of the tags; of the label where the image has no tags."""
    return np.array(sorted(tags) if tags is not None else foreground_classes(label), np.int64)


def mean_activation(
    label: np.ndarray, masks: Masks, classes: np.ndarray, cam: dict[int, np.ndarray] | None
) -> np.ndarray:
    """float64 K x C: the mean soft CAM of each class in each mask.

    Where a class has no soft CAM, its label takes its place, 1 inside the class and 0 outside.
    """
    maps = cam or {}
    means = [masks.sums(maps.get(int(value), label == value)) / np.maximum(masks.areas, 1) for value in classes]
    return np.stack(means, axis=1) if means else np.zeros((len(masks), 0))


def paint(below: np.ndarray, masks: Masks, values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """uint8 HxW: the label values of masks painted in the given order over a label, later ones over earlier ones.

    Args:
        below: uint8 HxW; stays as it is.
        values: int K, the label value of each mask.
        order: int, the indices of the masks that are painted.
    """
    result = below.copy(order="F")
    for k in order:
        result[masks.dense(k)] = values[k]
    return result
