"""The ``.npy`` dictionaries that WSSS projects exchange, read without running code."""

from __future__ import annotations

import io
import math
import operator
import os
import pickle
import pickletools
import re
from collections.abc import Callable

import numpy as np

from util.runtime.errors import InputError
from util.runtime.files import read_bytes, write_bytes

_ARRAYS = {f"{package}.{module}" for package in ("numpy.core", "numpy._core") for module in ("multiarray", "numeric")}
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[US]\d{1,6}|O8?")


def _check_opcodes(data: bytes) -> None:
    """Refuse what makes the unpickler take memory that the file does not fill: lengths and places that are made up."""
    for opcode, argument, _ in pickletools.genops(data):  # which raises ValueError for a length beyond the data
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise InputError(f"asks for {argument} places of memory with {len(data)} bytes")


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays, with plain Python in the place of numpy's own functions: these trust what a file says, and end
    the process where it lies, about a dtype's flags for instance."""

    def __init__(self, stream: io.BytesIO):
        super().__init__(stream)
        self._known = _stand_ins()  # fresh ones, since a pickle may write into them

    def find_class(self, module, name):
        known = module in _ARRAYS or (module, name) in (("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"))
        if not known or name not in self._known:
            raise InputError(f"asks for {module}.{name}, which could run code")
        return self._known[name]


class _Found:
    """What stands in the place of an array until all of its data is read."""

    value: object


def _stand_ins() -> dict[str, type | Callable]:
    class Dtype:
        def __init__(self, code, align=False, copy=False):
            self.code, self.order = str(code, "ascii") if isinstance(code, bytes) else code, "="
            if not _DTYPE.fullmatch(self.code):
                raise InputError(f"holds an array of {self.code!r}")

        def __setstate__(self, state):
            order = state[1]
            self.order = str(order, "ascii") if isinstance(order, bytes) else order
            if self.order not in ("<", ">", "=", "|"):
                raise ValueError(f"byte order {self.order!r}")

        def filled(self, data, shape, order="C"):
            shape = tuple(operator.index(side) for side in shape)
            dtype = np.dtype(self.order + self.code)
            if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data):
                raise ValueError(f"{len(data)} bytes for {dtype} of shape {shape}")
            return np.ndarray(shape, dtype, data, order=order)

    class Array(_Found):
        def __init__(self, kind, shape, code):
            pass

        def __setstate__(self, state):
            _, shape, dtype, fortran, data = state
            if dtype.code.startswith("O"):  # the dict itself
                if shape != () or len(data) != 1:
                    raise InputError(f"holds an array of objects with shape {shape}")
                self.value = data[0]
            else:
                self.value = dtype.filled(data, shape, "F" if fortran else "C")

    class Buffer(_Found):
        def __init__(self, data, dtype, shape, order):
            self.value = dtype.filled(data, shape, order)

    def scalar(dtype, data):
        return dtype.filled(data, ())[()]

    def encode(text, encoding):
        if encoding != "latin1":
            raise ValueError(f"encoding {encoding!r}")
        return text.encode("latin1")

    return {"_reconstruct": Array, "_frombuffer": Buffer, "scalar": scalar, "dtype": Dtype, "ndarray": object(),
            "encode": encode}  # fmt: skip


def _taken_out(value: object, limit: int) -> object:
    """The value with arrays of its own memory in the place of what stood for them.

    Raises:
        InputError: if they take more than ``limit`` bytes, as when many are made of the same ones.
    """
    room, arrays = limit, {}

    def taken(part):
        nonlocal room
        if isinstance(part, _Found) and not hasattr(part, "value"):
            raise InputError("says that it holds an array, whose values do not follow")
        if isinstance(part, _Found) and isinstance(part.value, np.ndarray):
            if id(part) not in arrays:  # an array may stand in several places
                room -= part.value.nbytes
                if room < 0:
                    raise InputError(f"says that it holds over {limit} bytes, in a file of {limit}")
                arrays[id(part)] = part.value.copy(order="K")
            return arrays[id(part)]
        part = part.value if isinstance(part, _Found) else part
        if type(part) in (list, tuple):
            return type(part)(taken(item) for item in part)
        return {key: taken(item) for key, item in part.items()} if type(part) is dict else part

    return taken(value)


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
        value = _taken_out(_ArraysOnly(stream).load(), len(data))
        if not isinstance(value, dict):
            raise InputError(f"holds a {type(value).__name__}")
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
