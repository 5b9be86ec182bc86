"""Every script with a small piece of work, as the tests of this folder run it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import ROOT, Run, result_files, results

IMAGES, LISTED = "--images {data}/JPEGImages", "--list {data}/ImageSets/Segmentation/train.txt"
COMMON = f"{IMAGES} {LISTED} --class-names {{data}}/class_names.txt"
TINY = "--encoder timm-mobilenetv3_small_minimal_100 --encoder-weights none"
HELD_OUT = "--val-list {data}/ImageSets/Segmentation/val.txt"
MERGE = (
    "--pseudo-path {data}/labels --sam-path {data}/masks --gt-dir {data}/SegmentationClassAug --workers 2 "
    "--images-path {data}/JPEGImages --image-list {data}/ImageSets/Segmentation/train.txt "
    "--class-names {data}/class_names.txt"
)


@dataclass(frozen=True)
class Case:
    """A command of a script.

    Attributes:
        script: file name.
        options: all but ``--out``; ``{data}`` is the data set, ``{archives}`` those of VOC, ``{checkpoint}`` that of `needs`.
        needs: the case that trains its network.
        reads: folder of the data, and suffix, of files of single images that it reads; None where it reads archives.
        kills: how many times it is killed by default.
        trains: whether its result is weights, which no other run makes again once an image was left out.
        shared: whether torchrun can share it out over processes.
    """

    script: str
    options: str
    needs: str | None = None
    reads: tuple[str, str] | None = ("labels", ".png")
    kills: int = 4
    trains: bool = False
    shared: bool = False


COUNT = 8  # training images
OF_IMAGES = ("JPEGImages", ".jpg")
CASES = {
    "generate_sam_masks": Case(
        "generate_sam_masks.py", f"{IMAGES} {LISTED} --model regions --gzip --preview 2", reads=OF_IMAGES, shared=True
    ),
    "main compare": Case("main.py", f"--mode compare --methods max_iou,max_iou_imp2 {MERGE}"),
    "main all": Case("main.py", f"--mode all --method max_iou_imp --vis-random 3 {MERGE}"),
    "train_transcam": Case(
        "train_transcam.py",
        f"{COMMON} {TINY} {HELD_OUT} --method cam --image-labels {{data}}/cls_labels.npy --epochs 2 --batch-size 4 "
        "--crop-size 32 --long-side 40 48 --save-minutes 0 --workers 1",
        reads=OF_IMAGES,
        kills=2,
        trains=True,
        shared=True,
    ),
    "generate_cams": Case(
        "generate_cams.py",
        f"{COMMON} --image-labels {{data}}/cls_labels.npy --checkpoint {{checkpoint}} --sizes 32 48 --refine par "
        "--workers 1",
        needs="train_transcam",
        reads=OF_IMAGES,
        kills=2,
        shared=True,
    ),
    "train_deeplabv3": Case(
        "train_deeplabv3.py",
        f"{COMMON} {TINY} {HELD_OUT} --val-gt {{data}}/SegmentationClassAug --labels {{data}}/labels --steps 8 "
        "--batch-size 2 --crop-size 32 --val-every 4 --ema 0.9 --workers 1",
        kills=2,
        trains=True,
        shared=True,
    ),
    "evaluate labels": Case(
        "evaluate_enhanced.py",
        f"{LISTED} --class-names {{data}}/class_names.txt --pred {{data}}/labels --baseline {{data}}/labels "
        "--gt {data}/SegmentationClassAug --boundary --workers 2",
    ),
    "evaluate network": Case(
        "evaluate_enhanced.py",
        f"{COMMON} --checkpoint {{checkpoint}} --gt {{data}}/SegmentationClassAug --workers 2 --scales 0.5 1 --flip "
        "--postprocess pixel-adaptive",
        needs="train_deeplabv3",
        reads=OF_IMAGES,
        kills=2,
        shared=True,
    ),
    "predict": Case(
        "predict.py",
        f"{IMAGES} --checkpoint {{checkpoint}} --format overlay labelme coco-json --confidence",
        needs="train_deeplabv3",
        reads=OF_IMAGES,
        kills=3,
        shared=True,
    ),
    "check_pseudo_label": Case(
        "check_pseudo_label.py",
        f"{COMMON} --labels {{data}}/labels --image-labels {{data}}/cls_labels.npy --gt {{data}}/SegmentationClassAug "
        "--workers 2",
    ),
    "prepare_voc": Case("prepare_voc.py", "--archives {archives} --partial --workers 2", reads=None),
}
assert all((ROOT / case.script).is_file() for case in CASES.values())


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run gave: its folder, what is in it, and how often it changed something there."""

    out: Path
    results: dict
    changes: int


