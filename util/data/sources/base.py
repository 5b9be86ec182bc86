"""What every source format is read into: images, the classes that they show, and their regions."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from util.data.class_files import Color, is_background
from util.data.ids import IMAGE_SUFFIXES, id_of
from util.data.mask_formats import polygon_runs
from util.runtime.errors import InputError
from util.runtime.files import is_hidden, read_text, walk_folders

Shape = tuple[int, int]
_NOT_IMAGES = {"masks", "labels", "annotations", "segmentationclass", "segmentationobject"}  # folders beside the images
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_BESIDE_SPLIT = {"", "set", "data", "dataset", "folder", "images", "imgs", "seg", "split"}  # "train_set", "seg_train"


@dataclass(frozen=True)
class Region:
    """Pixels of one class.

    Attributes:
        name: of the class; None for void.
        draw: (height, width) -> bool HxW.
    """

    name: str | None
    draw: Callable[[Shape], np.ndarray]


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes:
        name: as the source calls it.
        path: of the image.
        classes: names of the classes that it shows, each once.
        regions: gives its regions, in any order, when called; None without pixel annotations.
        size: (height, width) that the annotations are for, where they say so.
        split: ``train``, ``val``, ``test`` or None, where the source has such parts.
        data: gives the image's bytes, where ``path`` does not exist and the annotations hold them.
        negative: whether the source says that it shows none of the classes, where it has none.
    """

    name: str
    path: Path
    classes: tuple[str, ...] = ()
    regions: Callable[[], list[Region]] | None = None
    size: Shape | None = None
    split: str | None = None
    data: Callable[[], bytes] | None = None
    negative: bool = False


@dataclass
class Source:
    """A data set as its source describes it.

    Attributes:
        items: its images.
        classes: foreground classes in the source's own order; empty if it has none: they are then sorted by name.
        colors: name -> colour, where the source has colours.
        problems: image -> message, for what cannot be used.
        notes: how the source was understood, where that may surprise.
        numbered: whether its classes are numbers, which have their names elsewhere.
    """

    items: list[Item] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    colors: dict[str, Color] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    numbered: bool = False

    def add(self, name: str, make: Callable[[], Item]) -> None:
        """Add the image that ``make`` gives; what is wrong with it is noted under ``name``."""
        try:
            self.items.append(make())
        except InputError as error:
            self.problems[name] = str(error)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"
            self.problems[name] = f"its annotation is not as the format has it ({reason}); export it again"


