"""Label maps: 8-bit PNG files, 0 = background, 255 = void."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from util.data import voc
from util.data.images import LOSSLESS, check_depth, is_turned, open_image, turn_upright
from util.data.voc import OTHER_CLASSES, VOID
from util.runtime.errors import InputError
from util.runtime.files import find_file, read_bytes, write_bytes

_VOC_PALETTE = voc.palette().tobytes()


def label_path(folder: str | os.PathLike, image_id: str) -> Path:
    """The label map of an id.

    Raises:
        InputError: if it is missing.
    """
    return find_file(folder, image_id, [".png"], "label map")


def read_label(path: str | os.PathLike, num_classes: int | None = None) -> np.ndarray:
    """Read a label map by index, whatever its colours.

    Args:
        path: PNG of mode P or L; also of 16 bits, of three equal channels, or with a full alpha channel. Turned by its EXIF
            orientation, where it has one, as its image is.
        num_classes: when given, values must be below it, or 255.

    Returns:
        uint8 HxW.

    Raises:
        InputError: if the file is unreadable, holds colours instead of indices, a value of no class, or a palette by which
            the indices are other classes than the colours.
    """
    return decode_label(read_bytes(path), path, num_classes)


def decode_label(data: bytes, path: str | os.PathLike, num_classes: int | None = None) -> np.ndarray:
    """As `read_label`, from the bytes of ``path``."""
    with open_image(data, path, "label map") as image:
        check_depth(image, path)
        label = _indices(image, path)
        if image.format not in LOSSLESS:
            raise InputError(f"{path}: {image.format}, whose compression changes class indices; save label maps as PNG")
        if image.mode == "P":
            _check_palette(image, label, num_classes or len(voc.CLASS_NAMES), path)
        label = turn_upright(label, image)
    if num_classes is not None:
        check_values(label, num_classes, path)
    return label


def _indices(image: Image.Image, path: str | os.PathLike) -> np.ndarray:
    """uint8 HxW, the values of an open image, if these are one number per pixel in one way or another."""
    values = np.array(image)
    if image.mode in ("P", "L"):
        return values
    if image.mode == "1":
        return values.astype(np.uint8)
    if image.mode.startswith("I"):
        if values.size and not 0 <= values.min() <= values.max() <= VOID:
            raise InputError(
                f"{path}: values from {values.min()} to {values.max()} in a label map of mode {image.mode}; class indices "
                f"are 0 to {VOID - 1}, and {VOID} for void. Save these"
            )
        return values.astype(np.uint8)
    bands = image.getbands()
    if bands[-1] == "A" and (values[..., -1] == 255).all():
        values, bands = values[..., :-1], bands[:-1]
    if bands in (("L",), ("R", "G", "B")) and (values == values[..., :1]).all():
        return np.ascontiguousarray(values[..., 0])
    raise InputError(
        f"{path}: a label map holds one class index per pixel, found mode {image.mode}; save the class indices, not their "
        f"colours{_classes_of(values)}"
    )


def _classes_of(values: np.ndarray) -> str:
    """For messages: which classes of VOC the colours of an RGB image are, if they are."""
    if values.ndim != 3 or values.shape[2] != 3:
        return ""
    meant = _nearest(np.unique(values.reshape(-1, 3), axis=0)[:99], len(voc.CLASS_NAMES))
    if (meant < 0).any():
        return ""
    return f" (these are VOC's, of the values {', '.join(map(str, sorted(meant)))}; util.data.voc.palette() has all)"


def _nearest(colours: np.ndarray, num_classes: int) -> np.ndarray:
    """int N: the class that has each colour (uint8 Nx3) in VOC's palette, less rounding; -1 for none."""
    known = np.array([*range(num_classes), VOID])
    far = np.abs(colours[:, None].astype(int) - voc.palette()[known]).max(axis=2)
    return np.where(far.min(axis=1) <= 8, known[far.argmin(axis=1)], -1)


def _check_palette(image: Image.Image, label: np.ndarray, num_classes: int, path: str | os.PathLike) -> None:
    """Raise InputError if the colours of a label map are those of VOC's classes, but of others than its indices.

    Editors that save a PNG with a palette of its own (quantised, "adaptive") number the colours anew.
    """
    if image.palette is not None and image.palette.getdata() == ("RGB", _VOC_PALETTE):
        return  # as nearly always; the rest takes time
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if (colours == voc.palette()[: len(colours)]).all(axis=1).sum() > 128:
        return  # VOC's, with other colours for the first classes, as this project writes it
    used = np.flatnonzero(np.bincount(label.ravel()))
    used = used[used < len(colours)]
    if (colours[used] == colours[used, :1]).all():
        _check_greys(used, colours[used, 0].astype(int), num_classes, path)
        return
    meant = _nearest(colours[used], num_classes)
    if (meant < 0).any() or (meant == used).all():
        return
    wrong = used[meant != used][0]
    raise InputError(
        f"{path}: a palette PNG whose value {wrong} has the colour that VOC gives to {meant[meant != used][0]}. Either an "
        "editor numbered the colours anew, and the colours are right, or the classes have a numbering of their own, and the "
        "values are right; save the right ones without a palette, as a grey PNG"
    )


def _check_greys(used: np.ndarray, levels: np.ndarray, num_classes: int, path: str | os.PathLike) -> None:
    """Raise InputError if a palette of greys has other classes for levels than the numbers that stand for these.

    Optimisers of PNG files turn a grey label map into such a palette: 1 then stands for the grey 8.
    """
    if (levels == used).all() or not ((levels < num_classes) | (levels == VOID)).all() or set(levels) <= {0, VOID}:
        return
    wrong = used[levels != used][0]
    raise InputError(
        f"{path}: a palette PNG whose value {wrong} has the grey level {levels[levels != used][0]}. Either a program has "
        "repacked a grey label map, and the levels are the classes, or the values are; save the right ones as a grey PNG"
    )


def check_label_size(
    label: tuple[int, int], label_file: str | os.PathLike, image: tuple[int, int], image_file: str | os.PathLike
) -> None:
    """Raise InputError if a label map and its image differ in size, which are (height, width)."""
    if label == image:
        return
    found = f"{label_file}: the label is {label[1]}x{label[0]} pixels, its image {image[1]}x{image[0]}; "
    if label == image[::-1] and is_turned(image_file):
        raise InputError(
            f"{found}the image is stored on its side, and turned upright by its EXIF orientation, which the tool that made "
            "the label has ignored. Turn the label in the same way, or make it on an image without that tag"
        )
    raise InputError(f"{found}make the label at the size of the image")


class OtherClasses(InputError):
    """A label map holds values of no class."""


def check_values(label: np.ndarray, num_classes: int, path: str | os.PathLike) -> None:
    """Raise OtherClasses if a uint8 label holds a value that is neither below ``num_classes`` nor void."""
    # max() is quick and usually decides; the full search is for the error message and void pixels.
    if label.size and label.max() >= num_classes:
        wrong = [v for v in np.flatnonzero(np.bincount(label.ravel(), minlength=256)) if num_classes <= v < VOID]
        if wrong:
            raise OtherClasses(
                f"{path}: label values {', '.join(map(str, wrong[:8]))} with {num_classes} classes "
                f"(0 to {num_classes - 1}, and 255 for void); {OTHER_CLASSES}"
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
