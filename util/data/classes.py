"""The classes of a data set, found where they travel with the data.

``class_names.txt`` beside label maps, images or image-level labels or in the folder above, and the ``run.json`` of the
stage that wrote a folder. Sources that disagree are an error, since one of them would name every class wrongly.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from util.data.layout import CLASS_FILE
from util.data.voc import MAX_CLASSES, ClassTable, class_table, load_classes
from util.runtime.errors import InputError
from util.runtime.files import read_json

Place = str | os.PathLike | None


@dataclass(frozen=True)
class _Source:
    """Classes, and the option or file that names them."""

    where: str
    classes: ClassTable


def find_classes(
    places: Iterable[Place], class_file: Place = None, num_classes: int | None = None
) -> ClassTable | None:
    """The classes that the command or the data names; None where nothing does.

    Args:
        places: folders and files of the data set, such as label maps, ground truth and image-level labels; None is skipped.
        class_file: what ``--class-names`` gives.
        num_classes: what ``--num-classes`` gives, with the background.

    Returns:
        the classes of ``class_file``, else of the first place that has some, else ``num_classes`` without names.

    Raises:
        InputError: if a file cannot be read, or two of them disagree.
    """
    sources = (
        [] if class_file is None else [_Source(f"--class-names {class_file}", load_classes(class_file, num_classes))]
    )
    sources += _beside(places, num_classes)
    for other in sources[1:]:
        first, names, others = sources[0], sources[0].classes.names, other.classes.names
        if names[1:] != others[1:]:
            raise InputError(
                f"{first.where} names {_shown(names)}, but {other.where} names {_shown(others)}. Make them agree, or "
                "remove the one that does not belong to this data"
            )
    if sources:
        return sources[0].classes
    return None if num_classes is None else load_classes(None, num_classes)


def classes_of(
    places: Iterable[Place], class_file: Place = None, num_classes: int | None = None, ids: Iterable[str] = ()
) -> ClassTable:
    """As `find_classes`, and VOC's classes where nothing names any: with a note, unless all ``ids`` are VOC's."""
    places = [Path(place) for place in places if place is not None]
    found = find_classes(places, class_file, num_classes)
    if found is not None:
        return found
    ids = list(ids)
    is_voc = bool(ids) and all(re.fullmatch(r"\d{4}_\d{6}", image) for image in ids)
    if not is_voc and os.environ.get("RANK", "0") == "0":
        where = f" beside {places[0]}" if places else ""
        print(
            f"note: no {CLASS_FILE}{where}: the classes are taken to be VOC's (1 is aeroplane, 2 is bicycle, ...); give "
            "--class-names FILE if they are others",
            file=sys.stderr,
        )
    return load_classes()


def _shown(names: tuple[str, ...]) -> str:
    more = f", ... ({len(names)} classes)" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def _beside(places: Iterable[Place], num_classes: int | None) -> Iterator[_Source]:
    """The classes that files beside the places or in the folder above name, each file once."""
    folders: dict[Path, None] = {}
    for place in places:
        if place is not None:
            folder = Path(place) if Path(place).is_dir() else Path(place).parent
            folders |= dict.fromkeys((folder.absolute(), folder.absolute().parent))
    for folder in folders:
        if (path := folder / CLASS_FILE).is_file():
            yield _Source(str(path), load_classes(path, num_classes))
    for folder in folders:
        if (path := folder / "run.json").is_file() and (classes := _of_run(path)) is not None:
            if num_classes is not None and num_classes != len(classes):
                raise InputError(
                    f"{path} names {len(classes)} classes, --num-classes says {num_classes}; make them agree"
                )
            yield _Source(str(path), classes)


def _of_run(path: Path) -> ClassTable | None:
    """The classes that ``run.json`` records, in its options or in what the result was made from."""
    try:
        content = read_json(path)
    except InputError:  # of another tool
        return None
    for key in ("options", "made_from"):
        part = content.get(key) if isinstance(content, dict) else None
        names = part.get("classes") if isinstance(part, dict) else None
        if isinstance(names, list) and 2 <= len(names) <= MAX_CLASSES and all(isinstance(name, str) for name in names):
            return class_table(names)
    return None
