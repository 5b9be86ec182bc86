"""Facts of PASCAL VOC, and class tables of other data sets."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from util.runtime.errors import InputError
from util.runtime.files import read_text

VOID = 255
MAX_CLASSES = 254

CLASS_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@cache
def _palette() -> np.ndarray:
    index = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    colors.setflags(write=False)
    return colors


def palette() -> np.ndarray:
    """The VOC palette: uint8 256x3 RGB, a fresh copy. Index 255 (void) is cream."""
    return _palette().copy()


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set, background first.

    Attributes:
        names: class names; ``names[0]`` is the background.
        colors: RGB triples, one a class.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> np.ndarray:
        """uint8 256x3: the classes' colours, then VOC's."""
        full = palette()
        full[: len(self.colors)] = self.colors
        return full

    def index(self, name: str) -> int:
        """Index of a class given by name or by number.

        Raises:
            InputError: if there is no such class.
        """
        if name in self.names:
            return self.names.index(name)
        if name.isdecimal() and int(name) < len(self):
            return int(name)
        raise InputError(f"class {name!r} is unknown; the classes are {', '.join(self.names)}")


def class_table(names: tuple[str, ...] | list[str]) -> ClassTable:
    """A ClassTable with VOC's colours for the given names."""
    return ClassTable(tuple(names), tuple(tuple(int(v) for v in row) for row in _palette()[: len(names)]))


def load_classes(path: str | os.PathLike | None = None, num_classes: int | None = None) -> ClassTable:
    """Read a ``--class-names`` file: a class a line, background first, optionally ``#rrggbb`` or ``r,g,b`` after it.

    Args:
        path: the file; None gives VOC's 21 classes.
        num_classes: what ``--num-classes`` says, to be checked against the names. Without a file and with
            another number than 21, the classes are named ``class 1``, ``class 2``, ...

    Raises:
        InputError: for an empty file, a repeated name, a bad colour, more than 254 classes or another number.
    """
    if path is None:
        if num_classes is None or num_classes == len(CLASS_NAMES):
            return class_table(CLASS_NAMES)
        if not 2 <= num_classes <= MAX_CLASSES:
            raise InputError(f"--num-classes {num_classes}: labels are 8-bit, so 2 to {MAX_CLASSES} classes fit")
        return class_table(("background", *(f"class {index}" for index in range(1, num_classes))))
    names: list[str] = []
    colors: list[tuple[int, int, int]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"(.*?)[\s,;]+(#[0-9a-fA-F]{6}|\d+[\s,]+\d+[\s,]+\d+)", line.strip())
        name, color = (match[1].strip(), match[2]) if match else (line.strip(), None)
        if name in names:
            raise InputError(f"{path}, line {number}: class {name!r} stands there twice; name each class once")
        if color is None:
            rgb = tuple(int(v) for v in _palette()[len(names) % 255])
        elif color.startswith("#"):
            rgb = tuple(bytes.fromhex(color[1:]))
        else:
            rgb = tuple(int(v) for v in re.findall(r"\d+", color))
        if max(rgb) > 255:
            raise InputError(f"{path}, line {number}: colour {color!r} is outside 0..255; write #rrggbb or r,g,b")
        names.append(name)
        colors.append(rgb)
    if not 2 <= len(names) <= MAX_CLASSES:
        raise InputError(
            f"{path}: {len(names)} classes found; write the background first, then 1 to {MAX_CLASSES - 1} classes"
        )
    if num_classes is not None and num_classes != len(names):
        raise InputError(f"{path} names {len(names)} classes, --num-classes says {num_classes}; make them agree")
    return ClassTable(tuple(names), tuple(colors))
