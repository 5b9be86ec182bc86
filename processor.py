"""The merge stage as functions: walk the ids, call a strategy, score, compare, draw. `main.py` is its command line."""

from __future__ import annotations

import csv
import errno
import inspect
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from merge import STRATEGIES
from util.cams import read_cam
from util.errors import InputError
from util.files import bytes_digest, check_folder, digest, file_digest, find_file, read_bytes, write_bytes, write_json
from util.image_labels import read_image_labels
from util.images import find_image, read_image
from util.labels import decode_label, encode_label, label_path, read_label
from util.masks import decode_masks, masks_bytes, masks_path
from util.metrics import class_scores, count_pairs, difference, scores_of
from util.stage import Stage, disk_error, entry_is_current, run_parallel
from util.vis import colorize, draw_masks, new_figure, overlay, panel_row, save_figure, save_image
from util.voc import ClassTable

ROOT = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Inputs:
    """What a strategy is given, by folders.

    Attributes:
        pseudo_path: label maps ``<id>.png``.
        sam_path: masks, see `util.masks.read_masks`.
        classes: of the data set.
        image_labels: id -> classes that the image shows, or None.
        cam_path: soft CAMs ``<id>.npy``, or None.
    """

    pseudo_path: Path
    sam_path: Path
    classes: ClassTable
    image_labels: dict[str, tuple[int, ...]] | None = None
    cam_path: Path | None = None

    def check(self) -> None:
        """Raise InputError if a folder is not there, before any work starts."""
        check_folder(self.pseudo_path, "pseudo labels")
        check_folder(self.sam_path, "SAM masks")
        if self.cam_path is not None:
            check_folder(self.cam_path, "soft CAMs")

    def tags(self, image_id: str) -> tuple[int, ...] | None:
        """The image's classes; None when no image-level labels are given.

        Raises:
            InputError: if there are image-level labels, but none for this image.
        """
        if self.image_labels is None:
            return None
        if image_id not in self.image_labels:
            raise InputError("it has no image-level label; add it to --image-labels or drop the id from the list")
        return self.image_labels[image_id]

    def cam(self, image_id: str, shape: tuple[int, int]) -> dict[int, np.ndarray] | None:
        """The image's soft CAMs, class -> float32 HxW; None when there is no folder of them.

        Raises:
            InputError: if they are missing, of another size or of unknown classes.
        """
        if self.cam_path is None:
            return None
        cam = read_cam(self.cam_path, image_id)
        for value, values in cam.items():
            if value >= len(self.classes) or values.shape != shape:
                raise InputError(
                    f"soft CAM of class {value} has shape {values.shape}, the label {shape} and "
                    f"{len(self.classes)} classes; make CAMs at the size of the image"
                )
        return cam


def load_image_labels(path: Path | None, classes: ClassTable):
    """Image-level labels of ``--image-labels``, or None."""
    return None if path is None else read_image_labels(path, classes)


# --- merge --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _MergeImage:
    """Merges one image in a worker process: reads, asks the strategy, writes, and tells the parent what it did."""

    inputs: Inputs
    method: str
    parameters: dict
    out: Path
    fingerprint: str
    force: bool = False
    palette: np.ndarray = field(repr=False, default=None)

    def __call__(self, item: tuple[str, dict | None]) -> dict:
        image_id, entry = item
        start = time.perf_counter()
        try:
            label_file = label_path(self.inputs.pseudo_path, image_id)
            mask_file = masks_path(self.inputs.sam_path, image_id)
            label_data, mask_data = read_bytes(label_file), masks_bytes(mask_file)
            tags = self.inputs.tags(image_id)
            cam_data = b""
            if self.inputs.cam_path is not None:
                cam_data = read_bytes(find_file(self.inputs.cam_path, image_id, [".npy"], "soft CAM"))
            key = digest(self.fingerprint, label_data, mask_data, repr(tags), cam_data)
            if not self.force and entry_is_current(entry, key, self.out):
                return {"id": image_id, "status": "current"}
            label = decode_label(label_data, label_file, len(self.inputs.classes))
            masks = decode_masks(None if mask_file.is_dir() else mask_data, mask_file, image_id, label.shape)
            cam = self.inputs.cam(image_id, label.shape)
            result = call_strategy(STRATEGIES[self.method], self.method, label, masks, tags, cam, self.parameters)
        except InputError as error:
            return {"id": image_id, "status": "failed", "message": str(error)}
        except OSError as error:
            return {"id": image_id, "status": "failed", "message": f"cannot be read ({error}); check the file"}
        path = self.out / f"{image_id}.png"
        try:
            data = encode_label(result, self.palette)
            write_bytes(path, data)
        except OSError as error:
            fatal = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
            message = str(disk_error(error, path))
            return {"id": image_id, "status": "fatal" if fatal else "failed", "message": message}
        seconds = time.perf_counter() - start
        return {
            "id": image_id,
            "status": "done",
            "entry": {"id": image_id, "key": key, "files": {path.name: bytes_digest(data)}},
            "seconds": seconds,
        }


