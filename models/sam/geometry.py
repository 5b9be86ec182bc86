"""Points, crops, boxes and small regions: the arithmetic around SAM's mask generator.

Source: Kirillov et al., "Segment Anything", arXiv 2304.02643, appendix B, and its package ``segment-anything``.
"""

from __future__ import annotations

import numpy as np
import torch
from segment_anything.utils.amg import remove_small_regions
from torch import Tensor
from torchvision.ops import batched_nms

from util.data.masks import Masks

# How near (pixels) to the edge of a crop a box counts as cut off by it.
EDGE_DISTANCE = 20


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
        filled, had_holes = remove_small_regions(masks.dense(k), min_area, "holes")
        after, had_islands = remove_small_regions(filled, min_area, "islands")
        untouched.append(not (had_holes or had_islands))
        cleaned.append(Masks.from_dense(after[None]))
    new_boxes = torch.from_numpy(np.concatenate([mask.boxes for mask in cleaned]))
    new_boxes[:, 2:] += new_boxes[:, :2] - (new_boxes[:, 2:] > 0).long()
    kept = suppress(new_boxes, torch.tensor(untouched, dtype=torch.float64).float(), threshold)
    stays = [cleaned[k] for k in kept.tolist()]
    joined = Masks.join(stays)
    boxes = torch.where(torch.tensor(untouched)[:, None], boxes, new_boxes)
    return joined, boxes[kept], kept
