"""A data set of COCO's order of size through merge and evaluation: time, peak memory and disk.

    python benchmarks/scale.py                                          # 20,000 images, 2 million masks
    python benchmarks/scale.py --images 200 --distinct 20 --side 160    # a trial

The pictures' labels and masks are generated. A hundred distinct ones stand under all the ids, since what a stage
does with a file does not depend on there being another one like it; each file is read, checked and digested for itself.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from merge_speed import make_masks

from util.data.labels import encode_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.runtime.cli import Parser, run
from util.runtime.files import digest


@dataclass(frozen=True)
class Measured:
    """What a command took: seconds by the clock, bytes at the peak of its largest process."""

    seconds: float
    peak: int


# A process starts with its parent's peak: only a small one between us and the script tells the script's own.
_LAUNCHER = """
import os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=2)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - begun, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def measure(*command) -> Measured:
    """Run a script of the project with its options, and tell what it took; its output is thrown away.

    Raises:
        SystemExit: if it fails, with what it printed last.
    """
    script = [sys.executable, str(ROOT / command[0]), *map(str, command[1:])]
    done = subprocess.run([sys.executable, "-S", "-c", _LAUNCHER, *script], capture_output=True, text=True)
    seconds, peak, code = done.stdout.split()
    if int(code):
        raise SystemExit(f"{' '.join(script)}\nended with {code}:\n{done.stderr[-2000:]}")
    return Measured(float(seconds), int(peak) * 1024)


def make_set(
    root: Path, images: int, masks: int, distinct: int, height: int, width: int, classes: int = 21, seed: int = 0
) -> Path:
    """Write labels/, gt/, masks/ and list.txt; returns the folder.

    Labels hold two to five classes in blobs; the ground truth is the label moved by some pixels; half of the masks are
    pieces of the label.
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
        # The id stands at the head; masks hold no capital words.
        (root / "masks" / f"{image_id}.json").write_bytes(code.replace(b"ORIGINAL", image_id.encode(), 2))
    (root / "list.txt").write_text("\n".join(ids) + "\n")
    (root / "names.txt").write_text(
        "\n".join(["background", *(f"class {value}" for value in range(1, classes))]) + "\n"
    )
    return root


def merge_command(root: Path, out: Path, workers: int, method: str = "max_iou_imp2") -> tuple:
    """The merge stage over a set of `make_set`."""
    return (
        "main.py", "--mode", "merge", "--method", method, "--pseudo-path", root / "labels", "--sam-path", root / "masks",
        "--image-list", root / "list.txt", "--class-names", root / "names.txt", "--workers", workers, "--out", out,
    )  # fmt: skip


def evaluate_command(root: Path, pred: Path, out: Path, workers: int) -> tuple:
    """The evaluation of label maps of that set."""
    return (
        "evaluate_enhanced.py", "--pred", pred, "--gt", root / "gt", "--list", root / "list.txt", "--class-names",
        root / "names.txt", "--workers", workers, "--out", out,
    )  # fmt: skip


def disk_use(folder: Path) -> tuple[int, int, int]:
    """(files, bytes, bytes in blocks of 4 KiB) of a folder and those in it."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes), sum(-(-size // 4096) * 4096 for size in sizes)


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--images", type=int, default=20_000, metavar="N", help="(default: 20000)")
    parser.add_argument("--masks", type=int, default=100, metavar="N", help="an image (default: 100)")
    parser.add_argument("--distinct", type=int, default=100, metavar="N", help="different images (default: 100)")
    parser.add_argument("--side", type=int, default=640, metavar="PX", help="width; 3/4 of it high (default: 640)")
    parser.add_argument("--method", default="max_iou_imp2", metavar="NAME", help="strategy (default: max_iou_imp2)")
    parser.add_common("workers")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the set is written, and removed again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="scale") as name:
        root = Path(name)
        begun = time.perf_counter()
        height = args.side * 3 // 4
        make_set(root / "set", args.images, args.masks, args.distinct, height, args.side)
        print(f"{args.images:,} images of {args.side}x{height} pixels, {args.images * args.masks:,} masks; "
              f"{args.distinct} distinct; written in {time.perf_counter() - begun:.0f} s; {args.workers} workers")  # fmt: skip
        for part in ("labels", "masks"):
            print(f"  {part:<24}{size_text(*disk_use(root / 'set' / part))}")
        merge = merge_command(root / "set", root / "out", args.workers, args.method)
        tell("merge", measure(*merge), args.images)
        tell("merge again, all current", measure(*merge), args.images)
        print(f"  {'enhanced labels':<24}{size_text(*disk_use(root / 'out'))}")
        pred = root / "out" / args.method
        tell("evaluation", measure(*evaluate_command(root / "set", pred, root / "scores", args.workers)), args.images)
        check_results(root, args.images, args.distinct, args.method)
    return 0


def tell(what: str, took: Measured, images: int) -> None:
    print(f"  {what:<24}{took.seconds:8.1f} s {1000 * took.seconds / images:8.2f} ms an image"
          f"{took.peak / 2**20:8.0f} MiB at the peak", flush=True)  # fmt: skip


def size_text(files: int, size: int, blocks: int) -> str:
    return f"{files:8,} files {size / 2**20:10,.0f} MiB {blocks / 2**20:8,.0f} MiB in blocks of 4 KiB"


def check_results(root: Path, images: int, distinct: int, method: str) -> None:
    """Images that are alike have the same enhanced label, and all of them are there.

    Raises:
        SystemExit: if not.
    """
    found: dict[int, set[str]] = {}
    for number in range(images):
        data = (root / "out" / method / f"{number:012}.png").read_bytes()
        found.setdefault(number % distinct, set()).add(digest(data))
    if any(len(digests) != 1 for digests in found.values()):
        raise SystemExit("images that are alike got different labels")
    print(f"  all {images:,} enhanced labels are there; those of images that are alike are alike")


if __name__ == "__main__":
    run(main)