def call_strategy(strategy: Callable, method: str, label: np.ndarray, masks, tags, cam, parameters: dict) -> np.ndarray:
    """Run a strategy on one image; the arguments are those of `merge.merge_base`.

    Raises:
        InputError: if it fails, or gives anything but a label of the same size.
    """
    try:
        # Column-major is the masks' own order; strategies run faster on it.
        result = strategy(cv2.transpose(label).T, masks, tags=tags, cam=cam, **parameters)
    except InputError:
        raise
    except Exception as error:
        where = _innermost(error)
        raise InputError(
            f"strategy {method} failed with {type(error).__name__}: {error} ({where}); mend the strategy"
        ) from error
    check_result(result, label, method)
    return result


def _innermost(error: BaseException) -> str:
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"


def check_result(result: np.ndarray, label: np.ndarray, method: str) -> None:
    """Raise InputError if a strategy gave something else than a label of the same size."""
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8 or result.shape != label.shape:
        found = f"{result.dtype} of shape {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
        raise InputError(f"strategy {method} gave {found}; return uint8 of the label's shape {label.shape}")


def merge_labels(
    inputs: Inputs, method: str, parameters: dict, ids: list[str], out: Path, *, workers: int, overwrite: bool = False
) -> tuple[int, dict]:
    """Run a strategy over all ids into ``out/<method>/<id>.png``; what is up to date stays.

    Returns:
        exit code (0, or 1 if an image failed), and ``{"done", "current", "failed", "seconds_per_image"}``; the time is
        of one image on one core, reading and writing included, NaN when nothing was done.

    Raises:
        InputError: if a folder is missing, or the results cannot be written.
    """
    inputs.check()
    strategy_file = inspect.getsourcefile(inspect.unwrap(STRATEGIES[method]))
    options = {
        "method": method,
        "parameters": parameters,
        "classes": inputs.classes.names,
        "colors": inputs.classes.colors,
    }
    code = [strategy_file, ROOT / "util" / "labels.py", ROOT / "util" / "masks.py"]
    made_from = {"pseudo_path": inputs.pseudo_path, "sam_path": inputs.sam_path, "cam_path": inputs.cam_path}
    made_from["tags"] = inputs.image_labels is not None
    with Stage(out / method, options, code=code, made_from=made_from, overwrite=overwrite) as stage:
        work = _MergeImage(inputs, method, parameters, stage.out, stage.fingerprint, overwrite, inputs.classes.palette)
        items = [(image_id, stage.done.get(image_id)) for image_id in ids]
        seconds, current = [], 0
        for result in run_parallel(work, items, workers=workers, description=f"merge {method}"):
            if result["status"] == "done":
                stage.note(result["entry"])
                seconds.append(result["seconds"])
            elif result["status"] == "current":
                current += 1
            elif result["status"] == "fatal":
                raise InputError(result["message"])
            else:
                stage.fail(result["id"], result["message"])
        code = stage.finish()
        per_image = float(np.mean(seconds)) if seconds else float("nan")
        return code, {
            "done": len(seconds),
            "current": current,
            "failed": len(stage.failures),
            "seconds_per_image": per_image,
        }


