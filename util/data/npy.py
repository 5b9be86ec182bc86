"""The ``.npy`` and ``.npz`` files that WSSS projects exchange, read without running code."""

from __future__ import annotations

import io
import math
import operator
import os
import pickle
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from util.runtime.errors import InputError
from util.runtime.files import read_bytes, write_bytes

PICKLES = (".pkl", ".pickle")
LARGEST_ARCHIVE = 1 << 30  # bytes that an .npz may unpack to

_DTYPE = re.compile(r"[<>=|](b1|[iu][1248]|f[248]|[US][1-9]\d{0,5}|O8?)")
# IRN saves torch tensors as they are; their values are read as numpy's.
_STORAGES = dict(Double="f8", Float="f4", Half="f2", Long="i8", Int="i4", Short="i2", Char="i1", Byte="u1", Bool="b1")


@dataclass
class _Dtype:
    """A dtype as a pickle describes it; not numpy's own, whose state is trusted down to flags that end the process."""

    code: str
    align: bool = False
    copy: bool = False
    order: str = "="

    def of(self, data: bytes | list | memoryview, shape: Any) -> tuple[np.dtype, tuple[int, ...]]:
        """numpy's dtype and a shape, which together fill ``data`` exactly."""
        if not _DTYPE.fullmatch(self.order + self.code):
            raise InputError(f"holds an array of {self.code!r}")
        dtype, shape = np.dtype(self.order + self.code), tuple(operator.index(side) for side in shape)
        if dtype.hasobject and (len(shape) > 1 or not isinstance(data, list)):
            raise InputError(f"holds an array of objects with shape {shape}")
        # numpy takes 32 axes or 64, by its version, and writes beyond its memory for more.
        if len(shape) > 32 or min(shape, default=0) < 0:
            raise ValueError(f"an array of shape {shape}")
        if math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize) != len(data):
            raise ValueError(f"{len(data)} values or bytes for {dtype} of shape {shape}")
        return dtype, shape


@dataclass
class _Empty:
    """Stands for an array until its state follows; ``place`` is its own in the unpickler's memo."""

    place: int


