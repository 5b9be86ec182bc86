"""Points, crops, boxes and small regions: the arithmetic around SAM's mask generator.

Source: Kirillov et al., "Segment Anything", arXiv 2304.02643, appendix B, and its package ``segment-anything``.
"""

from __future__ import annotations

import math
from itertools import product

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from util.data.masks import Masks

# How near (pixels) to the edge of a crop a box counts as cut off by it.
EDGE_DISTANCE = 20


def point_grid(side: int) -> np.ndarray:
    """float64 (side**2)x2: centres (x, y) of a regular grid on the unit square, row by row."""
    line = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def crop_boxes(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[tuple[int, int, int, int], int]]:
    """The whole image and its crops: ((x0, y0, x1, y1), layer), overlapping, column by column."""
    height, width = size
    boxes = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / count))
        crop_width, crop_height = (math.ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        for column, row in product(range(count), repeat=2):
            x0, y0 = (crop_width - overlap) * column, (crop_height - overlap) * row
            boxes.append(((x0, y0, min(x0 + crop_width, width), min(y0 + crop_height, height)), layer))
    return boxes


def cut_out(image: np.ndarray, crop: tuple[int, int, int, int]) -> np.ndarray:
    x0, y0, x1, y1 = crop
    return np.ascontiguousarray(image[y0:y1, x0:x1])


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes int64 Kx4 (x0, y0, x1, y1, the last pixel included) of bool KxHxW; zeros for an empty mask."""
    edges = []
    values = masks.view(torch.uint8)  # whose maximum takes a tenth of the time of bool's any
    for filled in (values.amax(1), values.amax(2)):  # columns, rows
        first = filled.argmax(1)
        last = filled.shape[1] - 1 - filled.flip(1).argmax(1)
        edges.append((first, torch.where(filled.amax(1) > 0, last, 0)))
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0, y0, x1, y1], dim=1)


def cut_off(boxes: Tensor, crop: Tensor, image: Tensor) -> Tensor:
    """bool K: which boxes (x0, y0, x1, y1) lie near an edge of their crop that is not an edge of the image.

    Args:
        boxes: int64 Kx4.
        crop, image: int64 4, the boxes of both.
    """
    at_crop, at_image = ((boxes - edges).abs() <= EDGE_DISTANCE for edges in (crop, image))
    return (at_crop & ~at_image).any(1)


def suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices that non-maximum suppression keeps, best score first."""
    # Through batched_nms, since among many boxes it orders equal scores in its own way, and the package calls it.
    category = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return batched_nms(boxes.to(scores.dtype), scores, category, threshold)


def clean_masks(masks: Masks, boxes: Tensor, min_area: int, threshold: float) -> tuple[Masks, Tensor, Tensor]:
    """Remove small holes and islands, and the duplicates that this makes.

    Returns:
        masks, boxes and the indices of the masks that stay; untouched masks first.
    """
    cleaned, untouched = [], []
    for k in range(len(masks)):
        before = masks.dense(k)
        after = remove_small_regions(remove_small_regions(before, min_area, holes=True), min_area, holes=False)
        untouched.append(after is before)
        cleaned.append(Masks.from_dense(after[None]))
    new_boxes = torch.from_numpy(np.concatenate([mask.boxes for mask in cleaned]))
    new_boxes[:, 2:] += new_boxes[:, :2] - (new_boxes[:, 2:] > 0).long()
    kept = suppress(new_boxes, torch.tensor(untouched, dtype=torch.float64).float(), threshold)
    stays = [cleaned[k] for k in kept.tolist()]
    joined = Masks.join(stays)
    boxes = torch.where(torch.tensor(untouched)[:, None], boxes, new_boxes)
    return joined, boxes[kept], kept


def remove_small_regions(mask: np.ndarray, min_area: int, *, holes: bool) -> np.ndarray:
    """Fill holes, or drop islands, of fewer than ``min_area`` pixels (8-connected); bool HxW.

    The largest island stays even if it is small. The same object is returned when there is nothing to do.
    """
    source = np.ascontiguousarray(mask ^ holes, np.uint8)
    count, regions, stats, _ = cv2.connectedComponentsWithStats(source, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    small = areas < min_area
    if not small.any():
        return mask
    chosen = np.append(holes, small if holes else ~small)
    if not holes and small.all():
        chosen[1 + int(areas.argmax())] = True
    return chosen[regions]
