"""A data set of any source in VOC's layout: images, label maps, lists, image-level labels, class names, report."""

from __future__ import annotations

import os
import re
import shutil
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from util.data.class_files import is_background
from util.data.class_numbers import classes_of_source
from util.data.contact_sheet import draw_contact_sheet
from util.data.ids import HEIC_SUFFIXES, id_of, is_plain
from util.data.image_labels import read_image_labels, write_image_labels
from util.data.images import decode_image
from util.data.labels import encode_label
from util.data.layout import CLASS_FILE, IMAGES, LABELS, LISTS, TAGS, write_lines, write_lists
from util.data.prepare_report import LARGE, Report, classes_left_out, lost_text, report_text
from util.data.sources import read_source
from util.data.sources.base import Item, Region, Shape, Source
from util.data.sources.tidy import rename
from util.data.split import stratified
from util.data.unpack import unpacked
from util.data.voc import MAX_CLASSES, VOID, ClassTable, class_table, load_classes, plain_name
from util.runtime.cli import print_next
from util.runtime.errors import InputError, counted
from util.runtime.files import (
    ON_WINDOWS,
    atomic_write,
    bytes_digest,
    cannot_be_on_windows,
    check_id,
    delete,
    delete_within,
    read_bytes,
    read_json,
    write_bytes,
    write_json,
)
from util.runtime.locking import lock_folder
from util.runtime.progress import Progress
from util.runtime.provenance import write_run_json

CAM_BYTES = 8  # of a pixel and class: float32, before and after the refinement


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
    names = {*source.classes, *(name for item in source.items for name in item.classes)}
    rename(source, {name: _spelled(name, table) for name in names})
    _write_classes(table, out / CLASS_FILE)
    report = Report(notes=source.notes, problems=dict(source.problems))
    images: dict[str, _Image] = {}
    for image_id, item in Progress(_with_ids(source.items, report).items(), desc="images", unit="image"):
        try:
            images[image_id] = _take(item, image_id, table, out, copy, max_side, report)
        except InputError as error:
            report.problems[item.name] = str(error)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            report.problems[item.name] = f"its annotation cannot be drawn ({error}); draw it again"
    report.unlabelled = [i for i, image in images.items() if not image.tags and not image.item.negative]
    report.lost = sum(bool(images[image_id].item.classes) for image_id in report.unlabelled)
    listed = {image_id: image for image_id, image in images.items() if image.tags or image.item.negative}
    report.negatives = sum(not image.tags for image in listed.values())
    if report.negatives == len(listed):
        shown = f"no image shows a class of --class-names; they show {classes_left_out(report)}"
        nothing = ("none", shown if report.left_out else "no image shows a class")
        first = next(iter(report.problems.items()), nothing)
        raise InputError(
            f"{out}: no usable image with a class; the first problem: {first[0]}: {first[1]}; see --source"
        )
    _write_lists(listed, table, out, report, share, seed)
    _describe(listed, images, report)
    report.files = [
        path.relative_to(out).as_posix() for image in images.values() for path in (image.file, image.label) if path
    ]
    _delete_earlier(out, report)
    write_json(out / "report.json", asdict(report))
    return report, table


def _delete_earlier(out: Path, report: Report) -> None:
    """Delete what an earlier run wrote and this one did not: under the same id, it could be taken for this one's."""
    file = out / "report.json"
    earlier = read_json(file) if file.is_file() else {}
    lists = LISTS.as_posix()
    written = [*report.files, *(f"{lists}/{name}.txt" for name, count in report.lists.items() if count)]
    kept = {name.casefold() for name in written}
    for name in (*earlier.get("files", ()), *(f"{lists}/{name}.txt" for name in earlier.get("lists", ()))):
        if name.casefold() not in kept:
            delete_within(out, name)


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


def _spelled(name: str, table: ClassTable) -> str:
    """The class's name as ``table`` spells it, where it has it in another spelling, such as ``Cat`` for ``cat``."""
    alike = [known for known in table.names if plain_name(known) == plain_name(name)]
    return name if name in table.names or len(alike) != 1 else alike[0]


def _write_classes(table: ClassTable, file: Path) -> None:
    """Write the class file, and see that it is read as it was meant.

    Raises:
        InputError: if a name looks like something else there.
    """
    lines = [f"{name} #{r:02x}{g:02x}{b:02x}" for name, (r, g, b) in zip(table.names, table.colors, strict=True)]
    write_lines(file, lines)
    try:
        found = load_classes(file).names
    except InputError as error:
        raise InputError(
            f"a class has a name that cannot be in a class file ({error}); rename it in --source"
        ) from None
    odd = sorted(set(table.names) - set(found))
    if odd:
        raise InputError(f"the class {odd[0]!r} has a name that class files are read without; rename it in --source")


