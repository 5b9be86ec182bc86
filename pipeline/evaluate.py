"""Scores of label maps, or of a trained network, as `evaluate_enhanced.py` prints them."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from models.segmentation.options import Prediction
from util.data.classes import classes_of, find_classes
from util.data.ids import read_id_list
from util.data.voc import ClassTable
from util.evaluation.bootstrap import bootstrap_miou, interval
from util.evaluation.boundary import BoundaryIoU, boundary_of_files
from util.evaluation.evaluate import evaluate_labels, write_evaluation
from util.evaluation.figures import draw_scores
from util.evaluation.label_check import check_first, check_foreground
from util.evaluation.metrics import Evaluation
from util.evaluation.published import SENTENCE, published_of_images, published_scores
from util.evaluation.report import interval_text, per_cent, score_table
from util.figures.style import data_name
from util.runtime.cli import class_indices, written
from util.runtime.distributed import Dist, init
from util.runtime.files import check_folder
from util.runtime.locking import lock_folder, lock_if
from util.runtime.options import from_args
from util.runtime.parallel import run_parallel
from util.runtime.provenance import source_of, write_run_json


def run(args: argparse.Namespace) -> int:
    """Do what the command asks for; the exit code. With several processes all of them segment, and the main one scores."""
    check_folder(args.gt, "ground truth, without which nothing can be scored (predict.py segments images without it)")
    ids = read_id_list(args.list, args.gt)
    places = (args.pred, args.gt, args.baseline, args.images)
    if args.baseline is not None:
        check_foreground(check_folder(args.baseline, "the label maps to compare with"), ids)
    if args.checkpoint is None:
        with lock_folder(args.out):
            check_foreground(args.pred, ids)
            return score(args, args.pred, ids, classes_of(places, args.class_names, args.num_classes, ids))
    with init(args.device) as dist, lock_if(dist.is_main, args.out):
        check_first(args.gt, ids, None)
        asked = find_classes(places, args.class_names, args.num_classes)
        classes, failures = predict(args, ids, dist, asked)
        if not dist.is_main:
            return 0
        code = score(args, args.out / "predictions" / "labels", ids, classes)
        return max(code, 1 if failures else 0)


def predict(
    args: argparse.Namespace, ids: list[str], dist: Dist, classes: ClassTable | None
) -> tuple[ClassTable, dict[str, str]]:
    """Segment the images; the network's classes, and id -> message for images that failed."""
    from models.segmentation.predict import predict_folder  # needs torch, which labels do not

    def check(found: ClassTable) -> None:
        class_indices(args.classes, found)
        check_first(args.gt, ids, len(found))

    how = from_args(Prediction, args, scales=tuple(args.scales), refinement=args.postprocess)
    out = args.out / "predictions"
    segmenter, failures = predict_folder(
        args.checkpoint, ids, args.images, out, dist, how, overwrite=args.overwrite, classes=classes, check=check
    )
    return segmenter.classes, failures


def score(args: argparse.Namespace, pred: Path, ids: list[str], classes: ClassTable) -> int:
    only = class_indices(args.classes, classes)
    result = evaluate_labels(pred, args.gt, ids, classes, workers=args.workers, only=only)
    baseline = None
    if args.baseline:
        baseline = evaluate_labels(args.baseline, args.gt, ids, classes, workers=args.workers, only=only)
    same = baseline.scores if baseline and baseline.cells.keys() == result.cells.keys() else None
    more: dict[str, Any] = {}
    if baseline and same:
        draws = bootstrap_miou({"before": baseline, "after": result})
        bounds = interval(draws["after"], draws["before"])
        more["baseline"] = {"miou": same["miou"], "change": result.scores["miou"] - same["miou"], "interval_95": bounds}
    if args.boundary or args.checkpoint:
        more |= boundary_iou(args, pred, result, classes)
    columns: dict[str, dict[str, tuple[float, float, float]]] = {}
    if args.as_published:
        more["as_published"] = published_scores(result)
        columns["as_published"] = published_of_images(result)
    write_evaluation(result, args.out / "metrics.json", args.out / "per_image.csv", more, columns)
    sources = {"pred": pred, "checkpoint": args.checkpoint, "gt": args.gt, "list": args.list, "baseline": args.baseline}
    write_run_json(args.out / "run.json", {"classes": args.classes}, source_of(sources))
    print(score_table(result.scores, same))
    if absent := [classes.names[k] for k in only or () if classes.names[k] not in result.scores["classes"]]:
        print(f"not in the ground truth, and so not in the means: {', '.join(absent)}")
    if "baseline" in more:
        change, bounds = per_cent(more["baseline"]["change"], sign=True), more["baseline"]["interval_95"]
        print(f"change of mIoU {change}, 95 % interval over the images {interval_text(bounds)}")
    if baseline and not same:
        print(f"no change is shown: {args.baseline} has label maps of other images than {pred}")
    if "boundary_iou" in more:
        print(f"boundary IoU {100 * more['boundary_iou']:.2f}")
    if args.as_published:
        print(SENTENCE.format(**more["as_published"]))
    scored = "/".join(args.checkpoint.absolute().with_suffix("").parts[-2:]) if args.checkpoint else pred.name
    names = (args.baseline.name if args.baseline else "", scored)
    data = args.data_name or data_name(args.list)
    print(written(draw_scores(f"{args.out}/", result.scores, same, classes.names, names, data)))
    return 1 if result.failures or (baseline and baseline.failures) else 0


def boundary_iou(args: argparse.Namespace, pred: Path, result: Evaluation, classes: ClassTable) -> dict:
    bands = BoundaryIoU(len(classes))
    one = partial(boundary_of_files, pred, args.gt, len(classes))
    for part in run_parallel(one, list(result.cells), workers=args.workers, description="boundaries"):
        bands.merge(part)
    return bands.scores(classes, result.scores["classes"])
