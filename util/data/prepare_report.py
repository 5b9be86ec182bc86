"""What `util.data.prepare` found in a data set, for people and for ``report.json``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from util.runtime.errors import counted

# Classes that may mean that there is nothing to see; MVTec AD calls them "good".
_NOTHING = re.compile(
    r"normal|healthy|negative|none|nothing|empty|clean|good|ok|pass(ed)?|i\.?o\.?|gut(teile)?|control|(no|non|not|without)[ _-].+|no(finding|defect|tumou?r|disease)s?",
    re.I,
)
LARGE = 1000  # pixels of the long side; networks see about half of that


@dataclass
class Report:
    """What was found, for people and for ``report.json``.

    Attributes:
        images: that are in the lists.
        lists: name -> number of images.
        classes: name -> list -> number of images that show it.
        label_maps: how many images have pixel annotations.
        sizes: smallest, median and largest (width, height), by number of pixels, as in the layout.
        large: number of images with a side above `LARGE` pixels.
        large_cams: megabytes that the CAMs of such an image take on average.
        duplicates: groups of ids whose files are the same; each group is in one list.
        negatives: number of images that show none of the classes, as the source says; they are in the lists.
        unlabelled: ids of other images without a class; they are in no list.
        renamed: id -> name in the source, where two images had the same, or lists would take it for something else.
        left_out: class -> number of images, for classes that ``--class-names`` does not name.
        lost: number of images that show no other class, and so are in no list.
        notes: how the source was understood, where that may surprise.
        problems: image -> message, for those that could not be used.
        files: images and label maps written, below the folder.
    """

    images: int = 0
    lists: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    label_maps: int = 0
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    large: int = 0
    large_cams: int = 0
    duplicates: list[list[str]] = field(default_factory=list)
    negatives: int = 0
    unlabelled: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    notes: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def seen(self, name: str) -> int:
        """How many training images show a class."""
        return self.classes[name].get("train", 0)

    @property
    def teaches(self) -> bool:
        """Whether some class is shown by some training images and not by others."""
        return any(0 < self.seen(name) < self.lists["train"] for name in self.classes)


def classes_left_out(report: Report) -> str:
    return ", ".join(f"{name} ({counted(number, 'image')})" for name, number in report.left_out.items())


def lost_text(report: Report, names: Path) -> str:
    """What ``--class-names`` costs, and what it names in vain, which may be another name for what is left out."""
    text = (
        f"{report.lost} of {counted(report.images + len(report.unlabelled), 'image')} are in no list, as {names} names none of "
        f"their classes: {classes_left_out(report)}"
    )
    unseen = [name for name, per_list in report.classes.items() if not any(per_list.values())]
    if unseen:
        text += f"; no image shows its {', '.join(unseen)}. If these are the same, correct the names and re-run"
    return text


def report_text(report: Report, out: Path) -> str:
    """The report for a terminal."""
    counts = ", ".join(f"{name} {count}" for name, count in report.lists.items())
    sizes = ", ".join(f"{name} {width}x{height}" for name, (width, height) in report.sizes.items())
    lines = [f"{report.images} images ({counts}), {report.label_maps} label maps; {sizes}", ""]
    lines.append(f"{'class':<24}" + "".join(f"{name:>8}" for name in report.lists))
    for name, per_list in report.classes.items():
        lines.append(f"{name:<24}" + "".join(f"{per_list[key]:>8}" for key in report.lists))
    if report.negatives:
        lines.append(f"{'none of them':<24}{report.negatives:>8} in all")
    for what, found in (
        ("groups of identical images", [", ".join(group) for group in report.duplicates]),
        ("images without a class, in no list", report.unlabelled),
        (
            "images renamed, as others have the same name, or lists would misread it",
            [f"{v} -> {k}" for k, v in report.renamed.items()],
        ),
        ("classes left out by --class-names", [f"{k} ({counted(v, 'image')})" for k, v in report.left_out.items()]),
    ):
        if found:
            lines.append(f"{what} ({len(found)}): {'; '.join(found[:5])}{'; ...' if len(found) > 5 else ''}")
    lines += [f"note: {note}" for note in report.notes]
    if report.large:
        lines.append(
            f"{report.large} of {report.images} images have a side above {LARGE} pixels, and about {report.large_cams} MB of CAMs "
            f"each; networks see about half of that side, so --max-side {LARGE} saves time and disk in all that follows"
        )
    empty = [name for name in report.classes if not report.seen(name)]
    if empty:
        lines.append(f"no training image shows {', '.join(empty)}")
    if len(empty) == len(report.classes):
        lines.append(
            "so nothing can be learned: move images of every class to the train part of the source, and re-run"
        )
    nothing = [name for name in report.classes if _NOTHING.fullmatch(name)]
    if nothing:
        lines.append(
            f"{', '.join(nothing)}: if such images show none of the other classes, call it background in the source and re-run; as a "
            "class it is painted onto something in each of these images"
        )
    always = [name for name in report.classes if report.seen(name) == report.lists["train"] > 0]
    if always:
        lines.append(
            f"every training image shows {', '.join(always)}, which cannot be learned from image-level labels; add images without it, "
            "in a folder background beside the folders of the classes, or as a row of zeros in a table"
        )
    lines.append(f"full report: {out / 'report.json'}")
    return "\n".join(lines)
