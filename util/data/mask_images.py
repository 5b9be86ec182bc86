"""Masks as images and arrays: folders of PNG, JPEG, TIFF or ``.npy`` files, and stacks of arrays."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from util.data.images import LOSSLESS, check_depth, open_image, turn_upright
from util.data.masks import Masks
from util.data.npy import decode_npy
from util.runtime.errors import InputError
from util.runtime.files import list_files, read_bytes

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy")  # of one mask
FEW = 16  # values or colours, up to which each may be an object
TABLE = "metadata.csv"  # which segment-anything's amg.py writes beside its PNG files


def mask_files_of(folder: Path) -> list[Path]:
    """The masks in a folder, in the order of their numbers."""
    return sorted(list_files(folder, SUFFIXES), key=lambda file: (len(file.stem), file.stem))


def read_mask_folder(folder: Path) -> Masks | None:
    """The masks of a folder, one per file, with the scores of ``metadata.csv``; None if it is empty.

    Raises:
        InputError: if a file is not a mask, none of them may be one, or they differ in size.
    """
    files, dense = mask_files_of(folder), []
    for file in files:
        dense.append(_read_mask(file))
        if dense[-1].shape != dense[0].shape:
            raise InputError(f"{file}: differs in size from {files[0].name}; make the folder again")
    scores = _amg_metadata(folder / TABLE)
    stems = [str(int(file.stem)) if file.stem.isdecimal() else file.stem for file in files]
    if scores and (odd := sorted(set(stems) ^ scores.keys())):
        raise InputError(
            f"{folder}: {TABLE} names {len(scores)} masks, and {len(files)} are here; {odd[0]} is in one of them alone. "
            f"Make the folder again, or delete {TABLE} to do without its scores"
        )
    if not dense:
        others = [file.name for file in list_files(folder) if file.name != TABLE]
        if others:
            raise InputError(
                f"{folder}: {len(others)} files, such as {others[0]}, and none of them a mask ({', '.join(SUFFIXES)}); "
                "save each mask as a PNG of 0 and 255"
            )
        return None
    known = [scores.get(stem, (np.nan, np.nan)) for stem in stems]
    return Masks.from_dense(np.stack(dense), [k[0] for k in known], [k[1] for k in known])


def _read_mask(file: Path) -> np.ndarray:
    data = read_bytes(file)
    if file.suffix.lower() == ".npy":
        masks = stack_of(decode_npy(data, file), file)
        if len(masks) != 1:
            raise InputError(
                f"{file}: {len(masks)} masks, where a file of this folder has one; name it like its folder"
            )
        return masks[0]
    with open_image(data, file, "mask") as image:
        return turn_upright(mask_of_image(image, file), image)


def _amg_metadata(path: Path) -> dict[str, tuple[float, float]]:
    """id -> (predicted IoU, stability score), from the table that ``amg.py`` writes."""
    if not path.is_file():
        return {}
    try:
        rows = csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig")))
        return {row["id"]: (float(row["predicted_iou"]), float(row["stability_score"])) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the metadata.csv of amg.py ({error}); make it again") from None


def mask_of_image(image: Image.Image, path: Path) -> np.ndarray:
    """bool HxW: the mask that an image shows, by what varies in it: grey, colour or alpha.

    Raises:
        InputError: if it may be several masks, or none.
    """
    if (count := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
        raise InputError(f"{path}: {count} images in one file, where each mask is a file; save them one by one")
    check_depth(image, path)
    is_lossless = image.format in LOSSLESS
    if image.mode == "1":
        return np.array(image)
    if image.mode.startswith("I") or image.mode in ("F", "L"):
        return _of_grey(np.asarray(image), path, is_lossless)
    colours = np.asarray(image.convert("RGBA"))
    rgb, alpha = colours[..., :3], colours[..., 3]
    if image.mode == "P" and (rgb == rgb[:1, :1]).all():  # a palette of one colour
        rgb = np.asarray(image)[..., None]
    if (alpha == alpha[:1, :1]).all():
        return _of_colours(rgb, path, is_lossless)
    by_alpha = _of_grey(alpha, path, is_lossless)
    try:
        by_colour = by_alpha if (rgb == rgb[:1, :1]).all() else _of_colours(rgb, path, is_lossless)
    except InputError:  # the object cut out of its image
        return by_alpha
    if not np.array_equal(by_alpha, by_colour):
        raise InputError(f"{path}: colour and alpha show different masks; save the right one as a PNG of 0 and 255")
    return by_alpha


def _of_colours(rgb: np.ndarray, path: Path, is_lossless: bool) -> np.ndarray:
    if (rgb == rgb[..., :1]).all():
        return _of_grey(rgb[..., 0], path, is_lossless)
    lit = rgb.max(axis=2)
    colours = np.unique(rgb.reshape(-1, 3)[lit.ravel() > 0], axis=0)
    if len(colours) == 1:
        return lit > 0
    if is_lossless and len(colours) <= FEW and sum(_is_area((rgb == colour).all(axis=2)) for colour in colours) > 1:
        raise InputError(
            f"{path}: areas of several colours, which may be several objects; save each as a PNG of 0 and 255"
        )
    return _of_grey(lit, path, is_lossless)


def _of_grey(values: np.ndarray, path: Path, is_lossless: bool) -> np.ndarray:
    """0 and one other value; or, where values run between, as after scaling and in a JPEG, what is nearer to the highest.

    Values from 128 on have always been the mask; an image of lower or of many different values may as well hold the numbers
    of several objects.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{path}: values that are not finite; save the mask as a PNG of 0 and 255")
    if values.dtype == np.uint8:  # as below, at a tenth of the time
        counts = np.bincount(values.ravel(), minlength=256)
        present = np.flatnonzero(counts)
        counts = counts[present]
    else:
        present, counts = np.unique(values, return_counts=True)
    if len(present) == 1 or (len(present) == 2 and present[0] == 0):
        return values > 0
    low, high = float(present[0]), float(present[-1])
    full = 255.0 if high <= 255 else 65535.0
    between = (present > 0.1 * high) & (present < 0.9 * high)
    # Of few values, none but the lowest and the highest should fill more than a border.
    inner = present[1:-1] if is_lossless and len(present) <= FEW else present[:0]
    unlike = low < 0 or low > 0.1 * high or high <= full / 2
    if (
        unlike
        or 2 * counts[between].sum() >= counts[present > 0.1 * high].sum()
        or any(_is_area(values == value) for value in inner)
    ):
        shown = ", ".join(f"{value:g}" for value in present[:6]) + (", ..." if len(present) > 6 else "")
        raise InputError(
            f"{path}: the values {shown} may be one mask, faint or soft, or the numbers of several objects; "
            "save each mask as a PNG of 0 and 255"
        )
    return values > full / 2 - 0.5


