"""A folder per class, as torchvision's ``ImageFolder`` and Keras' ``image_dataset_from_directory`` read them.

``cat/1.jpg``, ``dog/2.jpg``; or ``train/cat/1.jpg``, ``val/dog/2.jpg``. The same image in two folders shows both classes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from util.data.sources import file_names
from util.data.sources.base import Item, Source, distinct, parts_of, read_parts, walk
from util.runtime.errors import InputError
from util.runtime.files import file_digest, is_hidden
from util.runtime.progress import Progress

# Folders of other layouts, which are not classes.
_NO_CLASSES = {
    *("images", "image", "imgs", "img", "jpegimages", "jpg", "jpeg", "jpegs", "png", "pngs", "data", "dataset"),
    *("labels", "masks", "mask", "annotations"),
}


def fits(path: Path) -> bool:
    """Whether this is a folder of folders of images, and not one that a single folder with all of it is in."""
    if not path.is_dir():
        return False
    found = [folder for part in _parts(path) for folder in _folders(part)]
    return len(found) > 1 or any(_is_leaf(folder) for folder in found)


def read(path: Path, images: Path | None) -> Source:
    """Read the classes from the names of the folders; ``images`` is not used.

    Raises:
        InputError: if the folders are named as those of another layout.
    """
    parts = _parts(path)
    found = [folder for part in parts for folder in _folders(part)]
    odd = [folder.name for folder in found if folder.name.lower() in _NO_CLASSES]
    if odd:
        named = [name for folder in found for name in file_names.likely_classes(folder)]
        if named:
            raise InputError(
                f"{path}: {odd[0]} is not a class. If the files' names begin or end with their classes ({', '.join(named[:3])}), "
                f"say --source {path / odd[0]} --format names; for a table give --source TABLE --images DIR"
            )
        raise InputError(
            f"{path}: {', '.join(sorted(set(odd)))} are not classes. For images and label maps name the folders JPEGImages "
            "and SegmentationClass and add class_names.txt; for images and a table give --source TABLE --images DIR"
        )
    source = read_parts(path, parts, partial(_read_part, path))
    unread = [folder.name for folder in _folders(path) if parts != [path] and folder not in parts]
    if unread:
        source.notes.append(f"not read, as they have no folders of classes: {', '.join(unread)}")
    if not any(_is_leaf(folder) for folder in found):
        inner = sorted({place.name for folder in found for place in folder.iterdir() if place.is_dir()})
        source.notes.append(
            f"the classes are the outer folders, {', '.join(sorted({f.name for f in found}))}; if they are the inner ones "
            f"({', '.join(inner[:3])}, ...), move these to {path}"
        )
    return source


def _read_part(root: Path, part: Path) -> Source:
    source = Source()
    files = [(file, folder.name) for folder in _folders(part) for file in walk(folder)]
    classes: dict[str, list[str]] = {}
    copies: dict[tuple[str, str], Path] = {}
    for file, name in Progress(files, desc=f"reading {part.name}", unit="image"):
        digest = file_digest(file)
        classes.setdefault(digest, []).append(name)
        copies.setdefault((file.name, digest), file)
    for (_, digest), file in copies.items():
        source.items.append(Item(file.relative_to(root).as_posix(), file, distinct(classes[digest])))
    for file in walk(part):
        if file.parent == part:
            source.problems[str(file)] = "is in no class's folder; move it into one"
    return source


def _parts(path: Path) -> list[Path]:
    """The folders of the splits; the folder itself if it has none, but perhaps a class by the name of one ("train")."""
    parts = [part for part in parts_of(path) if part != path and _folders(part)]
    others = [folder for folder in _folders(path) if folder not in parts_of(path)]
    return parts if len(parts) > 1 or not others else [path]


def _folders(part: Path) -> list[Path]:
    """The folders in a folder that hold images, themselves or below."""
    return sorted(
        folder for folder in part.iterdir() if folder.is_dir() and not is_hidden(folder.name) and any(walk(folder))
    )


def _is_leaf(folder: Path) -> bool:
    return any(file.parent == folder for file in walk(folder))
