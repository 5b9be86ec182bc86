"""What can be wrong with a folder of label maps before anyone trains on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.data.cams import read_cam
from util.data.ids import id_of
from util.data.images import find_image, image_size
from util.data.labels import check_label_size, label_path, read_label
from util.data.voc import VOID, ClassTable
from util.runtime.errors import InputError
from util.runtime.files import check_folder, list_files
from util.runtime.parallel import run_parallel

LOOKED_AT = 24  # images, before a long run
MOST_ERRORS, EXAMPLES = 20, 5  # that are printed: errors, and examples of each kind of warning
FIRST = 8  # images, of which one that is fine is enough


@dataclass(frozen=True)
class _CheckImage:
    labels: Path
    num_classes: int
    images: Path | None
    tags: dict | None
    near_empty: float

    def __call__(self, image_id: str) -> tuple[str, str | None, list[tuple[str, int | None]], np.ndarray]:
        try:
            path = label_path(self.labels, image_id)
            label = read_label(path, self.num_classes)
            if self.images is not None:
                image = find_image(self.images, image_id)
                check_label_size(label.shape, path, image_size(image), image)
        except InputError as error:
            return image_id, str(error), [], np.zeros(256, np.int64)
        pixels = np.bincount(label.ravel(), minlength=256)
        present = {int(value) for value in np.flatnonzero(pixels)} - {0, VOID}
        warnings: list[tuple[str, int | None]] = []
        share = sum(int(pixels[value]) for value in present) / label.size
        if not present:
            warnings.append(("0 and 255 only" if pixels[VOID] else "empty", None))
        elif share < self.near_empty:
            warnings.append(("near-empty", None))
        if self.tags is not None:
            if image_id not in self.tags:
                warnings.append(("no image-level label", None))
            else:
                tagged = set(self.tags[image_id])
                warnings += [("excluded class", value) for value in sorted(present - tagged)]
                warnings += [("tagged class missing", value) for value in sorted(tagged - present)]
        return image_id, None, warnings, pixels


def check_some(check: Callable[[str], object], ids: Sequence[str]) -> None:
    """Raise what is wrong with the first of these images if ``check`` raises an InputError for all of the first ones."""
    problems = []
    for image_id in ids[:FIRST]:
        try:
            check(image_id)
            return
        except InputError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def check_first(truth: Path, ids: Sequence[str], num_classes: int | None) -> None:
    """Look at the first label maps of ground truth, before hours of work whose results are scored against it.

    Args:
        num_classes: None, where they are not known yet, only looks for the files.

    Raises:
        InputError: if none of them can be used: there are none, they hold colours, or indices of other classes, as VOC's
            21 in a data set of three. A single one is reported when it is scored.
    """

    def check(image_id: str) -> None:
        path = label_path(truth, image_id)
        if num_classes is not None:
            read_label(path, num_classes)

    try:
        check_some(check, ids)
    except InputError as error:
        raise InputError(f"the ground truth does not fit the list or the classes: {error}") from None


def check_foreground(labels: Path, ids: Sequence[str]) -> None:
    """Look at label maps until one shows a class and one the background.

    Raises:
        InputError: if all are of 0 and 255, as masks of one object are; only warned about are those of 0 alone, and of no 0
            in the first ones.
    """
    count, void, background, foreground = 0, False, False, False
    for image_id in ids:
        try:
            values = np.flatnonzero(np.bincount(read_label(label_path(labels, image_id)).ravel()))
        except InputError:
            continue  # reported where it is used
        count, void, background = count + 1, void or VOID in values, background or 0 in values
        foreground = foreground or bool(((values > 0) & (values < VOID)).any())
        if foreground and (background or count >= LOOKED_AT):
            break
    if count and not foreground:
        report_no_foreground(labels, f"{count} label maps", void)
    if count > 1 and foreground and not background:
        print(
            f"warning: {labels}: no pixel of 0 in the first {count} label maps, where 0 is the background. If theirs is another "
            "number, or their classes count from another, renumber them",
            file=sys.stderr,
        )


def report_no_foreground(labels: Path, what: str, void: bool) -> None:
    """Raise InputError over label maps without a class if some have void; else warn."""
    found = f"{labels}: no pixel of a foreground class in the {what}"
    if void:
        raise InputError(
            f"{found}, only 0 (background) and 255 (void). Where 255 marks the object, save it as the number of its class; "
            "else give another folder, or make the label maps again"
        )
    print(f"warning: {found}, only 0 (background); check the folder", file=sys.stderr)


def check_cams_fit(cams: Path, ids: Sequence[str], shown_in: Callable[[str], set[int]], classes: ClassTable) -> None:
    """Compare the classes of the first soft CAMs that are not empty with those of their images.

    Args:
        shown_in: id -> label-map values of the classes that the image shows, by its image-level label or its label map.

    Raises:
        InputError: if no image (of two or more) has a CAM of a class that it shows, or if the classes fit better when they
            are counted from 1.
    """
    shared, exact, from_one, looked_at = 0, 0, 0, 0
    for image_id in ids[: 4 * LOOKED_AT]:
        try:
            cam, shown = read_cam(cams, image_id), shown_in(image_id)
        except InputError:
            continue  # reported where it is merged
        found = {value for value, values in cam.items() if values.any()}
        if not found or not shown:
            continue
        looked_at += 1
        shared += bool(found & shown)
        exact += found == shown
        is_counted_otherwise = not shown <= found or max(found) >= len(classes)
        from_one += is_counted_otherwise and {value - 1 for value in found} - {0} == shown
        if looked_at == LOOKED_AT:
            break
    if looked_at < 2:
        return
    if from_one > max(exact, 1):
        raise InputError(
            f"{cams}: counted from 1, the classes of {from_one} of {looked_at} soft CAMs are those that the image shows; here "
            f"0 is {classes.names[1]}, and the background has no map. Lower the keys by 1, and leave out that of the background"
        )
    if not shared:
        raise InputError(
            f"{cams}: none of {looked_at} soft CAMs has a class that its image shows; 0 is {classes.names[1]}, and the background "
            "has no map. Give the CAMs of these images and classes"
        )


def check_tags_fit(labels: Path, ids: list[str], tags: dict[str, tuple[int, ...]], classes: ClassTable) -> None:
    """Compare the first label maps with their image-level labels: pseudo labels are made from these, so they share classes.

    Raises:
        InputError: if no label map (of two or more) shows any class of its image, as when the two use other class lists.
    """
    odd: list[tuple[str, set[int]]] = []
    for image_id in ids[: 4 * LOOKED_AT]:
        try:
            shown = {int(v) for v in np.unique(read_label(label_path(labels, image_id)))} - {0, VOID}
        except InputError:
            continue  # reported where it is merged
        tagged = set(tags.get(image_id, ()))
        if shown & tagged:
            return
        if shown and tagged:
            odd.append((image_id, shown))
        if len(odd) == LOOKED_AT:
            break
    if len(odd) < 2:
        return
    image_id, shown = odd[0]
    names = ", ".join(classes.names[tag] for tag in tags[image_id])
    found = ", ".join(f"{value} ({classes.names[value]})" for value in sorted(shown) if value < len(classes))
    raise InputError(
        f"{labels}: none of {len(odd)} label maps shows a class that its image is tagged with; {image_id} shows "
        f"{found or min(shown)} and is tagged {names}. Give the class names of these label maps with --class-names"
    )


def check_labels(
    labels: Path,
    ids: list[str],
    classes: ClassTable,
    images: Path | None = None,
    tags: dict[str, tuple[int, ...]] | None = None,
    near_empty: float = 0.005,
    workers: int = 1,
) -> dict:
    """Check every label of a list.

    Args:
        labels: folder of ``<id>.png``.
        images: folder of images, for their sizes.
        tags: id -> classes that the image shows.
        near_empty: share of foreground pixels, 0 to 1.

    Returns:
        ``images``, ``errors`` (id -> message), ``warnings`` (kind -> list of ids, or of [id, class name]), ``surplus``
        (ids with a file that are not in the list), ``pixels`` and ``images_with`` (class name -> count), and ``shares``
        (class name -> share of an image's pixels, the mean over the images).

    Raises:
        InputError: if a folder is missing.
    """
    check_folder(labels, "label maps")
    if images is not None:
        check_folder(images, "images")
    work = _CheckImage(Path(labels), len(classes), images, tags, near_empty)
    errors: dict[str, str] = {}
    warnings: dict[str, list] = {}
    pixels, images_with, shares = np.zeros(256, np.int64), np.zeros(256, np.int64), np.zeros(256)
    for image_id, error, found, counts in run_parallel(work, ids, workers=workers, description="check", chunk=32):
        if error is not None:
            errors[image_id] = error
            continue
        pixels += counts
        images_with += counts > 0
        shares += counts / counts.sum()
        for kind, value in found:
            warnings.setdefault(kind, []).append(image_id if value is None else [image_id, classes.names[value]])
    names = [*classes.names, "void"]
    values = [*range(len(classes)), VOID]
    return {
        "images": len(ids),
        "errors": dict(sorted(errors.items())),
        "warnings": {kind: sorted(items) for kind, items in sorted(warnings.items())},
        "surplus": sorted({id_of(path.name) for path in list_files(labels, (".png",))} - set(ids)),
        "pixels": {name: int(pixels[value]) for name, value in zip(names, values)},
        "shares": {name: float(shares[value] / max(len(ids) - len(errors), 1)) for name, value in zip(names, values)},
        "images_with": {name: int(images_with[value]) for name, value in zip(names, values)},
    }


def report_text(report: dict) -> str:
    """The report for a terminal."""
    lines = [f"{report['images']} labels: {len(report['errors'])} errors"]
    shown = list(report["errors"].items())[:MOST_ERRORS]
    lines += [f"  error    {image_id}: {message}" for image_id, message in shown]
    if more := len(report["errors"]) - len(shown):
        lines.append(f"  error    {more} more; check.json, which --out DIR writes, names them all")
    for kind, items in [*report["warnings"].items(), ("surplus file", report["surplus"])]:
        if items:
            some = ", ".join(item if isinstance(item, str) else f"{item[0]} ({item[1]})" for item in items[:EXAMPLES])
            lines.append(f"  warning  {kind}: {len(items)}, such as {some}")
    lines += ["", f"{'class':<20}{'images':>8}{'area, %':>12}"]
    for name, count in report["images_with"].items():
        lines.append(f"{name:<20}{count:>8}{100 * report['shares'][name]:>12.3f}")
    lines.append("area: share of an image's pixels, the mean over all images, whatever their size")
    return "\n".join(lines)