def _is_area(mask: np.ndarray) -> bool:
    """Whether it is more than a border: somewhere five pixels wide and high."""
    return bool(cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0).any())


def stack_of(values: Any, path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """bool KxHxW: the masks of an array KxHxW, Kx1xHxW, 1xKxHxW, HxW, or HxWxK where ``size`` shows it to be.

    Raises:
        InputError: if it is not such an array of 0 and one other value.
    """
    try:
        values = np.asarray(values)
    except ValueError:
        raise InputError(f"{path}: its masks differ in shape; give each the size of the image") from None
    if values.ndim == 4 and 1 in values.shape[:2]:
        values = values[:, 0] if values.shape[1] == 1 else values[0]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.dtype.kind not in "buif":
        raise InputError(
            f"{path}: an array of {values.dtype} with shape {values.shape}; expected masks of shape KxHxW with 0 and 1"
        )
    if size is not None and values.shape[1:] != tuple(size) == values.shape[:2]:
        values = np.moveaxis(values, 2, 0)
    if values.dtype.kind == "b":
        return values
    present = np.unique(values)
    if len(present) > 2 or (present < 0).any() or (len(present) == 2 and present[0] != 0) or np.isnan(present).any():
        kind = "logits or probabilities" if values.dtype.kind == "f" else "one mask or the numbers of several objects"
        raise InputError(
            f"{path}: values from {present[0]:g} to {present[-1]:g}, which may be {kind}; save masks of 0 and 1"
        )
    return values > 0
