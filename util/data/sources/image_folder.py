"""A folder per class, as torchvision's ``ImageFolder`` and Keras' ``image_dataset_from_directory`` read them.

``cat/1.jpg``, ``dog/2.jpg``; or ``train/cat/1.jpg``, ``val/dog/2.jpg``. The same image in two folders shows both classes;
those in a folder ``background`` show none.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from util.data.sources import file_names
from util.data.sources.base import Item, Source, distinct, is_split_name, parts_of, read_parts, split_of, walk
from util.runtime.errors import InputError, counted
from util.runtime.files import file_digest, is_hidden
from util.runtime.progress import Progress

# Folders of other layouts and of cameras, which are not classes.
_NO_CLASSES = {
    *("images", "image", "imgs", "img", "jpegimages", "jpg", "jpeg", "jpegs", "png", "pngs", "data", "dataset"),
    *("labels", "masks", "mask", "annotations", "gt", "gtfine", "leftimg8bit", "ground_truth", "groundtruth"),
    *("img_dir", "ann_dir", "rgb", "input", "inputs", "target", "targets", "photos", "pictures", "frames", "dcim"),
}
_NO_CLASS = re.compile(
    r"(train|training|val|valid|test|raw|rgb|color)[_ -]?(images?|imgs?)|(image|label)_\d+|camera(rgb|seg)|\d{3}[a-z]{5}"
    r"|.*(?<!no)(?<!with)(?<!without)[_ -](masks?|gt|labels?)"
)
_MANY = 10  # folders: where so many have fewer than two images each, they are not classes
_MASKS = re.compile(r"(.*[_ -])?(masks?|labels?|gt|gtfine|ground_?truths?|annotations?|seg|segmentations?)", re.I)
_MASK_OF = re.compile(r"(.+?)[_ -](mask|label|labels|gt|seg|segmentation|groundtruth)([_ -]?\d+)?", re.I)


def fits(path: Path) -> bool:
    """Whether this is a folder of folders of images, and not one that a single folder with all of it is in."""
    if not path.is_dir():
        return False
    found = [folder for part in _parts(path) for folder in _folders(part)]
    return len(found) > 1 or any(_is_leaf(folder) for folder in found)


def class_folders(path: Path) -> list[str]:
    """The names of the folders that may be classes, sorted; none where one of them cannot be."""
    found = sorted({folder.name for part in _parts(path) for folder in _folders(part)})
    return [] if _odd(found) else found


def _odd(names: list[str]) -> list[str]:
    """The folders that are not classes, unless masks are what the images show (``mask``, ``no_mask``)."""
    worn = any(re.fullmatch(r"(no|with|without|un)[_ -]?mask(ed)?", name.lower()) for name in names)
    found = [name for name in names if name.lower() in _NO_CLASSES or _NO_CLASS.fullmatch(name.lower())]
    return [name for name in found if not (worn and name.lower() == "mask")]


def read(path: Path, images: Path | None) -> Source:
    """Read the classes from the names of the folders.

    Raises:
        InputError: if the folders are named as those of another layout, or may be classes or hold them, or if ``images`` is
            given, which they have in them.
    """
    if images is not None:
        raise InputError(f"--images {images}: the images are in the folders of classes in {path}; leave the option out")
    parts = _parts(path)
    found = [folder for part in parts for folder in _folders(part)]
    odd = _odd(sorted({folder.name for folder in found}))
    if odd:
        named = [name for folder in found for name in file_names.likely_classes(folder)]
        if named:
            raise InputError(
                f"{path}: {odd[0]} is not a class. If the files' names begin or end with their classes ({', '.join(named[:3])}), "
                f"say --source {path / odd[0]} --format names; for a table give --source TABLE --images DIR"
            )
        raise InputError(
            f"{path}: {', '.join(odd)} are not classes. Sort the images into a folder per class; for images and label maps name "
            "the folders JPEGImages and SegmentationClass and add class_names.txt; for images and a table give --source "
            "TABLE --images DIR"
        )
    _check_levels(path, found)
    source = read_parts(path, parts, partial(_read_part, path))
    tops = {part.relative_to(path).parts[0] for part in parts if part != path}
    read_from = tops or {folder.name for folder in found}
    unread = [place.name for place in sorted(path.iterdir()) if place.is_dir() and place.name not in read_from]
    unread = [name for name in unread if not is_hidden(name) and any(walk(path / name))]
    if unread:
        source.notes.append(
            f"not read: {', '.join(unread)}; for masks see docs/own-data.md, If you have some ground truth"
        )
    masks = sum(1 for folder in found for _ in walk(folder)) - sum(len(_images(folder)) for folder in found)
    if masks:
        source.notes.append(f"{counted(masks, 'file')} left out as masks, by their names")
    inner = sorted({place.name for folder in found for place in _subfolders(folder)})
    if not any(map(_is_leaf, found)) and not _odd(inner):
        source.notes.append(
            f"the classes are the outer folders, {', '.join(sorted({f.name for f in found}))}; if they are the inner ones "
            f"({', '.join(inner[:3])}, ...), move these to {path}"
        )
    return source


def _check_levels(path: Path, found: list[Path]) -> None:
    """Refuse folders that all hold the same folders, either of which may be the classes.

    Raises:
        InputError: if they do.
    """
    inner = [sorted(folder.name for folder in _folders(place) if not _MASKS.fullmatch(folder.name)) for place in found]
    if any(map(_is_leaf, found)) or len(found) < 2 or len(inner[0]) < 2 or any(names != inner[0] for names in inner):
        return
    outer = sorted({folder.name for folder in found})
    raise InputError(
        f"{path}: {', '.join(outer[:3])} all hold the folders {', '.join(inner[0][:3])}; either may be the classes. If the inner "
        f"ones are, give one of the outer ones, such as --source {found[0]}, or call these train, val, test; if the outer ones "
        "are, put their images directly into them"
    )


def _read_part(root: Path, part: Path) -> Source:
    source, folders = Source(), _folders(part)
    files = [(file, folder.name) for folder in folders for file in _images(folder)]
    if len(folders) >= _MANY and len(files) < 2 * len(folders):
        raise InputError(
            f"{part}: {counted(len(folders), 'folder')} with {counted(len(files), 'image')} are not classes; put the images of a "
            "class into one folder, or give their labels as a table (--source TABLE --images DIR)"
        )
    classes: dict[str, list[str]] = {}
    copies: dict[tuple[str, str], Path] = {}
    for file, name in Progress(files, desc=f"reading {part.name}", unit="image"):
        digest = file_digest(file)
        classes.setdefault(digest, []).append(name)
        copies.setdefault((file.name, digest), file)
    shared = [file.relative_to(root).as_posix() for (_, digest), file in copies.items() if len({*classes[digest]}) > 1]
    if shared:
        source.notes.append(
            f"in the folders of several classes, and taken to show all of them: {counted(len(shared), 'image')}, such as {shared[0]}"
        )
    for (_, digest), file in copies.items():
        shown = distinct(classes[digest])  # nothing in a folder called background
        source.items.append(Item(file.relative_to(root).as_posix(), file, shown, negative=not shown))
    for file in walk(part):
        if file.parent == part:
            source.problems[str(file)] = "is in no class's folder; move it into one"
    return source


def _images(folder: Path) -> list[Path]:
    """The images of a class, less their masks: in folders called so, or named as an image with ``_mask`` behind."""
    files = [file for file in walk(folder) if not any(map(_MASKS.fullmatch, file.relative_to(folder).parent.parts))]
    stems = {(file.parent, file.stem) for file in files}
    named = ((file, _MASK_OF.fullmatch(file.stem)) for file in files)
    return [file for file, match in named if match is None or (file.parent, match[1]) not in stems]


def _parts(path: Path) -> list[Path]:
    """The folders of the splits; the folder itself if it has none, but perhaps a class by the name of one ("train").

    Raises:
        InputError: if a folder may be a split or a class.
    """
    parts = [part for part in parts_of(path) if part != path and _folders(part)]
    tops = {part.relative_to(path).parts[0] for part in parts}
    splits = [folder for folder in _subfolders(path) if is_split_name(folder.name)]
    others = [folder for folder in _subfolders(path) if folder not in splits and not _is_unlabelled(folder.name)]
    if parts:
        others = [folder for folder in others if folder.name.lower() not in _NO_CLASSES]
    if len(parts) > 1 or not others:
        return parts
    if parts and all(map(_is_leaf, others)):
        raise InputError(
            f"{path}: {parts[0].name} has folders in it, as a split has, and {others[0].name} has images, as a class has. If "
            f"{parts[0].name} is a split, give --source {path / min(tops)}, or move {others[0].name} elsewhere; if it is a class, "
            "put its images directly into it"
        )
    return [path]


def _folders(part: Path) -> list[Path]:
    """The folders of the classes: those with images in them or below, but for images without labels and those of a test."""
    return [folder for folder in _subfolders(part) if not (_is_leaf(folder) and _has_no_classes(folder.name))]


def _has_no_classes(name: str) -> bool:
    return _is_unlabelled(name) or is_split_name(name) and split_of(name) != "train"


def _is_unlabelled(name: str) -> bool:
    return name.lower() in ("unlabeled", "unlabelled", "seg_pred", "pred", "unsup")


def _subfolders(place: Path) -> list[Path]:
    return sorted(f for f in place.iterdir() if f.is_dir() and not is_hidden(f.name) and any(walk(f)))


def _is_leaf(folder: Path) -> bool:
    return any(file.parent == folder for file in walk(folder))
