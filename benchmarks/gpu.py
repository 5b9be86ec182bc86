"""Speed and peak memory on a GPU, beside what people use today: one table.

    python benchmarks/gpu.py                          # needs a GPU; some minutes
    python benchmarks/gpu.py --short --device cpu     # does it all run?

Weights are random, images generated: neither changes the speed. Every side is warmed up and waited for; both take turns,
and none is always first. A ratio above 1 says that ours is the better. Choose rows with --only.
"""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from rows import HEAD, Row, training_steps
from sam_generator import take_sides
from sam_reference import passing_options, small_sam
from segment_anything import sam_model_registry
from timing import on_device, take_turns, with_peaks

from models.cam.generate import make_cams
from models.cam.plain_cam import PlainCAM
from models.common.preprocessing import IMAGENET
from models.common.run import resolve
from models.segmentation import deeplabv3
from models.segmentation.data import CropAugmentation, LabelledImages
from models.segmentation.inference import PixelNetwork, Segmenter
from models.segmentation.options import Prediction
from models.segmentation.predict import predict_images
from models.segmentation.recipe import SegmentationRecipe
from models.segmentation.training import SegmentationTask, trainer_of
from util.data.images import find_image, read_image
from util.data.synthetic import write_data_set
from util.data.voc import load_classes
from util.runtime import distributed
from util.runtime.cli import Parser, run, whole
from util.runtime.distributed import Dist


def main() -> int:
    args = parse_args()
    with distributed.init(args.device) as dist, tempfile.TemporaryDirectory() as name:
        on_gpu = dist.device.type == "cuda"
        device = torch.cuda.get_device_name(dist.device) if on_gpu else "no GPU: these figures say nothing"
        root, count = Path(name), 4 if args.short else 64
        write_data_set(root / "data", {"train": count}, side=96 if args.short else 500)
        ids = sorted(path.stem for path in (root / "data" / "SegmentationClassAug").iterdir())
        print(f"{device}, torch {torch.__version__}, {args.workers} workers\n\n{HEAD}", flush=True)
        for part in args.only or ROWS:
            for row in ROWS[part](args, dist, root, ids):
                print(row, flush=True)
    return 0


def parse_args() -> Namespace:
    parser = Parser(__doc__)
    parser.add_common("device", "workers", device={"default": "cuda"})
    parser.add_argument(
        "--rounds", type=whole(1), default=3, metavar="N", help="measured rounds, of which the best counts"
    )
    parser.add_argument("--models", nargs="+", choices=list(sam_model_registry), default=["vit_b", "vit_h"], help="SAM")
    parser.add_argument("--short", action="store_true", help="small networks and inputs: shows that it runs")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    return parser.parse_args()


def mebibytes(size: int) -> str:
    return f"peak {size >> 20} MiB"


def measured(args: Namespace, jobs: dict) -> tuple[dict[str, float], dict[str, int]]:
    """Least seconds of each job after a round that does not count, and the most memory that each held."""
    peaks: dict[str, int] = {}
    times = take_turns(with_peaks(jobs, peaks), args.rounds, warm_up=1, clock=on_device)
    return {name: min(values) for name, values in times.items()}, peaks


def masks(args: Namespace, dist: Dist, root: Path, ids: list[str]) -> Iterator[Row]:
    """Our mask generator against segment-anything's: seconds per image, and whether the masks are the same."""
    images = [
        read_image(find_image(root / "data" / "JPEGImages", image_id)) for image_id in ids[: 1 if args.short else 4]
    ]
    for model in args.models[: 1 if args.short else None]:
        torch.manual_seed(0)
        sam = (small_sam() if args.short else sam_model_registry[model]()).to(dist.device).eval()
        options = passing_options(sam, images[0], 0.3, points_per_side=4 if args.short else 32)
        sides = take_sides(sam, options, images, ("fp32", "bf16"), args.rounds)
        package = sides["package"]
        for precision in ("fp32", "bf16"):
            ours = sides[f"ours {precision}"]
            same, agreement = ours.against(package)
            counts = f"{same}, {agreement.found} of {agreement.expected}"
            note = f"{counts}, {mebibytes(ours.peak)}, theirs {package.peak >> 20}"
            what = f"SAM {model} {precision}"
            yield Row(what, "SamAutomaticMaskGenerator", package.seconds, ours.seconds, "s per image", note=note)


