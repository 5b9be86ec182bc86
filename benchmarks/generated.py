"""Generated labels and masks in any number, and the commands that work on them."""

from pathlib import Path

import numpy as np

from util.data.labels import encode_label
from util.data.mask_files import write_masks
from util.data.masks import Masks


def make_masks(label: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
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


def make_set(
    root: Path, images: int, masks: int, distinct: int, height: int, width: int, classes: int = 21, seed: int = 0
) -> Path:
    """Write labels/, gt/, masks/ and list.txt; returns the folder.

    Labels hold two to five classes in blobs; the ground truth is the label moved by some pixels; half of the masks are
    pieces of the label. ``distinct`` images are drawn, and repeated under all the ids.
    """
    rng = np.random.default_rng(seed)
    for name in ("labels", "gt", "masks"):
        (root / name).mkdir(parents=True)
    originals = []
    for _ in range(min(distinct, images)):
        label = np.zeros((height, width), np.uint8)
        values = rng.integers(1, classes, rng.integers(2, 6))
        for value, blob in zip(values, make_masks(label, len(values), rng), strict=True):
            label[blob] = value
        gt = np.roll(label, (3, 5), axis=(0, 1))
        write_masks(root / "original.json", Masks.from_dense(make_masks(label, masks, rng)), "ORIGINAL", "ORIGINAL.jpg")
        originals.append((encode_label(label), encode_label(gt), (root / "original.json").read_bytes()))
    (root / "original.json").unlink()
    ids = [f"{number:012}" for number in range(images)]
    for number, image_id in enumerate(ids):
        label, gt, code = originals[number % len(originals)]
        (root / "labels" / f"{image_id}.png").write_bytes(label)
        (root / "gt" / f"{image_id}.png").write_bytes(gt)
        # The id is at the head; masks hold no capital words.
        (root / "masks" / f"{image_id}.json").write_bytes(code.replace(b"ORIGINAL", image_id.encode(), 2))
    names = ["background", *(f"class {value}" for value in range(1, classes))]
    for file, lines in (("list.txt", ids), ("names.txt", names)):
        (root / file).write_text("\n".join(lines) + "\n")
    return root


def merge_command(root: Path, out: Path, workers: int, method: str = "max_iou_imp2") -> list:
    """The merge stage over a set of `make_set`."""
    options = f"--mode merge --method {method} --workers {workers}".split()
    folders = ["--pseudo-path", root / "labels", "--sam-path", root / "masks", "--image-list", root / "list.txt"]
    return ["main.py", *options, *folders, "--class-names", root / "names.txt", "--out", out]


def evaluate_command(root: Path, pred: Path, out: Path, workers: int) -> list:
    """The evaluation of label maps of that set."""
    folders = ["--pred", pred, "--gt", root / "gt", "--list", root / "list.txt", "--class-names", root / "names.txt"]
    return ["evaluate_enhanced.py", *folders, "--workers", workers, "--out", out]


def disk_use(folder: Path) -> tuple[int, int, int]:
    """(files, bytes, bytes in blocks of 4 KiB) of a folder and those in it."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes), sum(-(-size // 4096) * 4096 for size in sizes)
