"""Are these label maps fit to train on?

    python check_pseudo_label.py --labels runs/merge/auto --images JPEGImages \\
        --list ImageSets/Segmentation/train.txt --image-labels cls_labels.npy --out runs/check

Errors (missing, unreadable, of another size than the image, values of no class) give exit code 1. The rest are
warnings: surplus files, empty and near-empty labels, classes that the image-level labels exclude or that are missing
though tagged. With --gt, scores that separate partial activation (1 - recall) from false activation (1 - precision).
"""

from __future__ import annotations

import argparse

from util.runtime.cli import Parser, real, run


def main() -> int:
    args = parse_args()
    from pipeline import check

    return check.run(args)


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_common("labels", "list", "images", "gt", "image-labels", required=("labels", "list"))
    parser.add_common("num-classes", "class-names", "classes", "workers", "out")
    text = "a label with less foreground than this share of its pixels (0 to 1) is near-empty"
    parser.group("check").add_argument("--near-empty", type=real(0, 1), default=0.005, metavar="SHARE", help=text)
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
