"""What a merge strategy is, and the little that strategies share.

A strategy is a pure function of arrays in one short file::

    def merge(label, masks, *, tags=None, cam=None, threshold=0.5):
        ...
        return enhanced

Args:
    label: uint8 HxW, the pseudo label; 0 = background, 255 = void.
    masks: `util.data.masks.Masks` of the same HxW, class-agnostic.
    tags: the classes that the image is known to show (ascending tuple of label values), or None.
    cam: class (label value) -> float32 HxW in [0, 1], or None.
    further keyword arguments: the strategy's parameters (bool, int, float or str), with the defaults that the command
        line shows and ``--param NAME=VALUE`` changes.

Returns:
    uint8 HxW; classes of the label or of the tags only, or 255. The inputs stay as they are.

It reads no file, sees no ground truth and keeps no state. Add its name to the table in ``merge/__init__.py``.
"""

from __future__ import annotations

import numpy as np

from util.data.masks import Masks
from util.data.voc import VOID


def foreground_classes(label: np.ndarray) -> np.ndarray:
    """Ascending label values 1..254 that occur in a uint8 label."""
    return class_sizes(label)[0]


def class_sizes(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ascending label values 1..254 that occur in a uint8 label, uint8 C, and how many pixels each has, int64 C."""
    # Neighbours are mostly equal, so only where the value changes needs a look.
    flat = label.ravel(order="K")
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    sizes = np.bincount(flat[ends - 1], np.diff(ends, prepend=0), minlength=256).astype(np.int64)
    classes = np.flatnonzero(sizes[1:VOID]) + 1
    return classes.astype(np.uint8), sizes[classes]


def claim(
    label: np.ndarray, masks: Masks, threshold: float, coverage: float | None, keep_uncovered: bool
) -> np.ndarray:
    """The scheme of the three published strategies (SAM_WSSS, arXiv 2305.05803).

    Classes take their turn in ascending order. A class claims every mask not yet claimed of which it holds more than
    the share ``threshold``, or (where ``coverage`` is given) which holds at least the share ``coverage`` of the class,
    and paints what it claimed over what is there. What no class paints is background.

    Args:
        label: uint8 HxW.
        masks: of the same size.
        threshold: share of the mask, 0 to 1.
        coverage: share of the class's pixels, 0 to 1, or None for no such rule.
        keep_uncovered: whether a class also keeps its pixels under no mask; masks that an earlier class claimed do not
            count as covering.

    Returns:
        uint8 HxW.
    """
    classes, sizes = class_sizes(label)
    overlaps = masks.overlaps(label, classes)
    group = np.zeros(len(masks), np.int64)  # 0: free; column + 1: claimed by that class
    for column, size in enumerate(sizes):
        inside = overlaps[:, column]
        wanted = inside > threshold * masks.areas
        if coverage is not None:
            wanted |= inside >= coverage * size
        group[wanted & (group == 0)] = column + 1
    free, *claimed = masks.unions(group, len(classes) + 1)
    # A mask covers for its own class and all before; where only earlier classes' masks lie, the label's class is
    # the highest. A free mask covers for every class.
    result = label * ~(free | (label == VOID)) if keep_uncovered else np.zeros_like(label)
    # Later classes paint over earlier ones, so at each pixel the highest class that paints it stays.
    for value, painted in zip(classes, claimed, strict=True):
        np.maximum(result, painted * value, out=result)
    return result