class _ArraysOnly(pickle._Unpickler):  # the one in Python: there, BUILD can be replaced, and the memo is a dict
    """Unpickles arrays of numpy and torch, each checked against its bytes before it is made."""

    stack: list[Any]
    memo: dict[int, Any]

    def __init__(self, stream: io.BytesIO, size: int):
        super().__init__(stream)
        self.stream, self.size, self.room, self.unfilled = stream, size, size, 0
        self.lists: list[list] = []  # arrays of objects
        self.known: dict[str, object] = {
            "numpy.ndarray": None,
            "numpy.dtype": _Dtype,
            "_codecs.encode": _latin1,
            "collections.OrderedDict": dict,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch.storage._load_from_bytes": self._storage,
            **{f"torch.{name}Storage": code for name, code in _STORAGES.items()},
        }
        for package in ("numpy.core", "numpy._core"):
            self.known[f"{package}.multiarray._reconstruct"] = lambda *kind: self._empty()
            self.known[f"{package}.multiarray.scalar"] = lambda dtype, data: self._array(data, dtype, ())[()]
            self.known[f"{package}.numeric._frombuffer"] = self._array

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self.known:
            raise InputError(f"asks for {module}.{name}, which could run code")
        return self.known[f"{module}.{name}"]

    def load_build(self) -> None:
        state = self.stack.pop()
        made: Any = self.stack[-1]
        if isinstance(made, _Dtype):
            made.order = state[1]
        elif isinstance(made, _Empty):
            _, shape, dtype, fortran, data = state
            self.stack[-1] = value = self._array(data, dtype, shape, "F" if fortran else "C")
            self.unfilled -= 1
            place = made.place
            if self.memo.get(place) is made:  # for a second mention of the same array
                self.memo[place] = value
        else:
            raise InputError(f"sets the state of a {type(made).__name__}")

    def persistent_load(self, pid: Any) -> Any:
        return pid[1]  # torch's description of a storage, of which the type counts

    dispatch: ClassVar[dict] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}

    def load(self) -> Any:
        value = super().load()
        if (places := max(self.memo, default=0)) > self.size:
            raise InputError(f"asks for {places} places of memory with {self.size} bytes")
        if self.unfilled > 0:
            raise InputError("says that it holds an array, whose values do not follow")
        if any(part is not value for part in self.lists):
            raise InputError("holds an array of objects inside of others")
        return value

    def _empty(self) -> _Empty:
        self.unfilled += 1
        return _Empty(place=len(self.memo))

    def _take(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise InputError("says that it holds more bytes than the file has")

    def _array(self, data: Any, dtype: _Dtype, shape: Any, order: Literal["C", "F"] = "C") -> Any:
        """An array of its own memory; of an array of one object, which is how numpy saves a dict, that object, and of one
        of several, such as segment-anything's masks, their list."""
        kind, shape = dtype.of(data, shape)
        if kind.hasobject and shape != ():
            self.lists.append(data)
        if kind.hasobject:
            return data if shape else data[0]
        self._take(len(data))
        return np.frombuffer(bytearray(data), kind).reshape(shape, order=order)

    def _storage(self, data: bytes) -> np.ndarray:
        """A torch storage: five pickles (magic number, version, system, storage, keys), its length, its values."""
        inner = _ArraysOnly(io.BytesIO(data), len(data))
        code = [inner.load() for _ in range(5)][3]
        (count,) = struct.unpack("<q", inner.stream.read(8))
        values = memoryview(data)[inner.stream.tell() :]
        return np.frombuffer(values, _Dtype(code, order="<").of(values, (count,))[0])

    def _tensor(self, storage: np.ndarray, offset: int, size: tuple, stride: tuple, *more: object) -> np.ndarray:
        last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
        if storage.ndim != 1 or min((offset, *size, *stride)) < 0 or (math.prod(size) and last >= len(storage)):
            raise ValueError(f"{len(storage)} values for a tensor of shape {size}")
        self._take(math.prod(size) * storage.itemsize)
        strides = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin1")


def _read_array(data: bytes) -> Any:
    """The array of a ``.npy`` file, or the object in it."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject and len(shape) <= 1:
        return _ArraysOnly(stream, len(data)).load()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise InputError(f"holds an array of {dtype} with shape {shape}, which its bytes do not make")
    return np.frombuffer(bytearray(data[stream.tell() :]), dtype).reshape(shape, order="F" if fortran else "C")


def _read_archive(data: bytes) -> Any:
    """The arrays of an ``.npz`` file, by name; the dict where there is nothing else in it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST_ARCHIVE:
            raise InputError(f"unpacks to {size} bytes, more than {LARGEST_ARCHIVE >> 20} MiB")
        values = {name.removesuffix(".npy"): _read_array(archive.read(name)) for name in archive.namelist()}
    only = next(iter(values.values())) if len(values) == 1 else None
    return only if isinstance(only, dict) else values


def decode_npy(data: bytes, path: str | os.PathLike) -> Any:
    """What ``numpy.save`` or ``numpy.savez`` wrote to ``path``, or a pickle (``.pkl``): an array, a dict or list of arrays.

    Nothing else is unpickled. Tensors of torch in the dict, as IRN writes them, come as arrays.

    Raises:
        InputError: if the file is unreadable, or its pickle asks for anything but arrays.
    """
    suffix = Path(path).suffix.lower()
    if data.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a pointer of Git LFS in the place of the file; run git lfs pull")
    try:
        if suffix in PICKLES:
            return _ArraysOnly(io.BytesIO(data), len(data)).load()
        return _read_archive(data) if suffix == ".npz" else _read_array(data)
    except InputError as error:
        raise InputError(f"{path}: refused, it {error}; expected a dict of arrays saved by numpy") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: not a readable .npy dict ({reason}); it may be damaged, make it again") from None


def load_npy(path: str | os.PathLike) -> Any:
    """As `decode_npy`, from the file."""
    return decode_npy(read_bytes(path), path)


def load_npy_dict(path: str | os.PathLike) -> dict:
    """As `load_npy`, for a dict of arrays.

    Raises:
        InputError: also if the file holds something else.
    """
    value = load_npy(path)
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: refused, it holds {kind_of(value)}; expected a dict of arrays saved by numpy, id -> row: "
            "numpy.save(FILE, dict(zip(ids, rows)))"
        )
    return value


def kind_of(value: Any) -> str:
    """For messages: what `load_npy` gave."""
    is_array = isinstance(value, np.ndarray)
    return f"an array of {value.dtype} with shape {value.shape}" if is_array else f"a {type(value).__name__}"


def save_npy_dict(path: str | os.PathLike, value: dict) -> None:
    """Write a dict of arrays as ``numpy.save`` does, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(value, dtype=object), allow_pickle=True)
    write_bytes(path, buffer.getvalue())
