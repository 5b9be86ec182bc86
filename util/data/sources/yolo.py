"""YOLO: a text file per image with one line per object, and the names of the classes in ``data.yaml`` or a list.

Ultralytics, "Object detection", "Instance segmentation", "OBB" and "Pose datasets" (docs.ultralytics.com/datasets); Roboflow's
and Label Studio's YOLO exports; CVAT's "YOLO 1.1" and "Ultralytics YOLO". Numbers are shares of the image: ``class x y width
height`` is a box, which says what an image shows and not where; ``class x1 y1 x2 y2 x3 y3 ...`` is an outline. Outlines that all
have four points are taken for oriented boxes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from util.data.class_files import list_classes
from util.data.ids import id_of
from util.data.sources.base import (
    Item,
    Region,
    Shape,
    Source,
    distinct,
    files_below,
    files_of,
    folder_of,
    outline,
    read_yaml,
    split_of,
    walk,
)
from util.runtime.errors import InputError
from util.runtime.files import read_text

_YAML = ("*.yaml", "*.yml", "*/data.yaml", "*/data.yml")
_LISTS = ("obj.names", "classes.txt", "*/classes.txt", "*/*/classes.txt", "*.names")
_DEFAULTS = ("predefined_classes.txt", "*/predefined_classes.txt")  # labelImg's list of names to choose from
_FOLDERS = {"images", "labels", "obj_train_data", "obj_val_data", "obj_test_data"}
_FEW = 20  # lines that are looked at to find out whether a text is YOLO's
_MOST = 1.05  # a share of the image may pass 1 by rounding


@dataclass(frozen=True)
class _Mark:
    """One line: the number of its class, and float64 Nx2 points as shares of the image; none of a box."""

    value: int
    points: np.ndarray


def fits(path: Path) -> bool:
    """Whether there are text files beside the images, or in ``labels``, that hold lines as YOLO's."""
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        return False
    return any(map(_holds_lines, list(_label_files(folder_of(path)).values())[:50]))


def _holds_lines(file: Path) -> bool:
    """Whether the first lines are YOLO's: the boxes of CUB-200 (``1 60.0 27.0 325.0 304.0``) are not shares of an image."""
    try:
        lines = [line.split() for line in read_text(file).splitlines() if line.strip()][:_FEW]
    except InputError:  # a text of another kind
        return False
    return bool(lines) and all(_is_mark(words) and _are_shares(np.array(words[1:], np.float64)) for words in lines)


def _is_mark(words: list[str]) -> bool:
    return len(words) >= 5 and words[0].isdecimal() and all(map(_is_number, words))


def _are_shares(places: np.ndarray) -> bool:
    return bool(places.min() > -_MOST and places[:4].max() < _MOST)


def read(path: Path, images: Path | None) -> Source:
    """Read the lines of all images; one without a file, or without a line, shows no class.

    Raises:
        InputError: if nothing says what the classes are called.
    """
    root = folder_of(path)
    settings, names = _settings(path)
    if not names:
        raise InputError(
            f"{root}: no data.yaml with names, obj.names or classes.txt says what the classes are called (looked for "
            f"{', '.join((*_YAML, *_LISTS, *_DEFAULTS))}); add classes.txt, one class per line, in the order of their numbers"
        )
    files, source = _label_files(root), Source(classes=list(distinct([names[number] for number in sorted(names)])))
    by_id: dict[str, list[Path]] = {}
    for key, file in files.items():
        by_id.setdefault(key.rpartition("/")[2], []).append(file)
    marks: dict[Path, list[_Mark] | InputError] = {}
    unused = set(files.values())
    for image in walk(images or root):
        same = by_id.get(id_of(image.name), [])
        label = files.get(_key(image, images or root)) or (same[0] if images and len(same) == 1 else None)
        unused.discard(label or image)
        try:
            marks[image] = _marks(label, names, "kpt_shape" in settings) if label else []
        except InputError as error:
            marks[image] = error
    outlines = [mark for found in marks.values() if isinstance(found, list) for mark in found if len(mark.points)]
    oriented = bool(outlines) and all(len(mark.points) == 4 for mark in outlines)
    if oriented and "kpt_shape" not in settings:
        source.notes.append("every outline has four points: they are taken for boxes, which give no label maps")
    as_pixels = not oriented and "kpt_shape" not in settings
    for file in sorted(unused):
        if _holds_lines(file):
            source.problems[str(file)] = "there is no image of this name; check --images, or add it"
    for image, found in marks.items():
        name = image.relative_to(images or root).as_posix()
        source.add(name, partial(_item, name, image, found, names, as_pixels))
    return source


