"""Images: whatever people have, as upright RGB."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from util.data.ids import HEIC_SUFFIXES, IMAGE_SUFFIXES, IdBook, id_or_none
from util.runtime.errors import InputError
from util.runtime.files import check_folder, find_file, list_files, read_bytes

MAX_PIXELS = 178_956_970  # Pillow's own limit for decompression bombs, made an error
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # it would warn of half as many already

# Pillow refuses PNG files with more than 1 MiB of text in one place; editors write longer histories.
PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20

pillow_heif.register_heif_opener()  # an iPhone's photos

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LOSSLESS = ("PNG", "TIFF", "BMP", "GIF")
_KINDS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"%PDF": "a PDF document",
    b"PK": "a ZIP archive or an office document",
    b"<": "a web page or an XML file",
    b"8BPS": "a file of Photoshop",
    b"\x93NUMPY": "an array of numpy",
}
# What Pillow logs about a file it cannot read names no file, and its exception says the same.
logging.getLogger("PIL").addHandler(logging.NullHandler())
BRIGHT = 99.5  # percentile that tells how bright an image is, whatever a few pixels have
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def find_image(folder: str | os.PathLike, image_id: str) -> Path:
    """The image of an id.

    Raises:
        InputError: if there is none.
    """
    return find_file(folder, image_id, IMAGE_SUFFIXES, "image")


def list_image_ids(folder: str | os.PathLike) -> list[str]:
    """The ids of all images in a folder, sorted; two with the same id are an InputError, unless one is HEIC."""
    book = IdBook(folder)
    files = list_files(check_folder(folder, "images"), IMAGE_SUFFIXES)
    others = {id_or_none(path.name) for path in files if path.suffix.lower() not in HEIC_SUFFIXES}
    for path in files:
        if path.suffix.lower() not in HEIC_SUFFIXES or id_or_none(path.name) not in others:
            book.add(path.name)
    ids = sorted(book.names)
    if not ids:
        raise InputError(f"{folder}: no images here ({', '.join(IMAGE_SUFFIXES)}); check the path")
    return ids


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image, turned upright by its EXIF tag.

    Grey, palette, RGBA (over white), CMYK, 16-bit and float images are converted.

    Returns:
        uint8 HxWx3 RGB.

    Raises:
        InputError: if it is not an image, is truncated, has more than about 179 million pixels, or values of an unknown
            range.
    """
    return decode_image(read_bytes(path), path)


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of an image, upright, read from its header only."""
    with open_image(path, path) as image:
        return upright_size(image)


def is_turned(path: str | os.PathLike) -> bool:
    """Whether an image is stored on its side, and turned by its EXIF tag when it is read or shown."""
    with open_image(path, path) as image:
        tags = getattr(image, "tag_v2", {})  # of a TIFF, which Pillow turns itself
        return 5 <= max(orientation(image), tags.get(_ORIENTATION, 1)) <= 8


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an open image once it is turned upright."""
    width, height = image.size
    return (width, height) if orientation(image) in (5, 6, 7, 8) else (height, width)


def turn_upright(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """An array HxW of an open label map or mask, turned by the EXIF orientation of its file, where it has one."""
    turn = orientation(image) if "exif" in image.info or "Raw profile type exif" in image.info else 1
    return np.array(Image.fromarray(values).transpose(_UPRIGHT[turn])) if turn in _UPRIGHT else values


def orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied, 1 to 8; 1 where there is none, or no EXIF that can be read.

    Pillow's ``exif_transpose`` writes all of the EXIF anew, and raises anything over one odd value (its issues 4037, 4665,
    8965); viewers go by this tag alone.
    """
    if image.format == "TIFF":
        return 1  # Pillow turns these itself
    try:
        found = image.getexif().get(_ORIENTATION, 1)
        return found if found in _UPRIGHT else 1
    except Exception:
        return 1


@contextlib.contextmanager
def open_image(
    source: bytes | str | os.PathLike, path: str | os.PathLike, what: str = "image", max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """Pillow's image of ``source`` (a path or bytes); whatever its library raises inside the block names the file.

    Args:
        path: for messages.
        what: the file should hold, for messages.

    Raises:
        InputError: if it cannot be read, or has more than ``max_pixels`` pixels.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > max_pixels:
                raise InputError(
                    f"{path}: {image.width}x{image.height} pixels is too large for this {what} (at most "
                    f"{max_pixels / 1e6:.0f} million); scale it down"
                )
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: too large, more than {max_pixels / 1e6:.0f} million pixels; scale it down") from None
    except UnidentifiedImageError:
        head = (source if isinstance(source, bytes) else read_bytes(source))[:132]
        raise InputError(f"{path}: {_unknown(head, what)}") from None
    except Exception as error:  # Pillow raises nearly anything over a damaged file
        known = isinstance(error, (OSError, SyntaxError, ValueError, EOFError))
        reason = " ".join(f"{'' if known else f'{type(error).__name__}: '}{error}".split())
        raise InputError(f"{path}: not a readable {what} ({reason}); it may be cut short, replace it") from None


def _is_deep(image: Image.Image) -> bool:
    """Whether an open image, not yet decoded, has colours of 16 bits, of which Pillow keeps the upper 8."""
    tiles = getattr(image, "tile", [])
    return image.mode in ("RGB", "RGBA", "LA") and any(re.search(r";16[BLN]?\b", str(tile.args)) for tile in tiles)


