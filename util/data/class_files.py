"""Class files: which classes a data set has, in the formats that people bring.

One class per line, background first, optionally with a colour: this project's own form. Read as well: CVAT's
``labelmap.txt``, labelme's ``labels.txt`` (``__ignore__`` first), tables of ``name,r,g,b``, lines with the index in front
or behind, TensorFlow's ``label_map.pbtxt``, and JSON or YAML (a list of names, COCO's ``categories``, Hugging Face's
``id2label``, ``names`` of YOLO's ``data.yaml``, labelme's ``label_names``, ``classes`` of Supervisely's ``meta.json``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass

from util.runtime.errors import InputError
from util.runtime.files import parse_json, read_text

BACKGROUND = "background"
_BACKGROUND_NAMES = {"background", "bg", "backgroud", "hintergrund", "fond", "fondo", "sfondo", "背景"}
Color = tuple[int, int, int]
_HEX = r"#[0-9a-fA-F]{6}"
_SEPARATOR = r"[\s,;:]+"
_NUMBER = r"-?\d+(?:\.\d+)?"
_TRIPLE = rf"{_NUMBER}[\s,;]+{_NUMBER}[\s,;]+{_NUMBER}"
_INDEX, _CLASS = r"(id|idx|index|value|pixel value)", r"(class|label|name|(class|label)[ _]?name)"
_HEAD = re.compile(
    rf"(?P<before>{_INDEX}[,;\t ]+)?{_CLASS}(?P<after>([,;\t ]+(r|red)[,;\t ]+(g|green)[,;\t ]+(b|blue))|[,;\t ]+{_INDEX})?",
    re.I,
)
_KEYS = ("categories", "id2label", "names", "label_names", "classes", "labels")  # of JSON and YAML
_TITLES = {"name", "title"}
_PBTXT = re.compile(r"item\s*\{([^{}]*)\}")


@dataclass(frozen=True)
class NamedColor:
    """One class of a file: its name, and its colour where the file gives one."""

    name: str
    color: Color | None = None


def is_background(name: str) -> bool:
    """Whether a class of this name is the background (``background``, ``__background__``, ``_background_``, ``bg``, ...)."""
    return name.strip("_ ").lower() in _BACKGROUND_NAMES


def read_class_file(path: str | os.PathLike, num_classes: int | None = None) -> list[NamedColor]:
    """Read a class file.

    Args:
        path: the file.
        num_classes: with the background, where known: decides whether the file leaves the background out.

    Returns:
        the classes in the order of their label-map values, background first.

    Raises:
        InputError: for a repeated name, a bad colour, a background that is missing or not the first, or lines that can
            be understood in two ways.
    """
    return _background_first(list_classes(path), path, num_classes)


def list_classes(path: str | os.PathLike) -> list[NamedColor]:
    """As `read_class_file`, but as the file has them: with the background first, or without it.

    A background that the file's own numbers leave out, as they count from 1, is there.
    """
    text = read_text(path)
    if text.lstrip()[:1] in ("[", "{") or re.search(rf"^({'|'.join(_KEYS)}):", text, re.MULTILINE):
        return _from_json(_structured(text, path), path)
    if items := _PBTXT.findall(text):
        return _from_pbtxt(items, path)
    return _from_lines(_lines(text, path), path)


def _structured(text: str, path: str | os.PathLike) -> object:
    """JSON, or YAML, which also covers lists as Python prints them."""
    import yaml

    try:
        return parse_json(text.encode(), path)
    except InputError:
        with contextlib.suppress(yaml.YAMLError, RecursionError, ValueError):
            # Anchors could make a text of a few lines endless.
            if not re.search(r"[\s\[,][&*]\w", text) and isinstance(value := yaml.safe_load(text), dict | list):
                return value
        raise


# --- lines --------------------------------------------------------------------------------------------------------


def _lines(text: str, path: str | os.PathLike) -> list[tuple[int, str]]:
    """Numbered lines without blank ones and comments."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) == 1 and re.search(r"[,;]\s*[^\W\d]+\s*$", lines[0][1]):  # all on one line
        lines = [(1, part.strip()) for part in re.split("[,;]", lines[0][1]) if part.strip()]
    for number, line in lines:
        if re.match(r"#(?![\s#]|label:)", line):
            raise InputError(
                f"{path}, line {number}: {line!r} may be a comment, or a class whose name begins with #; write a space "
                "after the # of a comment, or rename the class"
            )
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    lines = [(number, re.sub(r"""^(["'])([^"']+)\1[,;]?$""", r"\2", line)) for number, line in lines]
    if len(lines) > 2 and (head := _HEAD.fullmatch(lines[0][1])) and (head["before"] or head["after"]):
        lines = lines[1:]
    if lines and lines[0][1].strip("_").lower() == "ignore":  # labelme's name for -1, which its label maps have as void
        lines = lines[1:]
    return lines


