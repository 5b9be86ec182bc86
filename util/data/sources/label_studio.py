"""Label Studio's exports JSON, JSON-MIN and CSV: choices, boxes, polygons and brush strokes, in per cent of the image.

The last annotation of a task that was not cancelled counts. Uploads are called ``<8 hexadecimal digits>-<name>`` there. JSON-MIN
and CSV have an entry per annotation, with the results of each control under the control's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from util.data.csv_rows import read_rows
from util.data.sources.base import Images, Item, Region, Shape, Source, any_fits, distinct, files_of, folder_of, outline
from util.runtime.errors import InputError
from util.runtime.files import read_json

_PIXELS = ("polygonlabels", "brushlabels")
_RECORDS = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
_CHOICE = re.compile(r"choice|label|class|tag|categor", re.I)  # names of controls with one choice, as most are called
_LABELS = ("choices", "taxonomy", "rectanglelabels", "ellipselabels", "keypointlabels", *_PIXELS)


def fits(path: Path) -> bool:
    """Whether this is an export of Label Studio, or a folder with one."""
    return any_fits(files_of(path, "*.json", "*.csv"), lambda file: bool(_tasks(file)))


def read(path: Path, images: Path | None) -> Source:
    """Read all tasks of all exports."""
    source, found = Source(), Images(images or folder_of(path))
    for file in files_of(path, "*.json", "*.csv"):
        tasks = {_image_name(task): task for task in _tasks(file)}  # of an image's annotations the last counts
        for name, task in tasks.items():
            source.add(name, partial(_item, name, task, found))
    return source


def _tasks(file: Path) -> list[dict]:
    """The tasks of an export in the form of JSON; none if this is not an export."""
    if file.suffix == ".csv":
        rows = read_rows(file)
        head = rows[0].cells if rows else []
        content = [dict(zip(head, map(_value, row.cells), strict=False)) for row in rows[1:]] if _is_min(head) else []
    else:
        content = read_json(file)
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        return []
    if all(isinstance(task.get("data"), dict) and "annotations" in task for task in content):
        return content
    return [_full(task, file) for task in content] if all(map(_is_min, content)) else []


def _is_min(keys: Iterable[str]) -> bool:
    return {"annotator", "annotation_id", "lead_time"} <= set(keys)


def _value(cell: str) -> object:
    """What a cell of a CSV holds: JSON, or text."""
    try:
        return json.loads(cell) if cell[:1] in ("[", "{") else cell
    except ValueError:
        return cell


def _full(task: dict, file: Path) -> dict:
    """An entry of JSON-MIN or CSV as a task of JSON."""
    results: list[dict] = []
    data = {}
    for control, value in task.items():
        if control in _RECORDS or value in ("", None):
            continue
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            results.append({"type": "choices", "value": value})
        elif isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
            kinds = [next((kind for kind in _LABELS if kind in entry), "") for entry in value]
            results += [{**entry, "type": kind, "value": entry} for entry, kind in zip(value, kinds, strict=True)]
        elif control == "image" or not _CHOICE.search(control):
            data[control] = value
        else:
            results.append({"type": "choices", "value": {"choices": [value]}})
    if not results and len(data) > 1:
        raise InputError(
            f"{file}: none of the columns {', '.join(data)} is known to hold choices; export as JSON, which says what is what"
        )
    return {"data": data, "annotations": [{"result": results}], "id": task.get("id")}


def _image_name(task: dict) -> str:
    """The file that a task's image address names."""
    values = [value for value in task["data"].values() if isinstance(value, str) and value]
    address = str(task["data"].get("image") or (values[0] if values else task.get("id", "?")))
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/a.jpg
    return unquote(local[0] if local else parts.path)


def _item(name: str, task: dict, images: Images) -> Item:
    annotations = [entry for entry in task["annotations"] if not entry.get("was_cancelled")]
    results = [entry for entry in (annotations[-1]["result"] if annotations else []) if "value" in entry]
    names = [label for entry in results for label in _labels(entry)]
    marks = [entry for entry in results if entry.get("type") not in ("choices", "taxonomy") and _labels(entry)]
    outlined = bool(marks) and all(entry.get("type") in _PIXELS for entry in marks)
    first = marks[0] if marks else {}
    size = (int(first["original_height"]), int(first["original_width"])) if first.get("original_height") else None
    regions = (lambda: [_region(entry) for entry in marks]) if outlined else None
    return Item(_plain(name), _find(name, images), distinct(names), regions, size)


def _labels(entry: dict) -> list[str]:
    found = [label for kind in _LABELS for label in entry["value"].get(kind) or []]
    return [str(label[-1]) if isinstance(label, list) else str(label) for label in found]


def _plain(name: str) -> str:
    """The name before Label Studio put its own digits in front."""
    return re.sub(r"^[0-9a-f]{8}-", "", PurePosixPath(name).name)


def _find(name: str, images: Images) -> Path:
    try:
        return images.find(name)
    except InputError:
        return images.find(_plain(name))


def _region(entry: dict) -> Region:
    name, value = _labels(entry)[0].strip(), entry["value"]
    width, height = int(entry["original_width"]), int(entry["original_height"])
    if entry["type"] == "polygonlabels":
        return Region(name, outline(np.asarray(value["points"], np.float64) * (width / 100, height / 100)))
    return Region(name, _brush(bytes(value["rle"]), height, width))


def _brush(code: bytes, height: int, width: int) -> Callable[[Shape], np.ndarray]:
    """Draws a brush stroke, run-length coded in bits: RGBA values, of which the last is the stroke."""

    def draw(shape: Shape) -> np.ndarray:
        return decode_brush(code, 4 * height * width).reshape(height, width, 4)[..., 3] > 127

    return draw


def decode_brush(code: bytes, expected: int) -> np.ndarray:
    """The values of a brush stroke's code: uint8, ``expected`` of them.

    A head of 32 bits with their number, 5 with the bits per value less one, four times 4 with the bits of run lengths less
    one; then runs: one bit (the same value or not), two bits (which length), the length less one, and the value or values.

    Raises:
        ValueError: if the code is cut short, or has another number of values.
    """
    bits = np.unpackbits(np.frombuffer(code, np.uint8))
    place = 0

    def take(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise ValueError("a brush stroke that is cut short")
        number = int("".join(map(str, bits[place : place + count])), 2)
        place += count
        return number

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if total != expected or word != 8:
        raise ValueError(f"a brush stroke of {total} values with {word} bits, not of {expected} with 8")
    values, done = np.zeros(total, np.uint8), 0
    while done < total:
        same = take(1)
        end = done + 1 + take(lengths[take(2)])
        if end > total:
            raise ValueError("a brush stroke that is longer than its image")
        values[done:end] = take(word) if same else [take(word) for _ in range(end - done)]
        done = end
    return values
