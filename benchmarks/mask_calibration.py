"""Does `max_iou_imp2` score on simulated masks what it scored on Meta's SAM's? Both as SAM_WSSS prints its score.

    python benchmarks/mask_calibration.py --published per_image.csv --labels pseudo_labels/transcam --masks runs/simulated \\
        --gt SegmentationClassAug --list train.txt

Prints both for either half of the images, by the SHA-256 of their ids: the settings of mask_simulator.py were chosen on the
even half. The file has the columns ``name``, ``pseudo_mIoU``, ``enhanced_mIoU``, ``enhanced_mprecision``, ``enhanced_mrecall``.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from regimes import half_of

from processor import score_settings
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.merge_inputs import Inputs
from util.evaluation.published import published_of_images
from util.runtime.cli import Parser, run

COLUMNS = ("enhanced_mIoU", "enhanced_mprecision", "enhanced_mrecall")


def line(name: str, scores: np.ndarray, before: np.ndarray) -> str:
    """Means and deviations of IoU, precision and recall (N x 3), and how the IoU changed from that of the labels."""
    change = scores[:, 0] - before
    means, deviations = (" ".join(f"{value:.3f}" for value in row) for row in (scores.mean(axis=0), scores.std(axis=0)))
    spread = " ".join(f"{value:+.3f}" for value in np.percentile(change, [5, 25, 50, 75, 95]))
    return f"{name:<12} {means}   {deviations}   {change.mean():+.3f} {change.std():.3f}   {spread}"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--published", type=Path, required=True, metavar="FILE", help="scores per image, CSV")
    parser.add_common("labels", "masks", "gt", "list", "workers", required=("labels", "masks", "gt", "list"))
    args = parser.parse_args()
    with open(args.published, newline="") as file:
        published = {entry["name"]: entry for entry in csv.DictReader(file)}
    ids = [image_id for image_id in read_id_list(args.list) if image_id in published]
    inputs = Inputs(args.labels, args.masks, classes_of((args.labels, args.gt), None, None, ids))
    (found,) = score_settings(inputs, [("max_iou_imp2", {})], ids, args.gt, workers=args.workers)
    ours = published_of_images(found)
    print(f"{'':<12} {'mean IoU, P, R':<19} {'deviations':<19} {'change of IoU':<14} 5, 25, 50, 75, 95 % of the images")
    for name in ("even", "odd"):
        part = [i for i in ours if half_of(i) == name]
        theirs = np.array([[float(published[i][column]) for column in COLUMNS] for i in part])
        before = np.array([float(published[i]["pseudo_mIoU"]) for i in part])
        mine = np.array([ours[i] for i in part])
        print(
            f"{name} half, {len(part)} images; correlation of the IoUs {np.corrcoef(mine[:, 0], theirs[:, 0])[0, 1]:.2f}"
        )
        print(line("Meta's SAM", theirs, before))
        print(line("simulated", mine, before))


if __name__ == "__main__":
    run(main)
