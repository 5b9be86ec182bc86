"""Images of labels and masks: coloured, laid over the image, outlined."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from util.data.masks import Masks
from util.data.voc import VOID
from util.runtime.files import atomic_write

OPACITY, MASK_OPACITY = 0.6, 0.55  # of the colours of labels, and of masks, on images


def overlay(image: np.ndarray, label: np.ndarray, colors: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """The image (uint8 HxWx3) with its label laid over it; the background stays clear, borders are drawn.

    Args:
        colors: of the classes, uint8 256x3.
        opacity: of the colours, 0 to 1.
    """
    result, present = image.copy(), np.zeros(256, bool)
    step = max(1, (1 << 20) // label.shape[1])
    for top in range(0, len(label), step):  # in pieces: numpy makes 8 bytes of every index
        rows = slice(top, top + step)
        present[label[rows]] = True
        mixed = cv2.addWeighted(image[rows], 1 - opacity, colors[label[rows]], opacity, 0)
        np.copyto(result[rows], mixed, where=(label[rows] > 0)[..., None])
    for value in np.flatnonzero(present[1:VOID]) + 1:
        draw_outline(result, label == value, (255, 255, 255))
    return result


def seen_color(color: Sequence[int]) -> tuple[int, int, int]:
    """What a class's colour looks like on an image that is neither bright nor dark, for legends."""
    red, green, blue = (round(OPACITY * part + (1 - OPACITY) * 128) for part in color)
    return red, green, blue


def draw_outline(image: np.ndarray, inside: np.ndarray, color: Sequence[int]) -> None:
    """Draw the borders of the parts of a mask (bool HxW) into an image; specks have none, which would hide them.

    Borders are about as thick on a screen whatever the image's size. Specks are parts and holes of less than 1/2000 of the
    image.
    """
    height, width = inside.shape
    found, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    large = [contour for contour in found if cv2.contourArea(contour) >= height * width / 2000]
    thickness = max(1, round(max(height, width) / 400))
    cv2.drawContours(image, large, -1, tuple(map(int, color)), thickness)


def mask_colors(masks: Masks, colors: np.ndarray | None = None) -> np.ndarray:
    """Colours of masks: int64 Kx3, of its class for a mask that knows it, else one of its own, the same each time.

    Args:
        colors: of the classes, uint8 256x3.
    """
    # Hues a golden section of the circle apart: of masks that follow each other, none are alike.
    count = max(1, len(masks))  # OpenCV refuses an empty image
    hues = 180 * (np.arange(count) * 0.618034 % 1)
    shades = np.stack([hues, np.resize((230, 150), count), np.resize((255, 255, 170), count)], axis=1)
    found = cv2.cvtColor(shades[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0, : len(masks)].astype(np.int64)
    known = masks.classes >= 0
    if colors is not None:
        found[known] = colors[masks.classes[known]]
    return found


def draw_masks(image: np.ndarray, masks: Masks, colors: np.ndarray | None = None) -> np.ndarray:
    """The image with every mask in the colour that `mask_colors` gives it, large ones below small ones."""
    result = image.astype(np.float32)
    own, order = mask_colors(masks, colors), np.argsort(-masks.areas, kind="stable")
    for k in order:
        inside = masks.dense(int(k))
        result[inside] = (1 - MASK_OPACITY) * result[inside] + MASK_OPACITY * own[k]
    drawn = result.round().astype(np.uint8)
    for k in order:
        draw_outline(drawn, masks.dense(int(k)), own[k])
    return drawn


def mask_notes(masks: Masks) -> tuple[tuple[str, float, float], ...]:
    """Category and score of every mask that has them, each with the upper left corner of its box, for `Panel.notes`."""
    return tuple(
        (about, float(masks.boxes[k][0]), float(masks.boxes[k][1]))
        for k in range(len(masks))
        if (about := mask_note(masks, k))
    )


def mask_note(masks: Masks, k: int) -> str:
    """``cat 0.93``: category and score of a mask; empty where its file has none."""
    score = masks.scores[k]
    return f"{masks.categories[k] or ''}{'' if np.isnan(score) else f' {score:.2f}'}".strip()


def save_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write a uint8 HxWx3 RGB image atomically; the suffix gives the format."""
    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary)
