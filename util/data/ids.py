"""Image ids: one rule for lists, tag files, annotations and file names.

An image's id is its file name in Unicode's NFC form, without folder and suffix. Integers take PASCAL VOC's form
(2007000032 is 2007_000032), since IRN's ``cls_labels.npy`` and its descendants have such keys.
"""

from __future__ import annotations

import ast
import json
import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

from util.runtime.errors import InputError
from util.runtime.files import check_id, read_text

HEIC_SUFFIXES = (".heic", ".heif")
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif"),
    *(".gif", ".jp2", ".ppm", ".pgm"),
    *HEIC_SUFFIXES,
)
SUFFIXES = (*IMAGE_SUFFIXES, ".npy", ".npz", ".xml", ".json")  # what a list or a table may write after an id
_SUFFIX = "|".join(re.escape(suffix) for suffix in SUFFIXES)
_NAME = re.compile(rf"(?:(.*)[/\\])?([^/\\]*?)({_SUFFIX})?", re.IGNORECASE | re.DOTALL)
_NAME_AND_COLUMNS = re.compile(rf"(.+?(?:{_SUFFIX}))\s+\S.*", re.IGNORECASE)
_FLAGGED = re.compile(r"(.*\S)(\s+)(-1|0|1)")
_HEAD = re.compile(r"(image|img|file)?[ _]?(id|ids|name|names|path|image|images|file|filename)\b", re.IGNORECASE)
_VOC_ID = re.compile(r"\d{4}_\d{6}")


def id_of(name: object) -> str:
    """The id of an image that a list, a table or a folder calls ``name`` (text, or an integer).

    Raises:
        InputError: if it is neither, or no file could have that name.
    """
    if isinstance(name, Integral) and not isinstance(name, bool):
        voc = re.fullmatch(r"(20\d\d)(\d{6})", str(int(name)))
        return f"{voc[1]}_{voc[2]}" if voc else check_id(str(int(name)))
    if not isinstance(name, str):
        raise InputError(f"image id {name!r} is a {type(name).__name__}; expected a file name or an integer")
    return check_id(unicodedata.normalize("NFC", _parts(name).stem))


class _Parts(NamedTuple):
    folder: str
    stem: str
    suffix: str


def _parts(name: str) -> _Parts:
    match = _NAME.fullmatch(name)
    folder, stem, suffix = match.groups("") if match else ("", name, "")
    return _Parts(folder, stem, suffix) if stem else _Parts(folder, suffix, "")  # ".jpg" is a name


@dataclass
class IdBook:
    """Ids with the names that they were read from; two images with the same id are an error.

    Attributes:
        path: of the file or folder that the names are from, for messages.
        names: id -> the names seen, in order.
    """

    path: str | os.PathLike
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: object, where: str = "") -> str:
        """Note a name and give its id; ``where`` (", line 3") follows the path in messages.

        Raises:
            InputError: if it is not a name, or names another image whose id is the same.
        """
        try:
            found = id_of(name)
        except InputError as error:
            raise InputError(f"{self.path}{where}: {error}") from None
        seen = self.names.setdefault(found, [])
        for other in seen:
            if _differ(str(name), other):
                raise InputError(
                    f"{self.path}{where}: {other!r} and {str(name)!r} are two images with the id {found!r}; give one of them "
                    "another name, since results are written by id"
                )
        if str(name) not in seen:
            seen.append(str(name))
        return found


def _differ(one: str, other: str) -> bool:
    """Whether two names of the same id are of two files: both have a folder, or a suffix, and these differ."""
    a, b = _parts(one), _parts(other)
    folders = [re.sub(r"^[./\\]+", "", parts.folder).replace("\\", "/") for parts in (a, b)]
    suffixes = [parts.suffix.lower() for parts in (a, b)]
    return any(x and y and x != y for x, y in (folders, suffixes))