class Images:
    """The images below a folder, found by path, file name or id."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._by_name: dict[str, list[Path]] = {}
        self._by_any_case: dict[str, list[Path]] = {}
        self._splits: set[str | None] = set()
        for path in walk(self.folder):
            relative = path.relative_to(self.folder).as_posix()
            self._splits.add(split_of(*self._folders(path)))
            for name in dict.fromkeys((relative, path.name, id_of(path.name))):
                name = unicodedata.normalize("NFC", name)
                self._by_name.setdefault(name, []).append(path)
                self._by_any_case.setdefault(name.casefold(), []).append(path)

    def find(self, name: str, of: str = "") -> Path:
        """The image that a source calls ``name``: a path below the folder, or the end of one.

        Args:
            name: upper and lower case count only where they decide.
            of: the name of the annotation file, without suffix; decides between images of one name, by their folders.

        Raises:
            InputError: if there is none, or more than one.
        """
        plain = unicodedata.normalize("NFC", str(name)).replace("\\", "/").lstrip("./")
        parts = PurePosixPath(plain).parts
        tails = ["/".join(parts[k:]) for k in range(len(parts))]
        for candidate in (*tails, *([id_of(parts[-1])] if parts else [])):
            found = self._meant(self._by_name.get(candidate, []), parts, of)
            if len(found) > 1:
                some = ", ".join(path.relative_to(self.folder).as_posix() for path in found[:2])
                raise InputError(
                    f"{self.folder}: {len(found)} images are called {candidate} ({some}{', ...' if len(found) > 2 else ''}); "
                    "give --images the one folder, or write the folder before the name in the annotations"
                )
            found = found or self._meant(self._by_any_case.get(candidate.casefold(), []), parts, of)
            if len(found) == 1:
                return found[0]
        raise InputError(f"{self.folder}: no image {name!r} here or below; check --images, or add it")

    def _folders(self, path: Path) -> tuple[str, ...]:
        """The folders that an image is in, the innermost first."""
        return path.relative_to(self.folder).parts[-2::-1]

    def _meant(self, found: list[Path], parts: tuple[str, ...], of: str) -> list[Path]:
        """Of images with one name, those whose folders fit best to the path ``parts``, and to the annotation file ``of``.

        An image of another split is left out, even if it is the only one: ``val/1.jpg`` is not the missing ``train/1.jpg``.
        """
        given = parts[-2::-1]
        split, words = split_of(*given[:2], of), {of.lower(), *re.split(r"[\W_]+", of.lower())}
        if split in self._splits:
            found = [path for path in found if split_of(*self._folders(path)) in (None, split)]
        same = {path: len(os.path.commonprefix([self._folders(path), given])) for path in found}
        most = max(same.values(), default=0)
        found = [path for path in found if same[path] == most]
        preferences: list[Callable[[tuple[str, ...]], bool]] = [
            lambda folders: _NOT_IMAGES.isdisjoint(map(str.lower, folders)),
            lambda folders: not words.isdisjoint(map(str.lower, folders)),
            lambda folders: split_of(*folders) == split,
        ]
        for preferred in preferences:
            found = [path for path in found if preferred(self._folders(path))] or found
        return found


def walk(folder: Path) -> Iterator[Path]:
    """The images below a folder, sorted; links are followed, hidden files and folders are left out."""
    for file in files_below(folder):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            yield file


def files_below(folder: Path) -> Iterator[Path]:
    """The files below a folder, sorted; links are followed, hidden files and folders are left out."""
    for place, _, files in walk_folders(folder):
        yield from (place / name for name in files)


def files_of(path: Path, *patterns: str) -> list[Path]:
    """The file itself if it fits a pattern; of a folder, the files in it that do, but for hidden files and folders."""
    if path.is_file():
        return [path] if any(Path(path.name).match(pattern) for pattern in patterns) else []
    found = {file for pattern in patterns for file in path.glob(pattern) if file.is_file()}
    return sorted(file for file in found if not any(map(is_hidden, file.relative_to(path).parts)))


def any_fits(files: list[Path], is_one: Callable[[Path], bool]) -> bool:
    """Whether one of the files is of a format. Of several, one that is damaged is not: it is named when it is read.

    Raises:
        InputError: if the only one is damaged.
    """
    if len(files) == 1:
        return is_one(files[0])
    for file in files:
        with contextlib.suppress(InputError):
            if is_one(file):
                return True
    return False


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: if it cannot be read or is not YAML.
    """
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path) -> Any:
    """The content of YAML text of ``path``, which is named in the InputError if it is not YAML."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not valid YAML ({reason}); export it again") from None


def folder_of(path: Path) -> Path:
    """The folder itself, or the one that a file is in."""
    return path if path.is_dir() else path.parent


def parts_of(path: Path) -> list[Path]:
    """The folders ``train``, ``valid``, ``test_set``, ... of a folder; itself if it has none.

    Of a folder with nothing in it but one of the same name, as archives on Kaggle have it, the inner one.
    """
    if not path.is_dir():
        return [path]
    parts = [part for part in path.iterdir() if part.is_dir() and is_split_name(part.name)]
    return sorted(map(_innermost, parts)) or [path]


def _innermost(folder: Path) -> Path:
    inner = [place for place in folder.iterdir() if not is_hidden(place.name)]
    same = len(inner) == 1 and inner[0].is_dir() and inner[0].name == folder.name
    return _innermost(inner[0]) if same else folder


def is_split_name(name: str) -> bool:
    """Whether a folder of this name is a part of a data set, such as ``train`` or ``test_set``."""
    words = [word for word in _words(name) if word not in _BESIDE_SPLIT]
    return len(words) == 1 and words[0] in _SPLITS


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())


def read_parts(path: Path, parts: list[Path], read_part: Callable[[Path], Source]) -> Source:
    """Read the parts of ``path``, see `parts_of`, one after the other; each is the split that its name says.

    Raises:
        InputError: if the parts have other classes.
    """
    whole = Source()
    for part in parts:
        source = read_part(part)
        if whole.classes and source.classes and whole.classes != source.classes:
            raise InputError(
                f"{part}: its classes are {', '.join(source.classes)}; the other parts' are {', '.join(whole.classes)}. "
                "Export them together"
            )
        whole.classes = whole.classes or source.classes
        whole.colors |= source.colors
        split = split_of(part.name) if part != path else None
        whole.items += [replace(item, split=split) if split else item for item in source.items]
        whole.problems |= source.problems
        whole.notes += [note for note in source.notes if note not in whole.notes]
    return whole


def split_of(*names: str) -> str | None:
    """The split that a folder or file name says, such as ``valid`` or ``instances_val2017``; the first that does."""
    for name in names:
        for word in _words(name):
            if word in _SPLITS:
                return _SPLITS[word]
    return None


def distinct(names: list[str]) -> tuple[str, ...]:
    """Class names without spaces around them, each once, in order; the background left out."""
    return tuple(dict.fromkeys(n for name in names if (n := str(name).strip()) and not is_background(n)))


def outline(points: object) -> Callable[[Shape], np.ndarray]:
    """Draws the inside of a polygon: pixels whose centre is in it.

    Args:
        points: Nx2 numbers, x and y, where the first pixel spans 0 to 1.

    Raises:
        ValueError: if they are not, or fewer than three.
    """
    array = np.asarray(points, np.float64).reshape(-1, 2)
    if len(array) < 3 or not np.isfinite(array).all():
        raise ValueError(f"a polygon of {len(array)} points")

    def draw(shape: Shape) -> np.ndarray:
        starts, ends = polygon_runs(array, *shape)
        edges = np.zeros(shape[0] * shape[1] + 1, np.int8)
        np.add.at(edges, starts, 1)
        np.add.at(edges, ends, -1)
        return np.cumsum(edges[:-1], dtype=np.int8).astype(bool).reshape(shape[::-1]).T

    return draw


def where(values: np.ndarray, value: int) -> Callable[[Shape], np.ndarray]:
    """Draws what has this value in an array HxW."""
    return lambda shape: values == value


def union(draws: list[Callable[[Shape], np.ndarray]]) -> Callable[[Shape], np.ndarray]:
    """Draws several regions as one."""
    return lambda shape: np.logical_or.reduce([draw(shape) for draw in draws])
