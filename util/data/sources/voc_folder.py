"""PASCAL VOC's layout: ``Annotations/*.xml``, ``SegmentationClass/*.png``, ``ImageSets``; or XML files beside the images.

A class file such as ``labelmap.txt`` (CVAT's "Segmentation mask") or ``class_names.txt`` says which classes and colours the
label maps have; see `util.data.sources.voc_maps`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from util.data.ids import id_of, read_id_list
from util.data.image_labels import object_names, read_xml
from util.data.sources.base import (
    Images,
    Item,
    Region,
    Source,
    any_fits,
    distinct,
    files_of,
    folder_of,
    parts_of,
    read_parts,
    split_of,
    where,
)
from util.data.sources.voc_maps import FOLDER, XML, Values, find_values, read_values
from util.data.voc import VOID
from util.runtime.errors import InputError

_MAPS = (f"{FOLDER}/*.png",)
_FEW = 20  # XML files that are looked at to find out whether this is VOC's layout


def fits(path: Path) -> bool:
    """Whether there are VOC annotations or label maps in this folder, or in its parts."""
    if any(files_of(part, *_MAPS) for part in (path, *parts_of(path))):
        return True
    return any_fits(files_of(path, *XML)[:_FEW], lambda xml: read_xml(xml).tag == "annotation")


def read(path: Path, images: Path | None) -> Source:
    """Read annotations and label maps, by id; where they are in folders ``train``, ``val``, ..., each of these by itself.

    Raises:
        InputError: if it is not plain what the values of the label maps are.
    """
    parts = [part for part in parts_of(path) if fits(part)] or [path]
    maps = [file for part in parts for file in files_of(part, *_MAPS)]
    values = find_values(folder_of(path), parts, maps)
    source = read_parts(path, parts, partial(_read_part, images, values))
    if values is None:
        return source
    if VOID in values.seen and values.seen <= {0, VOID}:
        raise InputError(
            f"{maps[0].parent}: its label maps hold only {' and '.join(map(str, sorted(values.seen)))}, and 255 is void here, "
            "pixels that count for no class; if 255 is the object, write 1 for it"
        )
    if values.note:
        source.notes.append(values.note)
    if values.numbered:
        source.classes = [str(value) for value in sorted(values.seen - {0, VOID})]
        source.numbered = bool(source.classes)
    return source


def _read_part(images: Path | None, values: Values | None, path: Path) -> Source:
    found = Images(images or next((f for f in [path / "JPEGImages"] if f.is_dir()), folder_of(path)))
    maps = {id_of(file.name): file for file in files_of(path, *_MAPS)}
    source = Source()
    if values and not values.numbered:
        source.classes = list(values.table.names[1:])
        source.colors = dict(zip(values.table.names, values.table.colors, strict=True))
    splits = _splits(path)
    annotations = {id_of(file.name): file for file in files_of(path, *XML)}
    for image in sorted({*annotations, *maps}):
        xml, label = annotations.get(image), maps.get(image)
        source.add(image, partial(_item, image, xml, label, found, values, splits.get(image)))
    return source


def _splits(path: Path) -> dict[str, str]:
    """id -> split, by the lists in ``ImageSets``."""
    splits: dict[str, str] = {}
    for name in ("train", "val", "test"):
        for folder in ("Segmentation", "Main"):
            file = path / "ImageSets" / folder / f"{name}.txt"
            if file.is_file():
                splits |= dict.fromkeys(read_id_list(file), name)
                break
    return splits


def _item(
    image: str, xml: Path | None, label: Path | None, images: Images, values: Values | None, split: str | None
) -> Item:
    classes: tuple[str, ...] = ()
    size = None
    if xml is not None:
        root = read_xml(xml)
        classes = distinct(object_names(root))
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
        size = (height, width) if height and width else None
        if split is None:
            split = split_of(xml.parent.name)
    if label is None or values is None:
        return Item(image, images.find(image), classes, None, size, split)
    seen = np.unique(read_values(label, values)).tolist()
    values.seen.update(seen)
    shown = [values.table.names[value] for value in seen if 0 < value < len(values.table)]
    return Item(image, images.find(image), distinct([*classes, *shown]), partial(_regions, label, values), None, split)


def _regions(file: Path, values: Values) -> list[Region]:
    label = read_values(file, values)
    names = {
        value: None if value == VOID else values.table.names[value] for value in np.unique(label).tolist() if value
    }
    return [Region(name, where(label, value)) for value, name in names.items()]
