"""The merge stage as functions: walk the ids, call a strategy, write label maps, score settings, draw rows.

`main.py` is its command line.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from merge import STRATEGIES, StrategyError
from merge.calling import call_strategy
from util.data.images import find_image, read_image
from util.data.labels import encode_label, label_path, read_label
from util.data.merge_inputs import Inputs
from util.evaluation.evaluate import in_order
from util.evaluation.metrics import Cells, Evaluation, cells_of
from util.figures.panels import Panel, class_legend, draw_panels
from util.figures.style import described
from util.runtime.distributed import ALONE, Dist
from util.runtime.errors import InputError, disk_error
from util.runtime.files import bytes_digest, check_folder, read_json, write_bytes
from util.runtime.ledger import Stage, entry_is_current
from util.runtime.parallel import run_parallel
from util.vis import draw_masks, mask_notes, overlay

FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # every further write would fail as well
ROWS = 8  # of images on one page


# --- merge --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _MergeImage:
    """Merges one image in a worker process: reads, asks the strategy, writes, and reports to the parent."""

    inputs: Inputs
    method: str
    parameters: dict
    out: Path
    fingerprint: str
    force: bool
    palette: np.ndarray = field(repr=False)

    def __call__(self, item: tuple[str, dict | None]) -> dict:
        image_id, entry = item
        start = time.perf_counter()
        try:
            files = self.inputs.read(image_id)
            key = files.key(self.fingerprint)
            if not self.force and entry_is_current(entry, key, self.out):
                return {"id": image_id, "status": "current"}
            arguments, strategy = files.decode(self.inputs), STRATEGIES[self.method]
            result = call_strategy(strategy, self.method, arguments, self.parameters, len(self.inputs.classes))
        except StrategyError as error:
            return {"id": image_id, "status": "wrong strategy", "message": str(error)}
        except InputError as error:
            return {"id": image_id, "status": "failed", "message": str(error)}
        except OSError as error:
            return {"id": image_id, "status": "failed", "message": f"cannot be read ({error}); check the file"}
        path = self.out / f"{image_id}.png"
        try:
            data = encode_label(result, self.palette)
            write_bytes(path, data)
        except OSError as error:
            status = "fatal" if error.errno in FATAL else "failed"
            return {"id": image_id, "status": status, "message": str(disk_error(error, path))}
        entry = {"id": image_id, "key": key, "files": {path.name: bytes_digest(data)}}
        changed = not np.array_equal(result, arguments[0])
        seconds = time.perf_counter() - start
        return {"id": image_id, "status": "done", "entry": entry, "changed": changed, "seconds": seconds}


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        done, current, failed: images made, up to date, and not done.
        seconds: per image on one core, reading and writing included; NaN when nothing was done.
        changed: how many of the images made differ from the pseudo label.
    """

    done: int
    current: int
    failed: int
    seconds: float
    changed: int

    def __str__(self) -> str:
        same = "; none differs from its pseudo label: look at the parameters and masks"
        return f"{self.done} made, {self.current} up to date, {self.failed} failed" + (
            same if self.done and not self.changed else ""
        )