@dataclass(frozen=True)
class _Folder:
    """The ids of the files in a folder, listed when first asked for; of no folder: none."""

    path: str | os.PathLike | None

    @cached_property
    def ids(self) -> Collection[str]:
        if self.path is None or not Path(self.path).is_dir():
            return frozenset()
        return {unicodedata.normalize("NFC", _parts(name).stem) for name in os.listdir(self.path)}


def read_id_list(path: str | os.PathLike, folder: str | os.PathLike | None = None) -> list[str]:
    """Read an id list, in file order, repeated ids once.

    A line is an id or a file name, which may contain spaces, or columns of which the first is the name: separated by tabs,
    or ending in the suffix of an image, or all of them paths (``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``). Commas
    and semicolons separate columns where the first is sure to be a name. Blank lines, comments (``# ...``), quotes around
    names, CRLF and a byte-order mark are accepted, and a JSON list.

    Args:
        path: the list.
        folder: has a file of every id, such as the images or the label maps: a line that is the name of such a file is
            never split.

    Raises:
        InputError: if the file is missing, is not text, holds no id, names two images of the same id, or has a column of
            -1, 0 and 1, as the lists in VOC's ``ImageSets/Main``.
    """
    files = _Folder(folder)
    text = read_text(path)
    if text.lstrip().startswith("{"):
        raise InputError(f"{path}: a JSON object, where a list of image ids is read; write one id per line")
    lines = _lines(text, files)
    if not lines:
        raise InputError(f"{path}: the id list is empty; write one image id per line")
    flagged = _without_flags(path, lines, files)
    book = IdBook(path)
    for number, line in flagged or lines:
        normal = unicodedata.normalize("NFC", line)
        if re.search(r"[\s.]", line) and normal in files.ids:
            book.names.setdefault(check_id(normal), [])
        else:
            if id_or_none(line) not in files.ids and (other := _second_image(line, files)):
                raise InputError(
                    f"{path}, line {number}: two images on one line, the second is {other!r}; write one per line"
                )
            book.add(line if flagged else _first_column(line, files), f", line {number}")
    return list(book.names)


def is_plain(image_id: str) -> bool:
    """Whether an id that is written into a list, a table or a file's name is read from it as it is."""
    none = _Folder(None)
    lines = [line for _, line in _lines(image_id, none)]
    return (
        lines == [image_id] == [id_or_none(_first_column(image_id, none))]
        and id_or_none(image_id) == image_id
        and not _second_image(image_id, none)
    )


def _lines(text: str, files: _Folder) -> list[tuple[int, str]]:
    """Numbered lines less comments, blank ones, and the marks that editors leave at their ends."""
    if text.lstrip().startswith("[") and (names := _listed(text)):
        return [(1, str(name)) for name in names]
    lines = []
    for number, line in enumerate(re.split(r"\r\n?|[\n\v\f]", text), 1):
        line = re.sub(r"^[\s\ufeff]+|[\s\ufeff\x1a]+$", "", line)  # DOS ends a text by \x1a
        if line and (not re.match(r"#+(\s|$)", line) or id_or_none(line) in files.ids):
            lines.append((number, line))
    if (
        len(lines) > 1
        and files.ids
        and _HEAD.match(lines[0][1].lstrip(","))
        and _first_column(lines[0][1], files) not in files.ids
    ):
        del lines[0]  # the header of a table
    return lines


def _listed(text: str) -> list[str | int]:
    """The names of a list in JSON or as Python prints it; none if it is not one."""
    for parse in (json.loads, ast.literal_eval):
        try:
            names = parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        # Of pairs, such as image and label map, the first is the image.
        names = [name[0] if isinstance(name, list | tuple) and name else name for name in names]
        return names if all(isinstance(name, str) or type(name) is int for name in names) else []
    return []


