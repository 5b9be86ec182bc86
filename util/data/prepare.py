"""A data set of any source in VOC's layout: images, label maps, lists, image-level labels, class names, report."""

from __future__ import annotations

import os
import re
import shutil
import sys
from argparse import Namespace
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from util.data.class_files import is_background
from util.data.class_numbers import classes_of_source
from util.data.contact_sheet import draw_contact_sheet
from util.data.ids import HEIC_SUFFIXES, id_of
from util.data.image_labels import read_image_labels, write_image_labels
from util.data.images import decode_image
from util.data.labels import encode_label
from util.data.layout import CLASS_FILE, IMAGES, LABELS, TAGS, write_lines, write_lists
from util.data.sources import read_source
from util.data.sources.base import Item, Region, Shape, Source
from util.data.split import stratified
from util.data.unpack import unpacked
from util.data.voc import MAX_CLASSES, VOID, ClassTable, class_table
from util.runtime.cli import print_next
from util.runtime.errors import InputError, counted
from util.runtime.files import (
    atomic_write,
    bytes_digest,
    check_id,
    read_bytes,
    write_bytes,
    write_json,
)
from util.runtime.locking import lock_folder
from util.runtime.progress import Progress
from util.runtime.provenance import write_run_json

LARGE = 1000  # pixels of the long side; networks see about half of that
CAM_BYTES = 8  # of a pixel and class: float32, before and after the refinement


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
        unlabelled: ids of images that show no class; they are in no list.
        renamed: id -> name in the source, where two images had the same.
        left_out: class -> number of images, for classes that ``--class-names`` does not name.
        lost: number of images that show no other class, and so are in no list.
        notes: how the source was understood, where that may surprise.
        problems: image -> message, for those that could not be used.
    """

    images: int = 0
    lists: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    label_maps: int = 0
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    large: int = 0
    large_cams: int = 0
    duplicates: list[list[str]] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    notes: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass
class _Image:
    """An image that is in the layout: its file there, size, digest, and label map."""

    item: Item
    tags: tuple[int, ...]
    shape: Shape
    digest: str
    file: Path
    label: Path | None


def prepare(
    source: Source,
    out: Path,
    classes: ClassTable | None = None,
    *,
    share: float = 0.2,
    seed: int = 0,
    copy: bool = False,
    max_side: int | None = None,
) -> tuple[Report, ClassTable]:
    """Write ``source`` into ``out`` in VOC's layout.

    Args:
        source: as `util.data.sources.read_source` gives it.
        out: the folder.
        classes: what ``--class-names`` says; None takes the source's.
        share: of the images for ``val.txt``, where the source has no splits.
        seed: of the split.
        copy: copy images even where they could be linked.
        max_side: longest side of an image in the layout; larger ones are made smaller, with their label maps. None: any.

    Raises:
        InputError: if no image could be used, or there are too many classes.
    """
    table = classes or _table(source)
    report = Report(notes=source.notes, problems=dict(source.problems))
    images: dict[str, _Image] = {}
    for image_id, item in Progress(_with_ids(source.items, report).items(), desc="images", unit="image"):
        try:
            images[image_id] = _take(item, image_id, table, out, copy, max_side, report)
        except InputError as error:
            report.problems[item.name] = str(error)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            report.problems[item.name] = f"its annotation cannot be drawn ({error}); draw it again"
    report.unlabelled = [image_id for image_id, image in images.items() if not image.tags]
    report.lost = sum(bool(images[image_id].item.classes) for image_id in report.unlabelled)
    tagged = {image_id: image for image_id, image in images.items() if image.tags}
    if not tagged:
        shown = f"no image shows a class of --class-names; they show {_classes_left_out(report)}"
        nothing = ("none", shown if report.left_out else "no image shows a class")
        first = next(iter(report.problems.items()), nothing)
        raise InputError(
            f"{out}: no usable image with a class; the first problem: {first[0]}: {first[1]}; see --source"
        )
    _write_lists(tagged, table, out, report, share, seed)
    _describe(tagged, images, report)
    write_json(out / "report.json", asdict(report))
    return report, table


def _table(source: Source) -> ClassTable:
    """The source's classes, with its colours where it has them."""
    names = source.classes or sorted({name for item in source.items for name in item.classes})
    if not 1 <= len(names) < MAX_CLASSES:
        raise InputError(
            f"{len(names)} classes found; 1 to {MAX_CLASSES - 1} fit into label maps; choose with --class-names"
        )
    table = class_table(["background", *names])
    colors = [source.colors.get(name, color) for name, color in zip(table.names, table.colors, strict=True)]
    return ClassTable(table.names, tuple(colors) if len(set(colors)) == len(colors) else table.colors)


