"""Merges below the run folders: what the strategy lab needs is what their commands name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from Web_demo.src.utils.files import names_below, walk_files
from Web_demo.src.utils.records import RUN, Moved, option, read_record

# What the lab calls an option -> its names at main.py.
_NAMES = {
    "pseudo_path": ("--pseudo-path", "--labels"),
    "sam_path": ("--sam-path", "--masks"),
    "cam_path": ("--cam-path", "--cams"),
    "images_path": ("--images-path", "--images"),
    "gt_dir": ("--gt-dir", "--gt"),
    "image_list": ("--image-list", "--list"),
    "image_labels": ("--image-labels",),
    "class_names": ("--class-names",),
}


def find_merges(folders: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Name -> options of the lab, for every pair of labels and masks that was merged below the folders, the newest first."""
    return _found(tuple(Path(os.path.abspath(folder)) for folder in folders))


@st.cache_data(ttl=10, show_spinner=False)  # not at every click
def _found(folders: tuple[Path, ...]) -> dict[str, dict[str, Path]]:
    merges: dict[tuple[Path, Path], list[tuple[float, dict[str, Path]]]] = {}
    for path in walk_files(folders):
        if path.name == RUN and (options := _options_of(path)):
            pair = options["pseudo_path"], options["sam_path"]
            merges.setdefault(pair, []).append((path.stat().st_mtime, options))
    newest = sorted(merges, key=lambda pair: -max(changed for changed, _ in merges[pair]))
    # Of commands that merged the same, the one that knows most, such as the ground truth.
    chosen = {pair: max(merges[pair], key=lambda found: (len(found[1]), found[0]))[1] for pair in newest}
    names = names_below([labels for labels, _ in chosen], folders)
    often = Counter(labels for labels, _ in chosen)
    return {
        names[labels] + (f" with {masks}" if often[labels] > 1 else ""): options
        for (labels, masks), options in chosen.items()
    }


def _options_of(path: Path) -> dict[str, Path] | None:
    """What a merge's ``run.json`` names, as far as it is there; None without labels and masks."""
    record = read_record(path)
    out = option(record, "--out")
    if out is None or not option(record, *_NAMES["sam_path"]):
        return None
    moved = Moved(str(Path(out) / path.parent.name), path.parent)
    found = {name: moved(option(record, *names)) for name, names in _NAMES.items()}
    if found["images_path"] is None:  # a merge needs no images; those that it rests on were made from some
        made = [read_record(folder / RUN) for name in ("sam_path", "pseudo_path") if (folder := found[name])]
        found["images_path"] = next(filter(None, (moved(option(source, "--images")) for source in made)), None)
    known = {name: value.absolute() for name, value in found.items() if value is not None}
    return known if {"pseudo_path", "sam_path"} <= known.keys() else None
