"""Checkpoints: written atomically, read without running code."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from pathlib import Path

from util.runtime.errors import InputError, disk_error
from util.runtime.files import atomic_write


def save(path: str | os.PathLike, state: dict) -> None:
    """Write a checkpoint atomically: a reader sees the old one or the whole new one.

    Args:
        path: usually ``*.pth``; the folder is made when missing.
        state: tensors, numbers, strings, None, and dicts and lists of these, so that `load` can read it.

    Raises:
        InputError: if the disk is full or cannot be written; the previous checkpoint stays as it was.
    """
    import torch

    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(error, path) from None
    except RuntimeError as error:
        # What breaks a write off makes torch's zip writer stumble as well, over the end that it cannot write.
        reason = error.__context__
        while reason is not None and not isinstance(reason, (OSError, KeyboardInterrupt)):
            reason = reason.__context__
        if reason is None:
            raise
        raise (disk_error(reason, path) if isinstance(reason, OSError) else KeyboardInterrupt) from None


def check(path: str | os.PathLike) -> None:
    """Check every byte of a checkpoint that `save` wrote against its checksums, which `load` does not look at.

    Raises:
        InputError: if it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        wrong = error
    if wrong is not None:
        raise InputError(f"{path}: damaged ({wrong}); bring it back from a copy, or train anew with --overwrite")


def load(path: str | os.PathLike, device: object = "cpu", mmap: bool = False) -> dict:
    """Read a checkpoint with torch's restricted unpickler: tensors and plain values, no code.

    Args:
        path: the file.
        device: where its tensors go.
        mmap: leave the tensors in the file until they are used: quick for a look at what it holds.

    Raises:
        InputError: if it is missing, damaged, holds no dict, or needs code to be loaded.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise InputError(f"{path}: no checkpoint here, found {found}; check the path or train first")
    try:
        state = torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):
            reason = str(error).splitlines()[0][:200]
            raise InputError(
                f"{path}: refused, loading it could run code ({reason}); save it again as tensors and plain values"
            ) from None
        raise InputError(f"{path}: not a checkpoint, or damaged; make it or download it again") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: not a readable checkpoint ({reason}); make it or download it again") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not a dict of tensors; give a checkpoint or weights")
    return state


def load_to_resume(path: Path, options: dict, key: str, overwrite: bool) -> dict | None:
    """The content of a training's last checkpoint, or None where a training starts anew.

    Args:
        path: ``OUT/last.pth``; it and ``best.pth`` beside it are checked byte by byte.
        options: everything that the result depends on, as the run that wants to go on has it.
        key: where the checkpoint holds the options that it was made with.
        overwrite: start anew, whatever is there.

    Raises:
        InputError: if a checkpoint is damaged, or was made with other options, inputs or code.
    """
    if overwrite or not path.exists():
        return None
    for file in (path, path.with_name("best.pth")):
        if file.exists():
            check(file)
    content = load(path)
    before = content.get(key, {})
    changed = [name for name in {**before, **options} if before.get(name) != options.get(name)]
    if changed:
        found = "; ".join(f"{name}: {before.get(name)}, now {options.get(name)}" for name in sorted(changed)[:5])
        raise InputError(
            f"{path}: this run was started with other options, data or code ({found}). "
            "Give the same again, another --out, or --overwrite to start anew"
        )
    return content
