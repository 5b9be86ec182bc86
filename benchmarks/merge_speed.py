"""Merging one image: the plain dense way over folders of PNG masks, ours, and the floor; one core, side by side.

    python benchmarks/merge_speed.py --labels pseudo_labels/transcam --list ImageSets/Segmentation/train.txt

About 76 masks an image are generated from the label (pieces of a grid, blobs, regions), written both as PNG folders and
as JSON. All ways read from disk and write the result. The floor only decodes the label and the JSON and writes the result.
Also: peak memory for growing numbers of images.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from processor import merge_labels
from util.data.ids import read_id_list
from util.data.labels import encode_label, read_label, write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.data.merge_inputs import Inputs
from util.data.voc import load_classes
from util.runtime.cli import Parser, run
from util.runtime.files import write_bytes


def make_masks(label, count, rng):
    """bool KxHxW of ellipses of many sizes, cut at the label's borders every other time."""
    height, width = label.shape
    y, x = np.ogrid[:height, :width]
    dense = np.zeros((count, height, width), bool)
    for k in range(count):
        size = rng.uniform(0.03, 0.4, 2)
        cy, cx = rng.integers(height), rng.integers(width)
        dense[k] = ((y - cy) / (size[0] * height)) ** 2 + ((x - cx) / (size[1] * width)) ** 2 <= 1
        if k % 2:
            dense[k] &= label == label[cy, cx]
    return dense


def dense_way(label_path, folder, out):
    """max_iou_imp2 as it is commonly written: every PNG decoded again for every class."""
    label = np.array(Image.open(label_path))
    result, taken = np.zeros_like(label), set()
    for value in range(1, 21):
        own = label == value
        if not own.any():
            continue
        covered, painted = np.zeros(label.shape, bool), np.zeros(label.shape, bool)
        claimed = set()
        for path in folder.iterdir():
            if path in taken:
                continue
            mask = np.array(Image.open(path)) == 255
            covered |= mask
            inside = np.sum(own & mask)
            if 2 * inside > np.sum(mask) or inside / np.sum(own) >= 0.85:
                painted |= mask
                claimed.add(path)
        result[painted | (own & ~covered)] = value
        taken |= claimed
    Image.fromarray(result).save(out)


def floor(label_path, masks_path, result, out):
    read_label(label_path)
    json.loads(masks_path.read_bytes())
    write_bytes(out, encode_label(result))


def main():
    parser = Parser(__doc__)
    parser.add_common("labels", "list", required=("labels", "list"))
    parser.add_argument("--count", type=int, default=100, help="images (default: %(default)s)")
    parser.add_argument("--masks", type=int, default=76, help="masks an image (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many is told (default: %(default)s)")
    args = parser.parse_args()
    ids = [i for i in read_id_list(args.list) if len(np.unique(read_label(args.labels / f"{i}.png"))) > 1][: args.count]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        prepare(root, args.labels, ids, args.masks)
        dense, ours, least = compare(root, ids, args.rounds)
        print(f"processor time an image: dense {dense:.1f} ms, ours {ours:.2f} ms, floor {least:.2f} ms")
        print(f"ours is {dense / ours:.1f} times as fast as the dense way, and takes {ours / least:.2f} times the floor; "
              "same pixels")  # fmt: skip
        grow(root, ids)


def prepare(root, labels, ids, count):
    """Write labels/, json/ and png/: the label maps, and so many masks an image in both formats."""
    rng = np.random.default_rng(0)
    for image_id in ids:
        label = read_label(labels / f"{image_id}.png")
        write_label(root / "labels" / f"{image_id}.png", label)
        dense = make_masks(label, count, rng)
        write_masks(root / "json" / f"{image_id}.json", Masks.from_dense(dense), image_id, f"{image_id}.jpg")
        (root / "png" / image_id).mkdir(parents=True)
        for k, mask in enumerate(dense):
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / "png" / image_id / f"{k}.png")
    (root / "dense").mkdir()
    (root / "floor").mkdir()


def compare(root, ids, rounds):
    """Milliseconds of processor time an image: the dense way, ours, and the floor.

    Raises:
        SystemExit: if the ways differ in a pixel.
    """
    inputs = Inputs(root / "labels", root / "json", load_classes())
    parameters = {"threshold": 0.5, "coverage": 0.85}

    def ours():
        merge_labels(inputs, "max_iou_imp2", parameters, ids, root / "ours", workers=1, overwrite=True)

    def plain():
        for i in ids:
            dense_way(root / "labels" / f"{i}.png", root / "png" / i, root / "dense" / f"{i}.png")

    def limit():
        for i in ids:
            floor(root / "labels" / f"{i}.png", root / "json" / f"{i}.json", results[i], root / "floor" / f"{i}.png")

    ours()
    results = {i: read_label(root / "ours" / "max_iou_imp2" / f"{i}.png") for i in ids}
    best = {way: float("inf") for way in (plain, ours, limit)}
    for _ in range(rounds):  # by turns, so that a busy machine slows all three
        for way in best:
            start = time.process_time()
            way()
            best[way] = min(best[way], time.process_time() - start)
    for i in ids:
        if not np.array_equal(
            read_label(root / "dense" / f"{i}.png"), read_label(root / "ours" / "max_iou_imp2" / f"{i}.png")
        ):
            raise SystemExit(f"{i}: the two ways differ")
    return tuple(1000 * seconds / len(ids) for seconds in best.values())


def grow(root, ids):
    inputs = Inputs(root / "labels", root / "json", load_classes())
    for repeat in (1, 10, 50):
        many = []
        for turn in range(repeat):
            for i in ids:
                copy = f"{i}_{turn}"
                for kind, suffix in (("labels", ".png"), ("json", ".json")):
                    target = root / kind / f"{copy}{suffix}"
                    if suffix == ".json":
                        content = (root / kind / f"{i}{suffix}").read_text()
                        target.write_text(
                            content.replace(f'"{i}"', f'"{copy}"', 1).replace(f"{i}.jpg", f"{copy}.jpg", 1)
                        )
                    elif not target.exists():
                        target.hardlink_to(root / kind / f"{i}{suffix}")
                many.append(copy)
        merge_labels(inputs, "max_iou", {"threshold": 0.5}, many, root / "grow", workers=1, overwrite=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{len(many):6} images: peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    run(main)
