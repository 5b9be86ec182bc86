"""Score label maps, or a trained network, against ground truth.

    python evaluate_enhanced.py --pred runs/merge/grow --baseline pseudo_labels/transcam \\
        --gt SegmentationClassAug --list ImageSets/Segmentation/train.txt --out runs/scores
    python evaluate_enhanced.py --checkpoint runs/deeplabv3/best.pth --images JPEGImages \\
        --gt SegmentationClassAug --list ImageSets/Segmentation/val.txt --out runs/val
    torchrun --nproc-per-node=4 evaluate_enhanced.py --checkpoint ...        shared out over processes

Prints IoU, precision and recall of every class and their means; writes OUT/metrics.json and OUT/per_image.csv.
With --checkpoint the predictions lie in OUT/predictions/labels and OUT/predictions/pictures.
"""

from pathlib import Path

from models.segmentation.options import Prediction
from util.runtime.cli import Parser, class_indices, run


def parse_arguments():
    parser = Parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pred", type=Path, metavar="DIR", help="label maps to score")
    source.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="network to score, of train_deeplabv3.py or another training"
    )
    parser.add_common("gt", "list", "out", "images", required=("gt", "list", "out"))
    parser.add_common("num-classes", "class-names", "classes", "device", "workers", "overwrite")
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="second folder of label maps: print the change")
    parser.add_argument("--boundary", action="store_true", help="boundary IoU as well (always with --checkpoint)")
    encoder = {"default": None, "help": "of a checkpoint that does not name it, such as resnet101"}
    parser.add_common("scales", "flip", "long-side", "full-size", "encoder", encoder=encoder)
    parser.add_argument(
        "--postprocess", choices=["none", "pixel-adaptive"], default="none",
        help="pixel-adaptive: smooth the probabilities within the picture's edges (default: none)",
    )  # fmt: skip
    args = parser.parse_args()
    if args.checkpoint and not args.images:
        parser.error("--checkpoint needs --images DIR, the pictures to segment")
    return args


def main():
    args = parse_arguments()
    from contextlib import nullcontext

    from util.data.classes import classes_of, find_classes
    from util.data.ids import read_id_list
    from util.runtime.files import make_folder
    from util.runtime.locking import lock_folder

    ids = read_id_list(args.list, args.gt)
    places = (args.pred, args.gt, args.baseline, args.images)
    if args.checkpoint is None:
        with lock_folder(make_folder(args.out)):
            return score(args, args.pred, ids, classes_of(places, args.class_names, args.num_classes, ids))

    from util.runtime.distributed import init

    with init(args.device) as dist, lock_folder(make_folder(args.out)) if dist.is_main else nullcontext():
        asked = find_classes(places, args.class_names, args.num_classes)
        segmenter, failures = predict(args, ids, dist, asked)
        if not dist.is_main:
            return 0
        code = score(args, args.out / "predictions" / "labels", ids, segmenter.classes)
        return max(code, 1 if failures else 0)


def predict(args, ids, dist, classes):
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
    return predict_folder(args.checkpoint, ids, args.images, out, dist, how, overwrite=args.overwrite, classes=classes)


def score(args, pred, ids, classes):
    import processor
    from util.evaluation.metrics import score_table
    from util.runtime.provenance import write_run_json

    only = class_indices(args.classes, classes)
    settings = {"workers": args.workers, "only": only}
    result = processor.evaluate_labels(pred, args.gt, ids, classes, **settings)
    baseline = args.baseline and processor.evaluate_labels(args.baseline, args.gt, ids, classes, **settings)
    if args.boundary or args.checkpoint:
        result.scores.update(boundary_iou(args, pred, result, classes))
    processor.write_evaluation(result, args.out / "metrics.json", args.out / "per_image.csv")
    sources = {"pred": pred, "checkpoint": args.checkpoint, "gt": args.gt, "list": args.list, "baseline": args.baseline}
    write_run_json(args.out / "run.json", {"classes": args.classes}, processor.source_of(sources))
    print(score_table(result.scores, baseline.scores if baseline else None))
    if "boundary_iou" in result.scores:
        print(f"boundary IoU {100 * result.scores['boundary_iou']:.2f}")
    return 1 if result.failures or (baseline and baseline.failures) else 0


def boundary_iou(args, pred, result, classes):
    from functools import partial

    from util.evaluation.boundary import BoundaryIoU, boundary_of_files
    from util.runtime.parallel import run_parallel

    bands = BoundaryIoU(len(classes))
    one = partial(boundary_of_files, pred, args.gt, len(classes))
    for part in run_parallel(one, list(result.cells), workers=args.workers, description="boundaries"):
        bands.merge(part)
    return bands.scores(classes, result.scores["classes"])


if __name__ == "__main__":
    run(main)
