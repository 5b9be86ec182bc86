"""Facts of PASCAL VOC, and class tables of other data sets."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from util.data.class_files import NamedColor, read_class_file
from util.runtime.errors import InputError

VOID = 255
OTHER_CLASSES = "give the classes that the file was made with (--class-names), or bring its values to these"
MAX_CLASSES = 254

CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


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
        colors: RGB triples, one per class.
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
        """Index of a class given by name (spelled as `plain_name` allows, if that is unambiguous) or by number.

        Raises:
            InputError: if there is no such class.
        """
        if name in self.names:
            return self.names.index(name)
        alike = [k for k, known in enumerate(self.names) if plain_name(known) == plain_name(name)]
        if len(alike) == 1:
            return alike[0]
        numbered = any(known.isdecimal() for known in self.names)  # then a number could be meant as a name
        if name.isascii() and name.isdecimal() and int(name) < len(self) and not numbered:
            return int(name)
        raise InputError(f"class {name!r} is unknown; the classes are {', '.join(self.names)}")


def plain_name(name: str) -> str:
    """A class name without case and word breaks: ``TV/monitor`` and ``dining table`` are VOC's own as well."""
    return re.sub(r"(?<=\w)[\s_/-]+(?=\w)", "", name.lower())


def class_table(names: tuple[str, ...] | list[str]) -> ClassTable:
    """A ClassTable with VOC's colours for the given names."""
    return ClassTable(tuple(names), tuple((int(r), int(g), int(b)) for r, g, b in _palette()[: len(names)]))


def load_classes(path: str | os.PathLike | None = None, num_classes: int | None = None) -> ClassTable:
    """Read a ``--class-names`` file: one class per line, background first, or what `util.data.class_files` reads.

    Args:
        path: the file; None gives VOC's 21 classes.
        num_classes: what ``--num-classes`` says, to be checked against the names. Without a file and with
            another number than 21, the classes are named ``class 1``, ``class 2``, ...

    Raises:
        InputError: if the file cannot be read or understood, or has fewer than 2, more than 254 or another number of
            classes.
    """
    if path is None:
        if num_classes is None or num_classes == len(CLASS_NAMES):
            return class_table(CLASS_NAMES)
        if not 2 <= num_classes <= MAX_CLASSES:
            raise InputError(f"--num-classes {num_classes}: labels are 8-bit, so 2 to {MAX_CLASSES} classes fit")
        return class_table(("background", *(f"class {index}" for index in range(1, num_classes))))
    table = table_of(read_class_file(path, num_classes), path)
    if num_classes is not None and num_classes != len(table):
        raise InputError(f"{path} names {len(table)} classes, --num-classes says {num_classes}; make them agree")
    return table


def table_of(entries: list[NamedColor], path: str | os.PathLike) -> ClassTable:
    """A ClassTable of the classes of the file ``path``, background first; VOC's colours where it has none.

    Raises:
        InputError: for fewer than 2 or more than 254.
    """
    if not 2 <= len(entries) <= MAX_CLASSES:
        raise InputError(
            f"{path}: {len(entries)} classes found; write the background first, then 1 to {MAX_CLASSES - 1} classes"
        )
    table = class_table([entry.name for entry in entries])
    return ClassTable(table.names, tuple(entry.color or color for entry, color in zip(entries, table.colors)))