# --- evaluate -----------------------------------------------------------------------------------------------------


@dataclass
class Evaluation:
    """Counts of a set of label maps against ground truth.

    Attributes:
        classes: of the data set.
        cells: id -> (index int64 n, count int64 n), the filled cells of the image's C x (C + 1) confusion matrix.
        failures: id -> message.
        only: class indices that means are taken over, or None for all present.
    """

    classes: ClassTable
    cells: dict[str, tuple[np.ndarray, np.ndarray]]
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
        """What ``metrics.json`` holds, see `util.metrics.scores_of`."""
        return scores_of(self.counts, len(self.cells), self.classes, self.only)

    def image_miou(self, image_id: str) -> float:
        """Mean IoU over the classes of one image's ground truth; NaN if that is void only. For ranking pictures."""
        counts = self.image_counts(image_id)
        present = counts.sum(axis=1) > 0
        return float(class_scores(counts)[0][present].mean()) if present.any() else float("nan")


@dataclass(frozen=True)
class _CountImage:
    pred: Path
    gt: Path
    num_classes: int

    def __call__(self, image_id: str):
        try:
            prediction = read_label(label_path(self.pred, image_id))
            counts = count_pairs(prediction, read_label(label_path(self.gt, image_id)), self.num_classes)
        except InputError as error:
            return image_id, None, str(error)
        flat = counts.ravel()
        index = np.flatnonzero(flat)
        return image_id, (index, flat[index]), None


def evaluate_labels(
    pred: Path, gt: Path, ids: list[str], classes: ClassTable, *, workers: int, only: list[int] | None = None
) -> Evaluation:
    """Score the label maps of a folder against ground truth.

    Images that cannot be read are reported in ``failures`` and left out of the counts.

    Raises:
        InputError: if a folder is missing or no image could be scored.
    """
    check_folder(pred, "label maps")
    check_folder(gt, "ground truth")
    found, failures = {}, {}
    work = _CountImage(Path(pred), Path(gt), len(classes))
    for image_id, cells, message in run_parallel(work, ids, workers=workers, description="score", chunk=32):
        if message is None:
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
    if failures:
        print(f"scores are over {len(found)} of {len(ids)} images, {len(failures)} failed", file=sys.stderr)
    ordered = {image_id: found[image_id] for image_id in ids if image_id in found}
    return Evaluation(classes, ordered, failures, only)


def write_evaluation(evaluation: Evaluation, metrics_path: Path, per_image_path: Path) -> None:
    """Write ``metrics.json`` and ``per_image.csv`` (id, mIoU over the image's classes, accuracy, IoU a class)."""
    write_json(metrics_path, {**evaluation.scores, "failed": evaluation.failures})
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "miou", "pixel_accuracy", "pixels", *evaluation.classes.names])
    for image_id in evaluation.cells:
        counts = evaluation.image_counts(image_id)
        pixels = int(counts.sum())
        iou = class_scores(counts)[0]
        accuracy = np.trace(counts) / pixels if pixels else float("nan")
        numbers = [evaluation.image_miou(image_id), accuracy]
        cells = ["" if np.isnan(value) else f"{value:.6f}" for value in [*numbers, *iou]]
        writer.writerow([image_id, *cells[:2], pixels, *cells[2:]])
    write_bytes(per_image_path, buffer.getvalue().encode())


# --- compare ------------------------------------------------------------------------------------------------------


