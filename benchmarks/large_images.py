"""Class maps of large images beside those of their small versions, with seconds and memory.

    python benchmarks/large_images.py --checkpoint runs/deeplab/last.pth --images JPEGImages --list held_out.txt --count 12

Stand-ins for photos: each image is enlarged by cubic interpolation and saved as JPEG; its small version is made from that
by Lanczos reduction and saved as JPEG, as people's tools do. IoU is the mean over the classes of an image, after the large
class map is reduced. As a control the small version is saved once more: what that changes no handling of sizes can keep.
"""

import io
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from models.segmentation.networks import open_network
from util.data.ids import read_id_list
from util.data.images import find_image, read_image
from util.runtime.cli import Parser, real, run, whole

SMALL = 0.19  # megapixels, as VOC's images


def main() -> int:
    args = parse_args()
    network = open_network(args.checkpoint, args.device)
    print(f"{network.size_text()}\n{'id':<24}{'IoU':>8}{'control':>9}{'seconds':>9}")
    rows = []
    for image_id in read_id_list(args.list, args.images)[: args.count]:
        large = saved(resized(read_image(find_image(args.images, image_id)), args.megapixels))
        small = saved(resized(large, SMALL))
        start = time.perf_counter()
        found = network.segment(large).label
        seconds = time.perf_counter() - start
        expected, again = network.segment(small).label, network.segment(saved(small)).label
        reduced = np.array(Image.fromarray(found).resize(small.shape[1::-1], Image.Resampling.NEAREST))
        rows.append((mean_iou(expected, reduced), mean_iou(expected, again), seconds))
        print(f"{image_id:<24}{rows[-1][0]:8.3f}{rows[-1][1]:9.3f}{seconds:9.2f}", flush=True)
    means = np.mean(rows, 0)
    print(f"{'mean':<24}{means[0]:8.3f}{means[1]:9.3f}{means[2]:9.2f}")
    print(
        f"{sum(row[0] >= 0.95 for row in rows)} of {len(rows)} at least 0.95; control {sum(r[1] >= 0.95 for r in rows)}"
    )
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at the peak")
    return 0


def parse_args():
    parser = Parser(__doc__)
    cpu = {"default": "cpu", "help": "cpu, cuda or cuda:N"}
    parser.add_common("checkpoint", "images", "list", "device", required=("checkpoint", "images", "list"), device=cpu)
    parser.add_argument("--count", type=whole(1), default=12, metavar="N", help="images of the list")
    parser.add_argument("--megapixels", type=real(0, above=True), default=12.0, metavar="M", help="of the large images")
    return parser.parse_args()


def resized(image: np.ndarray, megapixels: float) -> np.ndarray:
    """uint8 HxWx3 with so many pixels, by cubic interpolation where it grows and by Lanczos' where it shrinks."""
    height, width = image.shape[:2]
    factor = (megapixels * 1e6 / (height * width)) ** 0.5
    kind = Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(image).resize((round(width * factor), round(height * factor)), kind))


def saved(image: np.ndarray) -> np.ndarray:
    """The image as it comes back from a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=92)
    return np.array(Image.open(file).convert("RGB"))


def mean_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Mean IoU of two label maps over the classes in either."""
    classes = np.union1d(one, other)
    return float(np.mean([((one == c) & (other == c)).sum() / ((one == c) | (other == c)).sum() for c in classes]))


if __name__ == "__main__":
    run(main)
