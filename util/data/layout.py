"""The layout that every data set is brought to: PASCAL VOC's folders and lists."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from util.runtime.files import write_bytes

IMAGES, LABELS, LISTS = "JPEGImages", "SegmentationClassAug", Path("ImageSets") / "Segmentation"
TAGS, CLASS_FILE = "cls_labels.npy", "class_names.txt"


def write_lists(out: Path, lists: dict[str, list[str]]) -> None:
    """Write name -> ids as ``ImageSets/Segmentation/<name>.txt``."""
    for name, ids in lists.items():
        write_lines(out / LISTS / f"{name}.txt", ids)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, atomically."""
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
