"""The strategy lab: one image through every strategy, and one strategy over all images."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

import merge
from merge.calling import call_strategy
from pipeline.automatic import rule_of
from util.data.cams import cam_file
from util.data.classes import classes_of
from util.data.ids import id_of, read_id_list
from util.data.image_labels import read_image_labels
from util.data.images import find_image, read_image
from util.data.labels import label_path, read_label
from util.data.mask_files import masks_path, read_masks
from util.data.masks import Masks
from util.data.merge_inputs import Inputs
from util.data.voc import VOID, ClassTable
from util.evaluation.metrics import Evaluation, cells_of, class_scores
from util.runtime.errors import InputError, counted
from util.runtime.files import check_folder, digest, list_files, read_bytes
from util.vis import draw_masks, mask_note
from Web_demo.src.utils.files import keep_inside
from Web_demo.src.utils.records import RUN, read_record


@dataclass(frozen=True)
class Scene:
    """What the lab knows of one image.

    Attributes:
        image_id: of the image.
        label: uint8 HxW, the pseudo label.
        masks: of SAM, or regions.
        tags, cam: as a strategy gets them.
        image: uint8 HxWx3; white where no images are given.
        truth: uint8 HxW, or None.
        num_classes: with the background.
    """

    image_id: str
    label: np.ndarray
    masks: Masks
    tags: tuple[int, ...] | None
    cam: dict[int, np.ndarray] | None
    image: np.ndarray
    truth: np.ndarray | None
    num_classes: int


class Lab:
    """The folders that the demo was started with; nothing outside them is read.

    Attributes:
        inputs: of the merge stage.
        labels: folder of the pseudo labels.
        images, gt: folders, or None.
        ids: to browse.
    """

    def __init__(self, args: Namespace):
        places = (args.pseudo_path, args.gt_dir, args.image_labels, args.images_path)
        classes = classes_of(places, args.class_names, args.number_class)
        tags = None if args.image_labels is None else read_image_labels(args.image_labels, classes)
        self.inputs = Inputs(args.pseudo_path, args.sam_path, classes, tags, args.cam_path)
        self.labels: Path = args.pseudo_path
        self.images: Path | None = args.images_path
        self.gt: Path | None = args.gt_dir
        folders = (args.pseudo_path, args.sam_path, args.cam_path, args.images_path, args.gt_dir)
        self.folders = [folder for folder in folders if folder is not None]
        if args.image_list is not None:
            self.ids = read_id_list(args.image_list, args.pseudo_path)
        else:
            self.ids = sorted(
                id_of(path.name) for path in list_files(check_folder(args.pseudo_path, "pseudo labels"), (".png",))
            )
        if not self.ids:
            raise InputError(f"{args.pseudo_path}: no pseudo labels here; check --pseudo-path")

    @property
    def classes(self) -> ClassTable:
        """Of the data set."""
        return self.inputs.classes

    @cached_property
    def rule(self) -> str:
        """The rule of ``auto`` for these images, as the merge stage decides it."""
        return rule_of(self.inputs, self.ids)

    def read(self, image_id: str, with_image: bool = True) -> Scene:
        """Read what there is of an image.

        Raises:
            InputError: if something is missing, damaged, or leads out of the folders.
        """
        inputs, size = self.inputs, len(self.classes)
        label = read_label(self._inside(label_path(self.labels, image_id)), size)
        path = self._inside(masks_path(inputs.sam_path, image_id))
        if path.is_dir():
            for file in list_files(path):
                self._inside(file)
        masks = read_masks(inputs.sam_path, image_id, label.shape).with_classes(self.classes.names)
        if inputs.cam_path is not None:
            self._inside(cam_file(inputs.cam_path, image_id))
        truth = None
        if self.gt is not None:
            truth = read_label(self._inside(label_path(self.gt, image_id)), size)
            _check_size("the ground truth", truth.shape, label.shape)
        if self.images is not None and with_image:
            image = read_image(self._inside(find_image(self.images, image_id)))
            _check_size("the image", image.shape[:2], label.shape)
        else:
            image = np.full((*label.shape, 3), 255, np.uint8)
        cam = inputs.cam(image_id, label.shape)
        return Scene(image_id, label, masks, inputs.tags(image_id), cam, image, truth, size)

    def masks_text(self, scene: Scene) -> str:
        """How many masks an image has, and of what, where that is recorded."""
        options = read_record(self.inputs.sam_path / RUN).get("options")
        model = options.get("model") if isinstance(options, dict) else None
        if model == "regions":  # not a SAM
            return counted(len(scene.masks), "region")
        return counted(len(scene.masks), "mask") + (f" of {Path(str(model)).name}" if model else "")

    def _inside(self, path: Path) -> Path:
        return keep_inside(path, self.folders)


def _check_size(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise InputError(
            f"{what} is {found[1]}x{found[0]} pixels, the pseudo label {expected[1]}x{expected[0]}; "
            "make both from the same image"
        )


# --- strategies ---------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_loaded: tuple[str, dict[str, Callable]] | None = None


def strategies() -> tuple[str, dict[str, Callable]]:
    """The table of strategies as their files are now, and a digest of these files: an edited one is read again.

    Raises:
        InputError: if a file cannot be imported; what was loaded before stays in use elsewhere.
    """
    global _loaded
    folder = Path(merge.__file__).parent
    with _lock:
        version = digest(*(part for file in sorted(folder.glob("*.py")) for part in (file.name, read_bytes(file))))
        if _loaded is None or _loaded[0] != version:
            _loaded = version, _import_again()
        return _loaded


def _import_again() -> dict[str, Callable]:
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "merge"}
    for name in before:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        return dict(importlib.import_module("merge").STRATEGIES)
    except Exception as error:
        for name in [name for name in sys.modules if name.split(".")[0] == "merge"]:
            del sys.modules[name]
        where = f" ({Path(error.filename or '').name}, line {error.lineno})" if isinstance(error, SyntaxError) else ""
        raise InputError(
            f"the strategies cannot be read: {type(error).__name__}: {error}{where}; fix the file and press Rerun"
        ) from None
    finally:
        # Whoever imported merge before (processor, say) keeps the modules that it has.
        sys.modules.update(before)


def summary_of(strategy: Callable) -> str:
    """The first line of what a strategy's file says of it."""
    text = strategy.__globals__.get("__doc__") or ""
    return text.strip().splitlines()[0] if text.strip() else ""


