"""The ids that each stage works on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from pipeline.options import Settings
from pipeline.plan import Plan
from util.data.cams import cam_file
from util.data.ids import read_id_list
from util.data.labels import label_path
from util.data.mask_files import masks_path
from util.runtime.errors import InputError
from util.runtime.files import write_bytes


def work_list(plan: Plan) -> Path:
    """The ids that get CAM labels and masks: all that are trained on, scored or chosen on, and have what is given.

    Raises:
        InputError: if given CAMs, labels or masks belong to none of them.
    """
    if plan.settings.dry_run:
        return write_list(plan, "work", [])
    parts = [part for part in (plan.train, plan.label, plan.tune) if part]
    ids = list(dict.fromkeys(image_id for part in parts for image_id in read_id_list(part, plan.images)))
    for folder, find, what in _given(plan.settings):
        there = ids_with(find, folder, ids)
        if not there:
            raise InputError(f"{folder}: no {what} for any id of {', '.join(map(str, parts))}; check it")
        if len(there) < len(ids):
            print(f"{folder}: {what} for {len(there)} of {len(ids)} images; the others are left out from here on")
        ids = there
    return write_list(plan, "work", ids)


def _given(settings: Settings) -> list[tuple[Path, Callable[[Path, str], Path], str]]:
    """What is given in the place of results: its folder, how the file of an id is found, and what it is."""
    cams = None if settings.labels else settings.cams
    given = (
        (cams, cam_file, "soft CAMs"),
        (settings.labels, label_path, "labels"),
        (settings.masks, masks_path, "masks"),
    )
    return [(folder, find, what) for folder, find, what in given if folder]


def usable_list(plan: Plan, source: Path, name: str) -> Path:
    """The ids of a list that have what the merge needs, a pseudo label and masks; says so when some have not.

    Raises:
        InputError: if none has.
    """
    if plan.settings.dry_run:
        return write_list(plan, name, [])
    ids = read_id_list(source, plan.images)
    label, needed = plan.cam_labels, f"masks in {plan.masks}"
    usable = ids_with(masks_path, plan.masks, ids)
    if label is not None:
        usable = ids_with(label_path, label, usable)
        needed = f"a label in {label} and {needed}"
    if not usable:
        raise InputError(
            f"{source}: none of its {len(ids)} ids has {needed}; check the folders or run the stages that make them"
        )
    if len(usable) < len(ids):
        print(f"{source}: {len(usable)} of {len(ids)} ids have {needed}; the others are left out from here on")
    return write_list(plan, name, usable)


def ids_with(find: Callable[[Path, str], Path], folder: Path, ids: list[str]) -> list[str]:
    """Those of the ids of which ``find(folder, id)`` finds a file."""
    found = []
    for image_id in ids:
        with contextlib.suppress(InputError):
            find(folder, image_id)
            found.append(image_id)
    return found


def list_path(plan: Plan, name: str) -> Path:
    """OUT/lists/NAME.txt."""
    return plan.out / "lists" / f"{name}.txt"


def write_list(plan: Plan, name: str, ids: list[str]) -> Path:
    """Write OUT/lists/NAME.txt, unless this is a dry run."""
    path = list_path(plan, name)
    if not plan.settings.dry_run:
        write_bytes(path, ("\n".join(dict.fromkeys(ids)) + "\n").encode())
    return path
