"""Reading and writing files safely: atomic writes, digests, JSON."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import functools
import hashlib
import io
import itertools
import json
import os
import re
import secrets
import stat
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from util.runtime.errors import InputError, meant

_FEW = 100  # files of a folder that a missing one is compared with
_ID = re.compile(r"[^/\\\0]+")

# What tools add to the name of an image for its label map or mask.
_ADDED = re.compile(r"[_.-](gtFine_)?(label|labels|labelIds|labelTrainIds|mask|masks|gt|seg|color)$", re.IGNORECASE)
LONGEST_ID = 200  # bytes; file systems take 255, and suffixes and temporary names need some
LONGEST_PATH = 259  # characters that Windows takes, where its registry does not allow more
ON_WINDOWS = os.name == "nt"
IGNORES_CASE = sys.platform in ("win32", "darwin")  # whether A.png and a.png are one file
# What a name on Windows cannot hold, or would have another meaning there.
_NOT_ON_WINDOWS = re.compile(r"""(?s)(con|nul|aux|prn|com\d|lpt\d)(\..*)?|.*[<>:"|?*\x00-\x1f].*""", re.IGNORECASE)
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6) if ON_WINDOWS else ()  # seconds between attempts to replace or delete a file
# What systems, archives and network storage leave among data.
_LEFT_BY_SYSTEMS = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found", "__macosx"),
    *("@eadir", "#recycle", "#snapshot"),
}


def check_id(image_id: str) -> str:
    """Return ``image_id`` if it is a plain file stem; an id never leads out of its folder.

    Raises:
        InputError: for ``..``, path separators or an empty id.
    """
    if len(image_id.encode(errors="replace")) > LONGEST_ID:
        raise InputError(f"image id {image_id[:40]!r}... is longer than file names can be; check what the list holds")
    if not _ID.fullmatch(image_id) or image_id in (".", ".."):
        raise InputError(f"image id {image_id!r} is not a plain file name; remove path parts from the id list")
    if ON_WINDOWS and cannot_be_on_windows(image_id):
        raise InputError(f"image id {image_id!r} cannot be the name of a file on Windows; rename the image")
    return image_id


def cannot_be_on_windows(name: str) -> bool:
    """Whether Windows has no file of that name, or takes it for something else."""
    return _NOT_ON_WINDOWS.fullmatch(name) is not None


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path in the same folder; rename it to ``path`` on success, delete it on failure.

    A reader sees the old file or the whole new file, never a part. The folder is made when missing.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Temporary names start with a dot and keep the suffix, since some writers choose the format by it.
        temporary = _new_file(path.parent, f".{path.stem}.", f".tmp{path.suffix}")
        yield temporary
        replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(PermissionError):  # where a program of Windows has it open
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            if (
                ON_WINDOWS
                and error.errno == errno.ENOENT
                and len(os.path.abspath(path)) > LONGEST_PATH - len(".12345678.tmp")
            ):
                raise InputError(f"{path}: longer than paths can be on Windows; choose a shorter --out") from None
            error.filename, error.filename2 = os.fspath(path), None  # a failed write names no file, or a temporary one
        raise


def _new_file(folder: Path, prefix: str, suffix: str = "") -> Path:
    """An empty file of this process alone, with the permissions that ``open`` would give.

    `tempfile.mkstemp` tries for hours in a folder that cannot be written, on Windows, and its files are private.
    """
    while True:
        path = folder / f"{prefix}{secrets.token_hex(4)}{suffix}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return path


def replace(source: Path, target: Path) -> None:
    """As `os.replace`, patiently."""
    _patiently(lambda: os.replace(source, target))


def delete(path: Path) -> None:
    """Delete a file if it is there, patiently."""
    _patiently(lambda: path.unlink(missing_ok=True))