def merge_labels(
    inputs: Inputs,
    method: str,
    parameters: dict,
    ids: list[str],
    out: Path,
    *,
    workers: int,
    overwrite: bool = False,
    dist: Dist = ALONE,
) -> Merged:
    """Run a strategy over all ids into ``out/<method>/<id>.png``; up-to-date results are reused.

    Args:
        dist: the processes that share the ids; the main one's report is of all of them.

    Raises:
        StrategyError: at the strategy's first mistake: once its code is changed, every image is made again.
        InputError: if a folder is missing, or the results cannot be written.
    """
    inputs.check()
    made_from: dict[str, Any] = {
        "pseudo_path": inputs.pseudo_path,
        "sam_path": inputs.sam_path,
        "cam_path": inputs.cam_path,
        "tags": inputs.image_labels is not None,
    }
    folder = out / method
    with _stage(inputs, method, parameters, folder, made_from=made_from, overwrite=overwrite, rank=dist.rank) as stage:
        dist.barrier()  # every process has read what is done before one of them goes on
        work = _MergeImage(inputs, method, parameters, folder, stage.fingerprint, overwrite, inputs.classes.palette)
        mine = dist.shard(ids)
        items = [(image_id, stage.done.get(image_id)) for image_id in mine]
        seconds, current, changed, mistake = _merge_items(work, items, stage, workers)
        # Together, as the processes wait for each other.
        if mistakes := [text for text in dist.gather(mistake) if text]:
            raise StrategyError(mistakes[0])
        done = {i: stage.done[i] for i in mine if i in stage.done}
        parts = dist.gather((done, seconds, current, stage.failures, changed))
        if dist.is_main:
            for entries, *_ in parts:
                stage.done.update(entries)
        stage.finish()
    every = [value for _, part, *_ in parts for value in part]
    failed = sum(len(part[3]) for part in parts)
    mean = float(np.mean(every)) if every else float("nan")
    return Merged(len(every), sum(part[2] for part in parts), failed, mean, sum(part[4] for part in parts))


def _stage(inputs: Inputs, method: str, parameters: dict, folder: Path, **more: Any) -> Stage:
    options = {
        "method": method,
        "parameters": parameters,
        "classes": inputs.classes.names,
        "colors": inputs.classes.colors,
    }
    return Stage(folder, options, code=[STRATEGIES[method], Inputs], **more)


def is_outdated(inputs: Inputs, method: str, parameters: dict, out: Path) -> bool:
    """Whether the label maps in ``out/<method>`` were made by other code, parameters or classes than these."""
    run = out / method / "run.json"
    if not run.is_file():
        return False
    record = read_json(run)
    if method == "auto" and not parameters["rule"]:  # as it was decided for them
        parameters = {**parameters, "rule": record["options"]["parameters"]["rule"]}
    return record["fingerprint"] != _stage(inputs, method, parameters, out / method).fingerprint


def _merge_items(
    work: _MergeImage, items: list[tuple[str, dict | None]], stage: Stage, workers: int
) -> tuple[list[float], int, int, str]:
    """Merge images until one shows a mistake of the strategy: seconds of each, how many are up to date or changed, the mistake."""
    seconds: list[float] = []
    current = changed = 0
    left = dict(items)
    for result in run_parallel(work, items, workers=workers, description=f"merge {work.method}"):
        del left[result["id"]]
        if result["status"] == "done":
            stage.note(result["entry"])
            seconds.append(result["seconds"])
            changed += result["changed"]
        elif result["status"] == "current":
            current += 1
        elif result["status"] == "fatal":
            raise InputError(result["message"])
        elif result["status"] == "failed":
            stage.fail(result["id"], result["message"])
        else:
            for image_id in (result["id"], *left):  # label maps of an earlier run
                stage.discard(image_id)
            return seconds, current, changed, f"{result['id']}: {result['message']}"
    return seconds, current, changed, ""


