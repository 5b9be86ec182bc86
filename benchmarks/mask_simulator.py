"""Masks as Meta's SAM makes them in its everything-mode, simulated from ground truth; to try strategies without a SAM.

    python generate_sam_masks.py --model regions --images JPEGImages --list train.txt --out runs/regions
    python benchmarks/mask_simulator.py --regions runs/regions --gt SegmentationClassAug --list train.txt --out runs/simulated

Ground truth stands for what SAM learned about objects, and serves these masks only: wholes and parts of objects, parts of
the background, objects that run over into a neighbour, and objects that are missing. VOC's class maps know no instances, so
connected parts stand for objects; their parts are regions of a graph segmentation. Borders are off by a few pixels. Of masks
with nearly the same box the one of the higher predicted IoU stays, as in segment-anything (Apache 2.0).

The settings of ``sam`` were chosen on one half of 437 images so that `max_iou_imp2` scores with these masks what it scored
with Meta's; docs/experiments.md compares them on the other half.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from util.data.ids import read_id_list
from util.data.labels import label_path, read_label
from util.data.mask_files import read_masks, write_masks
from util.data.masks import Masks
from util.data.voc import VOID
from util.runtime.cli import Parser, run

SMALLEST = 0.002  # mask, as a share of the image
LEAST_IOU, LEAST_STABILITY, SAME_BOX = 0.88, 0.95, 0.7  # segment-anything's defaults


@dataclass(frozen=True)
class Settings:
    """What masks there are. Shares are chances, drawn for each mask.

    Attributes:
        wholes: share of the objects that have a mask of their own.
        merged: share of the objects that have a mask together with a neighbour, object or background.
        parts, stuff: share of the regions inside objects and inside the background that have a mask.
        leaks: share of those that have one with their true neighbours across the border.
        border: deviation of the borders, pixels.
        background: whether each connected part of the background is a mask.
    """

    wholes: float = 1.0
    merged: float = 0.0
    parts: float = 0.0
    stuff: float = 0.0
    leaks: float = 0.0
    border: float = 0.0
    background: bool = False


PRESETS = {
    "sam": Settings(wholes=0.6, merged=0.03, parts=0.3, stuff=0.3, leaks=0.05, border=2.0),
    "objects": Settings(),
    "objects-background": Settings(background=True),
}
# Mean and deviation of the predicted IoU before SAM's threshold, for each kind of mask.
PREDICTED_IOU = {"whole": (0.97, 0.03), "part": (0.93, 0.04), "merged": (0.92, 0.04)}


def simulate(regions: Masks, truth: np.ndarray, settings: Settings, rng: np.random.Generator) -> Masks:
    """Masks of an image.

    Args:
        regions: of the image, see `models.sam.regions`.
        truth: uint8 HxW, the ground truth.
    """
    objects = [part for value in np.unique(truth) if 0 < value < VOID for part in components(truth == value)]
    ground = components(truth == 0)
    found = [("whole", whole) for whole in objects if rng.random() < settings.wholes]
    found += [("whole", part) for part in ground if settings.background]
    for share, holders in ((settings.parts, objects), (settings.stuff, ground)):
        for holder in holders if share else []:
            found += [("part", part) for part in pieces(regions, holder, share, settings.leaks, rng)]
    others = [*objects, *(part for kind, part in found if kind == "part")]
    for whole in objects:
        if rng.random() < settings.merged:
            near = cv2.dilate(whole.view(np.uint8), np.ones((9, 9), np.uint8)).view(bool) & ~whole
            beside = [other for other in others if (other & near).any() and not (other & whole).any()]
            found += [("merged", whole | beside[rng.integers(len(beside))])] if beside else []
    return scored(found, truth.shape, settings.border, rng)


def components(region: np.ndarray) -> list[np.ndarray]:
    """The connected parts (bool HxW) of a region that are large enough for a mask."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(region, np.uint8), connectivity=8)
    large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= SMALLEST * region.size)
    return [parts == part for part in large if part]


