"""Checkpoints: written atomically, read without running code."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import difflib
import errno
import glob
import os
import pickle
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any, BinaryIO

from util.runtime.errors import InputError, disk_error
from util.runtime.files import atomic_write, list_files

WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
SCHEMA = 2  # of the checkpoints of a training; those of 1 have no such entry


def save(path: str | os.PathLike, state: dict[str, Any], *, durable: bool = True) -> None:
    """Write a checkpoint atomically: a reader sees the old one or the whole new one.

    Args:
        path: usually ``*.pth``; the folder is made when missing.
        state: tensors, numbers, strings, None, and dicts and lists of these, so that `load` can read it.
        durable: wait until it is on the disk. Otherwise a power failure soon after may leave a damaged file.

    Raises:
        InputError: if the disk is full or cannot be written; the previous checkpoint stays as it was.
    """
    import torch

    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
            if durable:
                file.flush()
                _wait_for_disk(file)
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


def _wait_for_disk(file: BinaryIO) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):  # a file system without fsync
            raise


def check(path: str | os.PathLike) -> None:
    """Check every byte of a checkpoint that `save` wrote against its checksums, which torch does not look at.

    Raises:
        InputError: if it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        wrong = str(error) or type(error).__name__
    if wrong is not None:
        raise InputError(
            f"{path}: damaged ({wrong}); restore it from a copy, download it again, or train again with --overwrite"
        )


def checked_file(path: str | os.PathLike) -> Path:
    """The path, if a file is there.

    Raises:
        InputError: if there is none.
    """
    path = Path(path)
    if not path.is_file():
        inside = [file.name for file in list_files(path, WEIGHTS_SUFFIXES)] if path.is_dir() else []
        if inside:
            raise InputError(
                f"{path}: no checkpoint here, found a folder that holds {', '.join(inside[:3])}; give the file"
            )
        found = ", found a folder" if path.is_dir() else ""
        similar = _similar_file(path)
        question = f" (did you mean {similar}?)" if similar else ""
        raise InputError(f"{path}: no checkpoint here{found}; check the path{question} or train first")
    return path


def _similar_file(path: Path) -> Path | None:
    """A file that may be meant by a missing one: beside it, or in the same place below a folder with another name."""
    folder, rest = path.parent, [path.name]
    while not folder.is_dir() and folder != folder.parent:
        folder, rest = folder.parent, [folder.name, *rest]
    if not folder.is_dir():  # a drive of Windows that is not there
        return None
    pattern = str(Path("*", *map(glob.escape, rest[1:])))
    files = list_files(folder, WEIGHTS_SUFFIXES) if len(rest) == 1 else filter(Path.is_file, folder.glob(pattern))
    near = difflib.get_close_matches(str(Path(*rest)), [str(file.relative_to(folder)) for file in files], 1)
    return folder / near[0] if near else None


def load(path: str | os.PathLike, mmap: bool = False, checked: bool = True) -> dict[str, Any]:
    """Read a file of parameters, to the CPU and without running code: a checkpoint by torch's restricted unpickler, or safetensors.

    What a file is follows from its content, whatever its suffix (``.pth``, ``.pt``, ``.ckpt``, ``.bin``, ``.safetensors``).

    Args:
        path: the file.
        mmap: leave the tensors in the file until they are used: quick for a look at what it holds.
        checked: `check` every byte, unless ``mmap``.

    Raises:
        InputError: if it is missing, damaged, holds no dict, or needs code to be loaded.
    """
    path = checked_file(path)
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise InputError(f"{path}: not a readable checkpoint ({error.strerror}); check its permissions") from None
    other = next((kind for sign, kind in _OTHER_FILES.items() if start.lstrip().startswith(sign)), _kind_of_zip(path))
    if other is not None:
        raise InputError(
            f"{path}: not a checkpoint, but {other}; download it again, or give the file that torch.save wrote"
        )
    state = _load_safetensors(path) if _is_safetensors(start) else _load_torch(path, mmap)
    if checked and not mmap and zipfile.is_zipfile(path):
        check(path)
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not a dict of tensors; give a checkpoint or weights")
    return state


# What downloads leave where a checkpoint is expected.
_OTHER_FILES = {
    b"<": "a page of a web server",
    b"version https://git-lfs": "a pointer of Git LFS to it",
    b"\x89HDF": "a file of Keras (HDF5)",
}


