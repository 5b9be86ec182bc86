"""Soft CAMs: one ``.npy`` an image, TransCAM's format."""

from __future__ import annotations

import os

import numpy as np

from util.data.npy import load_npy_dict, save_npy_dict
from util.runtime.errors import InputError
from util.runtime.files import find_file


def read_cam(folder: str | os.PathLike, image_id: str) -> dict[int, np.ndarray]:
    """Read an image's soft CAMs.

    The files count classes from 0 without the background; the keys returned are label-map values (1 = first class).
    Published files dip below 0 and are clipped.

    Returns:
        class -> float32 HxW in [0, 1].

    Raises:
        InputError: if the file is missing or holds anything else than maps of one size.
    """
    path = find_file(folder, image_id, [".npy"], "soft CAM")
    cam: dict[int, np.ndarray] = {}
    for key, value in load_npy_dict(path).items():
        if not isinstance(key, (int, np.integer)) or not 0 <= key < 254:
            raise InputError(f"{path}: key {key!r} is no class index; expected 0-based integers")
        value = np.asarray(value)
        if value.ndim != 2 or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise InputError(f"{path}: class {key} has {value.dtype} of shape {value.shape}; expected finite float HxW")
        cam[int(key) + 1] = np.clip(value, 0, 1).astype(np.float32)
    if len({value.shape for value in cam.values()}) > 1:
        raise InputError(f"{path}: its maps differ in size; make the file again")
    return cam


def write_cam(folder: str | os.PathLike, image_id: str, cam: dict[int, np.ndarray]) -> None:
    """Write class (label-map value, from 1) -> float32 HxW in [0, 1] as ``folder/image_id.npy``."""
    save_npy_dict(
        os.path.join(folder, f"{image_id}.npy"),
        {label - 1: value.astype(np.float32) for label, value in cam.items()},
    )
