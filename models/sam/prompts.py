"""Prompts that know the class, and those that come from soft CAMs: their peaks and boxes.

Source of the CAM prompts: Kweon and Yoon, "From SAM to CAMs" (S2C), CVPR 2024, which prompts SAM with the local peaks of
each class's CAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from skimage.feature import peak_local_max

from models.sam.options import CamPromptOptions

NO_POINTS = np.zeros((0, 2))


@dataclass(frozen=True)
class Prompt:
    """One question to SAM: the object at these points, or in this box.

    Attributes:
        category: name of the class that the answer stands for, or None.
        points: float64 Nx2, x and y in pixels of the image.
        labels: int64 N, 1 inside the object, 0 outside.
        box: x0, y0, x1, y1 in pixels of the image, or None.
        kind: what asks, of `models.sam.options.PROMPTS`, or None.
    """

    category: str | None = None
    points: np.ndarray = field(default_factory=lambda: NO_POINTS)
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    box: tuple[float, float, float, float] | None = None
    kind: str | None = None


def cam_prompts(cam: Mapping[int, np.ndarray], names: tuple[str, ...], options: CamPromptOptions) -> list[Prompt]:
    """Prompts for the classes of an image.

    Every peak of a class is a prompt, with the highest peak of every other class and the point that is surest to be
    background as points outside. The box of the class's largest component is one more.

    Args:
        cam: class (label value) -> float32 HxW in [0, 1], of the image's tags only.
        names: of all classes, background first.
        options: see there.
    """
    peaks = {value: class_peaks(values, options) for value, values in cam.items()}
    prompts = []
    for value, values in cam.items():
        others = [found[:1] for other, found in peaks.items() if other != value and len(found)]
        outside = np.concatenate([*others, _background_point(cam)])
        for peak in peaks[value]:
            points = np.concatenate([peak[None], outside])
            labels = np.array([1] + [0] * len(outside))
            prompts.append(Prompt(names[value], points.astype(np.float64), labels, kind="cam"))
        box = _largest_box(values >= options.box_value)
        if box is not None:
            prompts.append(Prompt(names[value], box=box, kind="cam"))
    return prompts


def class_peaks(values: np.ndarray, options: CamPromptOptions) -> np.ndarray:
    """int64 Nx2 (x, y): local maxima, the highest first; the maximum itself where no other is high enough."""
    distance = max(1, round(options.peak_distance * max(values.shape)))
    found = peak_local_max(
        values, min_distance=distance, threshold_abs=options.peak_value, num_peaks=options.peaks, exclude_border=False
    )
    if not len(found) and values.max() > 0:
        found = np.array([np.unravel_index(values.argmax(), values.shape)])
    return found[:, ::-1].astype(np.int64)


def _background_point(cam: Mapping[int, np.ndarray]) -> np.ndarray:
    """int64 1x2 (x, y): where the highest value of all classes is lowest; blurred, so that it is not a lone pixel."""
    highest = np.maximum.reduce(list(cam.values()))
    blurred = cv2.blur(highest.astype(np.float32), (15, 15))
    y, x = np.unravel_index(blurred.argmin(), blurred.shape)
    return np.array([[x, y]])


def _largest_box(inside: np.ndarray) -> tuple[float, float, float, float] | None:
    """Box x0, y0, x1, y1 (the last pixel included) of the largest component of a bool HxW, or None."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(inside, np.uint8), connectivity=8)
    if len(stats) < 2:
        return None
    left, top, width, height = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax(), :4].tolist()
    return left, top, left + width - 1, top + height - 1
