"""The merge stage as functions: walk the ids, call a strategy, score, compare, draw. `main.py` is its command line."""

from __future__ import annotations

import csv
import errno
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from merge import STRATEGIES
from util.data.cams import read_cam
from util.data.image_labels import read_image_labels
from util.data.images import find_image, read_image
from util.data.labels import decode_label, encode_label, label_path, read_label
from util.data.mask_files import decode_masks, masks_bytes, masks_path, read_masks
from util.data.voc import ClassTable
from util.evaluation.comparison import (
    activation_rows,
    bootstrap_miou,
    choose_and_report,
    draw_bars,
    draw_curve,
    halves,
    interval,
    interval_text,
    per_cent,
    rows_to_text,
)
from util.evaluation.label_check import check_tags_fit
from util.evaluation.metrics import Evaluation, class_scores, count_pairs, difference, filled_cells
from util.runtime.errors import InputError, disk_error
from util.runtime.files import (
    bytes_digest,
    check_folder,
    digest,
    file_digest,
    find_file,
    read_bytes,
    write_bytes,
    write_json,
)
from util.runtime.ledger import Stage, entry_is_current
from util.runtime.parallel import run_parallel
from util.vis import colorize, draw_masks, overlay, panel_row, save_image


@dataclass(frozen=True)
class Inputs:
    """What a strategy is given, by folders.

    Attributes:
        pseudo_path: label maps ``<id>.png``.
        sam_path: masks, see `util.data.mask_files.read_masks`.
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
                    f"{self.cam_path}/{image_id}.npy: soft CAM of class {value} has shape {values.shape}, the label {shape} and "
                    f"{len(self.classes)} classes; make CAMs at the size of the image"
                )
        return cam


def load_image_labels(path: Path | None, classes: ClassTable, ids: list[str] | None = None, labels: Path | None = None):
    """Image-level labels of ``--image-labels``, or None; with ``ids`` of these images only; checked against ``labels``."""
    tags = None if path is None else read_image_labels(path, classes, ids)
    if tags and ids and labels is not None:
        check_tags_fit(labels, ids, tags, classes)
    return tags


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
            masks = masks.with_classes(self.inputs.classes.names)
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
    options = {
        "method": method,
        "parameters": parameters,
        "classes": inputs.classes.names,
        "colors": inputs.classes.colors,
    }
    code = [STRATEGIES[method], decode_label, decode_masks]
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


@dataclass(frozen=True)
class _CountImage:
    pred: Path
    gt: Path
    num_classes: int

    def __call__(self, image_id: str):
        try:
            paths = label_path(self.pred, image_id), label_path(self.gt, image_id)
            prediction, truth = map(read_label, paths)
            try:
                counts = count_pairs(prediction, truth, self.num_classes)
            except InputError as error:
                raise InputError(f"{paths[0]} against {paths[1]}: {error}") from None
        except InputError as error:
            return image_id, None, str(error)
        return image_id, filled_cells(counts), None


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


def compare_labels(
    before: Evaluation, methods: dict[str, Evaluation], times: dict[str, float], baseline: str | None = None
) -> dict:
    """What ``compare.json`` holds: every score, and every difference with its 95 % interval over images.

    Args:
        before: of the input labels.
        methods: of each strategy, over the same ids.
        times: seconds an image of each strategy; NaN where nothing had to be done.
        baseline: the method that the others are told against besides the input; None for no such column.

    Returns:
        ``input`` and ``methods``: scores; ``difference``: of each method to the input; ``pairs``: method -> other method
        -> ``miou``, ``interval_95`` of the difference (first minus second); ``baseline``.
    """
    drawn = bootstrap_miou({"": before, **methods})
    kept = bootstrap_miou({"": before, **methods}, void_left_out=True)
    return {
        "input": before.scores,
        "methods": {name: evaluation.scores for name, evaluation in methods.items()},
        "difference": {
            name: {
                **difference(evaluation.scores, before.scores),
                "interval_95": interval(drawn[name], drawn[""]),
                "interval_95_void_left_out": interval(kept[name], kept[""]),
                "seconds_per_image": None if np.isnan(times[name]) else times[name],
            }
            for name, evaluation in methods.items()
        },
        "pairs": {
            one: {
                other: {
                    "miou": methods[one].scores["miou"] - methods[other].scores["miou"],
                    "interval_95": interval(drawn[one], drawn[other]),
                }
                for other in methods
                if other != one
            }
            for one in methods
        },
        "baseline": baseline,
    }


def ranking(comparison: dict) -> list[str]:
    """Method names, best mIoU first."""
    return sorted(comparison["methods"], key=lambda name: (-comparison["methods"][name]["miou"], name))


SUMMARY_COLUMNS = 12  # of `comparison_rows`; what follows is IoU a class


def comparison_rows(comparison: dict) -> Iterator[list[str]]:
    """Header and one row a method, best first, the input last: per cent with two decimals as text."""
    names = list(comparison["input"]["per_class"])
    baseline = comparison["baseline"]
    yield [
        *("method", "mIoU", "change", "95 % interval", "precision", "recall", "accuracy", "void", "ms"),
        *("without void", f"to {baseline or 'baseline'}", "95 % of that", *names),
    ]
    every = [(name, comparison["methods"][name], comparison["difference"][name]) for name in ranking(comparison)]
    for name, scores, change in [*every, ("input", comparison["input"], None)]:
        seconds = change and change["seconds_per_image"]
        other = comparison["pairs"].get(name, {}).get(baseline, {})
        yield [
            name,
            per_cent(scores["miou"]),
            per_cent(change and change["miou"], sign=True),
            interval_text(change and change["interval_95"]),
            *(per_cent(scores[key]) for key in ("precision", "recall", "pixel_accuracy", "void")),
            f"{1000 * seconds:.1f}" if seconds else "",
            per_cent(scores["miou_void_left_out"]),
            per_cent(other.get("miou"), sign=True),
            interval_text(other.get("interval_95")),
            *(per_cent(scores["per_class"][name]["iou"]) for name in names),
        ]


def draw_comparison(path: Path, comparison: dict) -> None:
    """Draw mIoU of every method and the input, best first, with the intervals of the differences."""
    baseline = comparison["baseline"]
    panels = {"the input": comparison["difference"]}
    if baseline:
        others = {name: pairs.get(baseline) for name, pairs in comparison["pairs"].items()}
        panels[baseline] = {name: pair for name, pair in others.items() if pair}
    miou = {name: comparison["methods"][name]["miou"] for name in ranking(comparison)}
    draw_bars(path, miou | {"input": comparison["input"]["miou"]}, panels)


def write_comparison(comparison: dict, out: Path) -> str:
    """Write ``compare.json``, ``compare.csv``, ``compare_classes.csv`` and ``compare.png``; return the terminal's tables."""
    rows = list(comparison_rows(comparison))
    best = ranking(comparison)
    scores = {"input": comparison["input"], **{name: comparison["methods"][name] for name in best}}
    classes = list(activation_rows(scores))
    write_json(out / "compare.json", comparison)
    write_rows(out / "compare.csv", rows)
    write_rows(out / "compare_classes.csv", classes)
    draw_comparison(out / "compare.png", comparison)
    summary = rows_to_text([row[:SUMMARY_COLUMNS] for row in rows])
    before_after = rows_to_text(list(activation_rows({"input": scores["input"], best[0]: scores[best[0]]})))
    return f"{summary}\n\n{before_after}"