def _with_ids(items: list[Item], report: Report) -> dict[str, Item]:
    """Items by id: the file's name, with its folder in front where several have the same."""
    stems: dict[str, list[Item]] = {}
    heic = {item.name for item in items if item.path.suffix.lower() in HEIC_SUFFIXES}
    readable = {os.path.splitext(item.name)[0] for item in items if item.name not in heic}
    converted = {name for name in heic if os.path.splitext(name)[0] in readable}
    if converted:
        report.notes.append(f"{counted(len(converted), 'HEIC image')} left out: each is there in another format")
    for item in (item for item in items if item.name not in converted):
        try:
            stems.setdefault(id_of(item.name), []).append(item)
        except InputError as error:
            report.problems[item.name] = str(error)
    found: dict[str, Item] = {}
    for stem, group in stems.items():
        for item in group:
            image_id = stem
            if len(group) > 1:
                image_id = check_id(re.sub(r"[/\\]+", "_", item.name.removesuffix(item.path.suffix).strip("./\\")))
                report.renamed[image_id] = item.name
            if image_id in found:
                report.problems[item.name] = (
                    f"its id {image_id!r} is taken by {found[image_id].name}; rename one of them"
                )
            else:
                found[image_id] = item
    return dict(sorted(found.items()))


def _take(
    item: Item, image_id: str, table: ClassTable, out: Path, copy: bool, max_side: int | None, report: Report
) -> _Image:
    """Check one image, and put it and its label map into the layout."""
    data = read_bytes(item.path) if item.data is None else item.data()
    pixels = decode_image(data, item.path)  # all of it: what is cut short is found here, and not in training
    shape = pixels.shape[:2]
    if item.size is not None and item.size != shape:
        turned = " (they are for the image before its EXIF rotation)" if item.size == shape[::-1] else ""
        raise InputError(
            f"{item.path}: the image is {shape[1]}x{shape[0]}, its annotations are for {item.size[1]}x{item.size[0]}"
            f"{turned}; export it again, or save the image upright"
        )
    known = set(table.names)
    for name in item.classes:
        if name not in known:
            report.left_out[name] = report.left_out.get(name, 0) + 1
    label = None if item.regions is None else _painted(item.regions(), shape, table)
    tags = tuple(sorted({table.names.index(name) for name in item.classes if name in known}))
    file = out / IMAGES / f"{image_id}{item.path.suffix.lower()}"
    if max_side is not None and max(shape) > max_side:
        shape, label = _write_smaller(file, pixels, label, max_side)
    elif item.data is None:
        _put(item.path, file, copy)
    else:
        write_bytes(file, data)
    label_file = None if label is None else out / LABELS / f"{image_id}.png"
    if label is not None and label_file is not None:
        write_bytes(label_file, encode_label(label, table.palette))
    return _Image(item, tags, (shape[0], shape[1]), bytes_digest(data), file, label_file)


def _painted(regions: list[Region], shape: Shape, table: ClassTable) -> np.ndarray:
    """The label map of regions: smaller ones above larger ones, void above all; pixels of classes left out are void."""
    label = np.zeros(shape, np.uint8)
    drawn = []
    for region in regions:
        mask = region.draw(shape)
        if mask.shape != shape:
            raise InputError(
                f"a region of {mask.shape[1]}x{mask.shape[0]} in an image of {shape[1]}x{shape[0]}; "
                "export it again for this image"
            )
        known = region.name is not None and (region.name in table.names or is_background(region.name))
        value = VOID if not known or region.name is None else _value(region.name, table)
        drawn.append((value == VOID, -int(np.count_nonzero(mask)), value, mask))
    for _, _, value, mask in sorted(drawn, key=lambda entry: entry[:3]):
        label[mask] = value
    return label


def _value(name: str, table: ClassTable) -> int:
    return table.names.index(name) if name in table.names else 0


