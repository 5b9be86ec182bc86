"""Strategies on several kinds of labels and masks: which one holds everywhere?

    python benchmarks/regimes.py --labels transcam=pseudo_labels/transcam plain=runs/cams/labels --cams plain=runs/cams/cams \\
        --masks small=sam_masks simulated=runs/simulated regions=runs/regions --unscored small --gt SegmentationClassAug \\
        --list train.txt --image-labels cls_labels.npy --classes background,cat,dog --half odd --out runs/regimes

`main.py --mode compare` scores every labels NAME with every masks NAME, and with those of --unscored without their predicted
IoU as well; its results are in OUT/NAME-NAME. Re-run the command to resume.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from timing import output_of

from merge import GROUPS
from util.data.ids import read_id_list
from util.data.mask_files import read_masks, write_masks
from util.evaluation.report import interval_text, per_cent, rows_to_text
from util.runtime.cli import Parser, run
from util.runtime.errors import InputError
from util.runtime.files import read_json

STRATEGIES = ("auto", "grow", "contrast", *GROUPS["published"])


def half_of(image_id: str) -> str:
    """``even`` or ``odd``, by the SHA-256 of the id."""
    return ("even", "odd")[int(hashlib.sha256(image_id.encode()).hexdigest(), 16) % 2]


def unscored(source: Path, target: Path, ids: list[str]) -> Path:
    """Copies of masks without their predicted IoU."""
    for image_id in ids:
        if not (target / f"{image_id}.json").is_file():
            masks = read_masks(source, image_id)
            masks = replace(masks, predicted_iou=np.full(len(masks), np.nan))
            write_masks(target / f"{image_id}.json", masks, image_id, f"{image_id}.jpg")
    return target


def compare(args: argparse.Namespace, name: str, **files: Path | None) -> dict:
    """What ``main.py --mode compare`` finds with these files, see `util.evaluation.comparison.compare_labels`."""
    options = {"list": args.out / "ids.txt", "methods": ",".join(STRATEGIES), "out": args.out / name, **files}
    options |= {key: getattr(args, key) for key in ("gt", "image_labels", "class_names", "num_classes", "classes")}
    given = [text for key, value in options.items() if value is not None for text in (f"--{key}", value)]
    output_of("main.py", "--mode", "compare", "--workers", args.workers, *given)
    return read_json(args.out / name / "compare.json")


def row(name: str, found: dict) -> list[str]:
    """A line of the table: scores, and the difference of ``auto`` to the best published strategy."""
    best = max(GROUPS["published"], key=lambda key: found["methods"][key]["miou"])
    change = found["pairs"]["auto"][best]
    interval = interval_text(change["interval_95"])
    return [name, *map(per_cent, mious(found)), best, per_cent(change["miou"], sign=True), interval]


def mious(found: dict) -> list[float]:
    """mIoU of the input and of every strategy."""
    return [found["input"]["miou"], *(found["methods"][name]["miou"] for name in STRATEGIES)]


def named(text: str) -> tuple[str, Path]:
    """NAME=DIR."""
    name, equals, folder = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=DIR")
    return name, Path(folder)


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    pairs = {"type": named, "nargs": "+", "metavar": "NAME=DIR"}
    parser.add_argument("--labels", **pairs, required=True, help="label maps")
    parser.add_argument("--masks", **pairs, required=True, help="masks")
    parser.add_argument("--cams", **pairs, default=[], help="soft CAMs of those labels")
    parser.add_argument("--unscored", nargs="+", default=[], metavar="NAME", help="these masks without scores as well")
    parser.add_argument("--half", choices=("even", "odd", "all"), default="all", help="by the SHA-256 of the id")
    files = ("gt", "list", "image-labels", "num-classes", "class-names", "classes", "out", "workers")
    parser.add_common(*files, required=("gt", "list", "out"))
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    ids = [image_id for image_id in read_id_list(args.list) if args.half in ("all", half_of(image_id))]
    masks, cams = dict(args.masks), dict(args.cams)
    for name in args.unscored:
        if name not in masks:
            raise InputError(f"--unscored {name}: no --masks has this name")
        masks[f"{name}-unscored"] = unscored(masks[name], args.out / f"{name}-unscored", ids)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "ids.txt").write_text("\n".join(ids) + "\n")
    found = {
        f"{name}-{kind}": compare(args, f"{name}-{kind}", labels=folder, masks=place, cams=cams.get(name))
        for name, folder in args.labels
        for kind, place in masks.items()
    }
    head = ["labels-masks", "input", *STRATEGIES, "best published", "auto to it", "95 % interval"]
    means = np.mean([mious(result) for result in found.values()], axis=0)
    rows = [row(name, result) for name, result in found.items()]
    text = rows_to_text([head, *rows, ["mean", *map(per_cent, means), "", "", ""]])
    (args.out / "regimes.txt").write_text(text + "\n")
    print(f"\n{len(ids)} images\n{text}")


if __name__ == "__main__":
    run(main)
