"""Are our masks those of segment-anything's generator? On photographs, with random weights under a fixed seed.

    python benchmarks/sam_equality.py --images JPEGImages --list train.txt --count 20 --vit-b

A small network on all pictures, with crop layers 0 and 1; with --vit-b also the full-size vit_b on the first. One line
for each of our two sets of kernels: the package's must give the same bits, ours the same masks but for rounding (at
most one pixel in 100,000 off). Exit code 1 if either does not.
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
    parser.add_argument("--vit-b", action="store_true")
    args = parser.parse_args()

    import torch
    from sam_reference import changed, passing_options, small_sam
    from segment_anything import sam_model_registry

    from util.data.ids import read_id_list
    from util.data.images import find_image, read_image

    torch.set_num_threads(1)
    images = [read_image(find_image(args.images, image_id)) for image_id in read_id_list(args.list)[: args.count]]
    sam = small_sam()
    failed = 0
    for layers in (0, 1):
        side = 16 if layers == 0 else 8
        options = changed(crop_n_layers=layers, points_per_side=side, box_nms_thresh=0.999, crop_nms_thresh=0.999)
        failed += differ(f"small network, {len(images)} pictures, crop layers {layers}", sam, images, options)
    if args.vit_b:
        torch.manual_seed(0)
        sam = sam_model_registry["vit_b"]().eval()
        options = passing_options(sam, images[0], 0.6, points_per_side=8)
        failed += differ("vit_b, 1 picture", sam, images[:1], options)
    return 1 if failed else 0


def differ(title: str, sam, images: list, options) -> int:
    """Print how both sets of kernels compare with the package; how many of them differ more than they may."""
    from sam_reference import Agreement, official

    from models.sam.generator import MaskGenerator

    failed = 0
    expected = [official(sam, image, options) for image in images]
    for exact in (True, False):
        agreement = Agreement()
        for image, theirs in zip(images, expected, strict=True):
            agreement.add(next(MaskGenerator(sam, options, exact=exact).generate([image])), theirs)
        same = agreement.is_identical() if exact else agreement.is_same()
        failed += not same
        print(
            f"{title}, {'package' if exact else 'our'} kernels: {'same' if same else 'DIFFERENT'}; {agreement}",
            flush=True,
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
