"""The plan of a run, from the command line and what is in the data set's folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline import choice, recipes
from pipeline.inputs import check_inputs
from pipeline.lists import ids_with, list_path, write_list
from pipeline.options import Settings
from pipeline.plan import Plan
from util.data.cams import cam_file
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.labels import label_path
from util.data.mask_files import masks_path
from util.evaluation.label_check import check_first, check_foreground
from util.runtime.commands import quoted
from util.runtime.errors import InputError, counted
from util.runtime.files import check_folder, list_files

REPORTED = ("label", "val")  # lists of a plan that are scored


def make_plan(settings: Settings) -> Plan:
    """What to run on.

    Raises:
        InputError: for what a late stage would stumble over, before the first one starts.
    """
    check_inputs(settings)
    plan = _generated_plan(settings) if settings.voc is None else _real_plan(settings, settings.voc)
    plan.gpus = _gpu_count(settings.device)
    # Of the few generated images, steps of many processes would take all at once, and there would be too few steps.
    # On Windows torch has neither NCCL nor what torchrun starts its processes with.
    alone = settings.voc is None or sys.platform == "win32"
    plan.processes = settings.processes or (1 if alone else max(1, plan.gpus))
    return plan


def _generated_plan(settings: Settings) -> Plan:
    """The generated data set."""
    data = settings.out / "data"
    lists = data / "ImageSets" / "Segmentation"
    return Plan(
        settings,
        images=data / "JPEGImages",
        image_labels=data / "cls_labels.npy",
        class_names=data / "class_names.txt",
        gt=data / "SegmentationClassAug",
        train=lists / "train.txt",
        label=lists / "train.txt",
        val=lists / "val.txt",
        tune=None,
        options=recipes.generated(settings),
        **_folders(settings),
    )


def _folders(settings: Settings) -> dict:
    """Where labels, CAMs and masks come from: made here, or given."""
    made, masks = settings.out / "cams", settings.masks or settings.out / "masks"
    if settings.from_tags:
        labels, cams = None, None
    elif settings.labels:
        labels, cams = settings.labels, settings.cams
    else:
        labels, cams = made / "labels", made / "cams"
    return {"cam_labels": labels, "soft_cams": cams, "masks": masks}


def _check_layout(settings: Settings, root: Path) -> None:
    check_folder(root, "the data set")
    if settings.images is None and not (root / "JPEGImages").is_dir():
        prepare = quoted(["python", "prepare_folder.py", "--source", root, "--out", "mydata"])
        raise InputError(f"{root}: not in VOC's layout, the folder JPEGImages is missing; to bring it there: {prepare}")


def _real_plan(settings: Settings, root: Path) -> Plan:
    """A folder in VOC's layout, or one that ``--download`` will bring into it.

    Raises:
        InputError: if a part of it is missing.
    """
    if not settings.download:
        _check_layout(settings, root)
    lists = root / "ImageSets" / "Segmentation"

    def find(given: Path | None, *choices: Path) -> Path | None:
        there = (path for path in choices if path.exists())
        return given or (choices[0] if settings.download else next(there, None))

    def must(what: str, option: str, given: Path | None, *choices: Path) -> Path:
        path = find(given, *choices)
        if path is None:
            looked = ", ".join(str(path) for path in choices)
            raise InputError(
                f"{root}: no {what} (looked for {looked}); make it with prepare_voc.py or prepare_folder.py, "
                f"or give {option}"
            )
        return path

    gt = find(settings.gt, root / "SegmentationClassAug", root / "SegmentationClass")
    names = root / "class_names.txt"
    plan = Plan(
        settings,
        images=settings.images or root / "JPEGImages",
        image_labels=must(
            *("image-level labels", "--image-labels", settings.image_labels),
            *(root / "cls_labels.npy", root / "cls_labels.csv", root / "Annotations"),
        ),
        class_names=settings.class_names or (names if names.exists() else None),
        gt=gt,
        train=must("training list", "--train-list", settings.train_list, lists / "trainaug.txt", lists / "train.txt"),
        label=find(settings.label_list, lists / "train.txt"),
        val=find(settings.val_list, lists / "val.txt"),
        tune=settings.tune_list,
        options={},
        **_folders(settings),
    )
    if settings.download and not plan.train.exists():  # planned again when the lists are there
        plan.options = recipes.real(settings, recipes.VOC)
        if _can_choose(plan) and plan.tune is None:
            plan.tune, plan.label = list_path(plan, "choose"), list_path(plan, "label_reported")
        return plan
    plan.options = recipes.real(settings, recipes.extent_of(plan.train, plan.images))
    held_out = plan.val
    listed = {name: _keep_truth(plan, name) for name in (*REPORTED, "tune")}
    if plan.label is None and plan.val is None:
        print(
            f"{root}: no ground truth{_of_other_names(plan)}, so nothing is scored; the run ends with a trained network, and "
            "shows what the merge changed"
        )
    _set_choice(plan, listed)
    if plan.val is None and held_out is not None:
        plan.held_out = _disjoint(plan, held_out)
    return plan


def _can_choose(plan: Plan) -> bool:
    """Whether the command line leaves something open, or names a list to choose on."""
    settings = plan.settings
    labels_are_set = settings.labels is not None or plan.given("labels", "--bg-threshold")
    is_open = settings.tune_list is not None or not (labels_are_set and settings.method)
    return settings.choose and not settings.from_tags and is_open


def _set_choice(plan: Plan, listed: Mapping[str, list[str]]) -> None:
    """Take a list to choose on, the named one or half of one that is scored, and its images from those that are scored.

    Args:
        listed: name of each list -> its ids with ground truth.

    Raises:
        InputError: if no image is left to choose on.
    """
    if plan.gt is None or not _can_choose(plan):
        plan.tune = None
        return
    reported = {name: listed[name] for name in REPORTED if listed[name]}
    name = "tune" if plan.tune else next((name for name in reported if _is_enough(plan, reported[name])), None)
    if name is None:
        if reported:
            print(
                f"no list has {choice.FEWEST} images with ground truth that get pseudo labels: nothing is chosen, the "
                "recommended settings are used"
            )
        return
    ids, source = listed[name], getattr(plan, name)
    chosen_on, left = choice.separate(ids, reported)
    if not chosen_on:
        raise InputError(
            f"{source}: one image is too little to choose on some and score the others; leave --tune-list out"
        )
    plan.tune = source if len(chosen_on) == len(ids) else write_list(plan, "choose", chosen_on)
    print(
        f"settings are chosen on {len(chosen_on)} images of {source}"
        + ("" if len(chosen_on) == len(ids) else ", the half with the smaller SHA-256 of the id")
        + ", which are not scored; --no-choose takes the recommended ones"
    )
    for name, others in left.items():
        if len(others) < len(reported[name]):
            print(f"{getattr(plan, name)}: the other {len(others)} of {len(reported[name])} images are scored")
            setattr(plan, name, write_list(plan, f"{name}_reported", others))


def _is_enough(plan: Plan, ids: list[str]) -> bool:
    """Whether so many images of a list can get a pseudo label and masks that settings may be chosen by them."""
    if plan.settings.masks:
        ids = ids_with(masks_path, plan.masks, ids)
    if plan.settings.cams:
        ids = ids_with(cam_file, plan.settings.cams, ids)
    if plan.settings.labels:
        return len(ids_with(label_path, plan.settings.labels, ids)) >= choice.FEWEST
    if len(ids) < choice.FEWEST:
        return False
    classes = classes_of([plan.image_labels, plan.images], plan.class_names, ids=ids)
    try:
        return len(read_image_labels(plan.image_labels, classes, ids)) == len(ids)
    except InputError:  # no label for any of them
        return False


def _of_other_names(plan: Plan) -> str:
    """What to say of label maps that are there, but of no image of the lists."""
    files = list_files(plan.gt, (".png",)) if plan.gt is not None and plan.gt.is_dir() else []
    if not files:
        return ""
    wanted = read_id_list(plan.train, plan.images)[0]
    return f" for any image of the lists ({counted(len(files), 'file')} in {plan.gt}, such as {files[0].name}, but no {wanted}.png)"


def _disjoint(plan: Plan, source: Path) -> Path | None:
    """A list of held-out images; None if the networks train on one of them."""
    shared = set(read_id_list(source, plan.images)) & set(read_id_list(plan.train, plan.images))
    return None if shared else source


def _keep_truth(plan: Plan, name: str) -> list[str]:
    """Take ids without ground truth from a list of the plan, which is None where none has any; the ids that are left.

    Raises:
        InputError: if the user named the list, and none of its ids has ground truth, or if that is of other classes.
    """
    source = getattr(plan, name)
    if source is None:
        return []
    ids = read_id_list(source, plan.images)
    scored = [] if plan.gt is None else ids_with(label_path, plan.gt, ids)
    if plan.gt is not None and scored:
        check_first(plan.gt, scored, len(classes_of([plan.image_labels, plan.images], plan.class_names, ids=scored)))
        check_foreground(plan.gt, scored)
    if 0 < len(scored) < choice.FEWEST:
        print(f"warning: {source}: {counted(len(scored), 'image')} with ground truth; a score of so few says little")
    if len(scored) == len(ids):
        return ids
    if getattr(plan.settings, f"{name}_list") and not scored:
        raise InputError(
            f"--{name}-list {source}: none of its {len(ids)} ids has ground truth"
            f"{f' in {plan.gt}' if plan.gt else ''}; give --gt DIR, or leave the list out"
        )
    setattr(plan, name, None)
    if scored:
        print(f"{source}: {len(scored)} of {len(ids)} ids have ground truth; the others are not scored")
        setattr(plan, name, write_list(plan, f"{name}_with_ground_truth", scored))
    return scored


def _gpu_count(device: str) -> int:
    """GPUs to use."""
    if device not in ("auto", "cuda"):
        return int(device.startswith("cuda"))
    import torch

    return torch.cuda.device_count()
