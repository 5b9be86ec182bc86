"""Every script with a small piece of work, as the tests of this folder run it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import HANGS, ROOT, Run, Server, Watch, results

PICTURES = ("JPEGImages", ".jpg")
TINY = ["--encoder", "timm-mobilenetv3_small_minimal_100", "--encoder-weights", "none"]


@dataclass(frozen=True)
class Case:
    """A command of a script.

    Attributes:
        name: in tables.
        script: file name.
        arguments: (`Place`) -> options but ``--out``.
        network: whether it runs one; such runs are slower.
        reads: folder of the data, and suffix, of files of single images that it reads; None where it reads archives.
        trains: whether its result is weights, which no other run makes again once an image was left out.
        shared: whether torchrun can share it out over processes.
        pipeline: whether it runs the other scripts; it is killed, but its disk is theirs.
    """

    name: str
    script: str
    arguments: Callable[["Place"], list]
    network: bool = False
    reads: tuple[str, str] | None = ("labels", ".png")
    trains: bool = False
    shared: bool = False
    pipeline: bool = False


class Place:
    """Data, and the undisturbed results of the cases, each made once when first asked for."""

    def __init__(self, folder: Path, server: Server):
        self.folder, self.server = folder, server
        self.data = folder / "data"
        self._references: dict[str, Reference] = {}
        make_data(self.data)

    @property
    def common(self) -> list:
        """Pictures, the list and the class names."""
        return [*self.pictures, *self.listed]

    @property
    def pictures(self) -> list:
        return ["--images", self.data / "JPEGImages"]

    @property
    def listed(self) -> list:
        return ["--list", self.data / "ImageSets/Segmentation/train.txt", "--class-names", self.names]

    @property
    def names(self) -> Path:
        return self.data / "class_names.txt"

    def out(self, case: str) -> Path:
        """The undisturbed result of a case."""
        return self.reference(CASES[case]).out

    def reference(self, case: Case) -> "Reference":
        """An undisturbed run, with how long it took and how much happened."""
        if case.name not in self._references:
            out = self.folder / "undisturbed" / case.name
            out.mkdir(parents=True)
            with Watch(out) as watch:
                run = self.start(case, out)
                begun = time.monotonic()
                while run.poll() is None and time.monotonic() - begun < HANGS:
                    watch.look(0.01)
                seconds = time.monotonic() - begun
                code = run.wait()
                watch.look()
            assert code == 0, f"{case.name} ended with {code}:\n{run.text[-3000:]}"
            self._references[case.name] = Reference(
                out, results(out), seconds, watch.happenings, frozenset(watch.in_place)
            )
        return self._references[case.name]

    def start(self, case: Case, out: Path, *more, **options) -> Run:
        """Start a case into a folder; `Server.start` takes the options."""
        log = self.folder / f"{case.name}.{len(os.listdir(self.folder))}.log"
        return self.server.start(case.script, [*case.arguments(self), "--out", out, *more], log, **options)

    def run(self, case: Case, out: Path, *more, **options) -> tuple[int, str]:
        """Run a case to its end: exit code and all that it printed."""
        run = self.start(case, out, *more, **options)
        return run.wait(), run.text


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run gave.

    Attributes:
        out, results: its folder and what is in it.
        seconds, happenings: how long it took, and the changes seen in its folder.
        in_place: files that were not put in place at once.
    """

    out: Path
    results: dict
    seconds: float
    happenings: int
    in_place: frozenset


def make_data(folder: Path) -> None:
    """20 generated pictures with labels that are off by some pixels, and masks of their regions."""
    from models.sam.regions import region_masks
    from util.data.images import read_image
    from util.data.labels import read_label, write_label
    from util.data.mask_files import write_masks
    from util.data.synthetic import CLASSES, write_data_set

    write_data_set(folder, {"train": 16, "val": 4}, side=60)
    for path in sorted((folder / "JPEGImages").iterdir()):
        label = read_label(folder / "SegmentationClassAug" / f"{path.stem}.png")
        write_label(folder / "labels" / f"{path.stem}.png", np.roll(label, 3, axis=1), CLASSES.palette)
        write_masks(folder / "masks" / f"{path.stem}.json", region_masks(read_image(path)), path.stem, path.name)


def make_archives(folder: Path) -> None:
    """Small archives in the form of PASCAL VOC 2012's and SBD's."""
    from test_prepare_voc import sbd_files, voc_files, write_archive

    write_archive(folder / "VOCtrainval_11-May-2012.tar", voc_files(), "w")
    write_archive(folder / "benchmark.tgz", sbd_files(), "w:gz")


