"""What can be known to be wrong before a run starts: missing results of earlier stages, and options that a script refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from merge.parameters import addressee
from pipeline.lists import ids_with
from pipeline.plan import Plan, needs
from pipeline.stages import Stage
from pipeline.stale import check_networks
from pipeline.steps import ROOT, Command
from util.data.cams import cam_file, fit_cam, read_cam
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.image_labels import check_differ, check_tagged, read_image_labels
from util.data.images import find_image, image_size
from util.data.labels import check_label_size, label_path, read_label
from util.data.mask_files import masks_path, read_masks
from util.evaluation.label_check import check_some
from util.runtime.cli import PARSE_ONLY_VARIABLE
from util.runtime.commands import by_option, first_values
from util.runtime.errors import InputError


def check_run(plan: Plan, todo: Sequence[Stage]) -> None:
    """Check all that needs no computation, the same for a dry run and for one that is to start.

    Raises:
        InputError: for what a later stage would refuse.
    """
    _check_needs(plan, todo)
    _check_options(plan, todo)
    _check_parameters(plan)
    if plan.is_real and plan.train.exists():  # with --download it is made first
        _check_data(plan, todo)
    check_networks(plan, todo)


def _check_needs(plan: Plan, todo: Sequence[Stage]) -> None:
    names = {stage.name for stage in todo}
    for stage in todo:
        for path, maker, what in stage.needed(plan):
            if maker not in names:
                needs(plan.out / path, maker, what)


def _check_data(plan: Plan, todo: Sequence[Stage]) -> None:
    """Check that lists, class names, image-level labels and what is given in the place of results belong together."""
    lists = {path: read_id_list(path, plan.images) for path in (plan.train, plan.held_out) if path}
    settings, ids = plan.settings, [image_id for listed in lists.values() for image_id in listed]
    classes = classes_of([plan.image_labels, plan.images, plan.gt, settings.labels], plan.class_names, ids=ids)
    if any(stage.name == "cam" for stage in todo):
        tags = read_image_labels(plan.image_labels, classes, ids)
        for path, listed in lists.items():
            check_tagged(listed, path, plan.image_labels, tags)
        check_differ(lists[plan.train], plan.train, classes, tags)
    for folder, find, check, what in (
        (settings.masks, masks_path, partial(_check_masks, plan), "masks"),
        (settings.labels, label_path, partial(_check_label, plan, len(classes)), "label map"),
        (settings.cams, cam_file, partial(_check_cam, plan), "soft CAM"),
    ):
        if folder is None:
            continue
        there = ids_with(find, folder, lists[plan.train])
        if not there:
            raise InputError(
                f"{folder}: no {what} for any of the {len(lists[plan.train])} ids of {plan.train}; check it"
            )
        check_some(check, there)


def _check_masks(plan: Plan, image_id: str) -> None:
    assert plan.settings.masks is not None
    read_masks(plan.settings.masks, image_id, image_size(find_image(plan.images, image_id)))


def _check_label(plan: Plan, num_classes: int, image_id: str) -> None:
    assert plan.settings.labels is not None
    path, image = label_path(plan.settings.labels, image_id), find_image(plan.images, image_id)
    check_label_size(read_label(path, num_classes).shape, path, image_size(image), image)


def _check_cam(plan: Plan, image_id: str) -> None:
    assert plan.settings.cams is not None
    cam, image = read_cam(plan.settings.cams, image_id), find_image(plan.images, image_id)
    size = image_size(image)
    try:
        fit_cam(cam, size)
    except InputError as error:
        raise InputError(f"{plan.settings.cams}: {image_id}: {error}") from None
    # Those of given labels are not made anew, and the merge takes them as they are.
    small = next((value.shape for value in cam.values() if value.shape != size), None)
    if plan.settings.labels and small:
        raise InputError(
            f"{plan.settings.cams}: {image_id}: a soft CAM of {small[1]}x{small[0]} pixels, the image has {size[1]}x{size[0]}; "
            "enlarge them by generate_cams.py --cams, or leave --labels out: labels are then made of the CAMs"
        )


def _check_parameters(plan: Plan) -> None:
    """Parameters of the merge are those of one strategy: it has to be the one whose labels are trained on."""
    words = [str(word) for word in plan.extra("merge")]
    parameters = [" ".join(values) for name, values in by_option(words) if name == "--param"]
    if text := next(filter(addressee, parameters), None):
        raise InputError(
            f'--with "merge=--param {text}": give parameters of the strategy that is trained on, without its name; main.py '
            "--mode compare takes those of several"
        )
    named = first_values(words).get("--methods")
    if parameters and named and plan.tune is None and named != plan.shown():
        raise InputError(
            f'--with "merge=--methods {named} --param ...": the strategy to train on is {plan.shown()}; give --method {named} as well'
        )


def _check_options(plan: Plan, todo: Sequence[Stage]) -> None:
    """Have the scripts parse what ``--with`` gives them."""
    dry = replace(plan, settings=replace(plan.settings, dry_run=True))
    for stage in todo:
        given = plan.settings.extra.get(stage.name)
        command = next((step for step in stage.steps(dry) if isinstance(step, Command)), None) if given else None
        if command is None:
            continue
        words = [str(word) for word in command.arguments]
        words = [sys.executable, str(ROOT / command.script), *words, "--out", str(command.out)]
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, PARSE_ONLY_VARIABLE: "1"})
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise InputError(
                f'--with "{stage.name}=...": {said.partition("error: ")[2] or said} (see python {command.script} --help)'
            )
