"""The merge stage's modes, as `main.py` offers them: merge, score, compare, draw."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

import processor
from merge import BASELINE, RECOMMENDED, STRATEGIES, StrategyError, group_of
from merge.parameters import addressee, check_loaded, resolve_parameters, search_space
from pipeline.automatic import decide
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.labels import label_path, read_label
from util.data.merge_inputs import Inputs
from util.data.tag_table import Tags
from util.data.voc import VOID
from util.evaluation import comparison
from util.evaluation.evaluate import evaluate_labels, write_evaluation
from util.evaluation.figures import draw_scores
from util.evaluation.label_check import check_cams_fit, check_foreground, check_tags_fit
from util.evaluation.metrics import Evaluation
from util.evaluation.report import score_table
from util.figures.style import data_name, described
from util.runtime.cli import class_indices, written
from util.runtime.distributed import Dist, join
from util.runtime.errors import InputError, choose_from
from util.runtime.files import check_folder
from util.runtime.locking import lock_if


def run(args: argparse.Namespace) -> int:
    """Do what the command asks for; the exit code. With several processes all of them take part."""
    with join() as dist:
        job = Job(args, dist)
        with lock_if(dist.is_main, args.out):
            return job.run()


class Job:
    """The parsed command with its lists and classes read; one method per mode.

    With several processes all of them merge; the main one scores and draws.
    """

    def __init__(self, args: argparse.Namespace, dist: Dist):
        self.args, self.dist = args, dist
        names = list(STRATEGIES) if args.methods == "all" else args.methods.split(",")
        self.method = args.method or RECOMMENDED
        self.methods = names if args.mode == "compare" else [self.method]
        self.check()
        self.parameters = {name: resolve_parameters(name, STRATEGIES[name], args.param) for name in self.methods}
        self.search = search_space({name: STRATEGIES[name] for name in self.methods}, args.values)
        for name in args.sensitivity:
            if not any(name in space for space in self.search.values()):
                check_loaded(STRATEGIES[method] for method in self.methods)
                known = ", ".join(sorted({key for space in self.search.values() for key in space})) or "none"
                raise InputError(
                    f"--sensitivity {name}: no compared strategy lists values of it; there are {known}, others need "
                    f"--values {name}=V,V,..."
                )
        self.ids = read_id_list(args.image_list, args.pseudo_path or args.sam_path)
        places = (args.pseudo_path, args.gt_dir, args.image_labels, args.images_path)
        self.classes = classes_of(places, args.class_names, args.num_classes, self.ids)
        self.data = args.data_name or data_name(args.image_list)
        self.only = class_indices(args.classes, self.classes)
        if args.pseudo_path is not None and dist.is_main:
            check_foreground(args.pseudo_path, self.ids)
        tags = None
        if args.image_labels is not None:
            tags = read_image_labels(args.image_labels, self.classes, self.ids)
            if args.pseudo_path is not None:
                check_tags_fit(args.pseudo_path, self.ids, tags, self.classes)
        if args.cam_path is not None and (tags is not None or args.pseudo_path is not None):
            check_cams_fit(args.cam_path, self.ids, partial(self.shown, tags), self.classes)
        self.inputs = Inputs(args.pseudo_path, args.sam_path, self.classes, tags, args.cam_path)
        if args.mode in ("merge", "all", "compare") and "auto" in self.methods and not self.parameters["auto"]["rule"]:
            self.parameters["auto"]["rule"] = decide(self.inputs, self.ids, workers=args.workers, dist=dist)

    def shown(self, tags: Mapping[str, Tags] | None, image_id: str) -> set[int]:
        """The classes of an image, by its image-level label, or else by its pseudo label."""
        if tags is not None:
            return set(tags.get(image_id, ()))
        return set(np.unique(read_label(label_path(self.args.pseudo_path, image_id))).tolist()) - {0, VOID}

    def check(self) -> None:
        """Raise InputError for options that do not go together."""
        args = self.args
        for name in self.methods:
            if name not in STRATEGIES:
                raise InputError(f"strategy {name!r} is unknown; {choose_from(name, STRATEGIES)}")
        for text in args.param:
            if not (method := addressee(text)) and len(self.methods) > 1:
                raise InputError(f"--param {text}: several strategies are compared; write METHOD.{text}")
            if method and method not in self.methods:
                raise InputError(
                    f"--param {text}: for a strategy that is not used here; {choose_from(method, self.methods)}"
                )
        if args.mode != "compare" and (args.sensitivity or args.values or args.split_half is not None):
            raise InputError("--split-half, --sensitivity and --values go with --mode compare")
        if args.mode != "compare" and args.methods != "all":
            raise InputError(f"--methods goes with --mode compare; for --mode {args.mode} give --method NAME")
        if args.mode == "compare" and args.method:
            raise InputError(f"--mode compare takes several: write --methods {args.method},...")
        if args.baseline is not None and (args.mode != "compare" or args.baseline not in self.methods):
            raise InputError(f"--baseline {args.baseline}: it has to be one of the compared {', '.join(self.methods)}")
        if args.mode != "eval" and args.sam_path is None:
            raise InputError("--sam-path is missing; give the folder of masks that generate_sam_masks.py wrote")
        if args.pseudo_path is None and (self.methods != ["prompted"] or args.mode == "compare"):
            raise InputError(
                "--pseudo-path is missing; give the folder of pseudo labels. Only --method prompted works without, on "
                "masks that know their class"
            )
        if args.mode in ("eval", "compare") and args.gt_dir is None:
            raise InputError(f"--mode {args.mode} scores against ground truth; give --gt-dir")
        if args.images_path is not None:
            check_folder(args.images_path, "images")
        if args.gt_dir is not None:
            check_folder(args.gt_dir, "ground truth")

    def run(self) -> int:
        mode = self.args.mode
        merged = [self.merge(method) for method in self.methods] if mode in ("merge", "all", "compare") else []
        code = max((1 if report.failed else 0 for report in merged), default=0)
        if not self.dist.is_main:
            return code
        if mode in ("eval", "vis") and processor.is_outdated(
            self.inputs, self.method, self.parameters[self.method], self.args.out
        ):
            print(
                f"warning: {self.args.out / self.method} was made by other code, parameters or classes of {self.method} than "
                "those now; --mode all makes it again",
                file=sys.stderr,
            )
        if mode == "compare":
            return max(code, self.compare(dict(zip(self.methods, merged))))
        if mode == "eval" or (mode == "all" and self.args.gt_dir):
            code = max(code, self.evaluate())
        if mode in ("vis", "all"):
            code = max(code, self.draw())
        return code

    def merge(self, method: str) -> processor.Merged:
        try:
            report = processor.merge_labels(
                self.inputs,
                method,
                self.parameters[method],
                self.ids,
                self.args.out,
                workers=self.args.workers,
                overwrite=self.args.overwrite,
                dist=self.dist,
            )
        except StrategyError as error:
            if self.args.mode != "compare":
                raise
            if self.dist.is_main:
                print(error, file=sys.stderr)
            return processor.Merged(0, 0, len(self.ids), float("nan"), 0)
        if self.dist.is_main:
            print(f"{method}: {report}; label maps: {self.args.out / method}")
        return report

    def score(self, folder: Path) -> Evaluation:
        return evaluate_labels(
            folder, self.args.gt_dir, self.ids, self.classes, workers=self.args.workers, only=self.only
        )

    def evaluate(self) -> int:
        out, method = self.args.out, self.method
        before = None if self.args.pseudo_path is None else self.score(self.args.pseudo_path)
        after = self.score(out / method)
        write_evaluation(after, out / f"{method}.metrics.json", out / f"{method}.per_image.csv")
        same = before if before is not None and after.cells.keys() == before.cells.keys() else None
        old = same.scores if same else None
        print(f"\n{method} (change against the input labels)" if same else f"\n{method}")
        print(score_table(after.scores, old))
        sides = ("input labels", method)
        print(written(draw_scores(f"{out / method}.", after.scores, old, self.classes.names, sides, self.data)))
        return 1 if after.failures or (before and before.failures) else 0

    def compare(self, merged: Mapping[str, processor.Merged]) -> int:
        before = self.score(self.args.pseudo_path)
        found: dict[str, Evaluation] = {}
        code = 1 if before.failures else 0
        for method in self.methods:
            if not merged[method].done + merged[method].current:
                print(f"{method}: no label map, see above; it is left out")
                continue
            try:
                found[method] = self.score(self.args.out / method)
            except InputError as error:  # a broken strategy; the others go on
                print(f"{method}: {error}")
                code = 1
                continue
            code = max(code, 1 if found[method].failures else 0)
        if not found:
            raise InputError("none of the strategies gave a label map; see above")
        shared = [i for i in before.cells if all(i in evaluation.cells for evaluation in found.values())]
        before, found = before.of(shared), {name: evaluation.of(shared) for name, evaluation in found.items()}
        baseline = self.args.baseline or BASELINE
        baseline = baseline if baseline in found else None
        times = {method: report.seconds for method, report in merged.items()}
        result = comparison.compare_labels(before, found, times, baseline, self.groups())
        text, files = comparison.write_comparison(result, self.args.out, self.data)
        print(f"\n{text}\n\n{len(shared)} images; {written(files)}")
        if self.args.split_half is not None:
            code = max(code, self.split_half(before, list(found), baseline))
        for name in self.args.sensitivity:
            code = max(code, self.sensitivity(name, before, found))
        return code

    def groups(self) -> dict[str, str]:
        return {name: group_of(name) for name in self.methods}

    def score_settings(
        self, settings: list[tuple[str, dict]], before: Evaluation
    ) -> tuple[list[Evaluation], Evaluation, int]:
        """Evaluations of many settings and of the input, over the images that all of them have, and the exit code."""
        found = processor.score_settings(
            self.inputs, settings, list(before.cells), self.args.gt_dir, workers=self.args.workers, only=self.only
        )
        return found, before.of(found[0].cells), 1 if found[0].failures else 0

    def split_half(self, before: Evaluation, methods: list[str], baseline: str | None) -> int:
        settings = [
            (method, {**self.parameters[method], **dict(zip(self.search[method], values))})
            for method in methods
            for values in product(*self.search[method].values())
        ]
        found, before, code = self.score_settings(settings, before)
        searched: dict[str, list[tuple[dict, Evaluation]]] = {name: [] for name in methods}
        for (method, parameters), evaluation in zip(settings, found):
            searched[method].append((parameters, evaluation))
        result = comparison.split_half(before, searched, self.args.split_half, baseline, self.groups())
        print(f"\nparameters chosen on one half, labels of the other half (seed {self.args.split_half})")
        text, files = comparison.write_split_half(result, self.args.out, self.data)
        print(f"{text}\n\n{written(files)}")
        return code

    def sensitivity(self, name: str, before: Evaluation, found: dict[str, Evaluation]) -> int:
        code = 0
        levels = {key: value.scores["miou"] for key, value in found.items() if key == self.args.baseline}
        for method in found:
            if name not in self.search[method]:
                continue
            default = self.parameters[method][name]
            values = sorted({*self.search[method][name], default})
            settings = [(method, {**self.parameters[method], name: value}) for value in values]
            scored, shared, failed = self.score_settings(settings, before)
            result = comparison.sensitivity(shared, list(zip(values, scored)), default)
            data = described(self.data, len(shared.cells), len(shared.scores["classes"]))
            text, files = comparison.write_sensitivity(method, name, result, levels, self.args.out, data)
            print(f"\n{method}\n{text}\n\n{written(files)}")
            code = max(code, failed)
        return code

    def draw(self) -> int:
        args = self.args
        if args.mode == "vis" and not (args.out / self.method).is_dir():
            raise InputError(
                f"{args.out / self.method}: no label maps to draw; make them with --mode merge or all first, or give the "
                "--out that has them"
            )
        before = after = None
        if args.gt_dir is not None and args.pseudo_path is not None and (args.vis_best or args.vis_worst):
            before, after = self.score(args.pseudo_path), self.score(args.out / self.method)
        asked = args.vis_sample or args.vis_best or args.vis_worst or args.vis_random
        count = args.vis_random if asked else 4
        ids = args.vis_sample + processor.choose_ids(
            after, before, self.ids, best=args.vis_best, worst=args.vis_worst, random=count, seed=args.seed
        )
        failures = processor.draw_rows(
            self.inputs, self.method, ids, args.out, args.images_path, args.gt_dir, self.data
        )
        print(
            f"{len(ids) - len(failures)} rows of images in {args.out}/vis/{self.method}/, together in {self.method}.pdf"
        )
        return 1 if failures else 0
