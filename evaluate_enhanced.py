"""Score label maps, or a trained network, against ground truth.

    python evaluate_enhanced.py --pred runs/merge/auto --baseline runs/cams/labels \\
        --gt SegmentationClassAug --list ImageSets/Segmentation/train.txt --out runs/scores
    python evaluate_enhanced.py --checkpoint runs/deeplab/last.pth --images JPEGImages \\
        --gt SegmentationClassAug --list ImageSets/Segmentation/val.txt --out runs/val

Prints IoU, precision and recall of every class and their means; writes OUT/metrics.json, OUT/per_image.csv and,
as PDF and PNG, OUT/confusion and (with --baseline) OUT/classes.
With --checkpoint the predictions are in OUT/predictions/labels and OUT/predictions/overlays. Several processes:
torchrun --nproc-per-node N evaluate_enhanced.py --checkpoint ...
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.segmentation.options import OF_CHECKPOINT
from util.runtime.cli import COMMON, Parser, run


def main() -> int:
    args = parse_args()
    from pipeline import evaluate

    return evaluate.run(args)


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    source = parser.group("what to score").add_mutually_exclusive_group(required=True)
    source.add_argument("--pred", "--labels", type=Path, metavar="DIR", help=COMMON["labels"].help)
    source.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="trained network: segments --images, and the result is scored"
    )
    parser.add_common("gt", "list", "out", "images", required=("gt", "list", "out"))
    parser.add_common("num-classes", "class-names", "classes", "device", "workers", "data-name", "overwrite")
    scores = parser.group("scores")
    scores.add_argument("--baseline", type=Path, metavar="DIR", help="second folder of label maps: print the change")
    scores.add_argument("--boundary", action="store_true", help="boundary IoU as well (always with --checkpoint)")
    scores.add_argument("--as-published", action="store_true", help="SAM_WSSS's own score beside ours; it is not mIoU")
    amp = {"default": "off"}
    parser.add_common(
        "scales", "flip", "long-side", "full-size", "encoder", "amp", encoder=OF_CHECKPOINT["encoder"], amp=amp
    )
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


if __name__ == "__main__":
    run(main)
