"""Checkpoints: finding them, and the network of one, loaded once for all visitors."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from util.data.voc import ClassTable
from util.runtime.errors import InputError
from Web_demo.src.utils.files import walk_files

if TYPE_CHECKING:
    from models.segmentation.inference import Segmenter

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".onnx")


@dataclass(frozen=True)
class Stamp:
    """A file as it is now; one that was written anew has another stamp.

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
        raise InputError(f"{path}: the checkpoint cannot be read ({error.strerror or error}); check the path") from None
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
    """Index of the first segmentation network; 0 if there is none."""
    for index, path in enumerate(paths):
        try:
            if is_segmenter(stamp_of(path)):
                return index
        except InputError:
            continue
    return 0


@lru_cache(maxsize=256)
def is_segmenter(stamp: Stamp) -> bool:
    """Whether the file says that it is a segmentation network; its tensors are not read."""
    if stamp.path.suffix == ".onnx":
        return True
    from models.segmentation.deeplabv3 import KIND
    from util.runtime import checkpoint

    try:
        return checkpoint.load(stamp.path, mmap=True).get("kind") == KIND
    except InputError:
        return False


@st.cache_resource(max_entries=2, show_spinner="Loading the network ...", hash_funcs={ClassTable: repr})
def load_segmenter(
    stamp: Stamp, device: str, encoder: str | None = None, classes: ClassTable | None = None
) -> Segmenter:
    """The network of a checkpoint, shared by all sessions.

    Args:
        encoder, classes: of a checkpoint that does not name them.

    Raises:
        InputError: if the checkpoint or the device cannot be used.
    """
    from models.segmentation.networks import open_network
    from util.runtime.distributed import choose_device

    segmenter = open_network(stamp.path, choose_device(device), encoder, classes)
    # The first pass through a network is slow: better now than for the first visitor.
    segmenter.segment(np.zeros((375, 500, 3), np.uint8))
    print(f"loaded {stamp.path} on {segmenter.device}", file=sys.stderr, flush=True)
    return segmenter
