"""Bring a data set of your own into the layout that every script here takes (PASCAL VOC's).

    python prepare_folder.py --source photos --out data/pets                     a folder per class: photos/cat/1.jpg, ...
    python prepare_folder.py --source tags.csv --images photos --out data/pets
    python prepare_folder.py --source export.json --images photos --out data/pets

Reads, by its own choice or by --format: a folder per class (ImageFolder), a table in CSV, JSON or text (a column of classes,
one line per label, or a column per class), COCO JSON, VOC XML and label maps, YOLO, Label Studio, CVAT, labelme, VGG Image
Annotator, Roboflow, and Hugging Face's imagefolder with metadata.csv or metadata.jsonl; each of them also within a ZIP file.
With --format names, the names of the images are their classes: cat_1.jpg, dog_2.jpg.

Writes OUT/JPEGImages, OUT/SegmentationClassAug (where the source has polygons or masks), OUT/ImageSets/Segmentation/train.txt
and val.txt, OUT/cls_labels.npy, OUT/class_names.txt, OUT/report.json and OUT/contact_sheet.png. Images are hard links to the
source's files where the disk allows it, else copies. An image that cannot be used is named, and the others go on (exit code 1).
"""

from argparse import Namespace
from pathlib import Path

from util.runtime.cli import Parser, real, run, whole


def parse_args() -> Namespace:
    from util.data.sources import FORMATS

    parser = Parser(__doc__)
    given = parser.group("input")
    help_text = "folder of the data set, or its annotation file"
    given.add_argument("--source", type=Path, required=True, metavar="DIR|FILE", help=help_text)
    given.add_argument("--format", choices=FORMATS, metavar="NAME", help=f"one of {', '.join(FORMATS)}")
    images = {"help": "folder of images, if they are not beside or below the annotations"}
    names = {
        "help": "one class per line, background first: chooses the classes and their order (default: the source's); names "
        "the class numbers of a table or of label maps, without the background where these count from 0"
    }
    parser.add_common("images", "class-names", "out", "seed", required=("out",), images=images, class_names=names)
    output = parser.group("output")
    held_out = "share of the images for val.txt, 0 to 0.9, if the source has no such part (default: %(default)s)"
    output.add_argument("--val-share", type=real(0, 0.9), default=0.2, metavar="SHARE", help=held_out)
    output.add_argument("--copy", action="store_true", help="copy the images, even where they can be linked")
    smaller = "reduce images, and their label maps, to a long side of at most this, 32 or more (default: leave them as they are)"
    output.add_argument("--max-side", type=whole(32), metavar="PX", help=smaller)
    sheet = "number of images on the contact sheet, at least 1 (default: %(default)s)"
    output.add_argument("--sheet", type=whole(1), default=48, metavar="N", help=sheet)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from util.data.prepare import run_command

    return run_command(args)


if __name__ == "__main__":
    run(main)