def parameter_notes(strategy: Callable) -> dict[str, str]:
    """Parameter -> what the strategy's docstring says of it under ``Args:``."""
    notes: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(strategy) or "").partition("Args:\n")[2].splitlines():
        if not line.startswith("    "):
            break
        if start := re.match(r" {4}(\w+): (.*)", line):
            name = start[1]
            notes[name] = start[2]
        elif name:
            notes[name] += f" {line.strip()}"
    return notes


def search_values(strategy: Callable) -> dict[str, tuple]:
    """Parameter -> the values that a strategy's file names as worth trying, in ``SEARCH``."""
    return dict(strategy.__globals__.get("SEARCH", {}))


def apply(scene: Scene, name: str, strategy: Callable, parameters: dict) -> np.ndarray:
    """A strategy's label for an image, uint8 HxW.

    Raises:
        InputError: if the strategy fails.
    """
    arguments = (scene.label, scene.masks, scene.tags, scene.cam)
    return call_strategy(strategy, name, arguments, parameters, scene.num_classes)


# --- scores -------------------------------------------------------------------------------------------------------


def image_scores(label: np.ndarray, truth: np.ndarray, classes: ClassTable) -> tuple[float, dict[int, float]]:
    """Mean IoU of one image, and class -> IoU for the classes of its ground truth."""
    evaluation = Evaluation(classes, {"image": cells_of(label, truth, len(classes))}, {})
    counts = evaluation.image_counts("image")
    iou = class_scores(counts)[0]
    return evaluation.image_miou("image"), {int(c): float(iou[c]) for c in np.flatnonzero(counts.sum(axis=1))}


@dataclass(frozen=True)
class Change:
    """What a strategy did to an image.

    Attributes:
        image_id: of the image.
        changed: share of the pixels that have another value, 0 to 1.
        gain: difference in the image's mean IoU, a fraction; 0 without ground truth.
    """

    image_id: str
    changed: float
    gain: float = 0.0

    def text(self) -> str:
        """The id, and the gain in points or, without ground truth, the changed share."""
        return f"{self.image_id} " + (f"{100 * self.gain:+.2f}" if self.gain else f"{100 * self.changed:.2f} %")