def write_rows(path: Path, rows: list[list]) -> None:
    """Write rows as CSV, atomically."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    write_bytes(path, buffer.getvalue().encode())


# --- parameters ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ScoreSettings:
    """Scores one image under many settings in a worker process; it is read once, and no label map is written."""

    inputs: Inputs
    settings: tuple[tuple[str, dict], ...]
    gt: Path

    def __call__(self, image_id: str):
        size = len(self.inputs.classes)
        try:
            label = read_label(label_path(self.inputs.pseudo_path, image_id), size)
            masks = read_masks(self.inputs.sam_path, image_id, label.shape)
            tags, cam = self.inputs.tags(image_id), self.inputs.cam(image_id, label.shape)
            truth = read_label(label_path(self.gt, image_id))
            cells = []
            for method, parameters in self.settings:
                result = call_strategy(STRATEGIES[method], method, label, masks, tags, cam, parameters)
                cells.append(filled_cells(count_pairs(result, truth, size)))
        except InputError as error:
            return image_id, None, str(error)
        except OSError as error:
            return image_id, None, f"cannot be read ({error}); check the file"
        return image_id, cells, None


def score_settings(
    inputs: Inputs,
    settings: list[tuple[str, dict]],
    ids: list[str],
    gt: Path,
    *,
    workers: int,
    only: list[int] | None = None,
) -> list[Evaluation]:
    """Score strategies under many parameter settings without writing their label maps.

    Args:
        inputs: what strategies are given.
        settings: (method, parameters) each.
        ids: images; those that fail are reported and left out of every evaluation.
        gt: ground truth, used for scores only.

    Returns:
        one evaluation a setting, over the same images.

    Raises:
        InputError: if a folder is missing or no image could be scored.
    """
    inputs.check()
    check_folder(gt, "ground truth")
    found, failures = {}, {}
    work = _ScoreSettings(inputs, tuple(settings), Path(gt))
    description = f"score {len(settings)} settings"
    for image_id, cells, message in run_parallel(work, ids, workers=workers, description=description):
        if message is None:
            found[image_id] = cells
        else:
            failures[image_id] = message
            print(f"{image_id}: {message}", file=sys.stderr)
    if not found:
        raise InputError(f"none of the {len(ids)} images could be scored; the first: {failures[ids[0]]}")
    done = [image_id for image_id in ids if image_id in found]
    return [
        Evaluation(inputs.classes, {image_id: found[image_id][n] for image_id in done}, failures, only)
        for n in range(len(settings))
    ]


def split_half(
    before: Evaluation, searched: dict[str, list[tuple[dict, Evaluation]]], seed: int, baseline: str | None
) -> dict:
    """Parameters chosen on one half of the images, scores told on the other, both ways round.

    Args:
        before: of the input labels.
        searched: method -> (parameters, evaluation over the images of ``before``) of every setting tried.
        seed: of the halves.
        baseline: as in `compare_labels`.

    Returns:
        what ``split_half.json`` holds: ``compare_labels`` of the pooled labels, in which every image stands as the
        setting left it that was chosen on the other half; ``chosen``: method -> settings tried, and for either half the
        parameters chosen there, mIoU there and on the other half; ``halves``: the ids.
    """
    ids = list(before.cells)
    parts = halves(ids, seed)
    pooled, chosen = {}, {}
    for method, settings in searched.items():
        candidates = [evaluation for _, evaluation in settings]
        picked, pooled[method] = choose_and_report(candidates, ids, seed)
        chosen[method] = {"settings": len(settings)}
        for name, here, there, index in zip("AB", parts, parts[::-1], picked):
            chosen[method][name] = {
                "parameters": settings[index][0],
                "miou_where_chosen": candidates[index].of(here).scores["miou"],
                "miou_on_the_other_half": candidates[index].of(there).scores["miou"],
                "input_on_the_other_half": before.of(there).scores["miou"],
            }
    comparison = compare_labels(before, pooled, dict.fromkeys(pooled, float("nan")), baseline)
    return {**comparison, "seed": seed, "chosen": chosen, "halves": dict(zip("AB", parts))}


def write_split_half(result: dict, out: Path) -> str:
    """Write ``split_half.json``, ``split_half.csv`` and ``split_half.png``; return the terminal's tables."""
    rows = [[row[0], *row[1:8], *row[9:]] for row in comparison_rows(result)]  # no time: nothing was merged for it
    best = ranking(result)
    write_json(out / "split_half.json", result)
    write_rows(out / "split_half.csv", rows)
    draw_comparison(out / "split_half.png", result)
    picks = [["method", "settings", "chosen on", "mIoU there", "on the other", "input there", "parameters"]]
    for name in best:
        for half in "AB":
            pick = result["chosen"][name][half]
            numbers = (pick[key] for key in ("miou_where_chosen", "miou_on_the_other_half", "input_on_the_other_half"))
            text = " ".join(f"{key}={value}" for key, value in pick["parameters"].items())
            picks.append([name, str(result["chosen"][name]["settings"]), half, *map(per_cent, numbers), text])
    return f"{rows_to_text([row[: SUMMARY_COLUMNS - 1] for row in rows])}\n\n{rows_to_text(picks)}"


