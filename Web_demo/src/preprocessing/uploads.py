"""Uploaded files: checked, decoded upright, and never written to disk."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from util.data.images import decode_image, kind_of, open_image, upright_size
from util.runtime.errors import InputError
from util.runtime.files import digest

MAX_FILES = 20
MAX_BYTES = 20 * 2**20  # as server.maxUploadSize in .streamlit/config.toml
# Phones take photos of 50.3 million pixels (8192 x 6144). A PNG of this limit takes half a gigabyte to decode.
MAX_PIXELS = 64_000_000
# Enough for the screen and for a network; larger images are scaled down.
MAX_WORK_PIXELS = 2_100_000
_decoding = threading.Lock()  # one large image in memory at a time, however many visitors there are
FORMATS = "JPG, PNG, WebP, HEIC, TIFF or BMP"
_READ = ("a JPEG image", "a PNG image", "a WebP image", "a HEIC image", "a TIFF image", "a BMP image")


@dataclass(frozen=True)
class InputImage:
    """An image to segment.

    Attributes:
        name: for people and for file names: no path, no control characters.
        key: distinguishes this content from any other.
        image: uint8 HxWx3, upright, at most ``MAX_WORK_PIXELS`` pixels.
        full_size: (height, width) as uploaded; label maps are offered at this size.
    """

    name: str
    key: str
    image: np.ndarray
    full_size: tuple[int, int]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name.rsplit(".", 1)[0] or "image"

    @property
    def is_scaled(self) -> bool:
        """Whether the image was scaled down."""
        return self.image.shape[:2] != self.full_size


def clean_name(name: str) -> str:
    """A file name as people may see and save it: the last part of a path, printable, at most 80 characters."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    # Categories C*: control characters and those that turn the direction of the text.
    name = "".join(letter for letter in name if unicodedata.category(letter)[0] != "C")
    name = re.sub(r"\s+", " ", re.sub(r'[<>:"|?*]', "_", name)).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    if len(name) > 80 and dot and len(suffix) <= 5:
        return f"{stem[: 79 - len(suffix)]}.{suffix}"
    return name[:80] or "image"


def read_upload(name: str, data: bytes) -> InputImage:
    """Decode an uploaded file.

    Args:
        name: as the browser sent it; not trusted.
        data: the file.

    Raises:
        InputError: for people to read, if it is empty, of none of the ``FORMATS``, damaged or too large.
    """
    name = clean_name(name)
    if not data:
        raise InputError(f"{name}: the file is empty (0 bytes); choose another or copy it again")
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{name}: {len(data) / 2**20:.0f} MB is too large, at most {MAX_BYTES >> 20} MB; save it smaller"
        )
    if (kind := kind_of(data[:132])) not in _READ:
        what = f" but {kind}" if kind else ""
        raise InputError(f"{name}: not a {FORMATS} image{what}; save it as JPG or PNG")
    with _decoding:
        with open_image(data, name, max_pixels=MAX_PIXELS) as header:
            full_size = upright_size(header)
        return as_input(name, decode_image(data, name, MAX_PIXELS, MAX_WORK_PIXELS), digest(data), full_size)


def as_input(name: str, image: np.ndarray, key: str, full_size: tuple[int, int] | None = None) -> InputImage:
    """An image from uint8 HxWx3, scaled down where it is larger than the network should get.

    Args:
        name, key, full_size: see `InputImage`; None: the image has its full size.
    """
    height, width = full_size or image.shape[:2]
    factor = (MAX_WORK_PIXELS / (height * width)) ** 0.5
    if factor < 1:
        small = max(1, int(width * factor)), max(1, int(height * factor))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return InputImage(name, key, image, (height, width))


def distinct_names(names: Iterable[str]) -> list[str]:
    """The names, with a number after those that came before, so that no file of an archive hides another."""
    taken: set[str] = set()
    result = []
    for name in names:
        number, candidate = 1, name
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name} ({number})"
        taken.add(candidate.casefold())
        result.append(candidate)
    return result
