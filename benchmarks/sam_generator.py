"""Our mask generator against segment-anything's, side by side in one run: masks and seconds.

    python benchmarks/sam_generator.py --images JPEGImages --list train.txt --count 1 --amp fp32 bf16

Without --checkpoint the network has random weights, and the thresholds are set from a coarse grid on the first image so
that --pass-part of its masks pass each. Compare seconds within one run only.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from sam_reference import Agreement, official, passing_options
from segment_anything import sam_model_registry
from timing import on_device, take_turns

from models.sam.checkpoints import load_sam
from models.sam.generator import MaskGenerator, Options
from util.data.ids import read_id_list
from util.data.images import find_image, read_image
from util.runtime.cli import Parser, run


def parse_args():
    parser = Parser(__doc__)
    parser.add_common("images", "list", "checkpoint", "device", required=("images", "list"), device={"default": "cpu"})
    parser.add_argument("--count", type=int, default=1, metavar="N", help="images")
    parser.add_argument("--model", choices=["vit_b", "vit_l", "vit_h"], default="vit_b")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of torch")
    parser.add_argument("--points-per-side", type=int, default=32, metavar="N")
    parser.add_argument("--points-per-batch", type=int, default=64, metavar="N")
    parser.add_argument("--pass-part", type=float, default=0.3, metavar="X")
    parser.add_argument(
        "--amp", "--precision", nargs="+", choices=["fp32", "bf16", "fp16"], default=["fp32"], help="of ours"
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sam = load_sam(args.checkpoint, args.model)[1] if args.checkpoint else sam_model_registry[args.model]()
    sam = sam.to(args.device).eval()
    images = [read_image(find_image(args.images, image_id)) for image_id in read_id_list(args.list)[: args.count]]
    grid = {"points_per_side": args.points_per_side, "points_per_batch": args.points_per_batch}
    options = Options(**grid) if args.checkpoint else passing_options(sam, images[0], args.pass_part, **grid)
    print(f"{args.model} on {args.device}, {args.threads} threads, {len(images)} image(s), {options}", flush=True)

    found: dict[str, list] = {}
    jobs = {"package": lambda: found.update(package=[official(sam, image, options) for image in images])}
    for precision in args.amp:
        generator = MaskGenerator(sam, options, precision=precision)
        jobs[f"ours {precision}"] = lambda name=f"ours {precision}", generator=generator: found.update(
            {name: [next(generator.generate([image])) for image in images]}
        )
    # On a GPU the first round holds its start. On a CPU there is none, and a round takes minutes.
    warm_up = 1 if torch.device(args.device).type == "cuda" else 0
    times = take_turns(jobs, 1, warm_up=warm_up, clock=on_device)
    seconds = {name: values[0] / len(images) for name, values in times.items()}
    for name, masks in found.items():
        print(f"{name}: {seconds[name]:.1f} s per image, {sum(map(len, masks))} masks")
        if name != "package":
            agreement = Agreement()
            for ours, theirs in zip(masks, found["package"], strict=True):
                agreement.add(ours, theirs)
            same = "the same masks" if agreement.is_same() else "other masks"
            print(f"{name}: {seconds['package'] / seconds[name]:.2f}x the package's speed, {same}: {agreement}")
    return 0


if __name__ == "__main__":
    run(main)
