"""SBD's class segmentations: MATLAB files, read without trusting them.

Source: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011.
"""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np

from util.data.labels import check_values
from util.data.voc import CLASS_NAMES
from util.runtime.errors import InputError

MAX_BYTES = 1 << 28  # no class segmentation of an image comes near this, unpacked


def decode_sbd(data: bytes, path: str | os.PathLike) -> np.ndarray:
    """The label map of a ``cls/<id>.mat`` file: the array ``GTcls.Segmentation``.

    Args:
        data: the bytes of ``path``, which is named in errors.

    Returns:
        uint8 HxW, values of VOC's classes or 255.

    Raises:
        InputError: if it is not a MATLAB file of version 5, is damaged, or holds anything else than such an array.
    """
    from scipy.io import loadmat

    _check_size(data, path)
    try:
        content = loadmat(io.BytesIO(data), variable_names=["GTcls"], squeeze_me=True, struct_as_record=True)
        label = content["GTcls"]["Segmentation"].item()
    except NotImplementedError:
        raise InputError(f"{path}: a MATLAB file of version 7.3, SBD's are of version 5; take the original") from None
    except Exception as error:  # a damaged file can raise nearly anything
        raise InputError(
            f"{path}: no readable SBD class segmentation ({type(error).__name__}: {error}); unpack it again"
        ) from None
    if not isinstance(label, np.ndarray) or label.ndim != 2 or label.dtype.kind not in "iu" or not label.size:
        found = f"{label.dtype} of shape {label.shape}" if isinstance(label, np.ndarray) else type(label).__name__
        raise InputError(f"{path}: GTcls.Segmentation is {found}; expected whole numbers HxW, take the original")
    if label.min() < 0 or label.max() > 255:
        raise InputError(f"{path}: GTcls.Segmentation holds {label.min()} to {label.max()}; expected classes below 256")
    label = np.ascontiguousarray(label, np.uint8)
    check_values(label, len(CLASS_NAMES), path)
    return label


def _check_size(data: bytes, path: str | os.PathLike) -> None:
    # Compressed elements could unpack to any size, so they are measured before the reader takes them.
    place = 128
    order = ">" if data[126:128] == b"MI" else "<"
    while place + 8 <= len(data):
        kind, size = struct.unpack(order + "II", data[place : place + 8])
        place += 8
        if kind == 15:  # compressed
            unpacker, unpacked = zlib.decompressobj(), 0
            rest = data[place : place + size]
            try:
                while rest:
                    unpacked += len(unpacker.decompress(rest, 1 << 20))
                    rest = unpacker.unconsumed_tail
                    if unpacked > MAX_BYTES:
                        raise InputError(
                            f"{path}: unpacks to more than {MAX_BYTES} bytes, SBD's never do; take the original"
                        )
            except zlib.error as error:
                raise InputError(f"{path}: damaged ({error}); unpack the archive again") from None
        place += size if kind == 15 else size + -size % 8