def _first_column(line: str, files: _Folder) -> str:
    if id_or_none(line) in files.ids:
        return line
    if line.startswith(",") or re.match(r"\d+\s*,", line):  # a table of pandas, whose rows are numbered
        rest = _unquoted(re.split(r"\s*,\s*", line)[1])
        if _is_name(rest, files):
            return rest
    cell = re.match(r"\s*([^,;]*[^,;\s])\s*[,;]\s*(.*)", line)
    if cell and (not cell[2].strip(",; ") or _is_name(_unquoted(cell[1]), files)):
        return _unquoted(cell[1])
    line = _unquoted(line)
    columns = line.split()
    if len(columns) <= 1:
        return line
    if "\t" in line:
        return _unquoted(line.split("\t")[0].rstrip())
    if match := _NAME_AND_COLUMNS.fullmatch(line):
        return match[1]
    found = [id_or_none(column) for column in columns]
    if all(re.search(r"[/\\]", column) for column in columns) and (len(set(found)) == 1 or found[0] in files.ids):
        return columns[0]  # a folder's name with a space would give two ids
    if columns[0].isdecimal() and len(columns) == 2 and (_VOC_ID.fullmatch(columns[1]) or columns[1] in files.ids):
        return columns[1]  # numbered lines
    return columns[0] if _VOC_ID.fullmatch(columns[0]) else line


def _second_image(line: str, files: _Folder) -> str | None:
    """Another image on a line, of the kind of the first: with the same folder and suffix. A label map has others, or its
    image's name in its own."""
    first, *others = map(_unquoted, re.split(r"[\s,;]+", line))
    one = _parts(first)
    for other in filter(None, others):
        two = _parts(other)
        if (one.folder, one.suffix) != (two.folder, two.suffix) or one.stem in two.stem:
            continue
        numbered = first.isdecimal() and not other.isdecimal()
        both_there = not numbered and all(id_or_none(name) in files.ids for name in (first, other))
        if one.suffix or all(map(_VOC_ID.fullmatch, (first, other))) or both_there:
            return other
    return None


def _unquoted(name: str) -> str:
    match = re.fullmatch(r"""(["'])([^"']*)\1""", name)
    return match[2] if match else name


def _is_name(text: str, files: _Folder) -> bool:
    """Whether text is sure to be the name of an image: of its form, or of a file that is there."""
    return bool(_parts(text).suffix or _VOC_ID.fullmatch(text)) or id_or_none(text) in files.ids


def id_or_none(name: object) -> str | None:
    """As `id_of`; None where that raises."""
    try:
        return id_of(name)
    except InputError:
        return None


def _without_flags(path: str | os.PathLike, lines: list[tuple[int, str]], files: _Folder) -> list[tuple[int, str]]:
    """The lines less a last column of -1, 0 and 1; empty where there is none.

    Raises:
        InputError: if there may be one, or if it matters what it means.
    """
    matches = [match for _, line in lines if (match := _FLAGGED.fullmatch(line))]
    names = [match[1] for match in matches]
    if len(names) < len(lines) or len(set(names)) < len(names):  # "photo 0" and "photo 1" are names with a space
        return []
    if any(id_or_none(line) in files.ids for _, line in lines):
        return []
    values = {match[3] for match in matches}
    sure = all(_VOC_ID.fullmatch(name) or id_or_none(name) in files.ids for name in names)
    padded = all(len(match[2]) == (1 if match[3] == "-1" else 2) for match in matches)  # as VOC writes its columns
    if values == {"1"} and (sure or padded):
        return [(number, name) for (number, _), name in zip(lines, names, strict=True)]
    shown = sum(match[3] == "1" for match in matches)
    if sure or padded or "-1" in values:
        raise InputError(
            f"{path}: every line ends in -1, 0 or 1, as in the lists of one class in VOC's ImageSets/Main. This may mean "
            f"all {len(lines)} images, or the {shown} that end in 1; give a list without that column"
        )
    raise InputError(
        f"{path}: every line ends in 0 or 1. This may be a column, or a part of names with a space "
        f"({lines[0][1]!r}); give a list of file names with their suffix, or without that column"
    )


def spread(ids: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of the ids, spread evenly over them."""
    if len(ids) <= count:
        return list(ids)
    return [ids[(2 * number + 1) * len(ids) // (2 * count)] for number in range(count)]
