"""Train DeepLabV3+ on label maps: pseudo labels, enhanced labels or ground truth.

    python train_deeplabv3.py --images JPEGImages --labels runs/merge/auto --list train.txt \\
        --encoder resnet101 --encoder-weights imagenet --epochs 60 --out runs/deeplab

With --val-list and --val-gt the best state on held-out images is kept as well.

Writes OUT/last.pth, OUT/best.pth (by mIoU on --val-list), OUT/history.json, OUT/run.json, the curves
OUT/curves.pdf and .png, and TensorBoard's OUT/events*.
Re-run the command to resume. Score it: evaluate_enhanced.py --checkpoint OUT/last.pth. Several GPUs or machines:
torchrun --nproc-per-node N train_deeplabv3.py ..., where --batch-size counts for each process.
"""

import argparse

from models.segmentation.recipe import SegmentationRecipe
from util.runtime.cli import HELD_OUT, Parser, real, run, whole
from util.runtime.options import add_options


def main() -> int:
    args = parse_args()

    from models.segmentation.training import run as train

    return train(args)


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_common("images", "labels", "list", "out", required=("images", "labels", "list", "out"))
    parser.add_common("num-classes", "class-names", "encoder", "encoder-weights", "batch-size", "jitter", "amp")
    parser.add_common("device", "workers", "seed", "overwrite", "retrain", "data-name", "save-minutes")
    parser.add_common("val-list", "val-images", "val-gt")
    parser.add_common("crop-size", crop_size={"type": _crop_size})
    add_options(parser, "training", SegmentationRecipe)
    length = parser.group("training").add_mutually_exclusive_group()
    length.add_argument("--epochs", type=real(0, above=True), default=60.0, metavar="N", help="passes over the list")
    length.add_argument("--steps", type=whole(1), metavar="N", help="optimiser steps, instead of --epochs")
    parser.group("training").add_argument(
        "--no-sync-norm", action="store_true", help="leave the statistics of batch norm to each process"
    )
    every = "score --val-list every so many steps; 0: at the end"
    parser.group(HELD_OUT).add_argument("--val-every", type=whole(0), default=0, metavar="STEPS", help=every)
    args = parser.parse_args()
    if args.scale[0] > args.scale[1]:
        parser.error(f"--scale {args.scale[0]:g} {args.scale[1]:g}: the smallest factor comes first")
    if (args.val_list is None) != (args.val_gt is None):
        parser.error("--val-list and --val-gt go together")
    if args.val_every and args.val_list is None:
        parser.error("--val-every needs --val-list and --val-gt, the images to score")
    return args


def _crop_size(text: str) -> int:
    if (size := whole(32, 4096)(text)) % 16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiple of 16")
    return size


if __name__ == "__main__":
    run(main)