def _same_size(image: Image.Image) -> bool:
    """Whether the second page of a file is as large as the first, and so not a smaller version of it."""
    size = image.size
    image.seek(1)
    other = image.size
    image.seek(0)
    return size == other


def check_depth(image: Image.Image, path: str | os.PathLike) -> None:
    """Raise InputError if an open label map or mask, not yet decoded, has colours of 16 bits."""
    if _is_deep(image):
        raise InputError(
            f"{path}: several channels of 16 bits, whose values 0 to 255 would be lost; save one channel of 8 bits"
        )


def is_heic(head: bytes) -> bool:
    """Whether a file with these first bytes is a HEIC image."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def kind_of(head: bytes) -> str:
    """What a file is, by its first bytes, in words; empty where that is not known."""
    if is_heic(head):
        return "a HEIC image"
    if head[4:8] == b"ftyp":
        return "an AVIF image" if head[8:12] == b"avif" else "a video"
    if head.startswith(b"RIFF"):
        return "a WebP image" if head[8:12] == b"WEBP" else "a recording"
    if head[128:132] == b"DICM":
        return "a DICOM file"
    return next((what for magic, what in _KINDS.items() if head.startswith(magic)), "")


def _unknown(head: bytes, what: str) -> str:
    """What to say of a file, by its first bytes, that is of no format which Pillow reads."""
    if not head:
        return "an empty file (0 bytes); replace it"
    if head.startswith(b"version https://git-lfs"):
        return f"a pointer of Git LFS in the place of the {what}; run git lfs pull"
    kind = kind_of(head)
    if kind == "a TIFF image":
        return "a TIFF image of bands or numbers that are not read here; save it as an image of 8 bits with 1 or 3 channels"
    if kind.endswith("image"):
        return f"begins as {kind}, but is not a readable {what}; it may be cut short, replace it"
    if kind:
        return f"{kind}, not a readable {what}; replace it"
    return f"not a readable {what} (no format that is known here); it may be cut short, replace it"


def decode_image(
    data: bytes, path: str | os.PathLike, max_pixels: int = MAX_PIXELS, enough: int | None = None
) -> np.ndarray:
    """As `read_image`, from the bytes of ``path``.

    Args:
        max_pixels: the most that an image may have.
        enough: pixels that suffice: a JPEG that has many more is decoded at 1/2, 1/4 or 1/8 of its size, in little memory,
            and of a HEIC file a smaller version that it holds.
    """
    with open_image(data, path, max_pixels=max_pixels) as image:
        if enough is not None and (factor := (enough / (image.width * image.height)) ** 0.5) < 1:
            image.draft(
                None, (math.ceil(image.width * factor), math.ceil(image.height * factor))
            )  # a no-op but for JPEG and HEIC
        if image.format == "TIFF" and (pages := getattr(image, "n_frames", 1)) > 1 and _same_size(image):
            raise InputError(f"{path}: {pages} pages of one size; save the one that is meant as a file of its own")
        deep = _is_deep(image)
        image.load()
        if deep and np.percentile(np.asarray(image.convert("RGB")), BRIGHT) < 64:
            raise InputError(
                f"{path}: colours of 16 bits that are nearly all dark, as those of 10 to 14 bits are; save it with 8 bits"
            )
        turn = orientation(image)
        upright = image.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else image
        if upright.mode == "F" or upright.mode.startswith("I"):
            return np.repeat(_to_8_bit(np.asarray(upright), path)[:, :, None], 3, axis=2)
        if "A" in upright.getbands() or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            _check_alpha(upright.getchannel("A").histogram(), path)
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        return np.array(upright.convert("RGB"))


def _check_alpha(histogram: Sequence[int], path: str | os.PathLike) -> None:
    """Raise InputError if a fourth channel can hardly be transparency, given how many pixels have which of its values."""
    if not any(histogram[1:]):
        raise InputError(
            f"{path}: it is transparent all over: a blank image, or its alpha channel means something else; save it "
            "without that channel"
        )
    if sum(histogram[1:255]) > histogram[255]:
        raise InputError(
            f"{path}: more of it is partly transparent than opaque, so its fourth channel may be a band such as near infrared; "
            "save it with three channels"
        )


def _to_8_bit(values: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    """Grey values of 16 and 32 bits as uint8.

    Integers that stay below 256 are taken as 0..255, and floats up to 1 (with the overshoot of a resampling) as 0..1: as
    parts of the larger range they would be a black image. Up to 16383, but for a few bright pixels, they may be of 10 to 14
    bits, as cameras and X-ray detectors have them.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if values.dtype.kind == "f":
        unit = -0.1 <= low <= high <= 1.1
        if not unit and not (low >= 0 and 16 <= high <= 255):  # so that NaN fails
            raise InputError(
                f"{path}: float values from {low:g} to {high:g}, which may be of 0..1 or of 0..255; save the image with 8 bits"
            )
        full = 1.0 if unit else 255.0
    elif low >= 0 and 255 < high <= 65535 and (bright := np.percentile(values, BRIGHT, method="higher")) <= 16383:
        raise InputError(
            f"{path}: integer values, nearly all up to {bright:.0f}: an image of 10 to 14 bits, or a dark one of 16; save it "
            "with 8 bits"
        )
    elif low >= 0 and high <= 65535:
        full = 255.0 if high <= 255 else 65535.0
    else:
        raise InputError(
            f"{path}: integer values from {low:g} to {high:g}, where 0..255 or 0..65535 are read; save the image with 8 bits"
        )
    return np.clip(values * (255.0 / full), 0, 255).round().astype(np.uint8)
