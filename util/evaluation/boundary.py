"""Boundary IoU: how well the contours of the classes are met.

Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", arXiv 2103.16562.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from util.data.labels import label_path, read_label
from util.data.voc import VOID, ClassTable

# The paper's width of the band for images of this size.
BAND = 0.02


class BoundaryIoU:
    """IoU of the inner boundary bands of every class, added up over a set of images.

    A class's band is what of its pixels lies within ``band`` times the image's diagonal of where it ends, the image's
    edge included. Pixels whose ground truth is void belong to no class on either side.

    Attributes:
        intersection, union: int64 C, pixels.
    """

    def __init__(self, num_classes: int, band: float = BAND):
        self.num_classes, self.band = num_classes, band
        self.intersection, self.union = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add an image: uint8 HxW label maps of one shape."""
        width = max(1, round(self.band * float(np.hypot(*truth.shape))))
        prediction = np.where(truth == VOID, VOID, prediction)
        for index in np.union1d(np.unique(prediction), np.unique(truth)):
            if index < self.num_classes:
                predicted, true = inner_band(prediction == index, width), inner_band(truth == index, width)
                self.intersection[index] += np.count_nonzero(predicted & true)
                self.union[index] += np.count_nonzero(predicted | true)

    def merge(self, other: BoundaryIoU) -> None:
        """Add what another process counted."""
        self.intersection += other.intersection
        self.union += other.union

    def scores(self, classes: ClassTable, mean_over: list[str]) -> dict:
        """``boundary_iou`` (mean over the named classes) and ``per_class_boundary_iou``, fractions in 0..1."""
        iou = self.intersection / np.maximum(self.union, 1)
        return {
            "boundary_iou": float(iou[[classes.index(name) for name in mean_over]].mean()),
            "per_class_boundary_iou": {classes.names[index]: float(iou[index]) for index in np.flatnonzero(self.union)},
        }


def boundary_of_files(predictions: Path, truths: Path, num_classes: int, image_id: str) -> BoundaryIoU:
    """`BoundaryIoU` of ``predictions/<id>.png`` against ``truths/<id>.png``, for worker processes."""
    bands = BoundaryIoU(num_classes)
    bands.update(*(read_label(label_path(folder, image_id)) for folder in (predictions, truths)))
    return bands


def inner_band(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a bool HxW mask that lie within ``width`` pixels (chessboard distance) of its outside."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inner == 0)