def _prepare(place):
    if not (place.folder / "archives").exists():
        make_archives(place.folder / "archives")
    return ["--archives", place.folder / "archives", "--partial", "--workers", 2]


def _masks(place):
    return [*place.pictures, *place.listed[:2], "--model", "regions", "--preview", 2]


def _merge_stage(*options):
    def arguments(place):
        data = place.data
        return [
            *options, "--pseudo-path", data / "labels", "--sam-path", data / "masks", "--gt-dir",
            data / "SegmentationClassAug", "--images-path", data / "JPEGImages", "--image-list",
            data / "ImageSets/Segmentation/train.txt", "--class-names", place.names, "--workers", 2,
        ]  # fmt: skip

    return arguments


def _transcam(place):
    return [
        *place.common, "--method", "cam", *TINY, "--image-labels", place.data / "cls_labels.npy", "--val-list",
        place.data / "ImageSets/Segmentation/val.txt", "--epochs", 3, "--batch-size", 4, "--crop-size", 32,
        "--long-side", 40, 48, "--save-minutes", 0.0005, "--workers", 1,
    ]  # fmt: skip


def _cams(place):
    return [
        *place.common, "--image-labels", place.data / "cls_labels.npy", "--checkpoint",
        place.out("train_transcam") / "last.pth", "--sizes", 32, 48, "--refine", "par", "--workers", 1,
    ]  # fmt: skip


def _deeplab(place):
    return [
        *place.common, *TINY, "--labels", place.data / "labels", "--steps", 12, "--batch-size", 2, "--crop-size", 32,
        "--val-list", place.data / "ImageSets/Segmentation/val.txt", "--val-gt", place.data / "SegmentationClassAug",
        "--val-every", 3, "--ema", 0.9, "--workers", 1,
    ]  # fmt: skip


def _evaluate_labels(place):
    return [
        *place.listed, "--pred", place.data / "labels", "--baseline", place.data / "labels", "--gt",
        place.data / "SegmentationClassAug", "--boundary", "--workers", 2,
    ]  # fmt: skip


def _evaluate_network(place):
    return [
        *place.common, "--checkpoint", place.out("train_deeplabv3") / "last.pth", "--gt",
        place.data / "SegmentationClassAug", "--workers", 2,
    ]  # fmt: skip


def _check(place):
    return [
        *place.common, "--labels", place.data / "labels", "--image-labels", place.data / "cls_labels.npy", "--gt",
        place.data / "SegmentationClassAug", "--workers", 2,
    ]  # fmt: skip


def _quickstart(place):
    # tests/scripts/test_quickstart.py stops the last stages, which take longest, at set moments; the full form does so at random.
    skipped = [] if os.environ.get("WSSS_KILLS") else ["--skip", "deeplab", "score"]
    return ["--images", 16, "--effort", 0.02, "--workers", 0, *skipped]


CASES = {
    case.name: case
    for case in (
        Case("generate_sam_masks", "generate_sam_masks.py", _masks, reads=PICTURES, shared=True),
        Case("masks, gzip", "generate_sam_masks.py", lambda place: [*_masks(place), "--gzip"], reads=PICTURES),
        Case("main merge", "main.py", _merge_stage("--mode", "merge", "--method", "max_iou_imp2")),
        Case("main compare", "main.py", _merge_stage("--mode", "compare", "--methods", "max_iou,max_iou_imp2")),
        Case("main all", "main.py", _merge_stage("--mode", "all", "--method", "max_iou_imp", "--vis-random", "3")),
        Case("train_transcam", "train_transcam.py", _transcam, network=True, reads=PICTURES, trains=True, shared=True),
        Case("generate_cams", "generate_cams.py", _cams, network=True, reads=PICTURES, shared=True),
        Case("train_deeplabv3", "train_deeplabv3.py", _deeplab, network=True, trains=True, shared=True),
        Case("evaluate labels", "evaluate_enhanced.py", _evaluate_labels),
        Case("evaluate network", "evaluate_enhanced.py", _evaluate_network, network=True, reads=PICTURES, shared=True),
        Case("check_pseudo_label", "check_pseudo_label.py", _check),
        Case("prepare_voc", "prepare_voc.py", _prepare, reads=None),
        Case("quickstart", "quickstart.py", _quickstart, network=True, reads=None, pipeline=True),
    )
}
assert all((ROOT / case.script).is_file() for case in CASES.values())
