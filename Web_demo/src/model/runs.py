"""What the run folders know of a checkpoint: its scores on held-out images, and these images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from util.data.ids import read_id_list
from util.runtime.errors import InputError
from util.runtime.files import file_digest, read_json
from Web_demo.src.model.loading import Stamp
from Web_demo.src.utils.files import walk_files
from Web_demo.src.utils.records import RUN, Moved, option, read_record

SCORES = "metrics.json"
_LEVELS = 3  # folders above a checkpoint that may belong to its run


@dataclass(frozen=True)
class HeldOut:
    """The images that a checkpoint was evaluated on.

    Attributes:
        source: folder of the evaluation or the training whose run.json names them.
        miou: set-level mIoU, a fraction; None where there is only a list.
        images: folder.
        ids: of the images.
        gt: folder of their ground truth, or None.
    """

    source: Path
    miou: float | None
    images: Path | None
    ids: tuple[str, ...]
    gt: Path | None


def run_folder(checkpoint: Path) -> Path:
    """The outermost folder, at most ``_LEVELS`` above the checkpoint, that has a ``run.json``; otherwise its own."""
    parents = list(checkpoint.absolute().parents)[:_LEVELS]
    return next((folder for folder in reversed(parents) if (folder / RUN).is_file()), parents[0])


@st.cache_data(ttl=60, show_spinner=False)
def held_out(stamp: Stamp, folders: tuple[Path, ...]) -> HeldOut | None:
    """What is known of a checkpoint's held-out images: its newest evaluation below the folders or in its run folder, or
    else the list that its training names; None where there is neither.
    """
    checkpoint = stamp.path
    records = {path.resolve(): path for path in walk_files((run_folder(checkpoint), *folders)) if path.name == RUN}
    found = [(path.stat().st_mtime, path) for path in records.values() if (path.parent / SCORES).is_file()]
    digest = None
    for _, path in sorted(found, reverse=True):
        record = read_record(path)
        made_from = record.get("made_from", {})
        source = made_from.get("checkpoint") if isinstance(made_from, dict) else None
        if not isinstance(source, dict) or "digest" not in source:
            continue
        digest = digest or file_digest(checkpoint)
        if source["digest"] == digest:
            return _of_evaluation(path.parent, record, checkpoint)
    return _of_training(checkpoint)


def _of_evaluation(folder: Path, record: dict, checkpoint: Path) -> HeldOut | None:
    made_from = record["made_from"]
    moved = Moved(str(made_from["checkpoint"].get("file", "")), checkpoint)
    try:
        miou = float(read_json(folder / SCORES)["miou"])
    except (InputError, KeyError, TypeError, ValueError):
        return None
    images = made_from.get("images") or option(record, "--images")
    listed = made_from.get("list")
    listed = listed.get("file") if isinstance(listed, dict) else listed
    return HeldOut(folder, miou, moved(images), _ids(moved(listed)), moved(made_from.get("gt")))


def _of_training(checkpoint: Path) -> HeldOut | None:
    record = read_record(checkpoint.parent / RUN)
    options = record.get("options")
    if not isinstance(options, dict):
        return None
    moved = Moved(str(checkpoint), checkpoint)
    if not options.get("val_list"):
        return _of_classifier(checkpoint, record, moved)
    images = moved(options.get("val_images") or options.get("images") or option(record, "--images"))
    return HeldOut(checkpoint.parent, None, images, _ids(moved(options["val_list"])), moved(options.get("val_gt")))


def _of_classifier(checkpoint: Path, training: dict, moved: Moved) -> HeldOut | None:
    """The list that the classifier of the same run holds out, where the network was trained on none of it: without ground
    truth, `quickstart.py` gives this list to the classifier alone.
    """
    folder = run_folder(checkpoint) / "cam"
    record = read_record(folder / RUN)
    held, trained = (_ids(moved(option(*pair))) for pair in ((record, "--val-list"), (training, "--list")))
    if not held or not trained or set(held) & set(trained):
        return None
    return HeldOut(folder, None, moved(option(record, "--images")), held, None)


def _ids(path: Path | None) -> tuple[str, ...]:
    try:
        return () if path is None or not path.is_file() else tuple(read_id_list(path))
    except InputError:
        return ()
