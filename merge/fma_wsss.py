"""fma_wsss: each mask takes the class, or the background, of the highest mean activation in it; see FMA-WSSS.

A class's mean activations are stretched over the masks of the image, so that its best mask has 1 and its worst 0. The
background of a mask has (1 - highest class) ** power. Masks are painted in the order of their winning score, the surest
last; what no mask covers is background. Made for masks that cover the image and soft CAMs.

Source: Yang and Gong, "Foundation Model Assisted Weakly Supervised Semantic Segmentation", WACV 2024 (arXiv 2312.03585), the
SAM-based seeding module; code at github.com/HAL-42/FMA-WSSS (Apache 2.0). Its authors choose ``power`` on the ground truth of
the training images; here it is 1. Their order by the level of SAM's three outputs is left out: files do not hold it.
"""

from __future__ import annotations

import numpy as np

from merge.painting import good_masks, mean_activation, named_classes, paint
from util.data.masks import Masks

SEARCH = {"power": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 3.0)}  # the authors' values


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    power: float = 1.0,
    quality: float = 0.0,
    keep: bool = False,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        power: of the background's score; above 1 there is less background.
        quality: masks of a lower predicted IoU are left out; the authors' generator leaves out those below 0.86.
        keep: whether pixels under no mask keep their label.
    """
    masks, classes = good_masks(masks, quality), named_classes(label, tags)
    if not len(masks) or not len(classes):
        return label.copy(order="F")
    means = np.maximum(mean_activation(label, masks, classes, cam), 0)
    lowest, highest = means.min(axis=0), means.max(axis=0)
    scores = (means - lowest) / (highest - lowest + 1e-7)
    scores = np.column_stack([(1 - scores.max(axis=1)) ** power, scores])
    values = np.append(0, classes)[scores.argmax(axis=1)]
    order = np.lexsort((values, scores.max(axis=1)))
    return paint(label if keep else np.zeros_like(label), masks, values, order)
