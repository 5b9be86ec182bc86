"""Masks of every image, by any Segment Anything Model.

    python generate_sam_masks.py --model vit_h --images JPEGImages --list train.txt --out runs/sam_masks

OUT/<id>.json: the image's masks in SA-1B's format; with --gzip OUT/<id>.json.gz, less than half of the bytes. Without
--checkpoint, published weights are downloaded once. Re-run the command to resume; up-to-date masks are reused. Several
GPUs: torchrun --nproc-per-node N generate_sam_masks.py ...

Models (--model):
    vit_h, vit_l, vit_b   segment-anything's own
    sam2.1-large, sam-hq-h, edgetam, sam3, ...
                          by Hugging Face transformers, as is any hub id (owner/name) or folder; docs/sam-masks.md lists
                          them with size and licence
    FILE                  weights that you have, as their authors publish them: sam_vit_b_01ec64.pth, sam_hq_vit_h.pth,
                          sam2.1_hiera_large.pt, mobile_sam.pt, ...; --checkpoint FILE is the same
    regions               not a SAM: a graph segmentation without weights, to try the pipeline

Prompts (--prompt, one or several in one file):
    grid          a grid of points; class-agnostic masks of everything
    cam           peaks and boxes of the soft CAMs (--cam-path) of each image's classes (--image-labels)
    tags          the names of each image's classes (--image-labels) as text; SAM 3
    points FILE   points, or boxes FILE: {"<id>": [{"point": [x, y], "category": "dog"}, ...]}, a CSV, or what COCO, VOC and
                  labelme write; docs/sam-masks.md describes them

Masks for all but grid know their class; merge them with main.py --method prompted.

Examples:
    python generate_sam_masks.py --model sam3 --prompt tags --images JPEGImages --image-labels cls_labels.npy --out runs/m
    python generate_sam_masks.py --model sam2.1-large --prompt grid cam --cam-path runs/cams/cams --images JPEGImages --out runs/m
    python generate_sam_masks.py --model regions --images JPEGImages --out runs/regions --preview 8
"""

import argparse
from pathlib import Path

from models.sam.options import FILE_MODELS, PACKAGE_MODELS, CamPromptOptions, Options, names_file, read_prompt
from util.runtime.cli import NETWORK, Parser, real, run, whole
from util.runtime.options import add_options


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_common(
        *("images", "list", "image-labels", "class-names", "out", "overwrite", "device", "amp"),
        required=("images", "out"),
        amp={"dest": "precision"},
    )
    network = parser.group(NETWORK)
    network.add_argument("--model", metavar="NAME", help="which SAM, see above (default: vit_h)")
    network.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="trained network: a SAM, recognised by the file's contents"
    )
    network.add_argument("--mirror", metavar="URL", help="folder with the official checkpoints' files")
    network.add_argument(
        "--exact", action="store_true", help="vit_*, MobileSAM: run the package's own modules, bit for bit; slower"
    )
    network.add_argument(
        "--encode-batch", type=whole(1), metavar="N", help="images or crops encoded at once (default: 1; 4 on a GPU)"
    )
    network.add_argument(
        "--threads", type=whole(1), metavar="N", help="processor threads per process (default: torch's)"
    )
    output = parser.group("output")
    output.add_argument("--gzip", action="store_true", help="write <id>.json.gz; existing files are converted")
    output.add_argument("--preview", type=whole(0), default=0, metavar="N", help="draw the masks of the first N images")
    add_prompt_options(parser)
    add_options(parser, "mask generator, as segment-anything's", Options)
    args = parser.parse_args()
    args.prompt = read_prompt(args.prompt)
    check(parser, args)
    return args


def add_prompt_options(parser: Parser) -> None:
    from util.data.masks import LEAST_SCORE

    group = parser.group("prompts")
    group.add_argument("--prompt", nargs="+", default=["grid"], metavar="WHAT", help="prompts for the SAM, see above")
    cams = {
        "group": "prompts",
        "aliases": ("cam-path",),
        "dest": "cam_path",
        "help": "folder of soft CAMs, <id>.npy; for --prompt cam",
    }
    parser.add_common("cams", required=(), cams=cams)
    group.add_argument("--synonyms", type=Path, metavar="FILE", help='phrases per class: {"person": ["person", "man"]}')
    group.add_argument(
        "--score-thresh",
        type=real(0, 1),
        default=LEAST_SCORE,
        metavar="X",
        help="tags: keep masks with a higher score, 0 to 1; main.py --method prompted has the same default, --param score=X",
    )
    add_options(parser, "prompts", CamPromptOptions)


def settle_model(parser: Parser, args: argparse.Namespace) -> None:
    """``--model FILE`` is ``--checkpoint FILE``; what a checkpoint is of is seen when it is read."""
    if args.model is not None and names_file(args.model):
        if args.checkpoint:
            parser.error(f"--model {args.model} and --checkpoint {args.checkpoint} are both files; give one of them")
        args.checkpoint, args.model = Path(args.model), None
    if args.model is None and args.checkpoint is None:
        args.model = "vit_h"


def check(parser: Parser, args: argparse.Namespace) -> None:
    settle_model(parser, args)
    kinds, known = [kind for kind, _ in args.prompt], ", ".join(PACKAGE_MODELS)
    if args.model == "regions" and (args.checkpoint or args.mirror or kinds != ["grid"]):
        parser.error(
            "--model regions has no weights and takes no prompts; leave --checkpoint, --mirror and --prompt out"
        )
    if args.checkpoint and args.model not in (None, *FILE_MODELS):
        parser.error(
            f"--model {args.model} --checkpoint {args.checkpoint}: files of this model are not read; leave --model out, and "
            f"what the file holds is seen from it, or give one of {', '.join(FILE_MODELS)}"
        )
    if args.model not in (None, *PACKAGE_MODELS) and (args.mirror or args.exact):
        parser.error(f"--model {args.model}: --mirror and --exact go with {known}; other models are a folder or hub id")
    if args.checkpoint and args.mirror:
        parser.error("--mirror is where the official checkpoint comes from; leave it out with --checkpoint")
    if "cam" in kinds and args.cam_path is None:
        parser.error("--prompt cam: --cam-path is missing; give the folder of soft CAMs that generate_cams.py wrote")
    if "tags" in kinds and args.image_labels is None:
        parser.error("--prompt tags: --image-labels is missing; give what each image shows")
    if "tags" in kinds and args.model in (None, *PACKAGE_MODELS):
        parser.error(
            f"--prompt tags: {args.model or args.checkpoint} takes no words; use --model sam3, or --prompt cam"
        )
    if not 0 <= args.crop_overlap_ratio < 1:
        parser.error(f"--crop-overlap-ratio {args.crop_overlap_ratio:g}: 0 to 1, and below 1")
    if args.points_per_side < args.crop_n_points_downscale_factor**args.crop_n_layers:
        parser.error("the last crop layer would have no points; raise --points-per-side")


def main() -> int:
    args = parse_args()

    from models.sam.generate import run as generate

    return generate(args)


if __name__ == "__main__":
    run(main)
