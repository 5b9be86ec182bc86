"""Bytes of our mask files against the folder of PNG files that segment-anything's amg.py writes for the same masks.

    python benchmarks/sam_disk.py --masks out/sam_masks --count 100

Told as bytes, and as blocks of 4 KiB, which is what files take on most disks.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# The head of the table that amg.py writes beside the PNG files.
COLUMNS = ("id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y", "predicted_iou",
           "stability_score", "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, required=True, help="folder of <id>.json")
    parser.add_argument("--count", type=int, help="the first so many only")
    args = parser.parse_args()

    from util.data.mask_files import read_masks

    files = sorted(file for file in args.masks.glob("*.json") if file.name != "run.json")[: args.count]
    one, many, pngs = [], [], 0
    for file in files:
        masks = read_masks(args.masks, file.stem)
        folder = folder_sizes(masks)
        one.append(file.stat().st_size)
        many += folder
        pngs += len(masks)
    ours, theirs = map(sum, (one, many))
    our_blocks, their_blocks = (sum(-(-size // 4096) * 4096 for size in sizes) for sizes in (one, many))
    count = max(1, len(files))
    print(f"{len(files)} pictures, {pngs} masks")
    print(f"bytes a picture:  JSON {ours / count:.0f}, PNG folder {theirs / count:.0f}, {theirs / ours:.1f}x")
    print(f"on disk:          JSON {our_blocks / count:.0f}, PNG folder {their_blocks / count:.0f}, "
          f"{their_blocks / our_blocks:.1f}x")  # fmt: skip


def folder_sizes(masks) -> list[int]:
    """Bytes of every file of amg.py's folder: a PNG a mask, and the table."""
    import cv2

    sizes, rows = [], [",".join(COLUMNS)]
    for k in range(len(masks)):
        sizes.append(len(cv2.imencode(".png", masks.dense(k).astype("uint8") * 255)[1]))
        more = masks.extra[k] if masks.extra else {}
        point, crop = more.get("point_coords", [[0.0, 0.0]])[0], more.get("crop_box", [0, 0, masks.width, masks.height])
        scores = masks.predicted_iou[k], masks.stability_score[k]
        rows.append(",".join(map(str, [k, masks.areas[k], *masks.boxes[k], *point, *scores, *crop])))
    return [*sizes, len("\n".join(rows)) + 1]


if __name__ == "__main__":
    main()
