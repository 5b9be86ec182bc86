"""What the project claims of its speed and size, measured side by side with what people use today: one table.

    python benchmarks/run.py --voc VOC2012 --encoder-weights mobilenet_v2.pth     # real images and labels
    python benchmarks/run.py                                                      # generated ones
    python benchmarks/run.py --short                                              # under a minute: does it all run?

Both sides of a row run by turns, on the same inputs, in this run, with one thread unless --threads says otherwise, and must
agree on the result. A ratio above 1 says that ours is the better. "of the limit" is the share of our time that decoding the
inputs and encoding the outputs alone takes. Choose rows with --only, for instance --only merge evaluation.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np
from rows import HEAD, ROWS, Data

from util.data.ids import read_id_list
from util.data.labels import read_label
from util.data.synthetic import write_data_set
from util.runtime.cli import Parser, run, whole
from util.runtime.errors import InputError
from util.runtime.files import check_folder


def main() -> int:
    args = parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = given_data(args, root) if args.voc else generated_data(args, root)
        what = args.voc or "the generated data set"
        print(f"{len(data.ids)} images of {what}, {args.threads} thread(s)\n\n{HEAD}", flush=True)
        missed = 0
        for part in args.only or ROWS:
            for row in ROWS[part](args, data, root):
                print(row, flush=True)
                missed += row.met is False
    print(f"\n{missed} aim(s) missed")
    return 0


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--voc", type=Path, metavar="DIR", help="images, labels and lists in VOC's layout")
    parser.add_argument(
        "--labels", type=Path, metavar="DIR", help="pseudo labels (default: DIR/pseudo_labels/transcam, or the truth)"
    )
    parser.add_argument("--list", type=Path, metavar="FILE", help="(default: DIR/ImageSets/Segmentation/train.txt)")
    parser.add_argument("--encoder-weights", type=Path, metavar="FILE", help="of the trained network (default: random)")
    parser.add_argument("--count", type=whole(2), metavar="N", help="images (default: 60; 6 with --short)")
    parser.add_argument(
        "--rounds", type=whole(1), metavar="N", help="the best of so many counts (default: 3; 1 with --short)"
    )
    parser.add_argument("--threads", type=whole(1), default=1, metavar="N", help="of the networks")
    parser.add_argument("--short", action="store_true", help="small inputs: shows that it runs, not how fast")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    args = parser.parse_args()
    args.count = args.count or (6 if args.short else 60)
    args.rounds = args.rounds or (1 if args.short else 3)
    return args


def given_data(args, root: Path) -> Data:
    images = check_folder(args.voc / "JPEGImages", "images")
    gt = check_folder(args.voc / "SegmentationClassAug", "ground truth")
    labels = args.labels or args.voc / "pseudo_labels" / "transcam"
    labels = labels if labels.is_dir() or args.labels else gt
    ids = []
    for image_id in read_id_list(args.list or args.voc / "ImageSets" / "Segmentation" / "train.txt"):
        there = all((folder / f"{image_id}.png").is_file() for folder in (labels, gt))
        if there and len(np.unique(read_label(labels / f"{image_id}.png"))) > 1:
            ids.append(image_id)
        if len(ids) == args.count:
            break
    return finished_data(root, images, labels, gt, ids, args)


def generated_data(args, root: Path) -> Data:
    write_data_set(root / "data", {"train": args.count}, side=96 if args.short else 480)
    labels = root / "data" / "SegmentationClassAug"
    ids = sorted(path.stem for path in labels.iterdir())
    return finished_data(root, root / "data" / "JPEGImages", labels, labels, ids, args)


def finished_data(root: Path, images: Path, labels: Path, gt: Path, ids: list[str], args) -> Data:
    if len(ids) < 2:
        raise InputError(f"{labels}: fewer than two listed images have foreground; give another --list or --labels")
    (root / "ids.txt").write_text("\n".join(ids) + "\n")
    return Data(images, labels, gt, ids, root / "ids.txt", args.encoder_weights)


if __name__ == "__main__":
    run(main)