@dataclass(frozen=True)
class Sweep:
    """A strategy over all images.

    Attributes:
        before, after: of the pseudo labels and of the strategy's, over the same images; None without ground truth.
        changed: id -> share of the pixels that have another value.
        failures: id -> message.
    """

    before: Evaluation | None
    after: Evaluation | None
    changed: dict[str, float]
    failures: dict[str, str]

    def changes(self) -> list[Change]:
        """Images that changed: by ground truth the largest gain first, those without gain or loss left out; without it
        the largest changed share first."""
        if self.before is None or self.after is None:
            found = [Change(image_id, share) for image_id, share in self.changed.items() if share > 0]
            return sorted(found, key=lambda change: (-change.changed, change.image_id))
        gains = {i: self.after.image_miou(i) - self.before.image_miou(i) for i in self.after.cells}
        found = [Change(i, self.changed[i], gain) for i, gain in gains.items() if gain and not np.isnan(gain)]
        return sorted(found, key=lambda change: (-change.gain, change.image_id))


def sweep(lab: Lab, name: str, strategy: Callable, parameters: dict) -> Iterator[float | Sweep]:
    """Run a strategy over all images: yields the share that is done, at last a `Sweep`."""
    cells: tuple[dict, dict] = {}, {}
    changed: dict[str, float] = {}
    failures: dict[str, str] = {}
    for number, image_id in enumerate(lab.ids):
        yield number / len(lab.ids)
        try:
            scene = lab.read(image_id, with_image=False)
            result = apply(scene, name, strategy, parameters)
        except InputError as error:
            failures[image_id] = str(error)
            continue
        changed[image_id] = float(np.mean(result != scene.label))
        if scene.truth is not None:
            for side, label in zip(cells, (scene.label, result)):
                side[image_id] = cells_of(label, scene.truth, len(lab.classes))
    before, after = (Evaluation(lab.classes, side, {}) if lab.gt is not None else None for side in cells)
    yield Sweep(before, after, changed, failures)


# --- images -------------------------------------------------------------------------------------------------------


def masks_image(scene: Scene, colors: np.ndarray, chosen: int | None = None) -> np.ndarray:
    """The image with all masks, or with one of them bright and the rest dim; uint8 HxWx3.

    Args:
        colors: of the classes, uint8 256x3, for masks that know their class.
    """
    if chosen is None:
        return draw_masks(scene.image, scene.masks, colors)
    inside = scene.masks.dense(chosen)
    image = np.where(inside[..., None], scene.image, scene.image // 3)
    edge = cv2.morphologyEx(np.ascontiguousarray(inside, np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    image[edge] = (255, 220, 0)
    return image


def differences_image(image: np.ndarray, label: np.ndarray, other: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where a label differs from another: blue for what it lacks, orange for what it adds, violet for another class.

    Args:
        image: uint8 HxWx3, shown in grey; so is the result.
        known: bool HxW, where the two are compared.
    """
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) // 2 + 96
    differs = known & (label != other)
    grey[differs] = (148, 82, 180)
    grey[differs & ((label == 0) | (label == VOID))] = (0, 114, 178)
    grey[differs & (other == 0)] = (230, 140, 0)
    return grey


def mask_numbers(scene: Scene, k: int, classes: ClassTable) -> dict[str, str]:
    """What is known of a mask, by name."""
    masks = scene.masks
    left, top, width, height = masks.boxes[k]
    area = int(masks.areas[k])
    numbers = {
        "area": f"{area} pixels, {100 * area / scene.label.size:.1f} % of the image",
        "box": f"{width} x {height} pixels from ({left}, {top})",
        **({"category and score": note} if (note := mask_note(masks, k)) else {}),
        "predicted IoU": _known(masks.predicted_iou[k]),
        "stability": _known(masks.stability_score[k]),
    }
    values = np.unique(scene.label)
    shares = masks.overlaps(scene.label, values)[k] / max(area, 1)
    names = ["void" if value == VOID else classes.names[value] for value in values]
    numbers["pseudo label inside"] = ", ".join(
        f"{name} {100 * share:.0f} %" for name, share in sorted(zip(names, shares), key=lambda p: -p[1]) if share > 0
    )
    return numbers


def _known(value: float) -> str:
    return "not recorded" if np.isnan(value) else f"{value:.3f}"
