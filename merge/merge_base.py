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

It reads no file, sees no ground truth and keeps no state. Enter it in the table in ``merge/__init__.py``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable

import cv2
import numpy as np

from util.data.voc import VOID
from util.runtime.errors import InputError

RESERVED = ("label", "masks", "tags", "cam")


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


def parameters_of(strategy: Callable) -> dict:
    """A strategy's parameters and their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(strategy).parameters.items()
        if name not in RESERVED and parameter.kind is parameter.KEYWORD_ONLY
    }


def resolve_parameters(name: str, strategy: Callable, given: list[str]) -> dict:
    """Defaults, changed by ``NAME=VALUE`` texts of the command line.

    Raises:
        InputError: for an unknown name or a value of another type than the default's.
    """
    parameters = parameters_of(strategy)
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key not in parameters:
            known = ", ".join(f"{k}={v}" for k, v in parameters.items()) or "none"
            raise InputError(f"--param {text}: {name} has no such parameter; write NAME=VALUE, it has: {known}")
        parameters[key] = _parse(value.strip(), parameters[key], text)
    return parameters


def search_space(strategies: dict[str, Callable], given: list[str]) -> dict[str, dict[str, tuple]]:
    """Which values of which parameters are worth trying.

    A strategy's file lists them in ``SEARCH``, parameter -> values; ``NAME=V,V,...`` texts of the command line put their
    own in place, for every strategy that has the parameter.

    Returns:
        strategy -> parameter -> values.

    Raises:
        InputError: for a parameter that no strategy has, or a value of another type than the default's.
    """
    spaces = {name: dict(getattr(sys.modules[s.__module__], "SEARCH", {})) for name, s in strategies.items()}
    for text in given:
        key, equals, values = text.partition("=")
        key = key.strip().replace("-", "_")
        having = [name for name, strategy in strategies.items() if key in parameters_of(strategy)]
        if not equals or not having:
            raise InputError(f"--values {text}: no chosen strategy has this parameter; write NAME=V,V,...")
        for name in having:
            default = parameters_of(strategies[name])[key]
            spaces[name][key] = tuple(_parse(value.strip(), default, text) for value in values.split(","))
    return spaces


def _parse(value: str, default, text: str):
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        return kind(value)
    except (ValueError, KeyError):
        raise InputError(f"{text}: {value!r} is no {kind.__name__}; the default is {default}") from None


def frame_share(masks) -> np.ndarray:
    """float64 K: the share of the picture's outermost pixels that each mask holds."""
    frame = np.ones(masks.shape, np.uint8, order="F")
    frame[1:-1, 1:-1] = 0
    return masks.overlaps(frame, [1])[:, 0] / np.count_nonzero(frame)


def cut_at_necks(marker: np.ndarray, region: np.ndarray, radius: float) -> np.ndarray:
    """bool HxW: the part of a region that hangs together with a marker once what hangs on by a neck is cut off.

    The region is eroded by a disc. What then lies apart from the marker and did not vanish is grown back by the disc and
    taken away; thin limbs and corners of the marker's own part stay.

    Args:
        marker, region: bool HxW, the marker inside the region.
        radius: of the disc, pixels; necks up to about twice as wide are cut.
    """
    if radius >= 1:
        thick = _distance(region) > radius
        apart = thick & ~_connected(marker, thick | marker)
        if apart.any():
            region = marker | region & (_distance(~apart) > radius)
    return _connected(marker, region)


def _connected(marker: np.ndarray, region: np.ndarray) -> np.ndarray:
    """bool HxW: the connected parts (4 neighbours) of a region that hold a pixel of the marker."""
    _, parts = cv2.connectedComponents(np.ascontiguousarray(region, np.uint8), connectivity=4)
    kept = np.zeros(int(parts.max()) + 1, bool)
    kept[parts[marker]] = True
    kept[0] = False
    return kept[parts]


def _distance(region: np.ndarray) -> np.ndarray:
    """float32 HxW: how far a pixel of the region lies from the nearest pixel outside; the edge of the array is no shore."""
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
        if part == 0:  # what is no background
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


def claim(label: np.ndarray, masks, threshold: float, coverage: float | None, keep_uncovered: bool) -> np.ndarray:
    """The scheme of the three published strategies (SAM_WSSS, arXiv 2305.05803).

    Classes take their turn in ascending order. A class claims every mask not yet claimed of which it holds more than
    the share ``threshold``, or (where ``coverage`` is given) which holds at least the share ``coverage`` of the class,
    and paints what it claimed over what stands there. What no class paints is background.

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
