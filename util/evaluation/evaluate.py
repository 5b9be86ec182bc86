"""Folders of label maps against folders of ground truth: scores, and the files that hold them."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from util.data.labels import label_path, read_label
from util.data.voc import VOID, ClassTable
from util.evaluation.metrics import Cells, Evaluation, class_scores, count_pairs, filled_cells
from util.runtime.errors import InputError
from util.runtime.files import check_folder, write_bytes, write_json
from util.runtime.parallel import run_parallel


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
                counts = count_pairs(prediction, truth, self.num_classes)
            except InputError as error:
                raise InputError(f"{paths[0]} against {paths[1]}: {error}") from None
        except InputError as error:
            return image_id, None, str(error)
        return image_id, filled_cells(counts), ""


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
    found: dict[str, Cells] = {}
    failures: dict[str, str] = {}
    work = _CountImage(Path(pred), Path(gt), len(classes))
    for image_id, cells, message in run_parallel(work, list(ids), workers=workers, description="score", chunk=32):
        if cells is not None:
            found[image_id] = cells
        else:
            failures[image_id] = message
    for image_id in ids:
        if image_id in failures:
            print(f"{image_id}: {failures[image_id]}", file=sys.stderr)
    if not found:
        raise InputError(
            f"{pred}: none of the {len(ids)} images of the list could be scored; the first: {failures[ids[0]]}"
        )
    check_truth(found, len(classes), gt)
    if failures:
        print(f"scores are over {len(found)} of {len(ids)} images, {len(failures)} failed", file=sys.stderr)
    ordered = {image_id: found[image_id] for image_id in ids if image_id in found}
    return Evaluation(classes, ordered, failures, only)


def check_truth(cells: Mapping[str, Cells], num_classes: int, gt: Path) -> None:
    """Raise InputError if the ground truth of all images is of 0 and 255; warn if it is background alone."""
    if not cells or any(
        (index > num_classes).any() for index, _ in cells.values()
    ):  # the first row is the background's
        return
    found = f"{gt}: no pixel of a foreground class in the ground truth of the {len(cells)} images"
    if any((read_label(label_path(gt, image_id)) == VOID).any() for image_id in cells):
        raise InputError(
            f"{found}, only 0 (background) and 255 (void, left out). Where 255 marks the object, save it as the number of "
            "its class; else check --gt"
        )
    print(f"warning: {found}, only 0 (background); check --gt", file=sys.stderr)


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
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    further = [f"{name}_{score}" for name in columns for score in ("iou", "precision", "recall")]
    writer.writerow(["id", "miou", "pixel_accuracy", "pixels", *evaluation.classes.names, *further])
    for image_id in evaluation.cells:
        counts = evaluation.image_counts(image_id)
        pixels = int(counts.sum())
        iou = class_scores(counts)[0]
        accuracy = np.trace(counts) / pixels if pixels else float("nan")
        numbers = [evaluation.image_miou(image_id), accuracy]
        cells = ["" if np.isnan(value) else f"{value:.6f}" for value in [*numbers, *iou]]
        last = [f"{value:.3f}" for found in columns.values() for value in found[image_id]]
        writer.writerow([image_id, *cells[:2], pixels, *cells[2:], *last])
    write_bytes(per_image_path, buffer.getvalue().encode())
