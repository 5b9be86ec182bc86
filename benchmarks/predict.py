"""predict.py against the plain loop of reading, network and writing; and images of 12 megapixels: time and peak memory.

    python benchmarks/predict.py --checkpoint runs/deeplab/last.pth --images VOC2012/JPEGImages
    python benchmarks/predict.py --count 2 --rounds 1 --large 400     # a trial, with random weights and drawn images

Both segment the same images at the same size, in turns, and must agree on the label maps. The plain loop is what one would write
by hand: Pillow, the network, F.interpolate, argmax, Pillow; without digests, ledger, confidence and summary. All times are
of one processor; those of the two ways are the best round of each.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from helpers import tiny_network
from PIL import Image
from timing import best_times, measure

from models.segmentation.networks import open_network
from models.segmentation.options import Prediction
from models.segmentation.predict import predict_images
from util.data.images import decode_image, list_image_ids
from util.data.labels import read_label
from util.data.synthetic import CLASSES, write_data_set
from util.runtime import distributed
from util.runtime.cli import Parser, run, whole
from util.runtime.files import file_digest, read_bytes

OPACITY = 0.6  # of overlays, as predict.py's


def parse_args():
    parser = Parser(__doc__)
    parser.add_common("checkpoint", "images", "long-side")
    parser.add_argument("--count", type=whole(1), default=20, metavar="N", help="images")
    parser.add_argument("--rounds", type=whole(1), default=3, metavar="N", help="the best of so many counts")
    parser.add_argument("--large", type=whole(64), default=4000, metavar="PX", help="width of the large images")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if args.checkpoint is None:
            args.checkpoint = root / "net.pth"
            tiny_network(args.checkpoint, CLASSES.names, working_size=375)
        if args.images is None:
            write_data_set(root / "data", {"train": args.count}, side=500)
            args.images = root / "data" / "JPEGImages"
        files = {i: next(args.images.glob(f"{i}.*")) for i in list_image_ids(args.images)[: args.count]}
        network = open_network(args.checkpoint)
        network.long_side = args.long_side or network.long_side
        print(f"{len(files)} images, {network.size_text()}, one thread", flush=True)
        for formats in (("label-map",), ("label-map", "overlay")):
            compare(network, files, formats, root, args)
        measure_large(network, next(iter(files.values())), root, args)
    return 0


def compare(network, files: dict[str, Path], formats: tuple[str, ...], root: Path, args) -> None:
    """Print the time of both ways."""
    ours, plain, number = root / "ours", root / "plain", iter(range(10**6))

    def predict() -> None:
        out = ours / f"{len(formats)}_{next(number)}"
        with distributed.init("cpu") as dist:
            digest = file_digest(args.checkpoint)
            predict_images(network, digest, files, out, dist, Prediction(formats=formats))

    def loop() -> None:
        for image_id, path in files.items():
            plain_step(network, image_id, path, plain, "overlay" in formats)

    seconds = best_times({"predict": predict, "plain": loop}, args.rounds)
    last = max(ours.iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    same = [float((read_label(last / "labels" / f"{i}.png") == read_label(plain / f"{i}.png")).mean()) for i in files]
    per_image = {name: 1000 * value / len(files) for name, value in seconds.items()}
    print(
        f"{' and '.join(formats):<24}{per_image['predict']:8.1f} ms per image, plain loop {per_image['plain']:.1f} ms: "
        f"{seconds['predict'] / seconds['plain']:.2f} of it; {100 * np.mean(same):.3f} % of the pixels alike",
        flush=True,
    )


@torch.inference_mode()
def plain_step(network, image_id: str, path: Path, out: Path, with_overlay: bool) -> None:
    """Read, segment and write one image."""
    image = Image.open(path).convert("RGB")
    factor = (network.long_side or max(image.size)) / max(image.size)
    small = cv2.resize(np.asarray(image), [round(side * factor) for side in image.size], interpolation=cv2.INTER_AREA)
    pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float()
    logits = F.interpolate(network.net(pixels), size=image.size[::-1], mode="bilinear", align_corners=False)
    label = logits[0].argmax(0).numpy().astype(np.uint8)
    out.mkdir(exist_ok=True)
    written = Image.fromarray(label)
    written.putpalette(network.palette.ravel().tolist())
    written.save(out / f"{image_id}.png")
    if with_overlay:
        mixed = (1 - OPACITY) * np.asarray(image) + OPACITY * network.palette[label]
        Image.fromarray(np.where(label[..., None] > 0, mixed, image).astype(np.uint8)).save(out / f"{image_id}.jpg")


def measure_large(network, source: Path, root: Path, args) -> None:
    """Print time beyond decoding, and the peak, of predict.py on images of 4:3."""
    folder = root / "large"
    folder.mkdir()
    size = (args.large, args.large * 3 // 4)
    with Image.open(source) as image:
        for number in range(3):
            turned = image.convert("RGB").rotate(180 * number).resize(size, Image.Resampling.BICUBIC)
            turned.save(folder / f"{number}.jpg", quality=90)
    files = {path.stem: path for path in sorted(folder.iterdir())}
    begun = time.process_time()
    for path in files.values():
        decode_image(read_bytes(path), path)
    decoding = (time.process_time() - begun) / len(files)
    for formats in (("label-map",), ("label-map", "overlay")):
        begun = time.process_time()
        with distributed.init("cpu") as dist:
            predict_images(network, "", files, root / f"large_{len(formats)}", dist, Prediction(formats=formats))
        seconds = (time.process_time() - begun) / len(files) - decoding
        command = ("predict.py", "--checkpoint", args.checkpoint, "--images", folder, "--device", "cpu")
        took = measure(
            *command,
            "--long-side",
            network.long_side or 0,
            "--format",
            *formats,
            "--out",
            root / f"process_{len(formats)}",
        )
        print(
            f"{size[0]}x{size[1]}, {' and '.join(formats)}: {seconds:.2f} s per image beyond decoding ({decoding:.2f} s), "
            f"{took.peak / 2**20:.0f} MiB at the peak",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