def _with_ids(items: list[Item], report: Report) -> dict[str, Item]:
    """Items by id: the file's name, with its folder in front where several have the same."""
    stems: dict[str, list[Item]] = {}
    heic = {item.name for item in items if item.path.suffix.lower() in HEIC_SUFFIXES}
    readable = {os.path.splitext(item.name)[0] for item in items if item.name not in heic}
    converted = {name for name in heic if os.path.splitext(name)[0] in readable}
    if converted:
        report.notes.append(
            f"{counted(len(converted), 'HEIC image')} left out: each is there in another format, such as {min(converted)}"
        )
    for item in (item for item in items if item.name not in converted):
        try:
            # Files whose names differ in case alone are one file on Windows and macOS.
            stems.setdefault(_plain(id_of(item.name)).casefold(), []).append(item)
        except InputError as error:
            report.problems[item.name] = str(error)
    found: dict[str, Item] = {}
    taken: dict[str, str] = {}
    for group in stems.values():
        names = Counter(item.name for item in group)
        for item in group:
            image_id = _plain(id_of(item.name))
            if len(group) > 1:  # where the source calls them alike, their files have other names
                name = item.name if names[item.name] == 1 else item.path.name
                image_id = _plain(check_id(re.sub(r"[/\\]+", "_", os.path.splitext(name)[0].strip("./\\"))))
            if (other := taken.setdefault(image_id.casefold(), item.name)) != item.name or image_id in found:
                report.problems[item.name] = f"its id {image_id!r} is taken by {other}; rename one of them"
                continue
            found[image_id] = item
            if len(group) > 1 or image_id != id_of(item.name):
                report.renamed[image_id] = item.name
    return dict(sorted(found.items()))


def _plain(image_id: str) -> str:
    """The id, or one that lists and tables give back as it is, as a name on any system: ``a.jpg`` would become ``a``."""
    if is_plain(image_id) and not cannot_be_on_windows(image_id):
        return image_id
    name = re.sub(r"[^\w()+-]+", "_", image_id.strip())
    return f"{name}_" if cannot_be_on_windows(name) else name


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
        value = VOID
        if region.name in table.names:
            value = table.names.index(region.name)
        elif region.name is not None and is_background(region.name):
            value = 0
        drawn.append((value == VOID, -int(np.count_nonzero(mask)), value, mask))
    for _, _, value, mask in sorted(drawn, key=lambda entry: entry[:3]):
        label[mask] = value
    return label


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
    delete(target)
    # Windows does not replace a file that is read-only, and a link shares that with its source.
    can_link = not ON_WINDOWS or os.access(source, os.W_OK)
    if can_link and not copy:
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
    # Images without any class are shared out as if they had one more.
    train, val = stratified({i: images[i].tags or (0,) for i in open_ids}, groups.values(), share, seed)
    lists["train"] += train
    lists["val"] += val
    write_lists(out, {name: sorted(ids) for name, ids in lists.items() if ids})
    write_image_labels(out / TAGS, {i: images[i].tags for i in sorted(images)}, table)
    report.lists = {name: len(ids) for name, ids in lists.items()}
    for value, name in enumerate(table.names[1:], 1):
        counts = {key: sum(value in images[i].tags for i in ids) for key, ids in lists.items()}
        report.classes[name] = counts


def _describe(listed: dict[str, _Image], images: dict[str, _Image], report: Report) -> None:
    report.images = len(listed)
    report.label_maps = sum(image.label is not None for image in images.values())
    large = [image for image in listed.values() if max(image.shape) > LARGE]
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
    if report.teaches:
        print_next("quickstart.py", "--voc", args.out, "--sam-model", "vit_b")
        print("      without --sam-model no weights of SAM are downloaded, and a colour segmentation makes the masks;")
        print("      with --quick for a first result in minutes, with --dry-run for the plan alone")
    if report.lost:
        print(f"warning: {lost_text(report, args.class_names)}", file=sys.stderr)
    if report.problems:
        print(
            f"{counted(len(report.problems), 'image')} could not be used, see above; the others are ready",
            file=sys.stderr,
        )
    return 1 if report.problems else 0
