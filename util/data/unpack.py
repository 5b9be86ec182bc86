"""Archives that people have their data in: ZIP files are unpacked for as long as they are read."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from util.runtime.errors import InputError, disk_error
from util.runtime.files import ON_WINDOWS, make_folder

# What a system answers to a name that it cannot have; ENOENT is Windows' answer to a path that is too long.
_NAMES = (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT, errno.EILSEQ)


@contextlib.contextmanager
def unpacked(path: Path | None, folder: Path) -> Iterator[Path | None]:
    """The path itself; of a ZIP file ``folder``, which holds its content and is removed again.

    Raises:
        InputError: if the file is damaged or encrypted, or the disk has no room for its content.
    """
    if path is None or not path.is_file() or path.suffix.lower() != ".zip":
        yield path
        return
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    make_folder(folder)
    try:
        _extract(path, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(path: Path, folder: Path) -> None:
    try:
        with _open(path) as archive:
            size, free = sum(info.file_size for info in archive.infolist()), shutil.disk_usage(folder).free
            if size > free:
                raise InputError(
                    f"{path}: unpacks to {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free at {folder.parent}; free some, or "
                    "choose an --out on another disk"
                )
            archive.extractall(folder)  # which leads out of the folder for no name
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); download it again, or unpack it yourself") from None
    except OSError as error:
        if error.errno not in _NAMES or error.filename is None:
            raise disk_error(error, folder.parent) from None
        raise InputError(
            f"{path}: this system has no files of the name {error.filename} ({error.strerror or error}); choose a shorter --out, "
            "or unpack it yourself and give the folder"
        ) from None


def _open(path: Path) -> zipfile.ZipFile:
    with contextlib.suppress(UnicodeDecodeError):
        return zipfile.ZipFile(path, metadata_encoding="utf-8")  # macOS writes that, and does not say so
    # Windows' Explorer writes the letters of its own country, and does not say which.
    for encoding in ("oem", "cp437") if ON_WINDOWS else ("cp437",):
        with contextlib.suppress(UnicodeDecodeError):
            archive = zipfile.ZipFile(path, metadata_encoding=encoding)
            break
    name = next((info.filename for info in archive.infolist() if not info.filename.isascii()), "")
    print(f"note: {path} has names such as {name}; if they should read otherwise, unpack it yourself", file=sys.stderr)
    return archive