def _settings(path: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """The content of ``data.yaml``, and the names of the classes by their numbers.

    Raises:
        InputError: if files disagree about these.
    """
    contents = {file: read_yaml(file) for file in files_of(path, *_YAML)}
    yamls = {file: names for file, content in contents.items() if (names := _named(content))}
    root = folder_of(path)
    lists = {file: names for file in files_of(root, *_LISTS) if (names := _listed(file))}
    defaults = {file: names for file in files_of(root, *_DEFAULTS) if (names := _listed(file))}
    found = yamls or lists or defaults
    for file, names in found.items():
        first = next(iter(found))
        if names != found[first]:
            raise InputError(
                f"{first} has the classes {_shown(found[first])}, {file} has {_shown(names)}; make them agree, or remove the one "
                "that does not belong to these labels"
            )
    names = next(iter(found.values()), {})
    for file, others in lists.items():
        if names != others and sorted(names.values()) == sorted(others.values()):
            raise InputError(
                f"{next(iter(found))} has the classes {_shown(names)}, {file} has them as {_shown(others)}; remove the file with "
                "the wrong numbers"
            )
    return next((contents[file] for file in yamls), {}), names


def _shown(names: dict[int, str]) -> str:
    some = [f"{number} {names[number]}" for number in sorted(names)]
    return ", ".join(some[:6]) + (", ..." if len(some) > 6 else "")


def _named(content: object) -> dict[int, str]:
    """``names`` of ``data.yaml``, which may leave numbers out; nothing if it has none."""
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
        return {int(key): str(name).strip() for key, name in names.items()}
    return {number: str(name).strip() for number, name in enumerate(names)} if isinstance(names, list) else {}


def _listed(file: Path) -> dict[int, str]:
    """The classes of a list by their numbers: its lines, counted from 0, or, if these begin with numbers (``0: cat``), by those."""
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    numbers = [re.match(r"(\d+)\s*[:=,;.)]?\s", line) for line in lines]
    names = [entry.name for entry in list_classes(file)] if lines and all(numbers) else lines
    if names and all(re.match(r"\d+\s*[:=]", name) for name in names):
        raise InputError(
            f"{file}: its lines begin with numbers that do not count up from 0 or 1; write data.yaml with names: "
            "{0: cat, 5: dog}, or one line per number"
        )
    named = dict(enumerate(names))
    if len(names) > len(lines):  # they count from 1
        del named[0]
    return named


def _label_files(root: Path) -> dict[str, Path]:
    return {_key(file, root): file for file in files_below(root) if file.suffix.lower() == ".txt"}


def _key(file: Path, root: Path) -> str:
    """What an image and its text file have in common: their place, but for the folders ``images`` and ``labels``."""
    folders = [part for part in file.relative_to(root).parent.parts if part.lower() not in _FOLDERS]
    return "/".join([*folders, file.stem])


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _marks(file: Path, names: dict[int, str], are_poses: bool) -> list[_Mark]:
    found = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if not _is_mark(words):
            raise InputError(f"{file}, line {number}: {line[:40]!r} is not 'class x y width height'; export it again")
        if int(words[0]) not in names:
            raise InputError(
                f"{file}, line {number}: class {words[0]} of {len(names)} classes ({_shown(names)}); add its name, or export it "
                "again"
            )
        places = np.array(words[1:], np.float64)
        if not _are_shares(places):
            raise InputError(f"{file}, line {number}: {places.max():g} is not a share of the image; export it again")
        is_outline = len(places) >= 6 and len(places) % 2 == 0
        if is_outline and not are_poses and places.max() >= _MOST:
            raise InputError(
                f"{file}, line {number}: {places.max():g} is not a coordinate of an outline; if these are predictions with a confidence and "
                "a number of the track, save them without; if they are poses, add kpt_shape to data.yaml"
            )
        found.append(_Mark(int(words[0]), places.reshape(-1, 2) if is_outline else np.zeros((0, 2))))
    return found


def _item(name: str, image: Path, found: list[_Mark] | InputError, names: dict[int, str], as_pixels: bool) -> Item:
    if isinstance(found, InputError):
        raise found
    classes = distinct([names[mark.value] for mark in found])
    outlined = as_pixels and bool(found) and all(len(mark.points) for mark in found)
    regions = (lambda: [_region(mark, names) for mark in found]) if outlined else None
    return Item(name, image, classes, regions, None, split_of(*Path(name).parent.parts))


def _region(mark: _Mark, names: dict[int, str]) -> Region:
    def draw(shape: Shape) -> np.ndarray:
        return outline(mark.points * (shape[1], shape[0]))(shape)

    return Region(names[mark.value], draw)
