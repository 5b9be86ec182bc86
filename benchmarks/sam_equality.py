"""Are our masks those of segment-anything's generator? On photographs, with a small network under a fixed seed.

    python benchmarks/sam_equality.py --images JPEGImages --list train.txt --count 20

One line for each crop layer and each of our two sets of kernels; exit code 1 if the number, order, boxes or
points differ, or more than one pixel in 100,000 (with the package's kernels: any pixel or score).
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    args = parser.parse_args()

    import torch
    from sam_reference import Agreement, changed, official, small_sam

    from models.sam_generator import MaskGenerator
    from util.ids import read_id_list
    from util.images import find_image, read_image

    torch.set_num_threads(1)
    sam = small_sam()
    images = [read_image(find_image(args.images, image_id)) for image_id in read_id_list(args.list)[: args.count]]
    failed = 0
    for layers in (0, 1):
        options = changed(crop_n_layers=layers, points_per_side=16 if layers == 0 else 8)
        expected = [official(sam, image, options) for image in images]
        for exact in (True, False):
            agreement = Agreement()
            for image, theirs in zip(images, expected, strict=True):
                agreement.add(next(MaskGenerator(sam, options, exact=exact).generate([image])), theirs)
            same = agreement.is_identical() if exact else agreement.is_same()
            failed += not same
            print(
                f"crop layers {layers}, {'package' if exact else 'our'} kernels: {'same' if same else 'DIFFERENT'}; "
                f"{agreement.found} masks, {agreement.expected} of the package, {agreement.in_place} at the same place "
                f"with the same box and point; {agreement.pixels_off} of {agreement.pixels} pixels off; largest "
                f"difference of a predicted IoU {agreement.iou_off:.2g} (relative above 1), of a stability score "
                f"{agreement.stability_most:.2g}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