# --- parameters ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ScoreSettings:
    """Scores one image under many settings in a worker process; it is read once, and no label map is written."""

    inputs: Inputs
    settings: tuple[tuple[str, dict], ...]
    gt: Path

    def __call__(self, image_id: str) -> tuple[str, list[Cells] | None, str]:
        size = len(self.inputs.classes)
        try:
            arguments = self.inputs.read(image_id).decode(self.inputs)
            truth = read_label(label_path(self.gt, image_id))
            results = (
                call_strategy(STRATEGIES[name], name, arguments, parameters, size) for name, parameters in self.settings
            )
            return image_id, [cells_of(result, truth, size) for result in results], ""
        except InputError as error:
            return image_id, None, str(error)
        except OSError as error:
            return image_id, None, f"cannot be read ({error}); check the file"


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
        one evaluation per setting, over the same images.

    Raises:
        InputError: if a folder is missing or no image could be scored.
    """
    inputs.check()
    check_folder(gt, "ground truth")
    work = _ScoreSettings(inputs, tuple(settings), Path(gt))
    description = f"score {len(settings)} settings"
    scored = run_parallel(work, ids, workers=workers, description=description)
    found, failures = in_order(scored, ids, inputs.pseudo_path)
    return [
        Evaluation(inputs.classes, {image_id: cells[n] for image_id, cells in found.items()}, failures, only)
        for n in range(len(settings))
    ]


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
    inputs: Inputs, method: str, ids: Sequence[str], out: Path, images: Path | None, gt: Path | None, data: str = ""
) -> dict[str, str]:
    """Draw image, pseudo label, masks, enhanced label and ground truth of each id to ``out/vis/<method>/<id>.png``.

    Each is a PDF as well; the first ones are in ``out/vis/<method>.pdf`` and ``.png`` together.

    Args:
        data: name of the data, for the title of these.

    Returns:
        id -> message, for the images that could not be drawn.
    """
    failures, classes = {}, inputs.classes
    delete_stale(out / "vis" / method, out / method)
    page: list[tuple[dict[str, Panel], list[np.ndarray]]] = []
    for image_id in ids:
        try:
            panels, labels = _panels(inputs, method, image_id, out, images, gt)
        except InputError as error:
            failures[image_id] = str(error)
            print(f"{image_id}: {error}", file=sys.stderr)
            continue
        draw_panels(
            out / "vis" / method / image_id, [[*panels.values()]], class_legend(labels, classes), heads=[*panels]
        )
        page.append((panels, labels))
        del page[ROWS:]
    if page:
        legend = class_legend([label for _, labels in page for label in labels], classes)
        title = described(data, len(page)) + (", mIoU of each over its own classes" if gt is not None else "")
        rows = [[*panels.values()] for panels, _ in page]
        draw_panels(out / "vis" / method, rows, legend, title, heads=[*page[0][0]])
    return failures


def delete_stale(figures: Path, labels: Path) -> None:
    """Delete figures of earlier runs whose label map is newer, or gone."""
    for figure in [*figures.glob("*.png"), *figures.glob("*.pdf")]:
        label = labels / f"{figure.stem}.png"
        if not label.is_file() or label.stat().st_mtime > figure.stat().st_mtime:
            figure.unlink()


def _panels(
    inputs: Inputs, method: str, image_id: str, out: Path, images: Path | None, gt: Path | None
) -> tuple[dict[str, Panel], list[np.ndarray]]:
    """Heading -> panel of an image's row, and its label maps."""
    colors = inputs.classes.palette
    label, masks, _, _ = inputs.read(image_id).decode(inputs)
    labels = {} if inputs.pseudo_path is None else {"pseudo label": label}
    labels[method] = read_label(label_path(out / method, image_id))
    truth = None if gt is None else read_label(label_path(gt, image_id))
    image = np.full((*label.shape, 3), 255, np.uint8)
    if images is not None:
        image = read_image(find_image(images, image_id))
        if image.shape[:2] != label.shape:
            raise InputError(
                f"the image is {image.shape[1]}x{image.shape[0]}, the label {label.shape[1]}x{label.shape[0]}; "
                "make the label at the size of the image"
            )
    panels = {} if images is None else {"image": Panel(image_id, image)}
    for name, found in labels.items():
        if name == method:
            panels["masks"] = Panel(str(len(masks)), draw_masks(image, masks, colors), mask_notes(masks))
        panels[name] = Panel(_image_score(inputs, found, truth), overlay(image, found, colors))
    if truth is not None:
        panels["ground truth"] = Panel("", overlay(image, truth, colors))
        labels["ground truth"] = truth
    return panels, list(labels.values())


def _image_score(inputs: Inputs, label: np.ndarray, truth: np.ndarray | None) -> str:
    """The mIoU of an image's label, as a caption."""
    if truth is None:
        return ""
    cells = cells_of(label, truth, len(inputs.classes))
    return f"mIoU {100 * Evaluation(inputs.classes, {'': cells}, {}).image_miou(''):.1f} %"
