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
    """Turn entries that have another entry's image into problems.

    ``dog/17.jpg`` that is missing is found as ``cat/17.jpg``, as annotations may have been moved. It cannot be meant if others
    of the source are in the folders that they name, or if several entries have the image.
    """
    named = [item for item in source.items if _is_in_its_folder(item)]
    owners = {item.path: item for item in named}
    entries = Counter(item.path for item in source.items if item.data is None)
    kept = []
    for item in source.items:
        elsewhere = named and _folder(item.name) and item.data is None
        if item is owners.get(item.path) or (entries[item.path] < 2 and not elsewhere):
            kept.append(item)
            continue
        whose = "of another folder" if entries[item.path] < 2 else "the image of several entries"
        whose = repr(owners[item.path].name) if item.path in owners else whose
        source.problems[item.name] = f"there is no such image; {item.path} is {whose}. Add it, or remove its entry"
    source.items = kept


def _is_in_its_folder(item: Item) -> bool:
    """Whether the entry names a folder, and the image is in it."""
    folder = unicodedata.normalize("NFC", item.path.parent.name)
    return bool(_folder(item.name)) and _folder(item.name).casefold() == folder.casefold()


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
    rename(source, meant)


def rename(source: Source, meant: dict[str, str]) -> None:
    """Give classes other names, in place; those that ``meant`` does not have keep theirs."""
    source.classes = list(dict.fromkeys(meant.get(name, name) for name in source.classes))
    source.colors = {meant.get(name, name): color for name, color in source.colors.items()}
    source.items = [
        replace(
            item,
            classes=tuple(dict.fromkeys(meant.get(name, name) for name in item.classes)),
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