def _patiently(act: Callable[[], None]) -> None:
    """Try again where that fails: on Windows another program, such as a virus scanner, may have the file open."""
    for pause in _PAUSES:
        try:
            return act()
        except PermissionError:
            time.sleep(pause)
    act()


def delete_within(folder: Path, name: str) -> None:
    """Delete a file that a record in its folder names; a name that leads out of it is ignored, as a record may come from anyone."""
    if Path(name).is_relative_to(".") and ".." not in Path(name).parts:
        delete(folder / name)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_csv(path: str | os.PathLike, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, atomically; with a byte-order mark where Excel would take the letters for others."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    text = buffer.getvalue()
    write_bytes(path, text.encode("utf-8" if text.isascii() else "utf-8-sig"))


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write ``value`` as indented JSON, atomically; numpy scalars and arrays become numbers and lists."""
    write_bytes(path, (json.dumps(value, indent=2, default=_plain) + "\n").encode())


def _plain(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, tuple)):
        return sorted(value) if isinstance(value, set) else list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def read_bytes(path: str | os.PathLike) -> bytes:
    """Read a whole file.

    Raises:
        InputError: if it is missing or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        hint = meant(Path(path).name, _beside(Path(path)))
        question = f" ({hint})" if hint else ""
        raise InputError(f"{path}: no such file{question}; check the path or make the file first") from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be read ({reason}); check what it is and its permissions") from None


def _beside(path: Path) -> list[str]:
    """The names in the folder of a missing file; none of many, which would be compared anew for each missing image."""
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in itertools.islice(entries, _FEW + 1)]
        return [name for name in names if not is_hidden(name)] if len(names) <= _FEW else []
    return []


def read_text(path: str | os.PathLike) -> str:
    """Read a text file: UTF-8, with or without a byte-order mark, or UTF-16 with one, as Windows PowerShell writes it.

    Raises:
        InputError: if it is missing, unreadable or neither of these.
    """
    data = read_bytes(path)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: not a UTF-8 text file (byte {error.start}, line {line}), so its letters may be read as others; save it "
            'as UTF-8 (Excel: "CSV UTF-8")'
        ) from None


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if it is missing or not JSON.
    """
    return parse_json(read_bytes(path), path)


def parse_json(data: bytes, path: str | os.PathLike) -> Any:
    """Parse JSON bytes that came from ``path``, which is named in the error."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); it may be cut short, make it again") from None


def check_folder(path: str | os.PathLike, what: str) -> Path:
    """Return ``path`` as a Path if it is a readable folder.

    Raises:
        InputError: naming ``what`` the folder should hold.
    """
    path = Path(path)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise InputError(f"{path}: should be the folder of {what}, but {found} is there; check the path")
    try:
        with os.scandir(path) as entries:  # `os.access` does not know the permissions of folders on Windows
            next(entries, None)
        is_readable = os.access(path, os.X_OK)
    except OSError:
        is_readable = False
    if not is_readable:
        raise InputError(f"{path}: the folder of {what} cannot be read; check its permissions")
    return path


