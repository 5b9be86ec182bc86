"""Score label maps, or a trained network, against ground truth.

    python evaluate_enhanced.py --pred runs/merge/grow --baseline pseudo_labels/transcam \\
        --gt SegmentationClassAug --list ImageSets/Segmentation/train.txt --out runs/scores
    python evaluate_enhanced.py --checkpoint runs/deeplab/best.pth --images JPEGImages \\
        --gt SegmentationClassAug --list ImageSets/Segmentation/val.txt --out runs/val

Prints IoU, precision and recall of every class and their means; writes OUT/metrics.json and OUT/per_image.csv.
With --checkpoint the predictions are in OUT/predictions/labels and OUT/predictions/pictures. Several processes:
torchrun --nproc-per-node N evaluate_enhanced.py --checkpoint ...
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from models.segmentation.options import Prediction
from util.data.classes import classes_of, find_classes
from util.data.ids import read_id_list
from util.data.voc import ClassTable
from util.evaluation.boundary import BoundaryIoU, boundary_of_files
from util.evaluation.evaluate import evaluate_labels, write_evaluation
from util.evaluation.metrics import Evaluation
from util.evaluation.published import SENTENCE, published_scores
from util.evaluation.report import score_table
from util.runtime.cli import Parser, class_indices, run
from util.runtime.distributed import Dist, init
from util.runtime.files import make_folder
from util.runtime.locking import lock_folder, lock_if
from util.runtime.parallel import run_parallel
from util.runtime.provenance import source_of, write_run_json


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    source = parser.group("what to score").add_mutually_exclusive_group(required=True)
    source.add_argument("--pred", "--labels", type=Path, metavar="DIR", help="label maps")
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="a network: segment --images, score the result")
    parser.add_common("gt", "list", "out", "images", required=("gt", "list", "out"))
    parser.add_common("num-classes", "class-names", "classes", "device", "workers", "overwrite")
    scores = parser.group("scores")
    scores.add_argument("--baseline", type=Path, metavar="DIR", help="second folder of label maps: print the change")
    scores.add_argument("--boundary", action="store_true", help="boundary IoU as well (always with --checkpoint)")
    scores.add_argument("--as-published", action="store_true", help="SAM_WSSS's own score beside ours; it is not mIoU")
    encoder = {"default": None, "help": "of a checkpoint that does not name it, such as resnet101"}
    parser.add_common("scales", "flip", "long-side", "full-size", "encoder", encoder=encoder)
    parser.group("network").add_argument(
        "--postprocess",
        choices=["none", "pixel-adaptive"],
        default="none",
        help="pixel-adaptive: smooth the probabilities within the image's edges",
    )
    args = parser.parse_args()
    if args.checkpoint and not args.images:
        parser.error("--checkpoint needs --images DIR, the images to segment")
    return args


def main() -> int:
    args = parse_args()
    ids = read_id_list(args.list, args.gt)
    places = (args.pred, args.gt, args.baseline, args.images)
    if args.checkpoint is None:
        with lock_folder(make_folder(args.out)):
            return score(args, args.pred, ids, classes_of(places, args.class_names, args.num_classes, ids))
    with init(args.device) as dist, lock_if(dist.is_main, make_folder(args.out)):
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
    from models.segmentation.predict import predict_folder

    how = Prediction(
        scales=tuple(args.scales),
        flip=args.flip,
        long_side=args.long_side,
        refinement=args.postprocess,
        overlays="pictures",
        encoder=args.encoder,
    )
    out = args.out / "predictions"
    segmenter, failures = predict_folder(
        args.checkpoint, ids, args.images, out, dist, how, overwrite=args.overwrite, classes=classes
    )
    return segmenter.classes, failures


def score(args: argparse.Namespace, pred: Path, ids: list[str], classes: ClassTable) -> int:
    only = class_indices(args.classes, classes)
    result = evaluate_labels(pred, args.gt, ids, classes, workers=args.workers, only=only)
    baseline = None
    if args.baseline:
        baseline = evaluate_labels(args.baseline, args.gt, ids, classes, workers=args.workers, only=only)
    more: dict[str, Any] = {}
    if args.boundary or args.checkpoint:
        more |= boundary_iou(args, pred, result, classes)
    if args.as_published:
        more["as_published"] = published_scores(result)
    write_evaluation(result, args.out / "metrics.json", args.out / "per_image.csv", more)
    sources = {"pred": pred, "checkpoint": args.checkpoint, "gt": args.gt, "list": args.list, "baseline": args.baseline}
    write_run_json(args.out / "run.json", {"classes": args.classes}, source_of(sources))
    print(score_table(result.scores, baseline.scores if baseline else None))
    if "boundary_iou" in more:
        print(f"boundary IoU {100 * more['boundary_iou']:.2f}")
    if args.as_published:
        print(SENTENCE.format(**more["as_published"]))
    return 1 if result.failures or (baseline and baseline.failures) else 0


def boundary_iou(args: argparse.Namespace, pred: Path, result: Evaluation, classes: ClassTable) -> dict:
    bands = BoundaryIoU(len(classes))
    one = partial(boundary_of_files, pred, args.gt, len(classes))
    for part in run_parallel(one, list(result.cells), workers=args.workers, description="boundaries"):
        bands.merge(part)
    return bands.scores(classes, result.scores["classes"])


if __name__ == "__main__":
    run(main)
