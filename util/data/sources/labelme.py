"""labelme: one JSON file per image, with shapes and flags.

Polygons and masks are pixel annotations, drawn as labelme's own ``shape_to_mask`` does; rectangles are boxes: they say what
an image shows and not where. ``__ignore__`` is void. Flags that are set are classes as well.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from util.data.annotations import LABELME_VOID
from util.data.images import open_image
from util.data.mask_formats import pasted
from util.data.sources.base import (
    Images,
    Item,
    Region,
    Shape,
    Source,
    any_fits,
    distinct,
    files_of,
    folder_of,
    parts_of,
    split_of,
)
from util.runtime.errors import InputError
from util.runtime.files import read_json

_PIXELS = ("polygon", "mask", "circle")


def fits(path: Path) -> bool:
    """Whether there are labelme files in this folder, or in the folders in it."""
    return any_fits([file for part in parts_of(path) for file in _files(part)[:20]], _is_labelme)


def read(path: Path, images: Path | None) -> Source:
    """Read every JSON file; the image is ``imagePath``, else the one of the same name."""
    source, found = Source(), Images(images or folder_of(path))
    for part in parts_of(path):
        for file in _files(part):
            split = split_of(part.name) if part != path else None
            source.add(str(file), partial(_item, file, found, split))
    return source


def _files(part: Path) -> list[Path]:
    return files_of(part, "*.json") or files_of(part, "*/*.json")


def _is_labelme(file: Path) -> bool:
    content = read_json(file)
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def _item(file: Path, images: Images, split: str | None) -> Item:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise InputError("it has no shapes; save it again with labelme, or move it away")
    shapes, name = content["shapes"], str(content.get("imagePath") or file.stem)
    flags = [flag for flag, is_set in (content.get("flags") or {}).items() if is_set]
    names = [str(shape["label"]) for shape in shapes if shape["label"] != LABELME_VOID]
    size = (int(content["imageHeight"]), int(content["imageWidth"])) if content.get("imageHeight") else None
    kinds = {shape.get("shape_type") or "polygon" for shape in shapes}
    regions = (lambda: [_region(shape, file) for shape in shapes]) if kinds and kinds <= set(_PIXELS) else None
    item = Item(name, _image(name, file, images), distinct([*names, *flags]), regions, size, split)
    if item.path.is_file():
        return item
    return replace(item, data=partial(base64.b64decode, content["imageData"]))


def _image(name: str, file: Path, images: Images) -> Path:
    """The image beside a labelme file or in its folder; a path where it would be, if the file holds the image itself."""
    beside = file.parent / name.replace("\\", "/")
    if beside.is_file():
        return beside
    try:
        return images.find(name)
    except InputError:
        if not read_json(file).get("imageData"):
            raise
    return file.with_suffix(beside.suffix or ".png")


def _region(shape: dict, file: Path) -> Region:
    kind, points = shape.get("shape_type") or "polygon", np.asarray(shape["points"], np.float64).reshape(-1, 2)
    draw: Callable[[Shape], np.ndarray]
    if kind == "mask":
        with open_image(base64.b64decode(shape["mask"]), file, "mask") as image:
            draw = partial(pasted, np.array(image) > 0, points[0])
    elif kind == "circle":
        (x, y), radius = points[0], float(np.hypot(*(points[1] - points[0])))
        draw = _drawn(lambda pen: pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=1, outline=1))
    elif len(points) > 2:
        draw = _drawn(lambda pen: pen.polygon([tuple(point) for point in points], fill=1, outline=1))
    else:
        raise ValueError(f"a polygon of {len(points)} points")
    return Region(None if shape["label"] == LABELME_VOID else str(shape["label"]).strip(), draw)


def _drawn(draw: Callable[[ImageDraw.ImageDraw], None]) -> Callable[[Shape], np.ndarray]:
    def mask(shape: Shape) -> np.ndarray:
        image = Image.new("L", (shape[1], shape[0]))
        draw(ImageDraw.Draw(image))
        return np.array(image) > 0

    return mask
