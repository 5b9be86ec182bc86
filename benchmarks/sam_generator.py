"""Our mask generator against segment-anything's, side by side in one run: masks and seconds.

    python benchmarks/sam_generator.py --images JPEGImages --list train.txt --count 1 --amp fp32 bf16

Without --checkpoint the network has random weights, and the thresholds are set from a coarse grid on the first image so
that --pass-part of its masks pass each. Compare seconds within one run only. With --prompt cam our generator's grid is
compared with prompts of soft CAMs (--cams) instead of with the package: runs of the encoder, passes of the decoder, seconds.
"""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from sam_reference import Agreement, official, passing_options
from segment_anything import sam_model_registry
from timing import on_device, take_turns, with_peaks

from models.sam.checkpoints import load_sam
from models.sam.generator import MaskGenerator, Options
from models.sam.options import CamPromptOptions
from models.sam.prompted import PromptedGenerator
from models.sam.prompts import cam_prompts
from util.data.cams import read_cam
from util.data.ids import read_id_list
from util.data.images import find_image, read_image
from util.data.voc import load_classes
from util.runtime.cli import Parser, run


def parse_args():
    parser = Parser(__doc__)
    common = ("images", "list", "cams", "checkpoint", "device")
    parser.add_common(*common, required=("images", "list"), device={"default": "cpu"})
    parser.add_argument("--prompt", choices=["cam"], help="compare prompts of --cams with the grid")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="images")
    parser.add_argument("--model", choices=["vit_b", "vit_l", "vit_h"], default="vit_b")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of torch")
    parser.add_argument("--points-per-side", type=int, default=32, metavar="N")
    parser.add_argument("--points-per-batch", type=int, default=64, metavar="N")
    parser.add_argument("--pass-part", type=float, default=0.3, metavar="X")
    parser.add_argument(
        "--amp", "--precision", nargs="+", choices=["fp32", "bf16", "fp16"], default=["fp32"], help="of ours"
    )
    args = parser.parse_args()
    if args.prompt and not args.cams:
        parser.error("--prompt cam needs --cams")
    return args


@dataclass(frozen=True)
class Side:
    """What a generator took and gave: seconds per image, bytes of a GPU's memory at the peak, masks of each image."""

    seconds: float
    peak: int
    masks: list

    def against(self, package: "Side") -> tuple[str, Agreement]:
        """Whether our masks are the package's, in words and in numbers."""
        agreement = Agreement()
        for ours, theirs in zip(self.masks, package.masks, strict=True):
            agreement.add(ours, theirs)
        return "the same masks" if agreement.is_same() else "other masks", agreement


def take_sides(sam, options: Options, images: list, precisions: Iterable[str], rounds: int = 1) -> dict[str, Side]:
    """``package`` and ``ours PRECISION``, by turns; the best of the rounds."""
    found: dict[str, list] = {}
    peaks: dict[str, int] = {}
    jobs = {"package": lambda: found.update(package=[official(sam, image, options) for image in images])}
    for precision in precisions:
        name, generator = f"ours {precision}", MaskGenerator(sam, options, precision=precision)
        jobs[name] = lambda name=name, generator=generator: found.update({name: list(generator.generate(images))})
    # On a GPU the first round holds its start. On a CPU there is none, and a round takes minutes.
    warm_up = 1 if sam.device.type == "cuda" else 0
    times = take_turns(with_peaks(jobs, peaks), rounds, warm_up=warm_up, clock=on_device)
    return {name: Side(min(times[name]) / len(images), peaks[name], found[name]) for name in jobs}


@dataclass
class Meter:
    """Counts and times the calls of a network's methods."""

    clock: Callable[[], float]
    calls: int = 0
    seconds: float = 0.0

    def watch(self, network, *methods: str) -> None:
        for name in methods:
            setattr(network, name, self.timed(getattr(network, name)))

    def timed(self, method):
        def call(*arguments, **named):
            begun = self.clock()
            found = method(*arguments, **named)
            self.calls, self.seconds = self.calls + 1, self.seconds + self.clock() - begun
            return found

        return call


def against_grid(sam, options: Options, images: list, prompts: list) -> None:
    """Print what a grid and prompts of CAMs cost: seconds of this process's processors, or by the clock on a GPU."""
    clock = on_device if sam.device.type == "cuda" else time.process_time
    decoding = {}
    count = len(images)
    for name, generator in (("grid", MaskGenerator(sam, options)), ("cam", PromptedGenerator(sam, options))):
        encoder, decoder = Meter(clock), Meter(clock)
        encoder.watch(generator.network, "embed")
        decoder.watch(generator.network, "decode", "decode_prompts")
        begun = clock()
        masks = list(generator.generate(images) if name == "grid" else generator.answer(images, prompts))
        whole = clock() - begun
        asked = options.points_per_side**2 * count if name == "grid" else sum(map(len, prompts))
        print(
            f"{name}: {asked / count:.1f} prompts, {sum(map(len, masks)) / count:.1f} masks, {encoder.calls / count:.2f} runs "
            f"of the encoder in {encoder.seconds / count:.2f} s, {decoder.calls / count:.2f} passes of the decoder in "
            f"{decoder.seconds / count:.3f} s; {whole / count:.2f} s per image in all",
            flush=True,
        )
        decoding[name] = decoder.seconds, whole
    for what, number in (("decoder", 0), ("in all", 1)):
        print(
            f"{what}: prompts of CAMs take 1/{decoding['grid'][number] / decoding['cam'][number]:.1f} of the grid's seconds"
        )


def main() -> int:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sam = load_sam(args.checkpoint, args.model)[1] if args.checkpoint else sam_model_registry[args.model]()
    sam = sam.to(args.device).eval()
    ids = read_id_list(args.list)[: args.count]
    images = [read_image(find_image(args.images, image_id)) for image_id in ids]
    grid = {"points_per_side": args.points_per_side, "points_per_batch": args.points_per_batch}
    options = Options(**grid) if args.checkpoint else passing_options(sam, images[0], args.pass_part, **grid)
    print(f"{args.model} on {args.device}, {args.threads} threads, {len(images)} image(s), {options}", flush=True)

    if args.prompt:
        names, cam_options = load_classes().names, CamPromptOptions()
        prompts = [cam_prompts(read_cam(args.cams, image_id), names, cam_options) for image_id in ids]
        against_grid(sam, options, images, prompts)
        return 0
    sides = take_sides(sam, options, images, args.amp)
    for name, side in sides.items():
        print(f"{name}: {side.seconds:.1f} s per image, {sum(map(len, side.masks))} masks")
        if name != "package":
            same, agreement = side.against(sides["package"])
            print(f"{name}: {sides['package'].seconds / side.seconds:.2f}x the package's speed, {same}: {agreement}")
    return 0


if __name__ == "__main__":
    run(main)
