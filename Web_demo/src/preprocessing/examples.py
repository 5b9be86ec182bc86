"""Examples: held-out images of the network's own run, or drawn images for a network that was trained on such."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from util.data.ids import spread
from util.data.images import find_image, read_image
from util.data.labels import label_path, read_label
from util.data.synthetic import CLASSES, image_of
from util.data.voc import ClassTable
from util.runtime.errors import InputError
from Web_demo.src.model.runs import HeldOut
from Web_demo.src.preprocessing.uploads import InputImage, as_input

COUNT = 6
SIDE = 160  # pixels of a drawn image, as the quickstart's
# Ids of drawn images that are wider than high and show several objects.
_DRAWN = {"Sample 1": "Sample 14", "Sample 2": "Sample 19", "Sample 3": "Sample 30", "Sample 4": "Sample 5"}


@dataclass(frozen=True)
class Example:
    """An image to try the network on.

    Attributes:
        image: with a ``key`` that starts with ``example``.
        origin: a sentence on where it is from.
        truth: uint8 HxW ground truth of the image's size, or None.
    """

    image: InputImage
    origin: str
    truth: np.ndarray | None = None


def examples(classes: ClassTable, known: HeldOut | None) -> list[Example]:
    """Held-out images where the run has them; drawn ones for the classes of drawn images; otherwise none."""
    if known is not None and known.images is not None:
        found = _held_out(known.images, known.gt, tuple(spread(known.ids, COUNT)), len(classes))
        if found:
            return found
    return [drawn(name) for name in _DRAWN] if classes.names == CLASSES.names else []


@st.cache_data(max_entries=4, ttl=600, show_spinner=False)
def _held_out(images: Path, gt: Path | None, ids: tuple[str, ...], num_classes: int) -> list[Example]:
    found = []
    for image_id in ids:
        try:
            path = find_image(images, image_id)
            pixels = read_image(path)
            truth = None if gt is None else read_label(label_path(gt, image_id), num_classes)
        except InputError:  # removed since; the others will do
            continue
        image = as_input(path.name, pixels, f"example {path}")
        if truth is not None and (truth.shape != image.full_size or image.is_scaled):
            truth = None
        found.append(Example(image, "A held-out image: the network was not trained on it.", truth))
    return found


def drawn(name: str) -> Example:
    """The drawn image of that name, the same each time."""
    pixels, truth = image_of(_DRAWN[name], seed=8, side=SIDE)
    origin = "Drawn by the program, as the images were that the network was trained on."
    return Example(as_input(f"{name}.png", pixels, f"example {name}"), origin, truth)
