"""From the archives of COCO 2014 to the folder that the other scripts read.

    python prepare_coco.py --download --archives downloads --out COCO2014

fetches train2014.zip (13.5 GB), val2014.zip (6.6 GB) and annotations_trainval2014.zip (0.3 GB) where they are not there yet,
and writes

    OUT/JPEGImages    82,783 training and 40,504 validation images, as they are
    OUT/SegmentationClassAug    label maps of 81 classes; smaller instances are on top, crowd regions are void
    OUT/ImageSets/Segmentation    train, val, and trainaug: the training images that show a class
    OUT/cls_labels.npy, OUT/class_names.txt    image-level labels, and the names of the classes
    OUT/check.json    what was checked: counts, sizes, label values

Archives that are there already, or the folders that they unpack to, are used without --download as well. Needs
pycocotools. Re-run the command to resume; up-to-date results are reused.
"""

from argparse import Namespace

from util.runtime.cli import Parser, run


def main() -> int:
    args = parse_args()
    from util.data import coco_layout

    return coco_layout.run(args)


def parse_args() -> Namespace:
    parser = Parser(__doc__)
    size = {"help": "download the archives that are missing, 20.4 GB"}
    parser.add_common("archives", "download", "mirror", "partial", download=size)
    parser.add_common("out", "workers", "overwrite", required=("out",))
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
