"""Folders of label maps against folders of ground truth: scores, and the files that hold them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from util.data.labels import label_path, read_label
from util.data.voc import VOID, ClassTable
from util.evaluation.label_check import report_no_foreground
from util.evaluation.metrics import Cells, Evaluation, cells_of, class_scores
from util.runtime.errors import InputError
from util.runtime.files import check_folder, write_csv, write_json
from util.runtime.parallel import run_parallel
from util.runtime.progress import FailureReport

Counts = TypeVar("Counts")


@dataclass(frozen=True)
class _CountImage:
    pred: Path
    gt: Path
    num_classes: int

    def __call__(self, image_id: str) -> tuple[str, Cells | None, str]:
        try:
            paths = label_path(self.pred, image_id), label_path(self.gt, image_id)
            prediction, truth = map(read_label, paths)
            try:
                cells = cells_of(prediction, truth, self.num_classes)
            except InputError as error:
                raise InputError(f"{paths[0]} against {paths[1]}: {error}") from None
        except InputError as error:
            return image_id, None, str(error)
        return image_id, cells, ""


def evaluate_labels(
    pred: Path, gt: Path, ids: Sequence[str], classes: ClassTable, *, workers: int, only: list[int] | None = None
) -> Evaluation:
    """Score the label maps of a folder against ground truth.

    Images that cannot be read are reported in ``failures`` and left out of the counts.

    Raises:
        InputError: if a folder is missing, no image could be scored, or no ground truth shows a foreground class.
    """
    check_folder(pred, "label maps")
    check_folder(gt, "ground truth")
    work = _CountImage(Path(pred), Path(gt), len(classes))
    counted = run_parallel(work, list(ids), workers=workers, description="score", chunk=32)
    found, failures = in_order(counted, ids, pred)
    check_truth(found, len(classes), gt)
    check_numbering(found, len(classes), pred, gt)
    if failures:
        print(f"scores are over {len(found)} of {len(ids)} images, {len(failures)} failed", file=sys.stderr)
    return Evaluation(classes, found, failures, only)


def in_order(
    counted: Iterable[tuple[str, Counts | None, str]], ids: Sequence[str], where: object
) -> tuple[dict[str, Counts], dict[str, str]]:
    """What workers counted of each image, and the messages of those that failed, which are printed; both in the list's order.

    Args:
        counted: id, counts or None, and what is wrong.
        where: the images are, for the message.

    Raises:
        InputError: if all failed.
    """
    results = {image_id: (counts, message) for image_id, counts, message in counted}
    found = {i: counts for i in ids if (counts := results[i][0]) is not None}
    failures = {i: results[i][1] for i in ids if results[i][0] is None}
    report = FailureReport()
    for image_id, message in failures.items():
        report(image_id, message)
    if not found:
        raise InputError(
            f"{where}: none of the {len(ids)} images of the list could be scored; the first: {failures[ids[0]]}"
        )
    return found, failures


def check_numbering(cells: Mapping[str, Cells], num_classes: int, pred: Path, gt: Path) -> None:
    """Warn if predictions agree better with the ground truth when their classes are counted from one more or less."""
    counts = np.zeros(num_classes * (num_classes + 1), np.int64)
    for index, number in cells.values():
        counts[index] += number
    matrix = counts.reshape(num_classes, num_classes + 1)[:, :num_classes]
    # One class of the foreground that is taken for its neighbour is not a shift: two have to be, and clearly.
    parts = ((matrix, "classes", 1), (matrix[1:, 1:], "classes above 0", 2))
    for part, what, least in parts if num_classes > 2 else ():
        shift = max((0, 1, -1), key=partial(np.trace, part))
        shifted = np.diagonal(part, shift)
        if shift and np.count_nonzero(shifted) >= least and shifted.sum() > least * np.trace(part):
            print(
                f"warning: the {what} of {pred} agree better with {gt} when they are {'lowered' if shift > 0 else 'raised'} by "
                "1; check that both count the classes alike",
                file=sys.stderr,
            )
            return


def check_truth(cells: Mapping[str, Cells], num_classes: int, gt: Path) -> None:
    """Raise InputError if the ground truth of all images is of 0 and 255; warn if it is background alone."""
    if all((index <= num_classes).all() for index, _ in cells.values()):  # in the first row, which is the background's
        void = any((read_label(label_path(gt, image_id)) == VOID).any() for image_id in cells)
        report_no_foreground(gt, f"ground truth of the {len(cells)} images", void)


def write_evaluation(
    evaluation: Evaluation,
    metrics_path: Path,
    per_image_path: Path,
    more: Mapping[str, Any] | None = None,
    columns: Mapping[str, Mapping[str, tuple[float, float, float]]] | None = None,
) -> None:
    """Write ``metrics.json`` and ``per_image.csv`` (id, mIoU over the image's classes, accuracy, IoU of each class).

    Args:
        more: further scores for ``metrics.json``.
        columns: name -> id -> IoU, precision and recall, for the last columns of ``per_image.csv``.
    """
    columns = columns or {}
    write_json(metrics_path, {**evaluation.scores, **(more or {}), "failed": evaluation.failures})
    further = [f"{name}_{score}" for name in columns for score in ("iou", "precision", "recall")]
    rows = [["id", "miou", "pixel_accuracy", "pixels", *evaluation.classes.names, *further]]
    for image_id in evaluation.cells:
        counts = evaluation.image_counts(image_id)
        pixels = int(counts.sum())
        iou = class_scores(counts)[0]
        accuracy = np.trace(counts) / pixels if pixels else float("nan")
        numbers = [evaluation.image_miou(image_id), accuracy]
        cells = ["" if np.isnan(value) else f"{value:.6f}" for value in [*numbers, *iou]]
        last = [f"{value:.3f}" for found in columns.values() for value in found[image_id]]
        rows.append([image_id, *cells[:2], str(pixels), *cells[2:], *last])
    write_csv(per_image_path, rows)