def bootstrap_difference(
    after: Evaluation, before: Evaluation, *, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the difference of set-level mIoU, by a paired bootstrap over images.

    Images are drawn with replacement, the same ones for both sides; each draw's counts are summed over the set before
    IoU is taken (Efron, 1979). Void predictions count as wrong, as in the score itself.

    Returns:
        (low, high), fractions.
    """
    ids = [image_id for image_id in after.cells if image_id in before.cells]
    size = len(after.classes)
    draws = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=samples)
    sides = []
    for side in (after, before):
        hit, there, predicted = (np.zeros((len(ids), size)) for _ in range(3))
        for row, image_id in enumerate(ids):
            counts = side.image_counts(image_id)
            hit[row] = np.diagonal(counts)
            there[row] = counts.sum(axis=1)
            predicted[row] = counts[:, :size].sum(axis=0)
        hit, there, predicted = (draws @ values for values in (hit, there, predicted))
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = np.where(there > 0, hit / (there + predicted - hit), np.nan)
        chosen = np.arange(size) if side.only is None else np.array(side.only)
        sides.append(np.nanmean(iou[:, chosen], axis=1))
    low, high = np.percentile(sides[0] - sides[1], [2.5, 97.5])
    return float(low), float(high)


def compare_labels(before: Evaluation, methods: dict[str, Evaluation], times: dict[str, float]) -> dict:
    """What ``compare.json`` holds: scores of the input and of every method, and the difference with its interval.

    Args:
        before: of the input labels.
        methods: of each strategy, over the same ids.
        times: seconds an image of each strategy; NaN where nothing had to be done.
    """
    return {
        "input": before.scores,
        "methods": {name: evaluation.scores for name, evaluation in methods.items()},
        "difference": {
            name: {
                **difference(evaluation.scores, before.scores),
                "interval_95": bootstrap_difference(evaluation, before),
                "seconds_per_image": None if np.isnan(times[name]) else times[name],
            }
            for name, evaluation in methods.items()
        },
    }


def ranking(comparison: dict) -> list[str]:
    """Method names, best mIoU first."""
    return sorted(comparison["methods"], key=lambda name: (-comparison["methods"][name]["miou"], name))


def comparison_rows(comparison: dict) -> Iterator[list]:
    """Header and one row a method, best first, the input last: per cent with two decimals as text."""
    names = list(comparison["input"]["per_class"])
    yield ["method", "mIoU", "change", "95 % interval", "precision", "recall", "accuracy", "void", "ms", *names]
    every = [(name, comparison["methods"][name], comparison["difference"][name]) for name in ranking(comparison)]
    for name, scores, change in [*every, ("input", comparison["input"], None)]:
        row = [name, f"{100 * scores['miou']:.2f}"]
        if change is None:
            row += ["", ""]
        else:
            low, high = change["interval_95"]
            row += [f"{100 * change['miou']:+.2f}", f"{100 * low:+.2f} .. {100 * high:+.2f}"]
        row += [f"{100 * scores[key]:.2f}" for key in ("precision", "recall", "pixel_accuracy", "void")]
        seconds = change and change["seconds_per_image"]
        row.append(f"{1000 * seconds:.1f}" if seconds else "")
        yield row + [f"{100 * scores['per_class'][name]['iou']:.2f}" for name in names]


def write_comparison(comparison: dict, out: Path) -> str:
    """Write ``compare.json``, ``compare.csv`` and ``compare.png``; return the terminal table."""
    rows = list(comparison_rows(comparison))
    write_json(out / "compare.json", comparison)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    write_bytes(out / "compare.csv", buffer.getvalue().encode())
    _draw_comparison(comparison, out / "compare.png")
    head = rows[0][:9]
    widths = [max(len(row[column]) for row in rows) for column in range(9)]
    text = ["  ".join(f"{cell:>{width}}" if i else f"{cell:<{width}}" for i, (cell, width) in enumerate(zip(row, widths)))
            for row in (r[:9] for r in rows)]  # fmt: skip
    text.insert(1, "-" * len(text[0]))
    best = ranking(comparison)
    per_class = ["", "IoU a class".ljust(18) + "".join(f"{name[:14]:>16}" for name in ["input", *best])]
    for name, values in comparison["input"]["per_class"].items():
        cells = [values["iou"], *(comparison["methods"][m]["per_class"][name]["iou"] for m in best)]
        per_class.append(f"{name:<18}" + "".join(f"{100 * cell:>16.2f}" for cell in cells))
    assert len(head) == 9
    return "\n".join([*text, *per_class])


def _draw_comparison(comparison: dict, path: Path) -> None:
    names = [*ranking(comparison), "input"]
    figure = new_figure(8, 0.5 * len(names) + 1.2)
    axes = figure.add_subplot()
    miou = [100 * (comparison["methods"].get(name) or comparison["input"])["miou"] for name in names]
    colors = ["tab:blue"] * (len(names) - 1) + ["tab:gray"]
    axes.barh(names, miou, color=colors)
    for row, name in enumerate(names[:-1]):
        low, high = (miou[-1] + 100 * bound for bound in comparison["difference"][name]["interval_95"])
        axes.plot([low, high], [row, row], color="black", linewidth=1.5)
    for row, value in enumerate(miou):
        axes.text(value, row + 0.3, f" {value:.2f}", va="center", fontsize=8)
    axes.axvline(miou[-1], color="tab:gray", linestyle=":")
    axes.set_xlim(max(0, min(miou) - 8), min(100, max(miou) + 4))
    axes.set_xlabel("mIoU, per cent; lines: 95 % interval of the change against the input")
    axes.invert_yaxis()
    save_figure(path, figure)


# --- figures ------------------------------------------------------------------------------------------------------


def choose_ids(
    after: Evaluation | None,
    before: Evaluation | None,
    ids: list[str],
    *,
    best: int,
    worst: int,
    random: int,
    seed: int,
) -> list[str]:
    """Ids to draw: the best and the worst by change in per-image mIoU, and random ones under a seed."""
    chosen: list[str] = []
    if best or worst:
        if after is None or before is None:
            raise InputError("--vis-best and --vis-worst rank by ground truth; give --gt-dir as well")
        change = {i: after.image_miou(i) - before.image_miou(i) for i in after.cells if i in before.cells}
        ranked = sorted((i for i in change if not np.isnan(change[i])), key=lambda i: (-change[i], i))
        chosen += ranked[:best] + (ranked[-worst:] if worst else [])
    if random:
        drawn = np.random.default_rng(seed).permutation(len(ids))[:random]
        chosen += [ids[i] for i in sorted(drawn)]
    return list(dict.fromkeys(chosen))


def draw_rows(
    inputs: Inputs, method: str, ids: list[str], out: Path, images: Path | None, gt: Path | None
) -> dict[str, str]:
    """Draw original, pseudo label, SAM masks, enhanced label and ground truth of each id to ``out/vis/<method>/<id>.png``.

    Returns:
        id -> message, for the images that could not be drawn.
    """
    failures = {}
    colors = inputs.classes.palette
    for image_id in ids:
        try:
            label = read_label(label_path(inputs.pseudo_path, image_id))
            path = masks_path(inputs.sam_path, image_id)
            masks = decode_masks(None if path.is_dir() else read_bytes(path), path, image_id, label.shape)
            enhanced = read_label(label_path(out / method, image_id))
            picture = np.full((*label.shape, 3), 255, np.uint8)
            panels = []
            if images is not None:
                picture = read_image(find_image(images, image_id))
                if picture.shape[:2] != label.shape:
                    raise InputError(
                        f"the picture is {picture.shape[1]}x{picture.shape[0]}, the label {label.shape[::-1]}"
                    )
                panels.append((image_id, picture))
            panels += [
                ("pseudo label", overlay(picture, label, colors)),
                (f"{len(masks)} masks", draw_masks(picture, masks)),
                (method, overlay(picture, enhanced, colors)),
            ]
            if gt is not None:
                panels.append(("ground truth", colorize(read_label(label_path(gt, image_id)), colors)))
            save_image(out / "vis" / method / f"{image_id}.png", panel_row(panels))
        except InputError as error:
            failures[image_id] = str(error)
            print(f"{image_id}: {error}", file=sys.stderr)
    return failures


def source_of(paths: dict[str, Path | None]) -> dict:
    """What a result was made from, for run.json: folders by name, files with their digest."""
    return {
        name: {"file": path, "digest": file_digest(path)} if Path(path).is_file() else path
        for name, path in paths.items()
        if path is not None
    }
