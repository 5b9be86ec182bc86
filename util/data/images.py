"""Photographs: whatever people have, as upright RGB."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from util.data.ids import IdBook
from util.runtime.errors import InputError
from util.runtime.files import check_folder, find_file, read_bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_PIXELS = 178_956_970  # Pillow's own limit for decompression bombs, made an error


def find_image(folder: str | os.PathLike, image_id: str) -> Path:
    """The picture of an id.

    Raises:
        InputError: if there is none.
    """
    return find_file(folder, image_id, IMAGE_SUFFIXES, "image")


def list_image_ids(folder: str | os.PathLike) -> list[str]:
    """The ids of all images in a folder, sorted; two images with the same id are an InputError."""
    book = IdBook(folder)
    for path in sorted(check_folder(folder, "images").iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            book.add(path.name)
    ids = sorted(book.names)
    if not ids:
        raise InputError(f"{folder}: no pictures here ({', '.join(IMAGE_SUFFIXES)}); check the path")
    return ids


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture, turned upright by its EXIF tag.

    Grey, palette, RGBA (over white), CMYK and 16-bit pictures are converted.

    Returns:
        uint8 HxWx3 RGB.

    Raises:
        InputError: if it is no picture, is truncated, or has more than about 179 million pixels.
    """
    return decode_image(read_bytes(path), path)


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of a picture, upright, read from its header only."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (width, height) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (height, width)
    except Image.DecompressionBombError:
        raise InputError(f"{path}: it is too large, at most {MAX_PIXELS} pixels; scale it down") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: not a readable picture ({_reason(error)}); replace the file") from None


def decode_image(data: bytes, path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `read_image`, from the bytes of ``path``; ``max_pixels`` are the most that a picture may have."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise InputError(
                    f"{path}: {image.width}x{image.height} pixels is too large (at most {max_pixels}); scale it down"
                )
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
                return np.repeat(_to_8_bit(np.asarray(upright))[:, :, None], 3, axis=2)
            if "A" in upright.getbands() or "transparency" in upright.info:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            return np.array(upright.convert("RGB"))
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: it is too large, at most {max_pixels} pixels; scale it down") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: not a readable picture ({_reason(error)}); it may be cut short, replace it"
        ) from None


def _reason(error: Exception) -> str:
    # Pillow names the object in memory, which tells people nothing.
    return "no format that is known here" if isinstance(error, UnidentifiedImageError) else str(error)


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    # 16-bit greys reach us as uint16 or int32; 32-bit ones have no agreed range, so their own is used.
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = (
        (0.0, 65535.0) if values.size and values.min() >= 0 and values.max() <= 65535 else (values.min(), values.max())
    )
    return np.clip((values - low) * (255.0 / max(high - low, 1e-12)), 0, 255).round().astype(np.uint8)
