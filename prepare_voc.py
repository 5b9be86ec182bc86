"""From the archives of PASCAL VOC 2012 and SBD to the folder that the other scripts read.

    python prepare_voc.py --download --archives downloads --out VOC2012

fetches VOCtrainval_11-May-2012.tar (2.0 GB) and benchmark.tgz (1.4 GB) where they are not there yet, and writes

    OUT/JPEGImages, OUT/Annotations, OUT/SegmentationClass    VOC's, as they are
    OUT/SegmentationClassAug    VOC's label maps, and SBD's for the other images (from its .mat files)
    OUT/ImageSets/Segmentation    VOC's train, val and trainval, and trainaug: train and all of SBD without val (10,582)
    OUT/cls_labels.npy    image-level labels of trainaug and val, from the annotations
    OUT/check.json    what was checked: counts, sizes, label values

Archives that are there already, or the folders that they unpack to, are used without --download as well. Re-run the
command to resume; up-to-date results are reused.
"""

from argparse import Namespace

from util.runtime.cli import INPUT, Parser, run


def main() -> int:
    args = parse_args()
    from util.data import voc_layout

    return voc_layout.run(args)


def parse_args() -> Namespace:
    parser = Parser(__doc__)
    size = {"help": "download the archives that are missing, 3.4 GB"}
    parser.add_common("archives", "download", "mirror", "partial", download=size)
    parser.group(INPUT).add_argument("--no-sbd", action="store_true", help="VOC alone: no list trainaug")
    parser.add_common("out", "workers", "overwrite", required=("out",))
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
