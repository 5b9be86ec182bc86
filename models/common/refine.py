"""Pixel-adaptive refinement of soft maps by the image's colours, in torch.

Source: Ru et al., "Learning Affinity from Attention" (AFA), arXiv 2203.02664, section 3.4. A map is smoothed
again and again with weights that follow colour differences, so that it settles within image edges. It is
linear in the maps: a constant map stays as it is, and every class can be refined by itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DILATIONS = (1, 2, 4, 8, 12, 24)
ITERATIONS = 10
COLOR_WIDTH = 0.3
POSITION_WIDTH = 0.3
POSITION_WEIGHT = 0.01
LONGEST = 250  # pixels of the long side that `refine_maps` works at: half of VOC's


def pixel_adaptive_refinement(images: Tensor, maps: Tensor) -> Tensor:
    """Refine maps by the image beneath them.

    Args:
        images: float Bx3xHxW, colours in any linear scale: differences are measured in the local deviation.
        maps: float BxKxHxW, for instance class activation maps or probabilities.

    Returns:
        BxKxHxW like ``maps``: at every pixel a weighted mean of the input, so within its range.
    """
    if images.shape[0] != maps.shape[0] or images.shape[2:] != maps.shape[2:]:
        raise ValueError(f"images {tuple(images.shape)} and maps {tuple(maps.shape)} differ in batch or size")
    offsets = [(step * y, step * x) for step in DILATIONS for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    weights = _neighbour_weights(images, offsets)
    margin = max(DILATIONS)
    for _ in range(ITERATIONS):
        padded = _pad(maps, margin)
        smoothed = torch.zeros_like(maps)
        for index, offset in enumerate(offsets):
            smoothed.addcmul_(_shifted(padded, offset, margin, maps), weights[:, index, None])
        maps = smoothed
    return maps


def refine_maps(image: Tensor, maps: Tensor) -> Tensor:
    """`pixel_adaptive_refinement` of one image, at half its size: twice the reach, at a quarter of the time.

    Larger images are refined at the size that VOC's are: the reach is in pixels, so a photo of 12 megapixels would hardly be
    smoothed, and would take 4.6 GB.

    Smoothing lowers peaks, the more the smaller an object is; the caller stretches the maps again where one threshold
    is to fit them all.

    Args:
        image: uint8 HxWx3.
        maps: float KxHxW.

    Returns:
        KxHxW like ``maps``.
    """
    shape = maps.shape[1:]
    factor = min(0.5, LONGEST / max(shape))
    small = [max(1, round(side * factor)) for side in shape]
    small_image = F.interpolate(image.permute(2, 0, 1)[None].float(), size=small, mode="area")
    small_maps = F.interpolate(maps[None], size=small, mode="area")
    refined = pixel_adaptive_refinement(small_image, small_maps)
    return F.interpolate(refined, size=shape, mode="bilinear", align_corners=False)[0]


def _neighbour_weights(images: Tensor, offsets: list[tuple[int, int]]) -> Tensor:
    """BxNxHxW, summing to 1 over the N neighbours of a pixel."""
    margin = max(max(abs(y), abs(x)) for y, x in offsets)
    padded = _pad(images, margin)
    total, squares = torch.zeros_like(images), torch.zeros_like(images)
    for offset in offsets:  # two passes instead of holding all neighbours: Nx3xHxW would be 100 MB per image
        neighbour = _shifted(padded, offset, margin, images)
        total += neighbour
        squares.addcmul_(neighbour, neighbour)
    count = len(offsets)
    variance = (squares - total * total / count).clamp_(min=0) / (count - 1)
    scale = 1 / (COLOR_WIDTH**2 * (variance + 1e-8 * (1 + squares / count)))
    color = torch.stack(
        [-((_shifted(padded, offset, margin, images) - images) ** 2 * scale).mean(dim=1) for offset in offsets],
        dim=1,
    )
    distance = torch.tensor([(y * y + x * x) ** 0.5 for y, x in offsets], device=images.device, dtype=images.dtype)
    position = torch.softmax(-((distance / (POSITION_WIDTH * distance.std())) ** 2), dim=0)
    weights = torch.softmax(color, dim=1) + POSITION_WEIGHT * position[:, None, None]
    return weights / (1 + POSITION_WEIGHT)


def _pad(x: Tensor, margin: int) -> Tensor:
    return F.pad(x, (margin,) * 4, mode="replicate")


def _shifted(padded: Tensor, offset: tuple[int, int], margin: int, like: Tensor) -> Tensor:
    height, width = like.shape[2:]
    top, left = margin + offset[0], margin + offset[1]
    return padded[:, :, top : top + height, left : left + width]
