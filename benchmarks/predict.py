"""predict.py against the plain loop of reading, network and writing; and images of 12 megapixels.

    python benchmarks/predict.py --checkpoint runs/deeplab/last.pth --images VOC2012/JPEGImages
    python benchmarks/predict.py --count 2 --rounds 1 --large 1 --megapixels 0.1     # a trial: random weights, drawn images

Both segment the same images at the same size, in turns, and must agree on the label maps. The plain loop is what one would write
by hand: Pillow, the network, F.interpolate, argmax, Pillow; without digests, ledger, confidence and summary. All times are
of one processor; those of the two ways are the best round of each.

Stand-ins for large photos: images are enlarged by cubic interpolation and saved as JPEG; their small versions, whose long side
has 500 pixels as VOC's images have, are made from that by Lanczos reduction. The label map of the large image, reduced, is
compared with that of the small one by the IoU, a mean over the classes of an image. As a control the small version is saved
as JPEG: what that changes no handling of sizes can keep.
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
from util.data.ids import read_id_list
from util.data.images import find_image, list_image_ids, read_image
from util.data.labels import read_label
from util.data.synthetic import CLASSES, write_data_set
from util.runtime import distributed
from util.runtime.cli import Parser, real, run, whole
from util.runtime.files import file_digest
from util.vis import OPACITY

SMALL, AGREED = 500, 0.95  # long side in pixels, as VOC's images have; IoU of label maps that agree


def parse_args():
    parser = Parser(__doc__)
    parser.add_common("checkpoint", "images", "list", "long-side")
    parser.add_argument("--count", type=whole(1), default=20, metavar="N", help="images")
    parser.add_argument("--rounds", type=whole(1), default=3, metavar="N", help="the best of so many counts")
    parser.add_argument("--large", type=whole(1), default=3, metavar="N", help="images that are enlarged")
    parser.add_argument("--megapixels", type=real(0, above=True), default=12.0, metavar="M", help="of the large images")
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
        ids = read_id_list(args.list, args.images) if args.list else list_image_ids(args.images)
        files = {i: find_image(args.images, i) for i in ids[: args.count]}
        network = open_network(args.checkpoint)
        network.long_side = args.long_side or network.long_side
        print(f"{len(files)} images, {network.size_text()}, one thread", flush=True)
        for formats in (("label-map",), ("label-map", "overlay")):
            compare(network, files, formats, root, args)
        measure_large(network, {i: files[i] for i in ids[: min(args.large, args.count)]}, root, args)
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


def measure_large(network, sources: dict[str, Path], root: Path, args) -> None:
    """Print time beyond decoding, the peak of memory, and how label maps agree with those of small versions."""
    (root / "large").mkdir()
    files = {i: root / "large" / f"{i}.jpg" for i in sources}
    for image_id, path in files.items():
        image = read_image(sources[image_id])
        saved(resized(image, (args.megapixels * 1e6 / (image.shape[0] * image.shape[1])) ** 0.5), path)
    begun = time.process_time()
    images = {i: read_image(path) for i, path in files.items()}
    decoding = (time.process_time() - begun) / len(files)
    for formats in (("label-map",), ("label-map", "overlay")):
        begun = time.process_time()
        with distributed.init("cpu") as dist:
            predict_images(network, "", files, root / f"large_{len(formats)}", dist, Prediction(formats=formats))
        seconds = (time.process_time() - begun) / len(files) - decoding
        command = ("predict.py", "--checkpoint", args.checkpoint, "--images", root / "large", "--device", "cpu")
        options = (
            "--long-side",
            network.long_side or 0,
            "--out",
            root / f"process_{len(formats)}",
            "--format",
            *formats,
        )
        took = measure(*command, *options)
        print(
            f"{args.megapixels:g} megapixels, {' and '.join(formats)}: {seconds:.2f} s per image beyond decoding "
            f"({decoding:.2f} s), {took.peak / 2**20:.0f} MiB at the peak",
            flush=True,
        )
    alike, control = [], []
    for image_id, image in images.items():
        small = resized(image, SMALL / max(image.shape[:2]))
        expected, again = (network.segment(i).label for i in (small, saved(small, root / "again.jpg")))
        found = Image.fromarray(read_label(root / "large_1" / "labels" / f"{image_id}.png"))
        alike.append(mean_iou(expected, np.array(found.resize(small.shape[1::-1], Image.Resampling.NEAREST))))
        control.append(mean_iou(expected, again))
    print(f"IoU with the label map of the small version: {agreement(alike)}; control {agreement(control)}")


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    """uint8 HxWx3, by cubic interpolation where it grows and by Lanczos' where it shrinks."""
    height, width = image.shape[:2]
    kind = Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(image).resize((round(width * factor), round(height * factor)), kind))


def saved(image: np.ndarray, path: Path) -> np.ndarray:
    """The image as it comes back from a JPEG file."""
    Image.fromarray(image).save(path, quality=92)
    return read_image(path)


def mean_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Mean IoU of two label maps over the classes in either."""
    classes = np.union1d(one, other)
    return float(np.mean([((one == c) & (other == c)).sum() / ((one == c) | (other == c)).sum() for c in classes]))


def agreement(ious: list[float]) -> str:
    return f"mean {np.mean(ious):.3f}, {sum(iou >= AGREED for iou in ious)} of {len(ious)} images at least {AGREED}"


if __name__ == "__main__":
    run(main)
