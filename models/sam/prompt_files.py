"""Points and boxes for SAM from files: this project's JSON, a CSV, COCO's and labelme's JSON, VOC's XML.

Every format becomes rows ``{"point": [x, y]}`` or ``{"box": [x0, y0, x1, y1]}`` (with ``category``, and for points ``label``
and ``object``) per image id, which are checked in one place. Pixels are counted from 0.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.sam.prompts import Prompt
from util.data.csv_rows import read_rows
from util.data.ids import IdBook, id_of
from util.data.image_labels import read_xml
from util.data.voc import ClassTable
from util.runtime.errors import InputError
from util.runtime.files import list_files, read_json

Rows = dict[str, list[Any]]
# Headings of a CSV -> keys of a row.
_HEADINGS = {
    **{name: "id" for name in ("id", "image_id", "image", "file", "file_name", "filename")},
    **{name: "category" for name in ("category", "class", "class_name", "name")},
    **{name: name for name in ("x", "y", "label", "object", "x0", "y0", "x1", "y1")},
    **dict(zip(("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"), strict=True)),
}
_COORDINATES = {"point": ("x", "y"), "box": ("x0", "y0", "x1", "y1")}


def read_prompts(path: str | os.PathLike, kind: str, classes: ClassTable) -> dict[str, list[Prompt]]:
    """Prompts for each image id.

    Args:
        path: a file of one of the formats, or a folder of labelme's JSON or VOC's XML files.
        kind: ``points`` or ``boxes``.
        classes: whose names ``category`` must be among; it may be left out.

    Raises:
        InputError: if it is of none of the formats, or a row is wrong, which is named.
    """
    path, key = Path(path), "point" if kind == "points" else "box"
    prompts = {}
    for image_id, rows in _read(path, key).items():
        groups: dict[object, list[dict]] = defaultdict(list)
        for number, row in enumerate(rows):
            _check_row(row, key, classes, f"{path}, {image_id}, prompt {number + 1}")
            groups[row.get("object", f"row {number}") if key == "point" else number].append(row)
        prompts[image_id] = [_as_prompt(group, key) for group in groups.values()]
    return prompts


def check_size(prompt: Prompt, size: tuple[int, int]) -> None:
    """Raise InputError if a prompt is not inside an image of ``size`` (height, width)."""
    corners = prompt.points.tolist() if prompt.box is None else [prompt.box[:2], prompt.box[2:]]
    for x, y in corners:
        if not (0 <= x <= size[1] and 0 <= y <= size[0]):
            raise InputError(
                f"a {'point' if prompt.box is None else 'box with a corner'} at {x:g}, {y:g} is outside of the image of "
                f"{size[1]}x{size[0]} pixels; give x, y in pixels of this image, and corners for boxes, not a width and height"
            )


def _read(path: Path, key: str) -> Rows:
    if path.is_dir():
        files = list_files(path, (".json", ".xml"))
        if not files:
            raise InputError(f"{path}: holds no .json and no .xml file; give labelme's or VOC's annotations, or a file")
        whole: Rows = {}
        for file in files:
            rows = _read(file, key)
            if twice := sorted(whole.keys() & rows.keys()):
                raise InputError(
                    f"{file}: prompts of {twice[0]} are in another file of the folder as well; keep one of them"
                )
            whole |= rows
        return whole
    if path.suffix.lower() == ".xml":
        return _of_voc(path, key)
    if path.suffix.lower() == ".csv":
        return _of_csv(path, key)
    content = read_json(path)
    parse: Callable[[dict, str, Path], Rows] | None = None
    if isinstance(content, dict):
        parse = (
            _of_coco if {"images", "annotations"} <= content.keys() else _of_labelme if "shapes" in content else None
        )
    if parse is not None:
        try:
            found = parse(content, key, path)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            name = "COCO's" if parse is _of_coco else "labelme's"
            raise InputError(
                f"{path}: not in {name} format ({type(error).__name__}: {error}); write it again"
            ) from None
        return {id_of(path.name): found[""]} if parse is _of_labelme else found
    if not isinstance(content, dict) or not all(isinstance(rows, list) for rows in content.values()):
        raise InputError(f"{path}: should hold a list of prompts for each image id, such as {_example(key)}")
    book = IdBook(path)
    return {book.add(name): rows for name, rows in content.items()}


def _example(key: str) -> str:
    return json.dumps({"2007_000032": [{key: [10, 20] if key == "point" else [10, 20, 90, 60], "category": "dog"}]})


# --- formats ------------------------------------------------------------------------------------------------------


def _of_coco(content: dict, key: str, path: Path) -> Rows:
    if key == "point":
        raise ValueError("COCO's files have boxes, not points; write --prompt boxes FILE")
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    book = IdBook(path)
    ids = {entry["id"]: book.add(entry["file_name"]) for entry in content["images"]}
    rows: Rows = {image_id: [] for image_id in ids.values()}
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            x, y, width, height = annotation["bbox"]
            box = [x, y, x + width, y + height]
            rows[ids[annotation["image_id"]]].append({"box": box, "category": names[annotation["category_id"]]})
    return rows


def _of_labelme(content: dict, key: str, path: Path) -> Rows:
    rows = []
    for shape in content["shapes"]:
        row = {"category": shape["label"]}
        if shape.get("group_id") is not None:
            row["object"] = shape["group_id"]
        if key == "point" and shape["shape_type"] == "point":
            rows.append({**row, "point": shape["points"][0]})
        elif key == "box" and shape["shape_type"] == "rectangle":
            corners = np.array(shape["points"], float)
            rows.append({**row, "box": [*corners.min(0).tolist(), *corners.max(0).tolist()]})
    return {"": rows}


def _of_voc(path: Path, key: str) -> Rows:
    if key == "point":
        raise InputError(f"{path}: VOC's annotations have boxes, not points; write --prompt boxes {path}")
    rows = []
    for node in read_xml(path).iter("object"):
        corners = [node.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x0, y0, x1, y1 = (float(text or "") for text in corners)
        except ValueError:
            raise InputError(f"{path}: an object whose bndbox has {corners}; write numbers") from None
        rows.append(
            {"box": [x0 - 1, y0 - 1, x1 - 1, y1 - 1], "category": (node.findtext("name") or "").strip()}
        )  # VOC counts from 1
    return {id_of(path.name): rows}


def _of_csv(path: Path, key: str) -> Rows:
    wanted = ("id", *_COORDINATES[key])
    lines = read_rows(path)
    headings = [_HEADINGS.get(name.lower(), "") for name in (lines[0].cells if lines else ())]
    if not set(wanted) <= set(headings):
        raise InputError(f"{path}: its first line should name the columns {', '.join(wanted)}, and perhaps category")
    rows: Rows = defaultdict(list)
    book = IdBook(path)
    for line in lines[1:]:
        row = {name: text for name, text in zip(headings, line.cells) if name and text}
        try:
            numbers = [float(row[name].replace(",", ".")) for name in wanted[1:]]  # Excel's of many countries
            found: dict[str, Any] = {key: numbers, "label": int(row.get("label", 1))}
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{path}, line {line.number}: {','.join(line.cells)[:80]} ({error}); write {','.join(wanted)}"
            ) from None
        found |= {name: row[name] for name in ("category", "object") if name in row}
        rows[book.add(row.get("id", ""), f", line {line.number}")].append(found)
    return dict(rows)


# --- rows ---------------------------------------------------------------------------------------------------------


def _check_row(row: object, key: str, classes: ClassTable, where: str) -> None:
    values = row.get(key) if isinstance(row, dict) else None
    numbers = isinstance(values, list) and len(values) == len(_COORDINATES[key])
    if not numbers or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values or ()):
        raise InputError(f"{where}: found {str(row)[:100]}; write it as in {_example(key)}")
    assert isinstance(row, dict) and isinstance(values, list)
    category = row.get("category")
    if category is not None and category not in classes.names[1:]:
        raise InputError(
            f"{where}: class {category!r} is unknown; the classes are {', '.join(classes.names[1:])}; give --class-names, or "
            "leave prompts of other classes out"
        )
    if row.get("label", 1) not in (0, 1):
        raise InputError(f"{where}: label {row['label']!r}; write 1 for a point on the object, 0 for one outside")
    if key == "box" and not (values[0] < values[2] and values[1] < values[3]):
        raise InputError(
            f"{where}: box {values} ends before it starts; write the corners x0, y0, x1, y1, not x, y, width, height"
        )


def _as_prompt(rows: list[dict], key: str) -> Prompt:
    category = rows[0].get("category")
    if key == "box":
        x0, y0, x1, y1 = map(float, rows[0]["box"])
        return Prompt(category, box=(x0, y0, x1, y1), kind="boxes")
    points = np.array([row["point"] for row in rows], np.float64)
    labels = np.array([row.get("label", 1) for row in rows], np.int64)
    return Prompt(category, points, labels, kind="points")
