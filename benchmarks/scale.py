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

from generated import disk_use, evaluate_command, make_set, merge_command
from timing import Measured, measure

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
        make_set(root / "set", args.images, args.masks, args.distinct, height, args.side)
        print(f"{args.images:,} images of {args.side}x{height} pixels, {args.images * args.masks:,} masks")
        for part in ("labels", "masks"):
            show_disk(part, root / "set" / part)
        merge = merge_command(root / "set", root / "out", args.workers, args.method)
        show_time("merge", measure(*merge), args.images)
        show_time("merge, all up to date", measure(*merge), args.images)
        pred = root / "out" / args.method
        show_disk("enhanced labels", pred)
        evaluation = evaluate_command(root / "set", pred, root / "scores", args.workers)
        show_time("evaluation", measure(*evaluation), args.images)
        check_results(pred, args.images, args.distinct)
    return 0


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
