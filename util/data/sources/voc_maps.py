"""What the values and colours of label maps in VOC's layout stand for.

By the class file beside them; without one they are VOC's if the data set looks like VOC's, else the classes are the numbers
themselves.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from util.data.class_files import BACKGROUND, is_background, list_classes
from util.data.ids import id_of
from util.data.image_labels import object_names, read_xml
from util.data.images import open_image, turn_upright
from util.data.labels import read_label
from util.data.sources.base import files_of
from util.data.voc import CLASS_NAMES, VOID, ClassTable, class_table, load_classes, palette
from util.runtime.errors import InputError

FOLDER = "SegmentationClass"
XML = ("*.xml", "Annotations/*.xml", "*/*.xml")
_CLASS_FILES = ("labelmap.txt", "class_names.txt")
_OF_MAPS = (*_CLASS_FILES, "class_dict.csv", "labels.txt", "classes.txt")  # only beside label maps
_VOID_COLOR = (224, 224, 192)
_UNKNOWN = 254
_FEW = 20  # label maps that are compared with XML files


@dataclass
class Values:
    """What the label maps of a data set have.

    Attributes:
        table: the classes of the values.
        colored: whether the class file has colours of its own.
        numbered: whether the classes are the values themselves, and have their names elsewhere.
        note: how the values were understood, where that may surprise.
        seen: all values, once the label maps are read.
    """

    table: ClassTable
    colored: bool = False
    numbered: bool = False
    note: str | None = None
    seen: set[int] = field(default_factory=set)


def find_values(path: Path, parts: list[Path], maps: list[Path]) -> Values | None:
    """What the label maps in the parts of a data set have; None without label maps and class file.

    Raises:
        InputError: if class files disagree, or it is not plain which value is whose.
    """
    places = [place for part in dict.fromkeys((path, *parts)) for place in (part, part / FOLDER)]
    names = _OF_MAPS if maps else _CLASS_FILES
    found = [next((place / name for name in names if (place / name).is_file()), None) for place in places]
    files = [file for file in found if file is not None]
    tables = [_read_table(file, maps) for file in files]
    for file, other in zip(files[1:], tables[1:], strict=True):
        first, colored = tables[0], tables[0].colored and other.colored
        if first.table.names != other.table.names or (colored and first.table != other.table):
            raise InputError(f"{files[0]} and {file} have other classes or colours; make them agree, or remove one")
    if tables:
        return max(tables, key=lambda values: values.colored)
    if not maps:
        return None
    if _is_voc(path, parts, maps):
        note = "no class file, but VOC's palette or classes: the label maps' values are VOC's (1 is aeroplane, 2 is bicycle, ...); "
        return Values(load_classes(), note=f"{note}if they are others, add class_names.txt")
    return Values(class_table([BACKGROUND, *map(str, range(1, VOID))]), numbered=True)


def _read_table(file: Path, maps: list[Path]) -> Values:
    listed = list_classes(file)
    colored = bool(listed) and all(entry.color for entry in listed if not is_background(entry.name))
    if not maps or not listed or any(is_background(entry.name) for entry in listed):
        return Values(load_classes(file), colored)
    top = max(_values(maps) - {VOID}, default=0)
    if top == len(listed) or (colored and all(_mode(each) in ("RGB", "RGBA") for each in maps)):
        return Values(load_classes(file, len(listed) + 1), colored)
    first = listed[0].name
    raise InputError(
        f"{file}: {len(listed)} classes without a background, while the label maps' values go up to {top}: {first!r} may be 1, "
        f"or 0. Write 'background' as the first line if it is 1, or in the place of {first!r} if that is 0"
    )


def _values(maps: list[Path]) -> set[int]:
    """The values of all label maps that hold indices."""
    found: set[int] = set()
    for file in maps:
        with contextlib.suppress(InputError):  # it is named when the image is read
            found |= set(np.unique(read_label(file)).tolist())
    return found


def _mode(file: Path) -> str:
    """Pillow's mode of a label map; nothing if it cannot be read."""
    with contextlib.suppress(InputError), open_image(file, file, "label map") as image:
        return str(image.mode)
    return ""


