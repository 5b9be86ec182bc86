"""Strategies on several kinds of labels and masks: which one holds everywhere?

    python benchmarks/regimes.py --labels transcam=pseudo_labels/transcam plain=runs/cams/labels --cams plain=runs/cams/cams \\
        --masks small=sam_masks simulated=runs/simulated regions=runs/regions --unscored small --gt SegmentationClassAug \\
        --list train.txt --image-labels cls_labels.npy --classes background,cat,dog --half odd --out runs/regimes

Every labels NAME is scored with every masks NAME, and with those of --unscored without their predicted IoU as well. Re-run the
command to resume. A finished cell is reused until a strategy's code, a file or a choice changes.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from merge import GROUPS, STRATEGIES
from pipeline.automatic import decide
from processor import score_settings
from util.data.cams import cam_file
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.labels import label_path
from util.data.mask_files import masks_path, read_masks, write_masks
from util.data.merge_inputs import Inputs
from util.evaluation.bootstrap import bootstrap_difference
from util.evaluation.evaluate import evaluate_labels
from util.evaluation.metrics import Evaluation
from util.evaluation.report import interval_text, per_cent, rows_to_text
from util.runtime.cli import Parser, class_indices
from util.runtime.distributed import ALONE
from util.runtime.errors import InputError
from util.runtime.files import digest, read_json, write_json
from util.runtime.provenance import code_digest

OURS = ("auto", "grow", "contrast")
INPUT = "input"


@dataclass(frozen=True)
class Regime:
    """One kind of labels with one kind of masks, and where its counts are kept."""

    name: str
    inputs: Inputs
    ids: list[str]
    only: list[int] | None
    args: argparse.Namespace

    def evaluations(self) -> dict[str, Evaluation]:
        """Of the input and of every strategy with its defaults, over the same images."""
        rule = decide(self.inputs, self.ids, workers=self.args.workers, dist=ALONE)
        names = [*OURS, *GROUPS["published"]]
        settings = [(name, {"rule": rule} if name == "auto" else {}) for name in names]
        file, key = self.args.out / f"{self.name}.json", self.key(settings)
        kept = read_json(file) if file.is_file() else {}
        if kept.get("key") == key:
            cells = kept["cells"]
        else:
            scored = score_settings(
                self.inputs, settings, self.ids, self.args.gt, workers=self.args.workers, only=self.only
            )
            before = evaluate_labels(
                self.inputs.pseudo_path, self.args.gt, self.ids, self.inputs.classes, workers=self.args.workers
            )
            found = {INPUT: before.of(scored[0].cells), **dict(zip(names, scored))}
            cells = {
                name: {i: [index.tolist(), counts.tolist()] for i, (index, counts) in evaluation.cells.items()}
                for name, evaluation in found.items()
            }
            write_json(file, {"key": key, "rule": rule, "cells": cells})
        return {
            name: Evaluation(
                self.inputs.classes, {i: tuple(map(np.array, pair)) for i, pair in images.items()}, {}, self.only
            )
            for name, images in cells.items()
        }

    def key(self, settings: list[tuple[str, dict]]) -> str:
        """Changes with the code of a strategy, the settings, and the dates and sizes of the files."""
        files = [place for i in self.ids for place in self.files(i)]
        stamps = [(path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.exists()]
        return digest(repr(settings), code_digest([STRATEGIES[name] for name, _ in settings]), repr(stamps))

    def files(self, image_id: str) -> list[Path]:
        """The label, the masks, the ground truth and the soft CAM of an image."""
        label, gt = (label_path(folder, image_id) for folder in (self.inputs.pseudo_path, self.args.gt))
        cam = [cam_file(self.inputs.cam_path, image_id)] if self.inputs.cam_path else []
        return [label, masks_path(self.inputs.sam_path, image_id), gt, *cam]


def unscored(source: Path, target: Path, ids: list[str]) -> Path:
    """Copies of masks without their predicted IoU."""
    for image_id in ids:
        if not (target / f"{image_id}.json").is_file():
            masks = read_masks(source, image_id)
            masks = replace(masks, predicted_iou=np.full(len(masks), np.nan))
            write_masks(target / f"{image_id}.json", masks, image_id, f"{image_id}.jpg")
    return target


def row(name: str, found: dict[str, Evaluation]) -> list[str]:
    """A line of the table: scores, and the difference of ``auto`` to the best published strategy."""
    miou = {key: evaluation.scores["miou"] for key, evaluation in found.items()}
    best = max(GROUPS["published"], key=lambda key: miou[key])
    bounds = bootstrap_difference(found["auto"], found[best])
    return [
        name,
        *map(per_cent, miou.values()),
        best,
        per_cent(miou["auto"] - miou[best], sign=True),
        interval_text(bounds),
    ]


def table(regimes: list[Regime]) -> str:
    """One line per regime, and the mean over them."""
    rows, scores = [], []
    for regime in regimes:
        found = regime.evaluations()
        scores.append([evaluation.scores["miou"] for evaluation in found.values()])
        rows.append(row(regime.name, found))
    head = ["labels-masks", *found, "best published", "auto to it", "95 % interval"]
    return rows_to_text([head, *rows, ["mean", *map(per_cent, np.mean(scores, axis=0)), "", "", ""]])


def named(text: str) -> tuple[str, Path]:
    """NAME=DIR."""
    name, equals, folder = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=DIR")
    return name, Path(folder)


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--labels", type=named, nargs="+", required=True, metavar="NAME=DIR", help="label maps")
    parser.add_argument("--masks", type=named, nargs="+", required=True, metavar="NAME=DIR", help="masks")
    parser.add_argument(
        "--cams", type=named, nargs="+", default=[], metavar="NAME=DIR", help="soft CAMs of those labels"
    )
    parser.add_argument("--unscored", nargs="+", default=[], metavar="NAME", help="these masks without scores as well")
    parser.add_argument("--half", choices=("even", "odd", "all"), default="all", help="by the SHA-256 of the id")
    parser.add_common("gt", "list", "image-labels", "num-classes", "class-names", "classes", "out", "workers")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    ids = read_id_list(args.list)
    parity = {"even": {0}, "odd": {1}, "all": {0, 1}}[args.half]
    ids = [i for i in ids if int(hashlib.sha256(i.encode()).hexdigest(), 16) % 2 in parity]
    masks, cams = dict(args.masks), dict(args.cams)
    for name in args.unscored:
        if name not in masks:
            raise InputError(f"--unscored {name}: no --masks has this name")
        masks[f"{name}-unscored"] = unscored(masks[name], args.out / f"{name}-unscored", ids)
    regimes = []
    for name, folder in args.labels:
        classes = classes_of((folder, args.gt, args.image_labels), args.class_names, args.num_classes, ids)
        tags = read_image_labels(args.image_labels, classes, ids) if args.image_labels else None
        only = class_indices(args.classes, classes)
        for kind, place in masks.items():
            inputs = Inputs(folder, place, classes, tags, cams.get(name))
            regimes.append(Regime(f"{name}-{kind}", inputs, ids, only, args))
    text = table(regimes)
    (args.out / "regimes.txt").write_text(text + "\n")
    print(f"\n{len(ids)} images\n{text}")


if __name__ == "__main__":
    main()
