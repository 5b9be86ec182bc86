"""Figures: coloured labels, overlays, masks, rows of panels and bar charts."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from util.data.masks import Masks
from util.data.voc import VOID, palette
from util.runtime.files import atomic_write


def colorize(label: np.ndarray, colors: np.ndarray | None = None) -> np.ndarray:
    """uint8 HxWx3 RGB image of a uint8 HxW label (default: VOC's palette)."""
    return (palette() if colors is None else colors)[label]


def overlay(image: np.ndarray, label: np.ndarray, colors: np.ndarray | None = None, opacity: float = 0.6) -> np.ndarray:
    """The image (uint8 HxWx3) with its label laid over it; background and void stay clear, borders are drawn.

    Args:
        opacity: of the colours, 0 to 1.
    """
    colors = palette() if colors is None else colors
    shown = (label > 0) & (label < VOID)
    mixed = cv2.addWeighted(image, 1 - opacity, colorize(label, colors), opacity, 0)
    result = np.where(shown[..., None], mixed, image)
    border = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    result[border & (cv2.dilate(shown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)] = 255
    return result


def draw_masks(image: np.ndarray, masks: Masks, opacity: float = 0.55) -> np.ndarray:
    """The image with every mask in a colour of its own, large ones below small ones; colours are the same each time."""
    result = image.astype(np.float32)
    colors = np.random.default_rng(7).integers(40, 255, (len(masks), 3))
    for k in np.argsort(-masks.areas, kind="stable"):
        inside = masks.dense(int(k))
        result[inside] = (1 - opacity) * result[inside] + opacity * colors[k]
        edge = cv2.morphologyEx(np.ascontiguousarray(inside, np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        result[edge > 0] = colors[k]
    return result.round().astype(np.uint8)


def panel_row(panels: Sequence[tuple[str, np.ndarray]], height: int = 240) -> np.ndarray:
    """Captioned images (uint8 HxWx3) side by side, all of one height; uint8 RGB on white."""
    font = ImageFont.load_default(14)
    gap, caption = 8, 24
    scaled = []
    for title, image in panels:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        shrinks = height < image.shape[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
        scaled.append((title, cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=method)))
    total = sum(image.shape[1] for _, image in scaled) + gap * (len(scaled) + 1)
    canvas = Image.new("RGB", (total, height + caption + gap), "white")
    draw = ImageDraw.Draw(canvas)
    left = gap
    for title, image in scaled:
        canvas.paste(Image.fromarray(image), (left, caption))
        draw.text((left, 4), title, fill=(40, 40, 40), font=font)
        left += image.shape[1] + gap
    return np.asarray(canvas)


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Images (uint8 HxWx3) below each other, on white."""
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)


def save_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write a uint8 HxWx3 RGB image atomically; the suffix gives the format."""
    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary)


def new_figure(width: float = 8, height: float = 4):
    """A matplotlib figure that needs no screen; save it with `save_figure`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(path: str | os.PathLike, figure) -> None:
    """Write a matplotlib figure as PNG, atomically."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
