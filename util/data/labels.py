"""Label maps: 8-bit PNG files, 0 = background, 255 = void."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from util.data import voc
from util.data.voc import VOID
from util.runtime.errors import InputError
from util.runtime.files import find_file, read_bytes, write_bytes

MAX_PIXELS = 178_956_970  # Pillow's own limit for decompression bombs, made an error


def label_path(folder: str | os.PathLike, image_id: str) -> Path:
    """The label map of an id.

    Raises:
        InputError: if it is missing.
    """
    return find_file(folder, image_id, [".png"], "label map")


def read_label(path: str | os.PathLike, num_classes: int | None = None) -> np.ndarray:
    """Read a label map by index, whatever its colours.

    Args:
        path: PNG of mode P or L.
        num_classes: when given, values must be below it, or 255.

    Returns:
        uint8 HxW.

    Raises:
        InputError: if the file is unreadable, has colour channels, or holds a value of no class.
    """
    return decode_label(read_bytes(path), path, num_classes)


def decode_label(data: bytes, path: str | os.PathLike, num_classes: int | None = None) -> np.ndarray:
    """As `read_label`, from the bytes of ``path``."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width}x{image.height} pixels is beyond any label map; check the file")
            if image.mode not in ("P", "L", "1"):
                raise InputError(
                    f"{path}: a label map must be a palette or grey 8-bit PNG, found mode {image.mode}; "
                    "save the class indices, not their colours"
                )
            label = np.array(image.convert("L") if image.mode == "1" else image)
            if image.mode == "1":
                label = (label > 0).astype(np.uint8)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: more than {MAX_PIXELS} pixels is beyond any label map; check the file") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a readable PNG (no format that is known here); make it again") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: not a readable PNG ({error}); it may be cut short, make it again") from None
    if num_classes is not None:
        check_values(label, num_classes, path)
    return label


def check_values(label: np.ndarray, num_classes: int, path: str | os.PathLike) -> None:
    """Raise InputError if a uint8 label holds a value that is neither below ``num_classes`` nor void."""
    # max() is quick and usually decides; the full search is for the error message and void pixels.
    if label.size and label.max() >= num_classes:
        wrong = [v for v in np.flatnonzero(np.bincount(label.ravel(), minlength=256)) if num_classes <= v < VOID]
        if wrong:
            raise InputError(
                f"{path}: label values {', '.join(map(str, wrong[:8]))} with {num_classes} classes "
                f"(0 to {num_classes - 1}, and 255 for void); set the number of classes or mend the file"
            )


def encode_label(label: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """A uint8 HxW label as the bytes of a mode-P PNG with the given uint8 256x3 palette (default VOC's)."""
    if label.dtype != np.uint8 or label.ndim != 2:
        raise TypeError(f"a label map is uint8 HxW, not {label.dtype} with shape {label.shape}")
    # Strategies work column by column; OpenCV turns that round several times as fast as numpy.
    image = Image.fromarray(np.ascontiguousarray(label) if label.flags.c_contiguous else cv2.transpose(label.T))
    image.putpalette((voc.palette() if palette is None else palette).tobytes())
    buffer = io.BytesIO()
    # Level 1 costs a few per cent of size on label maps and saves most of the time.
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_label(path: str | os.PathLike, label: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write a uint8 HxW label atomically as a mode-P PNG (default palette: VOC's)."""
    write_bytes(path, encode_label(label, palette))