def sensitivity(before: Evaluation, points: list[tuple[object, Evaluation]], default) -> dict:
    """How the score depends on one parameter: what ``sensitivity_<NAME>.json`` holds for a method.

    Args:
        before: of the input labels.
        points: (value, evaluation over the images of ``before``); the default's is among them.
        default: the parameter's default.
    """
    drawn = bootstrap_miou({"": before, **{str(n): evaluation for n, (_, evaluation) in enumerate(points)}})
    base = str([value for value, _ in points].index(default))
    return {
        "default": default,
        "input": before.scores["miou"],
        "points": [
            {
                "value": value,
                **{
                    key: evaluation.scores[key] for key in ("miou", "miou_void_left_out", "void", "precision", "recall")
                },
                "interval_95": interval(drawn[str(n)], drawn[base]),
                "interval_95_to_input": interval(drawn[str(n)], drawn[""]),
            }
            for n, (value, evaluation) in enumerate(points)
        ],
    }


def write_sensitivity(method: str, name: str, result: dict, levels: dict[str, float], out: Path) -> str:
    """Write ``sensitivity_<METHOD>_<NAME>.json``, ``.csv`` and ``.png``; return the terminal's table."""
    stem = out / f"sensitivity_{method}_{name}"
    rows = [[name, "mIoU", "to default, 95 %", "to input, 95 %", "without void", "void", "precision", "recall"]]
    for point in result["points"]:
        cells = (per_cent(point[key]) for key in ("miou_void_left_out", "void", "precision", "recall"))
        bounds = (interval_text(point[key]) for key in ("interval_95", "interval_95_to_input"))
        rows.append([str(point["value"]), per_cent(point["miou"]), *bounds, *cells])
    write_json(stem.with_suffix(".json"), {"method": method, "parameter": name, **result})
    write_rows(stem.with_suffix(".csv"), rows)
    draw_curve(
        stem.with_suffix(".png"), f"{name} of {method}", result["points"], result["default"],
        {"input": result["input"], **levels},
    )  # fmt: skip
    return rows_to_text(rows)


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