def _kind_of_zip(path: Path) -> str | None:
    """What a ZIP archive is that torch.save has not written; None of other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return None
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript archive, which holds code"
    if any(name.endswith("data.pkl") for name in names):
        return None
    return f"a ZIP archive that holds {', '.join(names[:3]) or 'nothing'}"


def _is_safetensors(start: bytes) -> bool:
    return len(start) > 9 and int.from_bytes(start[:8], "little") < 100_000_000 and start[8:9] == b"{"


def _load_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({_first_line(error)}); download it again") from None


def _load_torch(path: Path, mmap: bool) -> Any:
    import torch

    mmap = mmap and path.suffix != ".safetensors"  # by its name torch would take it for one
    try:
        with torch.serialization.safe_globals(_harmless()), open(path, "rb") as file:
            return torch.load(path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        if refused or zipfile.is_zipfile(path):
            reason = refused.group(1).rstrip(".") if refused else _first_line(error)
            raise InputError(
                f"{path}: refused, loading it could run code (it holds {reason}); save its parameters again as tensors and "
                "plain values, for instance by torch.save(model.state_dict(), FILE)"
            ) from None
        raise InputError(f"{path}: not a checkpoint, or damaged; make it or download it again") from None
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{path}: not a readable checkpoint ({_first_line(error)}); make it or download it again"
        ) from None
    except (EOFError, ValueError, LookupError, AttributeError, TypeError):  # whose texts speak of pickles
        raise InputError(f"{path}: not a checkpoint, or damaged; make it or download it again") from None


# How torch names what its restricted unpickler does not build.
_REFUSED = re.compile(r"(?:GLOBAL|[Uu]nsupported (?:global|class|type)s?:?|REDUCE[^.]*function) (?:GLOBAL )?([\w.]+)")


def _harmless() -> list[Any]:
    """What trainings leave beside the parameters and what cannot run code: options, paths, numbers and arrays of numpy."""
    import numpy as np

    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdU"}
    builders = {value.__reduce__()[0] for value in (np.float64(0), np.zeros(0))}
    plain = [argparse.Namespace, SimpleNamespace, datetime.timedelta, datetime.datetime]
    # Paths of either system, which are under other names in the files of Python 3.13.
    paths = [
        (kind, f"{module}.{name}")
        for kind, name in ((PurePosixPath, "PosixPath"), (PureWindowsPath, "WindowsPath"))
        for module in ("pathlib", "pathlib._local")
    ]
    return [*plain, *paths, np.dtype, np.ndarray, *builders, *dtypes]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


# Of options that are digests: what has changed, in words.
_DIGESTS = {
    "data_digest": "other images, labels or ids",
    "val_digest": "other held-out images",
    "code_digest": "the code was changed",
}


def load_to_resume(
    path: Path, options: dict[str, Any], overwrite: bool, retrain: bool = False
) -> dict[str, Any] | None:
    """The content of a training's last checkpoint, or None where a training starts anew.

    Args:
        path: ``OUT/last.pth``; it and ``best.pth`` beside it are checked byte by byte, but not a ``best.pth`` that
            `restore_best` can make again.
        options: everything that the result depends on, as the run that is to continue has it.
        overwrite: start anew, whatever is there.
        retrain: start anew where the options, inputs or code are others, instead of refusing.

    Raises:
        InputError: if a checkpoint is damaged, or was made with other options, inputs or code, or in an older format.
    """
    if overwrite or not path.exists():
        return None
    check(path)
    content = load(path, checked=False)
    remedy = "another --out, or --retrain to train again"
    before = content.get("options", {})
    changed = [name for name in {**before, **options} if before.get(name) != options.get(name)]
    if retrain and (changed or content.get("schema") != SCHEMA):
        return None
    if content.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: written by another version of this project (format {content.get('schema', 1)}, now {SCHEMA}): it "
            f"can be used, but its training cannot be resumed. Give {remedy}"
        )
    if changed:
        found = [
            f"{name}: {before.get(name)}, now {options.get(name)}" for name in sorted({*changed} - {*_DIGESTS})[:5]
        ]
        found += [what for name, what in _DIGESTS.items() if name in changed]
        raise InputError(
            f"{path}: this run was started with other options, data or code ({'; '.join(found)}). Give the "
            f"same again, {remedy}"
        )
    best = path.with_name("best.pth")
    if best.exists() and not _is_best(content):
        check(best)
    return content


def _is_best(last: dict[str, Any]) -> bool:
    return bool(last.get("training", {}).get("is_best"))


def restore_best(best: Path, last: dict[str, Any]) -> bool:
    """Make ``best.pth`` again where ``last.pth`` holds the same step, unless it is whole and of that step.

    It is written after ``last.pth`` and not waited for, so a kill or a power failure may leave an older or a damaged one.

    Args:
        best: ``OUT/best.pth``.
        last: the content of ``OUT/last.pth``.

    Returns:
        whether it was made.
    """
    if not _is_best(last):
        return False
    with contextlib.suppress(InputError):
        if load(best).get("score") == last.get("score"):
            return False
    save(best, {name: value for name, value in last.items() if name != "training"})
    return True