def _write_smaller(
    file: Path, pixels: np.ndarray, label: np.ndarray | None, max_side: int
) -> tuple[Shape, np.ndarray | None]:
    """Write an image with a long side of ``max_side`` pixels, upright; its shape, and the label map of that size."""
    height, width = (max(1, round(side * max_side / max(pixels.shape[:2]))) for side in pixels.shape[:2])
    smaller = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    with atomic_write(file) as temporary:
        smaller.save(temporary, quality=95)
    if label is not None:
        label = np.array(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
    return (height, width), label


def _put(source: Path, target: Path, copy: bool) -> None:
    """Hard-link a file, or copy it where that is wanted or links do not work."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and os.path.samefile(source, target) and not copy:
        return
    target.unlink(missing_ok=True)
    if not copy:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another disk, or a file system without links
            pass
    shutil.copyfile(source, target)


def _write_lists(
    images: dict[str, _Image], table: ClassTable, out: Path, report: Report, share: float, seed: int
) -> None:
    lists: dict[str, list[str]] = {"train": [], "val": []}
    open_ids = [image_id for image_id, image in images.items() if image.item.split is None]
    groups: dict[str, list[str]] = {}
    for image_id, image in images.items():
        groups.setdefault(image.digest, []).append(image_id)
        if image.item.split is not None:
            lists.setdefault(image.item.split, []).append(image_id)
    report.duplicates = [group for group in groups.values() if len(group) > 1]
    if not lists["val"]:  # no part of the source is held out
        open_ids, lists["train"] = open_ids + lists["train"], []
    elif open_ids:
        lists["train"], open_ids = lists["train"] + open_ids, []
    train, val = stratified({i: images[i].tags for i in open_ids}, groups.values(), share, seed)
    lists["train"] += train
    lists["val"] += val
    write_lists(out, {name: sorted(ids) for name, ids in lists.items()})
    write_image_labels(out / TAGS, {i: images[i].tags for i in sorted(images)}, table)
    lines = [f"{name} #{r:02x}{g:02x}{b:02x}" for name, (r, g, b) in zip(table.names, table.colors, strict=True)]
    write_lines(out / CLASS_FILE, lines)
    report.lists = {name: len(ids) for name, ids in lists.items()}
    for value, name in enumerate(table.names[1:], 1):
        counts = {key: sum(value in images[i].tags for i in ids) for key, ids in lists.items()}
        report.classes[name] = counts


def _describe(tagged: dict[str, _Image], images: dict[str, _Image], report: Report) -> None:
    report.images = len(tagged)
    report.label_maps = sum(image.label is not None for image in images.values())
    large = [image for image in tagged.values() if max(image.shape) > LARGE]
    report.large = len(large)
    sizes = [CAM_BYTES * len(image.tags) * image.shape[0] * image.shape[1] for image in large]
    report.large_cams = round(sum(sizes) / len(sizes) / 1e6) if sizes else 0
    shapes = sorted((image.shape for image in images.values()), key=lambda shape: shape[0] * shape[1])
    for name, place in (("smallest", 0), ("median", len(shapes) // 2), ("largest", -1)):
        report.sizes[name] = (shapes[place][1], shapes[place][0])


def run_command(args: Namespace) -> int:
    """``prepare_folder.py``: read, write, report; the exit code is 1 if an image could not be used.

    Raises:
        InputError: if nothing could, or the results would be within the source.
    """
    if args.out.resolve() == args.source.resolve() or args.source.resolve() in args.out.resolve().parents:
        raise InputError(
            f"{args.out}: this is within {args.source}, and would be read as a part of it; choose another --out"
        )
    with (
        lock_folder(args.out),
        unpacked(args.source, args.out / ".source") as place,
        unpacked(args.images, args.out / ".images") as images,
    ):
        name, source = read_source(place or args.source, images, args.format)
        classes = classes_of_source(source, args.class_names, args.source)
        report, table = prepare(
            source, args.out, classes, share=args.val_share, seed=args.seed, copy=args.copy, max_side=args.max_side
        )
        tags = read_image_labels(args.out / TAGS, table)
        shown = {image_id: values for image_id, values in tags.items() if values}
        sheet = args.out / "contact_sheet.png"
        draw_contact_sheet(sheet, args.out / IMAGES, args.out / LABELS, shown, table, args.sheet, args.seed)
        write_run_json(
            args.out / "run.json",
            {"format": name, "seed": args.seed, "max_side": args.max_side, "classes": list(table.names)},
            {"source": args.source, "images": args.images},
        )
    for image, message in report.problems.items():
        print(message if f"{image}: " in message else f"{image}: {message}", file=sys.stderr)
    print(f"{name}: {report_text(report, args.out)}; contact sheet: {sheet}")
    print_next("quickstart.py", "--voc", args.out)
    print("      with --quick for a first result in minutes, with --dry-run for the plan alone")
    if report.lost:
        print(f"warning: {lost_text(report, args.class_names)}", file=sys.stderr)
    if report.problems:
        print(
            f"{counted(len(report.problems), 'image')} could not be used, see above; the others are ready",
            file=sys.stderr,
        )
    return 1 if report.problems else 0


def _classes_left_out(report: Report) -> str:
    return ", ".join(f"{name} ({counted(number, 'image')})" for name, number in report.left_out.items())


def lost_text(report: Report, names: Path) -> str:
    """What ``--class-names`` costs, and what it names in vain, which may be another name for what is left out."""
    text = (
        f"{report.lost} of {counted(report.images + len(report.unlabelled), 'image')} are in no list, as {names} names none of "
        f"their classes: {_classes_left_out(report)}"
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
    for what, found in (
        ("groups of identical images", [", ".join(group) for group in report.duplicates]),
        ("images without a class, in no list", report.unlabelled),
        ("images renamed, since others have the same name", [f"{v} -> {k}" for k, v in report.renamed.items()]),
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
    empty = [name for name, per_list in report.classes.items() if not per_list.get("train")]
    if empty:
        lines.append(f"no training image shows {', '.join(empty)}")
    lines.append(f"full report: {out / 'report.json'}")
    return "\n".join(lines)
