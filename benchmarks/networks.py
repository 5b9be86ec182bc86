"""Do better labels make better networks? Several labels, encoders and seeds; each network is scored once, at the end.

    python benchmarks/networks.py --labels transcam=pseudo_labels/transcam auto=runs/merge/auto truth=SegmentationClassAug \\
        --encoders mobilenet_v2=mobilenet_v2.pth --seeds 0 1 2 --images JPEGImages --list train.txt --gt SegmentationClassAug \\
        --val-list val.txt --classes background,cat,dog --ceiling truth --scores runs/networks/scores --out runs/networks

The first labels are what the others are compared with, and a table is printed per encoder: mean over the seeds, their range, the
difference with its paired bootstrap over images, and the share of what --ceiling gives. Everything of a seed is trained before the
next seed. Re-run the command to resume. The counts of a finished network are in SCORES as one small file; it is trained
again when its labels or the recipe change. A CPU trains in bfloat16 where it computes in it, and in float32 elsewhere; that is
noted, and the table says where precisions differ. --amp off and a new SCORES make them the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from models.common.precision import choose_precision, has_kernels
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.labels import label_path
from util.data.voc import ClassTable
from util.evaluation.bootstrap import bootstrap_miou, interval
from util.evaluation.evaluate import evaluate_labels
from util.evaluation.metrics import Evaluation
from util.evaluation.report import interval_text, per_cent, rows_to_text
from util.runtime.cli import Parser, class_indices, run, whole
from util.runtime.distributed import Dist
from util.runtime.errors import InputError
from util.runtime.files import digest, read_json, write_bytes

RECIPE = (
    "--batch-size 8 --crop-size 256 --scale 0.5 1.0 --optimizer adamw --lr 1e-4 --weight-decay 0.01 --clip-norm 10 "
    "--freeze-norm --ema 0.99"
)


@dataclass(frozen=True)
class Network:
    """One training and its score."""

    encoder: str
    labels: str
    seed: int
    args: argparse.Namespace

    @property
    def name(self) -> str:
        return f"{self.encoder}-{self.labels}-{self.seed}"

    def key(self) -> str:
        """Changes with the recipe and with the bytes of the lists, the labels and the encoder's weights."""
        args, ids = self.args, read_id_list(self.args.list)
        files = [args.list, args.val_list, Path(args.encoders[self.encoder])]
        files += [label_path(args.labels[self.labels], i) for i in ids]
        return digest(self.encoder, str(self.seed), str(args.steps), args.recipe, *(f.read_bytes() for f in files))

    def commands(self) -> list[list[str]]:
        """Training and evaluation; both reuse what is up to date."""
        args, out = self.args, self.args.out / self.name
        common = ["--images", args.images, "--num-classes", len(args.table), "--workers", 1, "--out"]
        train = ["train_deeplabv3.py", *common, out, "--labels", args.labels[self.labels], "--list", args.list]
        train += ["--encoder", self.encoder, "--encoder-weights", args.encoders[self.encoder]]
        train += ["--steps", args.steps, "--seed", self.seed, "--amp", args.amp, *shlex.split(args.recipe)]
        score = ["evaluate_enhanced.py", *common, out / "val", "--checkpoint", out / "last.pth"]
        score += ["--gt", args.gt, "--list", args.val_list]
        return [[sys.executable, *map(str, command)] for command in (train, score)]

    def counts(self) -> dict:
        """``cells``, id -> [index, count] of every held-out image's confusion, and ``amp``; trains where none are kept."""
        file = self.args.scores / f"{self.name}.json"
        kept = read_json(file) if file.is_file() else {}
        if kept.get("key") != (key := self.key()):
            self.make()
            found = evaluate_labels(
                self.args.out / self.name / "val" / "predictions" / "labels",
                *(self.args.gt, read_id_list(self.args.val_list), self.args.table),
                workers=0,
            )
            cells = {i: [index.tolist(), counts.tolist()] for i, (index, counts) in found.cells.items()}
            kept = {"key": key, "amp": self.args.amp, "cells": cells}
            write_bytes(file, (json.dumps(kept) + "\n").encode())  # indented, it would be thousands of lines
        return kept

    def make(self) -> None:
        folder = self.args.out / self.name
        folder.mkdir(parents=True, exist_ok=True)
        for command in self.commands():
            with open(folder / "log.txt", "ab") as log:
                environment = {**os.environ, "OMP_NUM_THREADS": str(self.args.threads)}
                code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, env=environment).returncode
            if code:
                raise InputError(f"{self.name}: {command[1]} ended with exit code {code}; see {log.name}")
        print(f"{self.name}: trained", flush=True)


