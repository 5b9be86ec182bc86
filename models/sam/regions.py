"""Class-agnostic regions without weights: a hierarchy of graph segmentations. Not SAM, and far from its quality.

Source: Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, at several scales as in
Uijlings et al., "Selective Search", IJCV 2013; the segmentation is scikit-image's.
"""

from __future__ import annotations

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb

from util.data.masks import Masks

SCALES = (800, 400, 200, 100)  # of the graph segmentation; higher gives larger regions
SIGMA = 0.8  # of the Gaussian smoothing before it, pixels
SMALLEST = 0.002  # region, as a part of the image
DUPLICATE_IOU = 0.9  # of two regions with a higher IoU, the one of the coarser scale stays
LONG_SIDE = 640


def region_masks(image: np.ndarray) -> Masks:
    """Regions of an image at several scales, large ones first, near duplicates once.

    Args:
        image: uint8 HxWx3 RGB. More than `LONG_SIDE` pixels a side are segmented at that size.

    Returns:
        masks without a predicted IoU, since nothing predicts one. Their ``stability_score`` is measured: the highest
        IoU with a region of a neighbouring scale, hence how little the region depends on the scale.
    """
    height, width = image.shape[:2]
    factor = min(1.0, LONG_SIDE / max(height, width))
    small = image
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    smallest = max(1, round(SMALLEST * small.shape[0] * small.shape[1]))
    levels = [_segment(small, scale, smallest) for scale in SCALES]

    chosen: list[tuple[int, int, float]] = []  # level, region, stability
    ious = [_level_iou(upper, lower) for upper, lower in zip(levels, levels[1:])]
    for number, level in enumerate(levels):
        count = int(level.max()) + 1
        with_coarser = ious[number - 1].max(0) if number else np.zeros(count)
        with_finer = ious[number].max(1) if number < len(ious) else np.zeros(count)
        stability = np.maximum(with_coarser, with_finer)
        fresh = np.ones(count, bool)
        for other in range(number):
            fresh &= _level_iou(levels[other], level).max(0) <= DUPLICATE_IOU
        chosen += [(number, int(region), float(stability[region])) for region in np.flatnonzero(fresh)]

    if factor < 1:
        levels = [cv2.resize(level, (width, height), interpolation=cv2.INTER_NEAREST) for level in levels]
    runs = [_runs(level) for level in levels]
    parts = [(runs[number], *np.searchsorted(runs[number][0], [region, region + 1])) for number, region, _ in chosen]
    masks = Masks(
        height,
        width,
        np.concatenate([starts[first:last] for (_, starts, _), first, last in parts]),
        np.concatenate([ends[first:last] for (_, _, ends), first, last in parts]),
        np.cumsum([0, *(last - first for _, first, last in parts)]),
        np.full(len(parts), np.nan),
        np.array([stability for *_, stability in chosen]),
    )
    masks = masks.select(np.flatnonzero(masks.areas > 0))  # a sliver can vanish on the way to full size
    return masks.select(np.argsort(-masks.areas, kind="stable"))


def _segment(image: np.ndarray, scale: float, smallest: int) -> np.ndarray:
    """int32 HxW, regions counted from 0."""
    if min(image.shape[:2]) < 2:  # the library needs neighbours both ways
        return np.zeros(image.shape[:2], np.int32)
    return felzenszwalb(image, scale=scale, sigma=SIGMA, min_size=smallest, channel_axis=2).astype(np.int32)


def _runs(level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The stretches of equal regions, column by column: region, start and end (int64), sorted by region and start."""
    flat = level.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    order = np.argsort(flat[starts], kind="stable")
    return flat[starts][order].astype(np.int64), starts[order].astype(np.int64), ends[order].astype(np.int64)


def _level_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 AxB: IoU of every region of one level with every region of another."""
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    shared = np.bincount(first.ravel() * columns + second.ravel(), minlength=rows * columns).reshape(rows, columns)
    return shared / (shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared)
