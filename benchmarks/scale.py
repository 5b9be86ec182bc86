"""A data set of COCO's order of size through merge and evaluation: time, peak memory and disk.

    python benchmarks/scale.py                                          # 20,000 images, 2 million masks
    python benchmarks/scale.py --images 200 --distinct 20 --side 160    # a trial

Labels and masks are generated. A hundred distinct images are behind all the ids, since what a stage does with a file does
not depend on there being another one like it; each file is read, checked and digested for itself.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from timing import Measured, measure

from util.data.labels import encode_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.runtime.cli import Parser, run
from util.runtime.files import digest


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--images", type=int, default=20_000, metavar="N", help="how many")
    parser.add_argument("--masks", type=int, default=100, metavar="N", help="per image")
    parser.add_argument("--distinct", type=int, default=100, metavar="N", help="different images")
    parser.add_argument("--side", type=int, default=640, metavar="PX", help="width; the height is 3/4 of it")
    parser.add_argument("--method", default="max_iou_imp2", metavar="NAME", help="strategy")
    parser.add_common("workers")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the set is written, and removed again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="scale") as name:
        root, height = Path(name), args.side * 3 // 4
        make_set(root, args.images, args.masks, args.distinct, (height, args.side))
        print(f"{args.images:,} images of {args.side}x{height} pixels, {args.images * args.masks:,} masks")
        for part in ("labels", "masks"):
            show_disk(part, root / part)
        same = ["--workers", args.workers, "--list", root / "list.txt"]
        pred = root / "out" / args.method
        merge = ["main.py", *same, "--mode", "merge", "--method", args.method, "--out", root / "out"]
        merge += ["--pseudo-path", root / "labels", "--sam-path", root / "masks"]
        show_time("merge", measure(*merge), args.images)
        show_time("merge, all up to date", measure(*merge), args.images)
        show_disk("enhanced labels", pred)
        folders = ["--pred", pred, "--gt", root / "gt", "--out", root / "scores"]
        show_time("evaluation", measure("evaluate_enhanced.py", *same, *folders), args.images)
        check_results(pred, args.images, args.distinct)
    return 0


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


def make_set(root: Path, images: int, masks: int, distinct: int, shape: tuple[int, int]) -> None:
    """Write labels/, gt/, masks/ and list.txt.

    Labels hold two to five of VOC's classes in blobs; the ground truth is the label moved by some pixels; half of the masks
    are pieces of the label. ``distinct`` images are drawn, and repeated under all the ids.
    """
    rng = np.random.default_rng(0)
    for name in ("labels", "gt", "masks"):
        (root / name).mkdir()
    originals = []
    for _ in range(min(distinct, images)):
        label = np.zeros(shape, np.uint8)
        values = rng.integers(1, 21, rng.integers(2, 6))
        for value, blob in zip(values, make_masks(label, len(values), rng), strict=True):
            label[blob] = value
        gt = np.roll(label, (3, 5), axis=(0, 1))
        write_masks(root / "original.json", Masks.from_dense(make_masks(label, masks, rng)), "ORIGINAL", "ORIGINAL.jpg")
        originals.append((encode_label(label), encode_label(gt), (root / "original.json").read_bytes()))
    ids = [f"{number:012}" for number in range(images)]
    for number, image_id in enumerate(ids):
        label, gt, code = originals[number % len(originals)]
        (root / "labels" / f"{image_id}.png").write_bytes(label)
        (root / "gt" / f"{image_id}.png").write_bytes(gt)
        # The id is at the head; masks hold no capital words.
        (root / "masks" / f"{image_id}.json").write_bytes(code.replace(b"ORIGINAL", image_id.encode(), 2))
    (root / "list.txt").write_text("\n".join(ids) + "\n")


def disk_use(folder: Path) -> tuple[int, int, int]:
    """(files, bytes, bytes in blocks of 4 KiB) of a folder and those in it."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes), sum(-(-size // 4096) * 4096 for size in sizes)


def show_time(what: str, took: Measured, images: int) -> None:
    per_image, peak = 1000 * took.seconds / images, took.peak / 2**20
    print(f"  {what:<24}{took.seconds:8.1f} s {per_image:8.2f} ms per image{peak:8.0f} MiB at the peak", flush=True)


def show_disk(what: str, folder: Path) -> None:
    files, size, blocks = disk_use(folder)
    print(f"  {what:<24}{files:8,} files {size / 2**20:10,.0f} MiB {blocks / 2**20:8,.0f} MiB in blocks of 4 KiB")


def check_results(pred: Path, images: int, distinct: int) -> None:
    """All enhanced labels are there, and images that are alike have the same one.

    Raises:
        SystemExit: if not.
    """
    found: dict[int, set[str]] = {}
    for number in range(images):
        found.setdefault(number % distinct, set()).add(digest((pred / f"{number:012}.png").read_bytes()))
    if any(len(digests) != 1 for digests in found.values()):
        raise SystemExit("images that are alike got different labels")
    print(f"  all {images:,} enhanced labels are there; those of images that are alike are alike")


if __name__ == "__main__":
    run(main)