def pieces(
    regions: Masks, holder: np.ndarray, share: float, leaks: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Some of the regions inside a larger thing, cut at its border unless they leak."""
    inside = regions.overlaps(np.asfortranarray(holder, np.uint8), [1])[:, 0]
    fit = (inside >= SMALLEST * holder.size) & (inside < 0.9 * np.count_nonzero(holder))
    result = []
    for k in np.flatnonzero(fit & (rng.random(len(regions)) < share)):
        leaking = inside[k] > 0.5 * regions.areas[k] and rng.random() < leaks
        result.append(regions.dense(k) if leaking else regions.dense(k) & holder)
    return result


def scored(
    found: list[tuple[str, np.ndarray]], shape: tuple[int, int], border: float, rng: np.random.Generator
) -> Masks:
    """The masks with borders moved and scores, without those that segment-anything would drop."""
    kept = []
    for kind, mask in found:
        iou, stability = rng.normal(*PREDICTED_IOU[kind]), rng.uniform(LEAST_STABILITY, 1.0)
        if iou >= LEAST_IOU:
            moved = move_border(mask, border, rng) if border else mask
            kept.append(Masks.from_dense(moved[None], [min(iou, 1.0)], [stability]))
    masks = Masks.join(kept) if kept else Masks.from_dense(np.zeros((0, *shape), bool))
    masks = masks.select(np.argsort(-masks.predicted_iou, kind="stable"))
    masks = masks.select(masks.areas >= SMALLEST * shape[0] * shape[1])
    return masks.select(np.array(different_boxes(masks.boxes), int))


def move_border(mask: np.ndarray, border: float, rng: np.random.Generator) -> np.ndarray:
    """bool HxW: a mask whose border wanders smoothly by ``border`` pixels (deviation)."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    margin = int(4 * border) + 1
    box = slice(max(y - margin, 0), y + height + margin), slice(max(x - margin, 0), x + width + margin)
    inside = np.ascontiguousarray(mask[box], np.uint8)
    height, width = inside.shape
    coarse = rng.standard_normal((height // 24 + 2, width // 24 + 2)).astype(np.float32)
    wander = border * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    near, far = (cv2.distanceTransform(side, cv2.DIST_L2, 3) for side in (inside, 1 - inside))
    moved = np.zeros_like(mask)
    moved[box] = near - far + wander > 0
    return moved


def different_boxes(boxes: np.ndarray) -> list[int]:
    """Indices of masks, best first, whose box (x, y, width, height) differs from all better ones'."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    kept: list[int] = []
    for k in range(len(boxes)):
        sides = np.minimum(high[k], high[kept]) - np.maximum(low[k], low[kept])
        shared = np.clip(sides, 0, None).prod(axis=1)
        union = boxes[k, 2:].prod() + boxes[kept, 2:].prod(axis=1) - shared
        if not (shared > SAME_BOX * union).any():
            kept.append(k)
    return kept


def summary(images: list[Masks]) -> str:
    """Masks per image and the histogram of their predicted IoU, as text."""
    counts = [len(masks) for masks in images]
    bounds = np.arange(0.88, 1.001, 0.02)
    histogram = np.histogram(np.concatenate([masks.predicted_iou for masks in images]), bounds)[0] / sum(counts)
    low, middle, high = np.percentile(counts, [5, 50, 95])
    covered = np.mean([masks.union().mean() for masks in images])
    lines = [
        f"{len(images)} images, {np.mean(counts):.1f} masks per image (median {middle:.0f}, 5 to 95 %: {low:.0f} to {high:.0f})",
        f"share of the image under a mask: {covered:.2f}",
        "predicted IoU: " + ", ".join(f"from {low:.2f} {100 * part:.0f} %" for low, part in zip(bounds, histogram)),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_common("gt", "list", "out", "seed", required=("gt", "list", "out"))
    parser.add_argument("--regions", type=Path, required=True, metavar="DIR", help="regions of the images, see above")
    parser.add_argument("--preset", choices=list(PRESETS), default="sam", help="which masks (default: sam)")
    args = parser.parse_args()
    images = []
    for image_id in read_id_list(args.list):
        truth = read_label(label_path(args.gt, image_id))
        rng = np.random.default_rng([args.seed, *image_id.encode()])
        images.append(simulate(read_masks(args.regions, image_id), truth, PRESETS[args.preset], rng))
        write_masks(args.out / f"{image_id}.json", images[-1], image_id, f"{image_id}.jpg")
    print(summary(images))


if __name__ == "__main__":
    run(main)