def training(args: Namespace, dist: Dist, root: Path, ids: list[str]) -> Iterator[Row]:
    """Our step against that of torchvision's reference loop."""
    size = (
        ["--batch-size", 2, "--crop-size", 64, "--steps", 2] if args.short else ["--batch-size", 16, "--crop-size", 512]
    )
    encoder = "resnet18" if args.short else "resnet101"
    options = ["--device", args.device, "--encoder", encoder, "--amp", "auto", *size]
    (theirs, their_peak), (ours, peak) = training_steps(*options)
    note = f"peak {peak} MiB, theirs {their_peak}"
    yield Row(f"training {encoder}", "torchvision's reference loop", theirs, ours, "s per step", note=note)


def waiting(args: Namespace, dist: Dist, root: Path, ids: list[str]) -> Iterator[Row]:
    """The share of the time that the loop waits for its loader, against the 5 % that are aimed at."""
    side, steps = (64, 4) if args.short else (512, 60)
    recipe = resolve(SegmentationRecipe(steps=steps, batch_size=2 if args.short else 16, amp="auto"), dist)
    data = root / "data"
    crops = LabelledImages(ids, data / "JPEGImages", data / "SegmentationClassAug", 21, CropAugmentation(side), 0)
    net = deeplabv3.build(21, "resnet18" if args.short else "resnet101").to(dist.device)
    trainer = trainer_of(net, SegmentationTask(recipe, load_classes(), {}, IMAGENET, dist), crops, workers=args.workers)
    shares: list[float] = []
    trainer.run(
        lambda best: None, log=lambda name, value, step: shares.append(value) if name.startswith("share") else None
    )
    yield Row("waiting for data", "5 % of the time", 5, max(1e-3, 100 * shares[-1]), "%")


def segmentation(args: Namespace, dist: Dist, root: Path, ids: list[str]) -> Iterator[Row]:
    """Reading, segmenting and writing: with mixed precision against without."""
    net = deeplabv3.build(21, "resnet18" if args.short else "resnet101")
    segmenter = Segmenter(PixelNetwork(net, IMAGENET), load_classes(), {}, None, dist.device)
    sources = {image_id: root / "data" / "JPEGImages" / f"{image_id}.jpg" for image_id in ids}

    def predict(amp: str) -> None:
        how = Prediction(flip=True, amp=amp, formats=("label-map",))
        predict_images(segmenter, "random", sources, root / "predictions", dist, how, overwrite=True)

    jobs = {"off": lambda: predict("off"), "auto": lambda: predict("auto")}
    seconds, peaks = measured(args, jobs)
    off, auto = (seconds[name] / len(ids) for name in ("off", "auto"))
    yield Row("evaluation, flips", "ours in float32", off, auto, "s per image", note=mebibytes(peaks["auto"]))


def cams(args: Namespace, dist: Dist, root: Path, ids: list[str]) -> Iterator[Row]:
    """Reading, CAMs in several sizes with flips, and writing: with mixed precision against without."""
    net = PlainCAM(21, "mobilenet_v2" if args.short else "resnet50").eval()
    (root / "net.pth").touch()
    options = {"sizes": [64] if args.short else None, "shape": None, "flip": True, "raw": False, "overwrite": True}
    options |= {
        "checkpoint": root / "net.pth",
        "images": root / "data" / "JPEGImages",
        "list": None,
        "out": root / "out",
    }
    options |= {"image_labels": None, "batch_size": 8, "workers": args.workers}
    tags = dict.fromkeys(ids, (8, 15))
    jobs = {
        amp: lambda amp=amp: make_cams(Namespace(**options, amp=amp), dist, net, ids, tags) for amp in ("off", "auto")
    }
    seconds, peaks = measured(args, jobs)
    off, auto = (seconds[name] / len(ids) for name in ("off", "auto"))
    yield Row("CAM inference", "ours in float32", off, auto, "s per image", note=mebibytes(peaks["auto"]))


ROWS = {"masks": masks, "training": training, "waiting": waiting, "segmentation": segmentation, "cams": cams}

if __name__ == "__main__":
    run(main)
