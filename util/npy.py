"""The ``.npy`` dictionaries that WSSS projects exchange, read without running code."""

from __future__ import annotations

import io
import os
import pickle
import pickletools

import numpy as np

from util.errors import InputError
from util.files import read_bytes, write_bytes

# What numpy's own pickles of arrays, scalars and dtypes name; nothing here can run a command.
_ALLOWED = {
    (module, name)
    for package in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{package}.multiarray", "_reconstruct"),
        (f"{package}.multiarray", "scalar"),
        (f"{package}.numeric", "_frombuffer"),
    )
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


def _check_opcodes(data: bytes) -> None:
    """Refuse what makes the unpickler take memory that the file does not fill: lengths and places that are made up."""
    for opcode, argument, _ in pickletools.genops(data):  # which raises ValueError for a length beyond the data
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise InputError(f"asks for {argument} places of memory with {len(data)} bytes")


def _check_size(value: object, limit: int) -> None:
    # An array's bytes stand in the file, so none is larger than that, but for one that never was filled.
    for array in value.values() if isinstance(value, dict) else ():
        if isinstance(array, np.ndarray) and array.nbytes > limit:
            raise InputError(f"says that it holds {array.nbytes} bytes, in a file of {limit}")


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise InputError(f"asks for {module}.{name}, which could run code")
        return super().find_class(module, name)


def load_npy_dict(path: str | os.PathLike) -> dict:
    """Read a dict of arrays that was saved by ``numpy.save``; nothing but numpy arrays is unpickled.

    Raises:
        InputError: if the file is unreadable, is no such dict, or its pickle asks for anything but arrays.
    """
    data = read_bytes(path)
    try:
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if not dtype.hasobject or shape != ():
            raise InputError(f"holds an array of {dtype} with shape {shape}")
        _check_opcodes(data[stream.tell() :])
        value = _ArraysOnly(stream).load()
        value = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
        if not isinstance(value, dict):
            raise InputError(f"holds a {type(value).__name__}")
        _check_size(value, len(data))
    except InputError as error:
        raise InputError(f"{path}: refused, it {error}; expected a dict of arrays saved by numpy") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: not a readable .npy dict ({reason}); it may be damaged, make it again") from None
    return value


def save_npy_dict(path: str | os.PathLike, value: dict) -> None:
    """Write a dict of arrays as ``numpy.save`` does, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(value, dtype=object), allow_pickle=True)
    write_bytes(path, buffer.getvalue())
