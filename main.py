"""Merge SAM masks into pseudo labels, score the result, compare strategies, draw images.

    python main.py --mode all --method auto \\
        --pseudo-path runs/cams/labels --sam-path runs/sam_masks --image-list ImageSets/Segmentation/train.txt \\
        --gt-dir SegmentationClassAug --images-path JPEGImages --out runs/merge

Modes:
    merge     labels + masks -> OUT/METHOD/<id>.png
    eval      OUT/METHOD against --gt-dir -> OUT/METHOD.metrics.json, .per_image.csv, .confusion, .classes
    vis       rows of images -> OUT/vis/METHOD/<id>
    all       merge, eval and vis of one method
    compare   merge and eval of several --methods, ranked, with paired 95 % intervals of every difference
              -> OUT/compare.json, .csv, compare_classes.csv, compare, compare_classes
              --split-half SEED   choose parameters on one half of the images, report on the other, both ways round
              --sensitivity NAME  sweep a parameter -> OUT/sensitivity_METHOD_NAME.json, .csv

Figures are PDF and PNG. In tables, void is the share of pixels labelled void (255), which count as wrong; "without
void" is the mIoU of the other pixels; partial is the share of a class's pixels that have another label (1 - recall),
false the share of its label that is of another class (1 - precision).

Up-to-date results are reused; an edited strategy, a changed option or a changed input is computed again. Several
processes or machines: torchrun --nproc-per-node N main.py ...
"""

from __future__ import annotations

import argparse

from merge import BASELINE, RECOMMENDED
from util.runtime.cli import Parser, run, whole


def main() -> int:
    args = parse_args()
    from pipeline import merge

    return merge.run(args)


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "--mode", choices=("merge", "eval", "compare", "vis", "all"), default="all", help="what to do, see above"
    )
    parser.add_common(
        "labels",
        "masks",
        "cams",
        "image-labels",
        "list",
        "gt",
        "images",
        required=("list",),
        labels={"aliases": ("pseudo-path",), "dest": "pseudo_path"},
        masks={"aliases": ("sam-path",), "dest": "sam_path"},
        cams={"aliases": ("cam-path",), "dest": "cam_path"},
        list={"aliases": ("image-list",), "dest": "image_list"},
        gt={"aliases": ("gt-dir",), "dest": "gt_dir"},
        images={"aliases": ("images-path",), "dest": "images_path"},
    )
    parser.add_common("num-classes", "class-names", "classes", num_classes={"aliases": ("number-class",)})
    parser.add_common("out", "data-name", "overwrite", "workers", "seed", required=("out",))
    add_strategies(parser)
    add_drawing(parser)
    return parser.parse_args()


def add_strategies(parser: Parser) -> None:
    group = parser.group("strategies")
    group.add_argument(
        "--method", metavar="NAME", help=f"strategy; auto decides by masks and labels (default: {RECOMMENDED})"
    )
    group.add_argument("--methods", default="all", metavar="NAME,...", help="compare: strategies, or all")
    group.add_argument(
        "--param", action="append", default=[], metavar="[METHOD.]NAME=VALUE", help="set a strategy's parameter"
    )
    group.add_argument(
        "--baseline", metavar="NAME", help=f"compare: report differences to this method as well (default: {BASELINE})"
    )
    group.add_argument(
        "--split-half", type=int, metavar="SEED", help="compare: choose parameters on one half of the list, see above"
    )
    group.add_argument(
        "--sensitivity", action="append", default=[], metavar="NAME", help="compare: sweep this parameter"
    )
    group.add_argument(
        "--values",
        action="append",
        default=[],
        metavar="NAME=V,V,...",
        help="compare: values that a parameter takes (default: those that the strategy's file lists)",
    )


def add_drawing(parser: Parser) -> None:
    group = parser.group("rows of images")
    group.add_argument("--vis-sample", nargs="+", default=[], metavar="ID", help="draw these images")
    for which in ("best", "worst"):
        text = f"draw the N images with the {which} change in mIoU; 10 without a number"
        group.add_argument(f"--vis-{which}", nargs="?", type=whole(0), const=10, default=0, metavar="N", help=text)
    group.add_argument("--vis-random", type=whole(0), default=0, metavar="N", help="draw N random images, see --seed")


if __name__ == "__main__":
    run(main)
