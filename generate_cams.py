"""Class activation maps of a trained classifier, and pseudo labels from them.

    python generate_cams.py --checkpoint runs/transcam/last.pth --images JPEGImages --list train.txt \\
        --image-labels cls_labels.npy --refine par --bg-threshold 0.5 --out out/cams

OUT/cams/<id>.npy: soft maps of the image's classes, 0 to 1; OUT/cams_par/<id>.npy: refined, with --refine par;
OUT/labels/<id>.png: label maps. Up-to-date results are reused: re-run the command to resume, and another threshold
makes the label maps alone. Several GPUs: torchrun --nproc-per-node N generate_cams.py ...

The best threshold on images with ground truth (kept out of the labels: it prints, and writes OUT/sweep.json):

    python generate_cams.py --checkpoint runs/transcam/last.pth --images JPEGImages --list tune.txt \\
        --image-labels cls_labels.npy --refine par --sweep --gt SegmentationClassAug --out out/cams

Soft CAMs that another repository made are refined and become labels with --cams DIR in place of --checkpoint FILE.
"""

from pathlib import Path

from util.runtime.cli import COMMON, NETWORK, Parser, real, run, whole


def main() -> int:
    args = parse_args()
    from models.cam import generate

    return generate.run(args)


def parse_args():
    parser = Parser(__doc__)
    source = parser.group("what makes the CAMs").add_mutually_exclusive_group(required=True)
    checkpoint = "trained network: of train_transcam.py, or the published TransCAM parameters"
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help=checkpoint)
    cams = f"{COMMON['cams'].help}, of another repository; they get the size of the images, and lose other classes than theirs"
    source.add_argument("--cams", "--cam-path", type=Path, metavar="DIR", help=cams)
    parser.add_common(
        *("images", "list", "image-labels", "gt", "class-names", "num-classes", "classes", "batch-size"),
        *("out", "overwrite", "device", "workers", "amp"),
        required=("images", "list", "image-labels", "out"),
        gt={"help": "folder of ground-truth label maps, <id>.png; for --sweep alone"},
        batch_size={"default": 4},
    )
    maps = parser.group(NETWORK)
    maps.add_argument(
        "--sizes",
        type=whole(32),
        nargs="+",
        metavar="PX",
        help="input sizes in pixels, at least 32, summed (default: TransCAM 256 512 768; plain CAM 512 640)",
    )
    maps.add_argument(
        "--shape",
        choices=["square", "long"],
        help="inputs are squares of these sizes, or have them as their long side (default: square; plain CAM long)",
    )
    maps.add_argument("--no-flip", dest="flip", action="store_false", help="leave the mirrored images out")
    maps.add_argument(
        "--raw",
        action="store_true",
        help="the class convolution's maps, without attention (TransCAM; better when it was not pretrained) or "
        "random walk (plain CAM)",
    )
    labels = parser.group("label maps")
    labels.add_argument(
        "--refine",
        choices=["none", "par"],
        default="none",
        help="par: pixel-adaptive refinement by the image's colours",
    )
    labels.add_argument(
        "--bg-threshold", type=real(0, 1), default=0.5, metavar="T", help="below it is background, 0 to 1"
    )
    labels.add_argument("--sweep", action="store_true", help="find the best threshold against --gt; makes no labels")
    args = parser.parse_args()
    if args.cams is not None and (args.sizes or args.shape or args.raw or not args.flip):
        parser.error("--sizes, --shape, --raw and --no-flip are for the network of --checkpoint; --cams has none")
    if args.sweep and args.gt is None:
        parser.error("--sweep compares with ground truth: give --gt DIR")
    if args.gt is not None and not args.sweep:
        parser.error("--gt is for --sweep alone: labels are made without ground truth; score them with main.py")
    if args.classes is not None and not args.sweep:
        parser.error("--classes is for --sweep alone, which takes its mean over them; labels are made of all classes")
    return args


if __name__ == "__main__":
    run(main)