def _from_lines(lines: list[tuple[int, str]], path: str | os.PathLike) -> list[NamedColor]:
    numbers = [number for number, _ in lines]
    parts: list[tuple[str, str | None]]
    if cvat := _all_match(r"(.*):(\d+,\d+,\d+)?:[^:]*:[^:]*", lines):
        parts = [(match[1], match[2]) for match in cvat]
    else:
        lines = _without_index(lines)
        numbers = [number for number, _ in lines]
        if color_first := _all_match(rf"({_TRIPLE}|{_HEX})[\s,;:]+(\S.*)", lines):
            parts = [(match[2], match[1]) for match in color_first]
        else:
            parts = [_name_and_color(line, f"{path}, line {number}") for number, line in lines]
    classes: dict[str, NamedColor] = {}
    for number, (name, color) in zip(numbers, parts, strict=True):
        where = f"{path}, line {number}"
        if name in classes:
            raise InputError(f"{where}: class {name!r} is there twice; name each class once")
        classes[name] = NamedColor(name, None if color is None else _color(color, where))
    return list(classes.values())


def _all_match(pattern: str, lines: list[tuple[int, str]]) -> list[re.Match[str]]:
    """The matches of all lines; none if one does not match."""
    matches = [match for _, line in lines if (match := re.fullmatch(pattern, line))]
    return matches if len(matches) == len(lines) else []