def _is_voc(path: Path, parts: list[Path], maps: list[Path]) -> bool:
    """Whether a data set looks like VOC: by the names in its XML files, else by its palette and ``ImageSets``.

    XML files and label maps have to agree: a set of cats and dogs has names of VOC's, and may have the values 1 and 2.
    """
    shown: dict[str, set[str]] = {}
    for file in (file for part in parts for file in files_of(part, *XML)):
        with contextlib.suppress(InputError):
            shown.setdefault(id_of(file.name), set()).update(object_names(read_xml(file)))
    names = set().union(*shown.values())
    if not names:
        lists = any((place / "ImageSets").is_dir() for place in (path, *parts))
        return lists and all(map(_has_voc_palette, maps))
    both = [file for file in maps if id_of(file.name) in shown][:_FEW]
    agreeing = 0
    for file in both:
        with contextlib.suppress(InputError):
            values = set(np.unique(read_values(file, Values(load_classes()))).tolist()) - {0, VOID}
            agreeing += {CLASS_NAMES[value] for value in values} <= shown[id_of(file.name)]
    return names <= set(CLASS_NAMES) and 2 * agreeing >= len(both)


def _has_voc_palette(file: Path) -> bool:
    with contextlib.suppress(InputError), open_image(file, file, "label map") as image:
        colors = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return image.mode == "P" and len(colors) > 0 and bool((colors == palette()[: len(colors)]).all())
    return False


def read_values(path: Path, values: Values) -> np.ndarray:
    """A label map as values of the classes: by its colours, if these are the class file's own, else by index.

    Raises:
        InputError: if neither can be right, or some colours are other classes than their index.
    """
    pixels, mode = _pixels(path)
    table = values.table
    has_index = pixels is None or mode == "P" or bool((pixels[..., :1] == pixels).all())
    if pixels is None or (has_index and not values.colored):
        return read_label(path, None if values.numbered else len(table))
    if values.numbered:
        raise InputError(
            f"{path}: it holds colours, and no class file says whose; add class_names.txt with lines such as 'cat #800000', "
            "background first"
        )
    label = _by_color(pixels, table, path)
    unknown = label == _UNKNOWN
    if not unknown.any():
        return label
    red, green, blue = pixels[unknown][0]
    color = f"#{red:02x}{green:02x}{blue:02x}"
    if not has_index:
        raise InputError(f"{path}: the colour {color} is of no class; add it to {' or '.join(_CLASS_FILES)}")
    index = read_label(path, len(table))
    other = ~unknown & (label != index)
    if other.any():
        value, meant = int(index[other][0]), int(label[other][0])
        raise InputError(
            f"{path}: the value {value} has the colour of {'void' if meant == VOID else table.names[meant]}, but {color} is of no "
            "class. If the colours are right, add this one to the class file; if the values are, save them as a grey PNG"
        )
    return index


def _pixels(path: Path) -> tuple[np.ndarray | None, str]:
    """uint8 HxWx3 colours of a label map, and its mode; no colours if it is grey."""
    with open_image(path, path, "label map") as image:
        mode = str(image.mode)
        if mode not in ("P", "RGB", "RGBA"):
            return None, mode
        if mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
            raise InputError(f"{path}: a label map that is transparent in parts; save it without the alpha channel")
        image.info.pop("transparency", None)  # of a palette; its colours are meant as they are
        return turn_upright(np.array(image.convert("RGB")), image), mode


def _by_color(pixels: np.ndarray, table: ClassTable, path: Path) -> np.ndarray:
    """uint8 HxW: the classes of colours; `_UNKNOWN` for others."""
    by_color: dict[tuple[int, int, int], int] = {}
    for value, color in enumerate(table.colors):
        if color in by_color:
            one, other = table.names[by_color[color]], table.names[value]
            raise InputError(
                f"{path}: its colours are read, but {one} and {other} have the same in the class file; give each its own, or, "
                f"if {other} is the background, write it as 'background' in the first line"
            )
        by_color[color] = value
    colors = pixels.astype(np.int64) @ (65536, 256, 1)
    label = np.full(colors.shape, _UNKNOWN, np.uint8)
    for color, value in ({_VOID_COLOR: VOID} | by_color).items():
        label[colors == np.dot(color, (65536, 256, 1))] = value
    return label
