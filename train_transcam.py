"""Train a classifier on image-level labels; its class activation maps become pseudo labels (generate_cams.py).

TransCAM, from the ImageNet weights that Conformer's authors publish:

    python train_transcam.py --images JPEGImages --list trainaug.txt --image-labels cls_labels.npy \\
        --weights Conformer_small_patch16.pth --val-list val.txt --out runs/transcam

Plain CAM, without Conformer weights, with --method cam --encoder-weights imagenet.

Writes OUT/last.pth and OUT/best.pth (by mean average precision on --val-list), OUT/history.json, OUT/run.json, the
curves OUT/curves.pdf and .png, and TensorBoard's OUT/events*. Re-run the command to resume. Several GPUs:
torchrun --nproc-per-node N train_transcam.py ...
"""

import argparse

from models.cam.recipe import DEFAULTS, default_text
from util.runtime.cli import Parser, real, run, whole


def main() -> int:
    args = parse_args()

    from models.cam.training import run as train

    return train(args)


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_common("images", "list", "image-labels", "out", required=("images", "list", "image-labels", "out"))
    parser.add_common("num-classes", "class-names", "encoder", "encoder-weights", "batch-size", "crop-size", "jitter")
    parser.add_common("amp", "device", "workers", "seed", "overwrite", "retrain", "data-name", "save-minutes")
    parser.add_common("val-list", "val-images")
    network, training = parser.group("network"), parser.group("training")
    network.add_argument("--method", choices=list(DEFAULTS), default="transcam", help="kind of network")
    sizes = "size of the Conformer (--method transcam); tiny is for trials without published weights"
    network.add_argument("--arch", choices=["tiny", "small", "base"], default="small", help=sizes)
    weights = "pretrained Conformer, class heads left out; 'none' trains from scratch (method transcam)"
    network.add_argument("--weights", metavar="FILE", help=weights)
    training.add_argument("--epochs", type=whole(1), default=20, metavar="N", help="passes over the list")
    long_side = "range that the long side is scaled to at random"
    training.add_argument(
        "--long-side", type=whole(1), nargs=2, default=(320, 640), metavar=("MIN", "MAX"), help=long_side
    )
    rate = f"learning rate; the head of plain CAM learns tenfold (default: {default_text('lr')})"
    training.add_argument("--lr", type=real(0, above=True), metavar="RATE", help=rate)
    decay = f"weight decay of AdamW (default: {default_text('weight_decay')})"
    training.add_argument("--weight-decay", type=real(0), metavar="X", help=decay)
    schedule = f"learning rate over time: constant, or falling to 0 polynomially (default: {default_text('schedule')})"
    training.add_argument("--schedule", choices=["constant", "poly"], help=schedule)
    deterministic = "the same bits every time on a GPU as well; slower"
    training.add_argument("--deterministic", action="store_true", help=deterministic)
    args = parser.parse_args()
    if args.long_side[0] > args.long_side[1]:
        parser.error(f"--long-side {args.long_side[0]} {args.long_side[1]}: the smallest length comes first")
    if args.method == "transcam" and args.weights is None:
        parser.error(
            "--weights FILE is missing: --method transcam (the default) starts from a pretrained Conformer, or from scratch with "
            "--weights none; for --encoder NAME add --method cam"
        )
    return args


if __name__ == "__main__":
    run(main)
