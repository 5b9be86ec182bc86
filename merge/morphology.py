"""Shapes: cutting at necks, filling holes, the frame of the image."""

from __future__ import annotations

import cv2
import numpy as np

from util.data.masks import Masks
from util.data.voc import VOID


def frame_share(masks: Masks) -> np.ndarray:
    """float64 K: the share of the image's outermost pixels that each mask holds."""
    frame = np.ones(masks.shape, np.uint8, order="F")
    frame[1:-1, 1:-1] = 0
    return masks.overlaps(frame, [1])[:, 0] / np.count_nonzero(frame)


def cut_at_necks(marker: np.ndarray, region: np.ndarray, radius: float) -> np.ndarray:
    """bool HxW: the part of a region that is connected with a marker once what is connected by a neck is cut off.

    The region is eroded by a disc. What then lies apart from the marker and did not vanish is grown back by the disc and
    taken away; thin limbs and corners of the marker's own part stay.

    Args:
        marker, region: bool HxW, the marker inside the region.
        radius: of the disc, pixels; necks up to about twice as wide are cut.
    """
    if radius >= 1:
        thick = _distance(region) > radius
        apart = thick & ~connected(marker, thick | marker)
        if apart.any():
            region = marker | region & (_distance(~apart) > radius)
    return connected(marker, region)


def connected(marker: np.ndarray, region: np.ndarray, neighbours: int = 4) -> np.ndarray:
    """bool HxW: the connected parts (4 or 8 neighbours) of a region that hold a pixel of the marker."""
    _, parts = cv2.connectedComponents(np.ascontiguousarray(region, np.uint8), connectivity=neighbours)
    kept = np.zeros(int(parts.max()) + 1, bool)
    kept[parts[marker]] = True
    kept[0] = False
    return kept[parts]


def _distance(region: np.ndarray) -> np.ndarray:
    """float32 HxW: the distance of a pixel of the region to the nearest pixel outside; the edge of the array does not count."""
    return cv2.distanceTransform(np.ascontiguousarray(region, np.uint8), cv2.DIST_L2, 3)


def fill_holes(label: np.ndarray, size: float) -> np.ndarray:
    """Close small background holes of a label with the class that borders most on them.

    Args:
        label: uint8 HxW; changed in place.
        size: holes below this share of the foreground's pixels are closed. A patch at the edge of the image is a hole
            as well when it is as small.

    Returns:
        the label.
    """
    foreground = (label > 0) & (label < VOID)
    largest = size * np.count_nonzero(foreground)
    if largest < 1:
        return label
    _, parts, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(label == 0, np.uint8), connectivity=4)
    for part in np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < largest):
        if part == 0:  # everything but the background
            continue
        left, top, width, height = stats[part, :4]
        box = slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)
        hole = parts[box] == part
        rim = (cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~hole
        votes = np.bincount(label[box][rim], minlength=256)
        votes[0] = votes[VOID] = 0
        if votes.any():
            label[box][hole] = votes.argmax()
    return label
