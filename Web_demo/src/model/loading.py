"""Checkpoints: which there are, and the network of one, loaded once for all visitors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import streamlit as st

from util.runtime.errors import InputError
from Web_demo.src.utils.files import walk_files

SUFFIXES = (".pth", ".pt")


@dataclass(frozen=True)
class Stamp:
    """A file as it is now: another after it was written anew.

    Attributes:
        path: of the file.
        changed: time of its last change, in nanoseconds.
        size: in bytes.
    """

    path: Path
    changed: int
    size: int


def stamp_of(path: Path) -> Stamp:
    """The file's stamp.

    Raises:
        InputError: if there is no such file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(
            f"{path}: no checkpoint can be read here ({error.strerror or error}); check the path"
        ) from None
    return Stamp(path, status.st_mtime_ns, status.st_size)


def find_checkpoints(folders: Iterable[Path]) -> list[Path]:
    """Checkpoint files below the folders, the newest first."""
    stamps = []
    for path in walk_files(folders):
        if path.suffix in SUFFIXES:
            try:
                stamps.append(stamp_of(path))
            except InputError:  # written anew at this very moment
                continue
    return [stamp.path for stamp in sorted(stamps, key=lambda stamp: (-stamp.changed, stamp.path))]


def first_usable(paths: list[Path]) -> int:
    """Index of the first checkpoint of DeepLabV3+; 0 if there is none."""
    for index, path in enumerate(paths):
        try:
            if is_segmenter(stamp_of(path)):
                return index
        except InputError:
            continue
    return 0


@lru_cache(maxsize=256)
def is_segmenter(stamp: Stamp) -> bool:
    """Whether the file says that it is a checkpoint of DeepLabV3+; its tensors are left unread."""
    from models.segmentation.deeplabv3 import KIND
    from util.runtime import checkpoint

    try:
        return checkpoint.load(stamp.path, mmap=True).get("kind") == KIND
    except InputError:
        return False


@st.cache_resource(max_entries=2, show_spinner="Loading the model ...")
def load_segmenter(stamp: Stamp, device: str):
    """The `models.segmentation.deeplabv3.Segmenter` of a checkpoint, shared by all sessions.

    Raises:
        InputError: if the checkpoint or the device cannot be used.
    """
    import numpy as np

    from models.segmentation.deeplabv3 import load_checkpoint
    from util.runtime.distributed import choose_device

    segmenter = load_checkpoint(stamp.path, choose_device(device))
    # The first pass through a network is slow: better now than for the first visitor.
    segmenter.predict(np.zeros((375, 500, 3), np.uint8))
    print(f"loaded {stamp.path} on {segmenter.device}", file=sys.stderr, flush=True)
    return segmenter


def shown_name(path: Path) -> str:
    """A path as short as it can be: relative to the current folder, or its last parts."""
    relative = os.path.relpath(path)
    return "/".join(path.parts[-3:]) if relative.startswith("..") else relative