def _without_index(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Lines less the class index in front (``0 background``, ``1: cat``) or behind, if all have one and they count up."""
    before = [(match[1], match[2]) for match in _all_match(r"(\d+)[\s,;:.)]+(\D.*)", lines)]
    behind = [(match[2], match[1]) for match in _all_match(r"(.*[^\s,;:\d])[\s,;:]+(\d+)", lines)]
    for parts in (before, behind):
        names = {name for _, name in parts}
        start = int(parts[0][0]) if parts else -1
        counted = list(map(str, range(start, start + len(lines))))
        if len(names) >= 2 and start in (0, 1) and len(names) == len(lines) and [n for n, _ in parts] == counted:
            named = [(number, name) for (number, _), (_, name) in zip(lines, parts, strict=True)]
            return named if start == 0 else [(0, BACKGROUND), *named]  # 1 is the first class: 0 is left out
    return lines


def _name_and_color(line: str, where: str) -> tuple[str, str | None]:
    """A class and its colour at the end of the line."""
    numbers = re.fullmatch(rf"(.*?)((?:{_SEPARATOR}{_NUMBER})+)", line)
    if match := re.fullmatch(rf"(.*?){_SEPARATOR}({_HEX})", line):
        return match[1].strip(), match[2]
    count = len(re.findall(_NUMBER, numbers[2])) if numbers else 0
    joined = re.fullmatch(r"(.*\S)[\s;]+(\d+,\s?\d+,\s?\d+)", line)
    if count > 3 and joined:  # the colour is in one piece: "class 1 255,0,0"
        return joined[1], joined[2]
    if count > 3:
        raise InputError(
            f"{where}: {line!r} ends in {count} numbers, of which three may be the colour, or four a colour with alpha; "
            "write the colour as #rrggbb"
        )
    if count == 3 and (match := re.fullmatch(rf"(.*?){_SEPARATOR}({_TRIPLE})", line)):
        return match[1].strip(), match[2]
    return line.rstrip(",;:").strip(), None


def _color(text: str, where: str) -> Color:
    values = list(bytes.fromhex(text[1:])) if text.startswith("#") else [float(v) for v in re.findall(_NUMBER, text)]
    if not text.startswith("#") and ("." in text or not all(0 <= value <= 255 for value in values)):
        raise InputError(f"{where}: colour {text!r} is outside 0..255; write #rrggbb or r,g,b")
    red, green, blue = map(int, values)
    return red, green, blue


# --- JSON ---------------------------------------------------------------------------------------------------------


def _from_json(value: object, path: str | os.PathLike) -> list[NamedColor]:
    """Names from a list, from COCO's ``categories``, or from a dict of index and name, either way round."""
    if isinstance(value, dict):
        for key in _KEYS:
            if isinstance(value.get(key), list | dict):
                return _from_json(value[key], path)
        pairs = [(name, index) if isinstance(index, int) else (index, name) for name, index in value.items()]
        return _by_index([(name, index, None) for name, index in pairs], path)
    if isinstance(value, list) and value and all(isinstance(entry, dict) and _TITLES & entry.keys() for entry in value):
        entries = [
            (entry.get("name", entry.get("title")), entry.get("id", k), entry.get("color"))
            for k, entry in enumerate(value)
        ]
        return _by_index(entries, path)
    if isinstance(value, list):
        return _by_index([(name, k, None) for k, name in enumerate(value)], path)
    raise InputError(f"{path}: holds a {type(value).__name__}; expected a list of class names, or COCO's categories")


def _from_pbtxt(items: list[str], path: str | os.PathLike) -> list[NamedColor]:
    """TensorFlow's ``label_map.pbtxt``, whose ids count from 1."""
    fields = [dict(re.findall(r"""(\w+)\s*:\s*["']?([^"'\n]*)["']?""", item)) for item in items]
    return _by_index([(each.get("name"), each.get("id", "").strip(), None) for each in fields], path)


def _by_index(entries: list[tuple[object, object, object]], path: str | os.PathLike) -> list[NamedColor]:
    """Classes in the order of their indices, which count up from 0, or from 1 where the background is left out."""
    found: dict[int, NamedColor] = {}
    for name, index, color in entries:
        if not isinstance(name, str) or not re.fullmatch(r"\d+", str(index)):
            what = json.dumps([index, name])[:60]
            raise InputError(
                f"{path}: {what} is not an index and a class name; write a list of names, background first"
            )
        number = int(str(index))
        if number in found or any(name == other.name for other in found.values()):
            raise InputError(f"{path}: class {name!r} or its index {index} is there twice; name each class once")
        found[number] = NamedColor(name, _json_color(color, f"{path}, class {name!r}"))
    indices = sorted(found)
    if indices and indices not in (list(range(len(indices))), list(range(1, len(indices) + 1))):
        raise InputError(
            f"{path}: the class indices {indices[0]} to {indices[-1]} leave some out: label maps may have these numbers, or "
            "count the classes through; write a list of names in the order of the label maps, background first"
        )
    classes = [found[index] for index in indices]
    return [NamedColor(BACKGROUND), *classes] if indices and indices[0] == 1 else classes


def _json_color(color: object, where: str) -> Color | None:
    if isinstance(color, list):
        color = ",".join(map(str, color))
    if not color:
        return None
    if not isinstance(color, str) or not re.fullmatch(rf"{_HEX}|{_TRIPLE}", color):
        raise InputError(f"{where}: {color!r} is not a colour; write #rrggbb or [r, g, b]")
    return _color(color, where)


# --- the background -----------------------------------------------------------------------------------------------


def _background_first(classes: list[NamedColor], path: str | os.PathLike, num_classes: int | None) -> list[NamedColor]:
    places = [k for k, entry in enumerate(classes) if is_background(entry.name)]
    if places and places[0] > 0:
        raise InputError(
            f"{path}: the background is class {places[0]} of 0 to {len(classes) - 1}. Label maps may have {places[0]} for it, "
            "or 0 as needed here; write it first, and the classes in the order of the values in the label maps"
        )
    if places or not classes:
        return [NamedColor(BACKGROUND, entry.color) if k == 0 else entry for k, entry in enumerate(classes)]
    if num_classes == len(classes) + 1:
        return [NamedColor(BACKGROUND), *classes]
    if num_classes != len(classes):
        raise InputError(
            f"{path}: the first of {len(classes)} classes is {classes[0].name!r}; the background may be missing, or have "
            f"this name. Write 'background' as the first line, or in the place of that name (--num-classes, where a command has "
            f"it, says so as well: {len(classes) + 1} or {len(classes)})"
        )
    return classes
