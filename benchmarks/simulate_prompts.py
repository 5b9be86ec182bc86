"""Masks of a grid as if they had been prompted by CAMs, to try strategies without running a SAM.

    python benchmarks/simulate_prompts.py --masks sam_masks --cams runs/cams/cams --list train.txt \\
        --image-labels cls_labels.npy --out runs/prompted

For every peak of a class's soft CAM, the mask that holds it with the highest predicted IoU becomes a mask of that class. The
other masks stay without one, so that `main.py --mode compare` shows all strategies on the same files.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.sam.options import CamPromptOptions
from models.sam.prompts import class_peaks
from util.data.cams import read_cam
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.mask_files import read_masks, write_masks
from util.data.masks import Masks
from util.data.voc import load_classes
from util.runtime.cli import Parser, run


def prompted(masks: Masks, cam: dict[int, np.ndarray], names: tuple[str, ...]) -> Masks:
    """The same masks; those that a peak asks for have the class of the first peak that did."""
    asked: dict[int, int] = {}
    for value, values in cam.items():
        for x, y in class_peaks(values, CamPromptOptions()):
            holding = [k for k in range(len(masks)) if masks.dense(k)[y, x]]
            if holding:
                asked.setdefault(max(holding, key=lambda k: masks.predicted_iou[k]), value)
    named = {
        k: {"category": names[value], "score": float(masks.predicted_iou[k]), "prompt": "cam"}
        for k, value in asked.items()
    }
    return replace(masks, extra=tuple(named.get(k, {}) for k in range(len(masks))))


def main() -> None:
    parser = Parser(__doc__)
    parser.add_common(
        "masks", "cams", "list", "image-labels", "out", required=("masks", "cams", "list", "image-labels", "out")
    )
    args = parser.parse_args()
    classes = load_classes()
    ids = read_id_list(args.list)
    tags = read_image_labels(args.image_labels, classes, ids)
    for image_id in ids:
        cam = {value: values for value, values in read_cam(args.cams, image_id).items() if value in tags[image_id]}
        masks = prompted(read_masks(args.masks, image_id), cam, classes.names)
        write_masks(args.out / f"{image_id}.json", masks, image_id, f"{image_id}.jpg")


if __name__ == "__main__":
    run(main)
