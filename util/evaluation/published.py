"""The score that SAM_WSSS (arXiv 2305.05803) and the project that this one continues print. It is not mIoU.

Per image, true positives, predicted and true pixels are summed over the foreground classes of its ground truth met so far,
in ascending order; the ratios after each class are averaged over the classes, rounded to three digits, and averaged over
the images. The first class thus counts in every ratio of its image, the background in none, and a small image as much as
a large one.
"""

from __future__ import annotations

import numpy as np

from util.evaluation.metrics import Evaluation

SENTENCE = (
    "as published by SAM_WSSS: IoU {iou:.3f}, precision {precision:.3f}, recall {recall:.3f}; a mean over images of sums over "
    "their foreground classes, which is not mIoU"
)
_NO_ZERO = 1e-10  # what their code adds to denominators; it decides ties of the rounding


def published_of_image(counts: np.ndarray) -> tuple[float, float, float]:
    """IoU, precision and recall of one image, rounded to three digits; zeros without a foreground class.

    Args:
        counts: int64 C x (C + 1), see `util.evaluation.metrics.ConfusionMatrix`.
    """
    size = counts.shape[0]
    true = counts.sum(axis=1)
    classes = np.flatnonzero(true[1:]) + 1
    if not classes.size:
        return 0.0, 0.0, 0.0
    hit, true, predicted = (
        np.cumsum(values[classes]) for values in (np.diagonal(counts), true, counts[:, :size].sum(axis=0))
    )
    ratios = (hit / (true + predicted - hit + _NO_ZERO), hit / (predicted + _NO_ZERO), hit / (true + _NO_ZERO))
    iou, precision, recall = (round(float(values.mean()), 3) for values in ratios)
    return iou, precision, recall


def published_of_images(evaluation: Evaluation) -> dict[str, tuple[float, float, float]]:
    """Id -> IoU, precision and recall as published, of every image of an evaluation."""
    return {image_id: published_of_image(evaluation.image_counts(image_id)) for image_id in evaluation.cells}


def published_scores(evaluation: Evaluation) -> dict[str, float]:
    """``iou``, ``precision`` and ``recall`` as published, fractions, over the images of an evaluation."""
    rows = list(published_of_images(evaluation).values())
    return dict(zip(("iou", "precision", "recall"), map(float, np.mean(rows, axis=0))))
