"""Scores of label maps: one confusion matrix over a whole set, never a mean of per-image means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from util.data.voc import OTHER_CLASSES, VOID, ClassTable
from util.runtime.errors import InputError

# The filled cells of an image's confusion counts: index int64 n, count int64 n.
Cells = tuple[np.ndarray, np.ndarray]


class ConfusionMatrix:
    """Pixel counts of ground truth against prediction, accumulated over a set of images.

    Pixels whose ground truth is void (255) are left out. A void prediction is kept in a column of its own: it is
    no class's false positive, but the true class misses the pixel.

    Attributes:
        counts: int64 C x (C + 1), ``[true, predicted]``; the last column counts void predictions.
        images: how many images were added.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)
        self.images = 0

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add an image.

        Args:
            prediction, truth: uint8 HxW of one shape, values below ``num_classes`` or 255.

        Raises:
            InputError: if shapes differ or a value is out of range.
        """
        self.counts += count_pairs(prediction, truth, self.num_classes)
        self.images += 1

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts, as a process of a sharded run hands them in."""
        self.counts += other.counts
        self.images += other.images

    def scores(self, classes: ClassTable, only: list[int] | None = None) -> dict:
        """Everything that ``metrics.json`` holds; see `scores_of`."""
        return scores_of(self.counts, self.images, classes, only)


def count_pairs(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Confusion counts of one image: int64 C x (C + 1), as `ConfusionMatrix.counts`."""
    if prediction.shape != truth.shape:
        (height, width), (true_height, true_width) = prediction.shape, truth.shape
        raise InputError(
            f"the label is {width}x{height} pixels, its ground truth {true_width}x{true_height}; "
            "use the label at the size of the image"
        )
    # The pair as one 16-bit number: half the memory traffic of any wider index.
    pairs = truth.astype(np.uint16)
    pairs <<= 8
    pairs |= prediction
    table = np.bincount(pairs.ravel(), minlength=65536).reshape(256, 256)
    for name, used in (("the label", table.sum(axis=0)), ("the ground truth", table.sum(axis=1))):
        wrong = np.flatnonzero(used[num_classes:VOID]) + num_classes
        if wrong.size:
            raise InputError(
                f"{name} holds {', '.join(map(str, wrong[:8]))} with {num_classes} classes; {OTHER_CLASSES}"
            )
    return np.concatenate([table[:num_classes, :num_classes], table[:num_classes, VOID:]], axis=1)


def cells_of(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> Cells:
    """The filled cells of one image's `count_pairs`, as `Evaluation` keeps them."""
    flat = count_pairs(prediction, truth, num_classes).ravel()
    index = np.flatnonzero(flat)
    return index, flat[index]


def class_scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU, precision and recall of each class from counts ``[..., C, C + 1]``; float64 ``[..., C]``.

    IoU = TP / (TP + FP + FN); NaN for a class that neither occurs nor is predicted. Precision is 0 where nothing was
    predicted; recall is NaN where the class never occurs.
    """
    size = counts.shape[-2]
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    there = counts.sum(axis=-1).astype(np.float64)
    predicted = counts[..., :size].sum(axis=-2).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = hit / (there + predicted - hit)
        precision = np.where(predicted > 0, hit / predicted, 0.0)
        recall = hit / there
    return iou, precision, recall


def scores_of(counts: np.ndarray, images: int, classes: ClassTable, only: list[int] | None = None) -> dict:
    """Scores of a whole set.

    Args:
        counts: int64 C x (C + 1), see `ConfusionMatrix`.
        images: how many images they come from.
        classes: names, background first.
        only: class indices that the means are taken over; default: every class in the ground truth.

    Returns:
        fractions in 0..1: ``miou``, ``precision``, ``recall`` (means over ``classes``), ``pixel_accuracy``,
        ``per_class``, ``confusion``, ``images``, ``void`` (share of the pixels predicted as void),
        ``miou_void_left_out`` (mIoU over the other pixels) and ``predicted_but_absent`` (classes predicted, though
        the ground truth never shows them; they cost the classes that they were predicted on).

    Raises:
        InputError: if there is no pixel to score, or no class of ``only`` occurs.
    """
    size = counts.shape[0]
    there = counts.sum(axis=1)
    predicted = counts[:, :size].sum(axis=0)
    present = np.flatnonzero(there)
    if not present.size:
        raise InputError("the ground truth has no labelled pixel for these ids; check the list and --gt")
    mean_over = present if only is None else np.array([c for c in only if there[c]], dtype=int)
    if not mean_over.size:
        raise InputError("none of the chosen classes occurs in the ground truth; choose others")
    iou, precision, recall = class_scores(counts)
    kept = counts.copy()
    kept[:, size] = 0
    iou_kept = np.nan_to_num(class_scores(kept)[0])
    return {
        "miou": float(iou[mean_over].mean()),
        "precision": float(precision[mean_over].mean()),
        "recall": float(recall[mean_over].mean()),
        "pixel_accuracy": float(np.trace(counts[:, :size]) / there.sum()),
        "void": float(counts[:, size].sum() / there.sum()),
        "miou_void_left_out": float(iou_kept[mean_over].mean()),
        "images": int(images),
        "classes": [classes.names[c] for c in mean_over],
        "predicted_but_absent": [classes.names[c] for c in np.flatnonzero((predicted > 0) & (there == 0))],
        "per_class": {
            classes.names[c]: {
                "iou": float(iou[c]),
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "pixels": int(there[c]),
            }
            for c in present
        },
        "confusion": counts.tolist(),
    }


@dataclass(frozen=True)
class Evaluation:
    """Counts of a set of label maps against ground truth.

    Attributes:
        classes: of the data set.
        cells: id -> (index int64 n, count int64 n), the filled cells of the image's C x (C + 1) confusion matrix.
        failures: id -> message.
        only: class indices that means are taken over, or None for all present.
    """

    classes: ClassTable
    cells: dict[str, Cells]
    failures: dict[str, str]
    only: list[int] | None = None

    def image_counts(self, image_id: str) -> np.ndarray:
        """int64 C x (C + 1) of one image."""
        size = len(self.classes)
        counts = np.zeros(size * (size + 1), np.int64)
        index, values = self.cells[image_id]
        counts[index] = values
        return counts.reshape(size, size + 1)

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 C x (C + 1) of the whole set."""
        size = len(self.classes)
        total = np.zeros(size * (size + 1), np.int64)
        for index, values in self.cells.values():
            total[index] += values
        return total.reshape(size, size + 1)

    @cached_property
    def scores(self) -> dict:
        """What ``metrics.json`` holds, see `scores_of`."""
        return scores_of(self.counts, len(self.cells), self.classes, self.only)

    def of(self, ids: Iterable[str]) -> Evaluation:
        """The evaluation of some of the images, in the order given."""
        return Evaluation(self.classes, {image_id: self.cells[image_id] for image_id in ids}, {}, self.only)

    def image_miou(self, image_id: str) -> float:
        """Mean IoU over the classes of one image's ground truth; NaN if that is void only. For ranking images."""
        counts = self.image_counts(image_id)
        present = counts.sum(axis=1) > 0
        return float(class_scores(counts)[0][present].mean()) if present.any() else float("nan")


def difference(after: dict, before: dict) -> dict:
    """``after - before`` for every mean score and every class's IoU, precision and recall."""
    return {
        **{name: after[name] - before[name] for name in ("miou", "precision", "recall", "pixel_accuracy")},
        "per_class": {
            name: {score: after["per_class"][name][score] - values[score] for score in ("iou", "precision", "recall")}
            for name, values in before["per_class"].items()
        },
    }
