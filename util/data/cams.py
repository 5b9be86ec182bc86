"""Soft CAMs: one ``.npy`` per image in TransCAM's format; IRN's files and ``.npz`` are read as well."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from util.data.npy import kind_of, load_npy, save_npy_dict
from util.runtime.errors import InputError
from util.runtime.files import find_file

MAPS = ("high_res", "attn_highres", "cam")  # where IRN's and CLIP-ES's files have them, the best first
MOST = 1.1  # a map in 0..1 may pass 1 by its interpolation


def cam_file(folder: str | os.PathLike, image_id: str) -> Path:
    """The soft CAMs of an id.

    Raises:
        InputError: if they are missing, or there are two files of which one may be old.
    """
    both = [f"{image_id}{suffix}" for suffix in (".npy", ".npz")]
    if all(os.path.isfile(os.path.join(folder, name)) for name in both):
        raise InputError(f"{folder}: both {both[0]} and {both[1]} are there; delete the one that is old")
    return find_file(folder, image_id, [".npy", ".npz"], "soft CAM")


def read_cam(folder: str | os.PathLike, image_id: str) -> dict[int, np.ndarray]:
    """Read an image's soft CAMs.

    The files count classes from 0 without the background; the keys returned are label-map values (1 = first class).
    TransCAM's are a dict class -> map, IRN's a dict with ``keys`` (the classes) and ``high_res`` or ``cam`` (a map of each),
    CLIP-ES's with ``attn_highres``. Published files dip below 0 and are clipped.

    Returns:
        class -> float32 HxW in [0, 1].

    Raises:
        InputError: if the file is missing, holds anything else than maps of one size, or has values far above 1.
    """
    path = cam_file(folder, image_id)
    cam: dict[int, np.ndarray] = {}
    try:
        maps = {key: np.asarray(value) for key, value in _maps(load_npy(path), path).items()}
    except ValueError as error:  # lists of unequal length
        raise InputError(f"{path}: its maps are not arrays ({error}); expected a dict class -> HxW") from None
    for key, value in maps.items():
        if isinstance(key, str) and key.isdecimal():  # the names in an .npz
            key = int(key)
        if not isinstance(key, (int, np.integer)) or not 0 <= key < 254:
            raise InputError(f"{path}: key {key!r} is not a class index; expected 0-based integers")
        if value.ndim != 2 or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise InputError(f"{path}: class {key} has {value.dtype} of shape {value.shape}; expected finite float HxW")
        if value.size and (value.max() < 0 or value.min() < -1):
            raise InputError(
                f"{path}: class {key} has values from {value.min():.4g} to {value.max():.4g}, where soft CAMs run from 0 to 1. "
                "They may be scores (logits); give what is above 0, divided by its maximum, or sigmoids"
            )
        if value.size and value.max() > MOST:
            raise InputError(
                f"{path}: class {key} has values up to {value.max():.4g}, where soft CAMs run from 0 to 1. They may be scores, "
                "to be divided by each map's maximum, or shares of 255; save them as 0 to 1"
            )
        cam[int(key) + 1] = np.clip(value, 0, 1).astype(np.float32)
    if len({value.shape for value in cam.values()}) > 1:
        raise InputError(f"{path}: its maps differ in size; make the file again")
    return cam


def _maps(content: Any, path: Path) -> dict:
    """0-based class -> map."""
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: refused, it holds {kind_of(content)}, which does not say what class each map is of; expected a dict class -> map"
        )
    if "keys" not in content:
        return content
    name = next((name for name in MAPS if name in content), None)
    if name is None:
        raise InputError(
            f"{path}: it has keys but no maps: found {', '.join(map(str, content))}, none of {', '.join(MAPS)}; save the "
            "KxHxW array under one of these"
        )
    keys, maps = np.asarray(content["keys"]), np.asarray(content[name])
    if keys.ndim != 1 or maps.ndim != 3 or len(keys) != len(maps):
        raise InputError(
            f"{path}: keys of shape {keys.shape} and {name} of shape {maps.shape}; expected IRN's format, K classes and "
            "KxHxW"
        )
    if len(np.unique(keys)) < len(keys):
        raise InputError(f"{path}: its keys {keys.tolist()} name a class twice; make the file again")
    if len(keys) > 1 and keys[0] == 0 and np.allclose(maps[0], 1 - maps[1:].max(axis=0), atol=1e-3):
        raise InputError(
            f"{path}: the map of its key 0 is what the others leave: that of the background, with which the keys count from 1. "
            "Here they count from 0 without the background; leave that map out and lower the keys by 1"
        )
    return dict(zip(keys.tolist(), maps, strict=True))


def fit_cam(cam: dict[int, np.ndarray], shape: tuple[int, int]) -> dict[int, np.ndarray]:
    """Soft CAMs as large as their image, whose proportions they must have; enlarged bilinearly.

    Args:
        cam: class -> float32 HxW in [0, 1], see `read_cam`.
        shape: (H, W) of the image.

    Raises:
        InputError: if they have other proportions.
    """
    fitted = {}
    for label, value in cam.items():
        (height, width), (tall, wide) = value.shape, shape
        # A network's maps are its input over its stride, rounded up or down.
        if not value.size or abs(height - width * tall / wide) > 1 and abs(width - height * wide / tall) > 1:
            raise InputError(
                f"the soft CAM of class {label - 1} is {width}x{height} pixels, the image {wide}x{tall}: other proportions; "
                "give the CAMs of these images, with the padding cut off and not squeezed into a square"
            )
        fitted[label] = (
            value if value.shape == shape else cv2.resize(value, (wide, tall), interpolation=cv2.INTER_LINEAR)
        )
    return fitted


def write_cam(folder: str | os.PathLike, image_id: str, cam: dict[int, np.ndarray]) -> Path:
    """Write class (label-map value, at least 1) -> float32 HxW in [0, 1] as ``folder/image_id.npy``, and give its path."""
    path = Path(folder, f"{image_id}.npy")
    save_npy_dict(path, {label - 1: value.astype(np.float32) for label, value in cam.items()})
    return path