def make_folder(path: str | os.PathLike) -> Path:
    """Make an output folder, and say plainly when it cannot be written."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        delete(_new_file(path, ".probe"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot write here ({error.strerror or error}); choose another --out or free its disk"
        ) from None
    return path


def relative_name(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """How a file in ``folder`` refers to ``path``, with forward slashes; its whole path from another drive of Windows."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(os.path.abspath(path)).as_posix()


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems leave among data: ``._x.png``, ``Thumbs.db``, ``$RECYCLE.BIN``, ..."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def walk_folders(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`: sorted, through links, without what is hidden.

    Raises:
        InputError: for a folder that cannot be listed.
    """
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_not_listed):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield Path(place), folders, sorted(name for name in files if not is_hidden(name))


def _not_listed(error: OSError) -> None:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        raise InputError(f"{error.filename}: no such folder; check the path") from None
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    if junction is None or getattr(os.lstat(error.filename), "st_reparse_tag", None) != junction:  # as "My Music"
        reason = error.strerror or error
        raise InputError(f"{error.filename}: this folder cannot be listed ({reason}); check its permissions") from None


def list_files(folder: str | os.PathLike, suffixes: Iterable[str] | None = None) -> list[Path]:
    """What is in a folder, sorted by name, less hidden files.

    Args:
        suffixes: that names may end in, in small letters; those of files may be in capitals. None: any.
    """
    wanted = None if suffixes is None else tuple(suffixes)
    names = (name for name in os.listdir(folder) if not is_hidden(name))
    return [Path(folder, name) for name in sorted(names) if wanted is None or name.lower().endswith(wanted)]


def find_file(folder: str | os.PathLike, image_id: str, suffixes: Iterable[str], what: str = "file") -> Path:
    """Find ``folder/image_id`` + one of ``suffixes``, the first that there is.

    Suffixes with capitals (``.JPG``, ``.Jpg``) and file names in Unicode's NFD form, as macOS has them, are found as well.

    Raises:
        InputError: if there is none, or the name is not UTF-8.
    """
    check_id(image_id)
    suffixes = list(suffixes)
    for suffix in suffixes:
        for variant in (suffix, suffix.upper()):
            path = Path(folder) / f"{image_id}{variant}"
            if path.is_file():
                return check_name(path)
    with contextlib.suppress(OSError):
        names = _names(os.fspath(folder), os.stat(folder).st_mtime_ns)
        for suffix in suffixes:
            found = names.get((unicodedata.normalize("NFC", image_id), suffix))
            if found is not None and (path := Path(folder) / found).is_file():
                return check_name(path)
    looked, known = ", ".join(f"{image_id}{suffix}" for suffix in suffixes), {}
    with contextlib.suppress(OSError):
        known = _similar(os.fspath(folder), os.stat(folder).st_mtime_ns)
    others, remedy = "", "add it or drop the id from the list"
    if alike := known.get(image_id):
        others, remedy = f"; {', '.join(alike[:3])} is not read here", f"save it as {image_id}{suffixes[0]}"
    elif known:
        others = f"; a file here is {next(iter(known.values()))[0]}"
    raise InputError(f"{folder}: no {what} for {image_id} (looked for {looked}{others}); {remedy}")


@functools.lru_cache(maxsize=8)
def _similar(folder: str, changed: int) -> dict[str, list[str]]:
    """id -> files that may be meant for it, of a folder as it was at the time ``changed``."""
    found: dict[str, list[str]] = {}
    for path in filter(Path.is_file, list_files(folder)):
        found.setdefault(_ADDED.sub("", path.stem), []).append(path.name)
    return found


@functools.lru_cache(maxsize=8)
def _names(folder: str, changed: int) -> dict[tuple[str, str], str]:
    """(stem in NFC, suffix in small letters, also two as ``.json.gz``) -> name, of a folder as it was at ``changed``."""
    names = {}
    for path in list_files(folder):
        name = unicodedata.normalize("NFC", path.name)
        for suffix in (path.suffix, "".join(path.suffixes[-2:])):
            names[name.removesuffix(suffix), suffix.lower()] = path.name
    return names


def check_name(path: Path) -> Path:
    """Return the path if its name is text; nothing can be written under another one in a list or a JSON file.

    Raises:
        InputError: if it is not.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{path.parent}: the file name {os.fsencode(path.name)!r} is not UTF-8; rename the file"
        ) from None
    return path


def digest(*parts: bytes | str) -> str:
    """A 128-bit BLAKE2 digest, as hexadecimal; parts are kept apart, so ("ab", "c") differs from ("a", "bc")."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def bytes_digest(data: bytes) -> str:
    """Digest of a file with these bytes, as `file_digest` gives it once they are written."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_digest(path: str | os.PathLike) -> str:
    """Digest of a file's bytes, read in pieces."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
