"""cam_level: masks even the soft CAM out, and each class takes what reaches the level of its own object.

A CAM is uneven inside an object and runs over its border. Its mean inside a mask is neither, and where masks overlap the
means are averaged: the map becomes a relief of plateaus with the masks' borders. One threshold for all images then cuts off
the body of an object whose head alone is bright, and keeps the ground of one that glows all over. So each map gets its
own: Otsu's threshold parts object from background roughly, the median above it is the object's level, and what comes close
to that level, and is connected with the label, is the object. In the end a class takes the whole of each mask of which it
holds more than half, as in `max_iou_imp`, and loses what lies only in masks that are mostly something else.

Where a class has no soft CAM, the label itself takes its place, 1 inside the class and 0 outside.

Source of the threshold: Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. SMC 1979.
"""

import cv2
import numpy as np

from merge.merge_base import foreground_classes
from merge.morphology import connected
from util.data.masks import Masks
from util.data.voc import VOID


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    share: float = 0.96,
    largest: float = 0.4,
    growth: float = 7.0,
    threshold: float = 0.5,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        share: of the object's level that a place must reach to belong to it.
        largest: masks of more than this share of the image are background, and left out.
        growth: a class that would become more than this many times as large is not believed, and stays as it is.
        threshold: a mask is claimed in the end when a class holds more than this share of it.
    """
    used = masks.select(np.flatnonzero((masks.areas > 0) & (masks.areas <= largest * label.size)))
    if not len(used):
        return label.copy(order="F")
    classes = np.array([value for value in foreground_classes(label) if tags is None or value in tags], int)
    if not len(classes):
        return np.where(label == VOID, label, 0)
    maps = cam or {}
    relief = np.stack([_plateaus(used, maps.get(value, label == value)) for value in classes])
    for part, value in zip(relief, classes, strict=True):
        part /= max(share * _level(part), 1e-6)
        own = label == value
        found = connected(own, part > 1, neighbours=8)
        if np.count_nonzero(found) > growth * np.count_nonzero(own):
            part[:] = np.where(own, 1 + 1e-6, 0)
        else:
            part[~found] = 0
    highest = relief.max(axis=0)
    # Where two classes are equally high, neither is known to be right, and the label stays.
    clear = (highest > 1) & ((relief == highest).sum(axis=0) == 1)
    kept = np.where((highest > 1) | (label == VOID), label, 0)
    found = np.asfortranarray(np.where(clear, classes[relief.argmax(axis=0)], kept).astype(np.uint8))
    return _claim(found, label == VOID, masks, threshold)


def _claim(found: np.ndarray, void: np.ndarray, masks: Masks, threshold: float) -> np.ndarray:
    """Whole masks for the classes that hold them; where masks of two classes overlap, what was found stays."""
    classes = foreground_classes(found)
    share = masks.overlaps(found, classes) / np.maximum(masks.areas, 1)[:, None]
    best = share.max(axis=1, initial=0)
    owned = (share > threshold) & (share == best[:, None])
    owned &= owned.sum(axis=1, keepdims=True) == 1
    free, *claimed = masks.unions(owned @ np.arange(1, len(classes) + 1), len(classes) + 1)
    result = np.where(free, np.where(void, VOID, 0), found)
    claims = sum((union.astype(np.uint8) for union in claimed), np.zeros(found.shape, np.uint8))
    for value, union in zip(classes, claimed, strict=True):
        result[union & (claims == 1)] = value
    return np.asfortranarray(np.where(claims > 1, found, result).astype(np.uint8))


def _plateaus(masks: Masks, values: np.ndarray) -> np.ndarray:
    """float64 HxW: at each pixel the mean over its masks of the map's mean inside them; the map where no mask is."""
    member = masks.atoms.membership
    count = member.sum(axis=1)
    # Rounded, so that the order of the masks, in which floats are added up, changes nothing.
    means = np.round(member @ (masks.sums(values) / masks.areas) / np.maximum(count, 1), 9)
    return np.where((count > 0)[masks.atoms.index], means[masks.atoms.index], values)


def _level(values: np.ndarray) -> float:
    """The median of what Otsu's threshold sets apart; 1 for an empty map."""
    bytes_ = np.ascontiguousarray(np.clip(255 * values, 0, 255).round(), np.uint8)
    threshold, _ = cv2.threshold(bytes_, 0, 255, cv2.THRESH_OTSU)
    above = values[bytes_ > threshold]
    return float(np.median(above)) if above.size else 1.0