def table(encoder: str, networks: Sequence[Network], args: argparse.Namespace) -> str:
    """One line per labels: the seeds, and the difference to the first labels over the seeds that both have."""
    found: dict[str, dict[int, Evaluation]] = {}
    precisions: dict[str, list[str]] = {}
    for network in networks:
        counts = network.counts()
        precisions.setdefault(counts["amp"], []).append(network.name)
        cells = {i: tuple(map(np.array, pair)) for i, pair in counts["cells"].items()}
        found.setdefault(network.labels, {})[network.seed] = Evaluation(args.table, cells, {}, args.only)
    miou = {name: [e.scores["miou"] for e in seeds.values()] for name, seeds in found.items()}
    accuracy = {name: np.mean([e.scores["pixel_accuracy"] for e in seeds.values()]) for name, seeds in found.items()}
    drawn = bootstrap_miou({f"{name} {seed}": e for name, seeds in found.items() for seed, e in seeds.items()})
    draws = {name: np.mean([drawn[f"{name} {seed}"] for seed in seeds], axis=0) for name, seeds in found.items()}
    first = next(iter(found))
    mean = {name: float(np.mean(values)) for name, values in miou.items()}
    rows = [["labels", *(f"seed {seed}" for seed in args.seeds), "mean", "range", "accuracy", f"to {first}", "95 %"]]
    rows[0] += [f"of {args.ceiling}"] if args.ceiling else []
    for name, values in miou.items():
        numbers = [*values, mean[name], max(values) - min(values), accuracy[name]]
        difference = per_cent(mean[name] - mean[first], sign=True)
        change = [difference, interval_text(interval(draws[name], draws[first]))] if name != first else ["", ""]
        share = [f"{100 * mean[name] / mean[args.ceiling]:.1f} %"] if args.ceiling else []
        rows.append([name, *map(per_cent, numbers), *change, *share])
    text = f"{encoder}, {args.steps} steps, {len(cells)} images\n{rows_to_text(rows)}"
    if len(precisions) > 1:
        parts = (f"--amp {amp}: {', '.join(names)}" for amp, names in precisions.items())
        text += f"\nnot all were trained in the same precision, which may account for differences ({'; '.join(parts)})"
    return text


def named(text: str) -> tuple[str, str]:
    """NAME=PATH."""
    name, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=PATH")
    return name, path


def fastest_precision() -> str:
    """A value of --amp."""
    if torch.cuda.is_available():
        return choose_precision("--amp", "auto", Dist(0, 1, 0, torch.device("cuda")))
    return "bf16" if has_kernels(torch.bfloat16, torch.device("cpu")) else "off"


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    several = {"type": named, "nargs": "+", "required": True}
    parser.add_argument("--labels", **several, metavar="NAME=DIR", help="label maps to train on")
    parser.add_argument("--encoders", **several, metavar="NAME=FILE", help="encoders and their weights")
    parser.add_argument("--seeds", type=whole(0), nargs="+", default=[0, 1, 2], metavar="N", help="one training each")
    parser.add_argument("--steps", type=whole(1), default=1500, metavar="N", help="of a training")
    parser.add_argument("--recipe", default=RECIPE, metavar="OPTIONS", help="further options of train_deeplabv3.py")
    parser.add_argument("--ceiling", metavar="NAME", help="labels whose networks are 100 %%")
    parser.add_argument("--val-list", type=Path, required=True, metavar="FILE", help="ids that are scored")
    parser.add_argument("--scores", type=Path, required=True, metavar="DIR", help="where counts are kept")
    parser.add_argument("--jobs", type=whole(1), default=2, metavar="N", help="trainings at a time")
    parser.add_argument("--threads", type=whole(1), default=1, metavar="N", help="of each training")
    needed = ("images", "gt", "list", "out")
    amp = {"default": None, "help": "precision of the trainings (default: the fastest)"}
    parser.add_common(*needed, "num-classes", "class-names", "classes", "amp", required=needed, amp=amp)
    args = parser.parse_args()
    args.labels = {name: Path(folder) for name, folder in args.labels}
    args.encoders = dict(args.encoders)
    args.amp = args.amp or fastest_precision()
    if args.ceiling and args.ceiling not in args.labels:
        parser.error(f"--ceiling {args.ceiling} is none of --labels: {', '.join(args.labels)}")
    return args


def main() -> int:
    args = parse_args()
    args.table: ClassTable = classes_of((args.gt,), args.class_names, args.num_classes, read_id_list(args.val_list))
    args.only = class_indices(args.classes, args.table)
    args.scores.mkdir(parents=True, exist_ok=True)
    # A seed of everything comes before the next seed, so that a table of few seeds is complete early.
    networks = [
        Network(encoder, labels, seed, args)
        for seed, encoder, labels in product(args.seeds, args.encoders, args.labels)
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(Network.counts, networks))
    for encoder in args.encoders:
        print(table(encoder, [network for network in networks if network.encoder == encoder], args))
    return 0


if __name__ == "__main__":
    run(main)
