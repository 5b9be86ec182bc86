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
    from test_sam_generator import changed, official, small_sam

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
            results = [next(MaskGenerator(sam, options, exact=exact).generate([image])) for image in images]
            same = off = pixels = total = 0
            score = 0.0
            for theirs, ours in zip(expected, results, strict=True):
                fields = [(a["bbox"], a["point_coords"], a["crop_box"]) for a in theirs]
                same += fields == [(e["bbox"], e["point_coords"], e["crop_box"]) for e in ours.extra]
                total += len(theirs)
                for k, (annotation, own) in enumerate(zip(theirs, ours.predicted_iou)):
                    off += int((annotation["segmentation"] != ours.dense(k)).sum())
                    pixels += ours.height * ours.width
                    gap = abs(annotation["stability_score"] - ours.stability_score[k])
                    score = max(score, abs(annotation["predicted_iou"] - own), gap)
            failed += same < len(images) or off > (0 if exact else 1e-5 * pixels) or (exact and score > 0)
            print(
                f"crop layers {layers}, {'package' if exact else 'our'} kernels: {total} masks, same number, order, "
                f"boxes and points on {same} of {len(images)} pictures; {off} of {pixels} pixels off; "
                f"largest difference of a score {score:.2g}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
