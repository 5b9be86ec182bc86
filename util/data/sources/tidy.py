"""What is put right in a source of any format: images that belong to others, and several spellings of one class."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

from util.data.sources.base import Item, Region, Source

_INVISIBLE = re.compile("[\u200b\u200c\u200d\u2060\ufeff\u00ad]")


def tidy(source: Source) -> None:
    """Report entries that got another entry's image, and give each class one spelling, in place."""
    _return_images(source)
    _merge_spellings(source)


def _return_images(source: Source) -> None:
    """Turn entries whose folder is not there into problems, where their image was found in another folder.

    ``dog/17.jpg`` that is missing is found as ``cat/17.jpg``, as annotations may have been moved; here others of the source
    were found by their folder, or the image is another entry's.
    """
    exact = {item.name: _in_its_folder(item) for item in source.items}
    with_folder = [item for item in source.items if _folder(item.name)]
    owners = {item.path: item.name for item in source.items if exact[item.name]}
    some = any(exact[item.name] for item in with_folder)
    kept = []
    for item in source.items:
        lost = item.data is None and not exact[item.name] and (some or item.path in owners)
        if lost and _folder(item.name):
            whose = (
                f"; {item.path} is {owners[item.path]!r}"
                if item.path in owners
                else f"; {item.path} is of another folder"
            )
            source.problems[item.name] = f"there is no such image{whose}; add it, or remove its entry"
        else:
            kept.append(item)
    source.items = kept


def _in_its_folder(item: Item) -> bool:
    """Whether the image is in the folder that the entry says, or it says none."""
    folder = _folder(item.name)
    return not folder or folder.casefold() == unicodedata.normalize("NFC", item.path.parent.name).casefold()


def _folder(name: str) -> str:
    """The last folder in an entry's name; empty without."""
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    return path.parent.name.strip(".")


def _merge_spellings(source: Source) -> None:
    """Name classes that differ only in case, composition or invisible characters by their most frequent spelling."""
    found = Counter(name for item in source.items for name in item.classes)
    found.update(dict.fromkeys(source.classes, 0))
    groups: dict[str, list[str]] = {}
    for name, _ in found.most_common():
        groups.setdefault(_plain(name), []).append(name)
    meant = {
        name: _INVISIBLE.sub("", unicodedata.normalize("NFC", names[0])) for names in groups.values() for name in names
    }
    if all(name == spelling for name, spelling in meant.items()):
        return
    for spellings in groups.values():
        if len(spellings) > 1:
            source.notes.append(f"taken for one class: {', '.join(spellings)}")
    source.classes = list(dict.fromkeys(meant[name] for name in source.classes))
    source.colors = {meant.get(name, name): color for name, color in source.colors.items()}
    source.items = [
        replace(
            item,
            classes=tuple(dict.fromkeys(meant[name] for name in item.classes)),
            regions=item.regions and partial(_renamed, item.regions, meant),
        )
        for item in source.items
    ]


def _plain(name: str) -> str:
    """What the spellings of a class have in common; of one letter, which case may set apart, itself."""
    name = " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", name)).split())
    return name if len(name) == 1 else name.casefold()


def _renamed(regions: Callable[[], list[Region]], names: dict[str, str]) -> list[Region]:
    return [replace(region, name=names.get(region.name or "", region.name)) for region in regions()]
