"""Our mask generator against segment-anything's, side by side in one run: masks, seconds, and where they go.

    python benchmarks/sam_generator.py --images JPEGImages --list train.txt --count 1 --precision fp32 bf16 --profile

Without --checkpoint the network has random weights, and the thresholds are set from a coarse grid on the first picture
so that --pass-part of its masks pass each. Times are seconds a picture; compare them within one run only.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--model", choices=["vit_b", "vit_l", "vit_h"], default="vit_b")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--points-per-batch", type=int, default=64)
    parser.add_argument("--pass-part", type=float, default=0.3)
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16", "fp16"], default=["fp32"])
    parser.add_argument(
        "--profile",
        action="store_true",
        help="seconds of each step; on a GPU this waits for every step, so use it apart",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import torch
    from sam_reference import Agreement, official, passing_options
    from segment_anything import sam_model_registry

    from models.sam.checkpoints import load_sam
    from models.sam.generator import MaskGenerator, Options
    from util.data.ids import read_id_list
    from util.data.images import find_image, read_image

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sam = load_sam(args.model, args.checkpoint) if args.checkpoint else sam_model_registry[args.model]()
    sam = sam.to(args.device).eval()
    ids = read_id_list(args.list)[: args.count]
    images = [read_image(find_image(args.images, image_id)) for image_id in ids]

    grid = {"points_per_side": args.points_per_side, "points_per_batch": args.points_per_batch}
    options = Options(**grid) if args.checkpoint else passing_options(sam, images[0], args.pass_part, **grid)
    print(f"{args.model} on {args.device}, {args.threads} threads, {len(images)} picture(s), {options}", flush=True)

    runs: dict[str, Callable] = {"package": lambda image: official(sam, image, options)}
    for precision in args.precision:
        generator = MaskGenerator(sam, options, precision=precision)
        runs[f"ours {precision}"] = lambda image, generator=generator: next(generator.generate([image]))
    seconds = {name: 0.0 for name in runs}
    clocks = {name: StepClock(args.device) for name in runs}
    agreements = {name: Agreement() for name in list(runs)[1:]}
    for image_id, image in zip(ids, images, strict=True):
        results = {}
        for name, generate in runs.items():
            with clocks[name].watching() if args.profile else clocks[name]:
                start = time.perf_counter()
                results[name] = generate(image)
                if args.device != "cpu":
                    torch.cuda.synchronize()
                took = time.perf_counter() - start
            seconds[name] += took
            print(f"{image_id} {name}: {took:.1f} s, {len(results[name])} masks", flush=True)
        for name, agreement in agreements.items():
            agreement.add(results[name], results["package"])
    for name, agreement in agreements.items():
        same = "the same masks" if agreement.is_same() else "other masks"
        print(f"{name}: {seconds['package'] / seconds[name]:.2f}x the package's speed, {same}: {agreement}", flush=True)
    if args.profile:
        for name, clock in clocks.items():
            print(f"\n{name}: {seconds[name]:.1f} s")
            for step, took in [*clock.seconds.items(), ("the rest", seconds[name] - sum(clock.seconds.values()))]:
                print(f"  {step:44} {took:7.2f} s  {100 * took / seconds[name]:5.1f} %")


class StepClock:
    """Seconds spent in the steps of either generator; a step within another counts for itself alone."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for owner, name, before in reversed(getattr(self, "_replaced", [])):
            setattr(owner, name, before)

    def watching(self) -> "StepClock":
        """This clock, with the steps replaced by timed ones until the end of the ``with`` block."""
        import segment_anything.automatic_mask_generator as package
        from segment_anything import SamPredictor
        from segment_anything.modeling import MaskDecoder, Sam, TwoWayTransformer

        from models.sam import networks
        from models.sam.decoder import FoldedDecoder
        from models.sam.generator import MaskGenerator

        self._replaced = []
        for step, places in {
            "image encoder": [(SamPredictor, "set_image"), (MaskGenerator, "_embed")],
            "decoder: transformer": [(TwoWayTransformer, "forward"), (FoldedDecoder, "_transform")],
            "decoder: upscaling, hypernetworks, IoU head": [(MaskDecoder, "forward"), (FoldedDecoder, "decode")],
            "masks to full size": [(Sam, "postprocess_masks"), (networks, "upscale_padded")],
            "stability scores, boxes, thresholds": [
                (package, "calculate_stability_score"), (package, "batched_mask_to_box"), (MaskGenerator, "_judge"),
            ],
            "run-length codes": [
                (package, "mask_to_rle_pytorch"), (package, "uncrop_masks"), (MaskGenerator, "_encode"),
            ],
        }.items():  # fmt: skip
            for owner, name in places:
                before = getattr(owner, name)
                self._replaced.append((owner, name, before))
                setattr(owner, name, self._timed(step, before))
        return self

    def _timed(self, step: str, work: Callable) -> Callable:
        def timed(*args, **more):
            self._inside.append(0.0)
            start = self._now()
            try:
                return work(*args, **more)
            finally:
                took = self._now() - start
                self.seconds[step] = self.seconds.get(step, 0.0) + took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        return timed

    def _now(self) -> float:
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()


if __name__ == "__main__":
    main()
