"""Images through a network: one at a time, whoever asks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from util.runtime.errors import InputError

if TYPE_CHECKING:
    from models.segmentation.inference import Segmenter

# The switch "High quality": the sizes over which probabilities are averaged, mirrored images as well.
HIGH_QUALITY_SCALES = (0.75, 1.0, 1.25)


@dataclass(frozen=True)
class Found:
    """A class that an image shows.

    Attributes:
        index: label value.
        share: of the image's pixels, 0 to 1.
        confidence: mean probability of the class over these pixels, 0 to 1.
    """

    index: int
    share: float
    confidence: float


@dataclass(frozen=True)
class Result:
    """What the network says of an image.

    Attributes:
        label: uint8 HxW, below the number of classes.
        confidence: uint8 HxW, probability of the chosen class, 255 for 1.
        found: the classes of the label, background included, largest first.
        seconds: from asking to answer.
        waited: of these, seconds before other visitors' images were done.
    """

    label: np.ndarray
    confidence: np.ndarray
    found: tuple[Found, ...]
    seconds: float
    waited: float


@st.cache_resource(show_spinner=False)
def _queue() -> ThreadPoolExecutor:
    # One thread for all sessions: each image gets every core, memory is bounded, and who comes first is served first.
    return ThreadPoolExecutor(1, thread_name_prefix="segmenting")


def segment(segmenter: Segmenter, image: np.ndarray, high_quality: bool = False) -> Result:
    """Segment an image.

    Args:
        segmenter: a trained network.
        image: uint8 HxWx3.
        high_quality: average over ``HIGH_QUALITY_SCALES`` and mirrored images.

    Raises:
        InputError: if the network cannot process this image.
    """
    asked = time.perf_counter()
    try:
        return _queue().submit(_segment, segmenter, image, high_quality, asked).result()
    except (RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"the network could not segment this image ({reason}); try a smaller one") from None


def _segment(segmenter: Segmenter, image: np.ndarray, high_quality: bool, asked: float) -> Result:
    from models.segmentation.outputs import class_shares

    begun = time.perf_counter()
    answer = segmenter.segment(image, HIGH_QUALITY_SCALES, True) if high_quality else segmenter.segment(image)
    found = [Found(*entry) for entry in class_shares(answer)]
    found.sort(key=lambda entry: -entry.share)
    return Result(answer.label, answer.confidence, tuple(found), time.perf_counter() - asked, begun - asked)
