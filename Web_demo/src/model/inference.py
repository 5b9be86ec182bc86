"""Pictures through a network: one at a time, whoever asks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from util.runtime.errors import InputError

if TYPE_CHECKING:
    from models.segmentation.deeplabv3 import Segmenter

# The switch "look more closely": the sizes over which probabilities are averaged, mirrored pictures as well.
CLOSE_SCALES = (0.75, 1.0, 1.25)


@dataclass(frozen=True)
class Found:
    """A class that a picture shows.

    Attributes:
        index: label value.
        share: of the picture's pixels, 0 to 1.
        confidence: mean probability of the class over these pixels, 0 to 1.
    """

    index: int
    share: float
    confidence: float


@dataclass(frozen=True)
class Segmentation:
    """What the network says of a picture.

    Attributes:
        label: uint8 HxW, below the number of classes.
        confidence: uint8 HxW, probability of the chosen class, 255 for 1.
        found: the classes of the label, background included, largest first.
        seconds: from asking to answer.
        waited: of these, seconds before other visitors' pictures were done.
    """

    label: np.ndarray
    confidence: np.ndarray
    found: tuple[Found, ...]
    seconds: float
    waited: float


@st.cache_resource(show_spinner=False)
def _queue() -> ThreadPoolExecutor:
    # One thread for all sessions: each picture gets every core, memory is bounded, and who comes first is served first.
    return ThreadPoolExecutor(1, thread_name_prefix="segmenting")


def segment(segmenter: Segmenter, image: np.ndarray, closely: bool = False) -> Segmentation:
    """Segment a picture.

    Args:
        segmenter: a trained network.
        image: uint8 HxWx3.
        closely: average over ``CLOSE_SCALES`` and mirrored pictures.

    Raises:
        InputError: if the network cannot stand this picture.
    """
    asked = time.perf_counter()
    try:
        return _queue().submit(_segment, segmenter, image, closely, asked).result()
    except (RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"the model could not segment this picture ({reason}); try a smaller one") from None


def _segment(segmenter: Segmenter, image: np.ndarray, closely: bool, asked: float) -> Segmentation:
    begun = time.perf_counter()
    options = {"scales": CLOSE_SCALES, "flip": True} if closely else {}
    probabilities = segmenter.predict(image, **options)
    label = probabilities.argmax(0).astype(np.uint8)
    # A damaged network may answer with what is no number.
    certainty = np.nan_to_num(probabilities.max(0)).clip(0, 1)
    pixels = np.bincount(label.ravel(), minlength=len(segmenter.classes))
    sums = np.bincount(label.ravel(), weights=certainty.ravel(), minlength=len(segmenter.classes))
    found = [Found(int(c), float(pixels[c] / label.size), float(sums[c] / pixels[c])) for c in np.flatnonzero(pixels)]
    found.sort(key=lambda entry: -entry.share)
    confidence = (255 * certainty).round().astype(np.uint8)
    return Segmentation(label, confidence, tuple(found), time.perf_counter() - asked, begun - asked)