class Place:
    """Data, and the undisturbed results of the cases, each made once when first asked for."""

    def __init__(self, folder: Path):
        self.folder, self.data = folder, folder / "data"
        self._references: dict[str, Reference] = {}
        make_data(self.data, COUNT)

    def reference(self, name: str) -> Reference:
        """An undisturbed run.

        Raises:
            AssertionError: if it fails, or writes a file under its final name, where a reader could meet a part.
        """
        if name not in self._references:
            out = self.folder / "undisturbed" / name.replace(" ", "_")
            out.mkdir(parents=True)
            run = self.start(name, out)
            assert run.wait() == 0, run.text[-3000:]
            placed = set(Path(f"{run.log}.placed").read_text().splitlines())
            in_place = {str(path) for path in result_files(out)} - placed
            assert not in_place, f"written under the final name: {sorted(in_place)}"
            self._references[name] = Reference(out, results(out), run.log.stat().st_size)
        return self._references[name]

    def start(self, name: str, out: Path, *more: str, **options) -> Run:
        """Start a case into a folder; `Run.start` takes the options."""
        arguments = [*self.options(name), "--out", out, *more]
        log = self.folder / f"{len(list(self.folder.glob('*.log'))):04}.log"
        return Run.start(CASES[name].script, arguments, log, out, **options)

    def options(self, name: str) -> list[str]:
        """The options of a case, filled in."""
        case, archives = CASES[name], self.folder / "archives"
        if "{archives}" in case.options and not archives.exists():
            make_archives(archives)
        checkpoint = self.reference(case.needs).out / "last.pth" if case.needs else None
        return case.options.format(data=self.data, archives=archives, checkpoint=checkpoint).split()

    def run(self, name: str, out: Path, *more: str, **options) -> tuple[int, str]:
        """Run a case to its end: exit code and all that it printed."""
        run = self.start(name, out, *more, **options)
        return run.wait(), run.text


def make_data(folder: Path, count: int) -> None:
    """Generated images (``count`` to train and 4 held out) with labels that are off by some pixels, and region masks."""
    from models.sam.regions import region_masks
    from util.data.images import read_image
    from util.data.labels import read_label, write_label
    from util.data.mask_files import write_masks
    from util.data.synthetic import CLASSES, write_data_set

    write_data_set(folder, {"train": count, "val": 4}, side=64)
    for path in sorted((folder / "JPEGImages").iterdir()):
        label = read_label(folder / "SegmentationClassAug" / f"{path.stem}.png")
        write_label(folder / "labels" / f"{path.stem}.png", np.roll(label, 3, axis=1), CLASSES.palette)
        write_masks(folder / "masks" / f"{path.stem}.json", region_masks(read_image(path)), path.stem, path.name)


def make_archives(folder: Path) -> None:
    """Small archives in the form of PASCAL VOC 2012's and SBD's."""
    from test_prepare_voc import sbd_files, voc_files, write_archive

    write_archive(folder / "VOCtrainval_11-May-2012.tar", voc_files(), "w")
    write_archive(folder / "benchmark.tgz", sbd_files(), "w:gz")
