"""The published archives of COCO 2014, and reading them without unpacking."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from util.runtime.download import download_from
from util.runtime.errors import InputError
from util.runtime.files import make_folder, read_bytes

SPLITS = ("train", "val")
MAX_JSON = 1 << 30  # bytes; instances_train2014.json has a third of it
MAX_IMAGE = 1 << 26


@dataclass(frozen=True)
class Archive:
    """A published ZIP file.

    Attributes:
        what: it is, for messages.
        file: its name.
        folder: that it unpacks to.
        size: in bytes.
        md5: its MD5 sum, hexadecimal.
        folders: addresses of folders that hold it, in the order in which they are tried.
    """

    what: str
    file: str
    folder: str
    size: int
    md5: str
    folders: tuple[str, ...]


_IMAGES = ("http://images.cocodataset.org/zips", "https://s3.amazonaws.com/images.cocodataset.org/zips")
_TEXTS = ("http://images.cocodataset.org/annotations", "https://s3.amazonaws.com/images.cocodataset.org/annotations")
TRAIN = Archive(
    "training images", "train2014.zip", "train2014", 13_510_573_713, "0da8c0bd3d6becc4dcb32757491aca88", _IMAGES
)
VAL = Archive("validation images", "val2014.zip", "val2014", 6_645_013_297, "a3d79f5ed8d289b7a7554ce06a5782b3", _IMAGES)
ANNOTATIONS = Archive(
    "annotations",
    "annotations_trainval2014.zip",
    "annotations",
    252_872_794,
    "0a379cfc70b0e71301e0f377548639bd",
    _TEXTS,
)
ARCHIVES = (ANNOTATIONS, VAL, TRAIN)


def place_of(archive: Archive, folder: Path) -> Path | None:
    """The archive in a folder, or the folder that it unpacks to; None if neither is there."""
    return next((folder / name for name in (archive.file, archive.folder) if (folder / name).exists()), None)


def fetch(folder: Path, mirrors: Sequence[str] = ()) -> None:
    """Download what is not in ``folder`` yet; an interrupted download is resumed.

    Args:
        mirrors: addresses of folders with the archives' files, tried before the published ones.

    Raises:
        InputError: if no server gives an archive, naming what each of them said.
    """
    make_folder(folder)
    for archive in ARCHIVES:
        if place_of(archive, folder) is None:
            tried = [f"{mirror.rstrip('/')}/{archive.file}" for mirror in (*mirrors, *archive.folders)]
            download_from(tried, archive.md5, folder)


def find(folder: Path) -> dict[Archive, Path]:
    """The archives, or the folders that they unpack to.

    Raises:
        InputError: saying what to download where, if one is missing.
    """
    found = {archive: place for archive in ARCHIVES if (place := place_of(archive, folder)) is not None}
    missing = [archive for archive in ARCHIVES if archive not in found]
    if missing:
        lines = [
            f"  {archive.what}: download {archive.folders[0]}/{archive.file}\n    to {folder / archive.file} "
            f"({archive.size:,} bytes, MD5 {archive.md5}; a copy from elsewhere with this sum will do)"
            for archive in missing
        ]
        raise InputError(f"{folder}: {len(missing)} archive(s) are missing; give --download, or\n" + "\n".join(lines))
    return found


class Members:
    """The files of an archive, or of the folder that it unpacks to. Use as a context manager.

    Raises:
        InputError: if the archive is damaged.
    """

    def __init__(self, archive: Archive, place: Path):
        self.archive, self.place = archive, place
        self._zip: zipfile.ZipFile | None = None
        self._names: dict[str, zipfile.ZipInfo] = {}

    def __enter__(self) -> Members:
        if self.place.is_file():
            try:
                self._zip = zipfile.ZipFile(self.place)
                self._names = {info.filename.rpartition("/")[2]: info for info in self._zip.infolist()}
            except (zipfile.BadZipFile, OSError, ValueError) as error:
                raise self._damaged(error) from None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._zip:
            self._zip.close()

    def identity(self, name: str) -> str:
        """What says whether a file is still the same, or InputError if it is not there."""
        if self._zip:
            info = self._info(name)
            return f"{info.file_size} {info.CRC}"
        path = self.place / name
        if not path.is_file():
            raise InputError(f"{path}: no such file; unpack {self.archive.file} again")
        status = path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self, name: str, most: int) -> bytes:
        """A file's bytes; InputError if it is not there, damaged, or has more than ``most``."""
        if not self._zip:
            return read_bytes(self.place / name)
        info = self._info(name)
        if info.file_size > most:
            raise InputError(
                f"{self.place}: {name} has {info.file_size:,} bytes, too many to be true; download it again"
            )
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            raise self._damaged(error) from None

    def names(self) -> Iterator[str]:
        """File names without their folder."""
        return iter(self._names) if self._zip else (path.name for path in self.place.iterdir())

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._names:
            raise InputError(f"{self.place}: {name} is not in it; download {self.archive.file} again")
        return self._names[name]

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"{self.place}: cut short or damaged ({error}); it has {self.place.stat().st_size:,} bytes, the published file "
            f"{self.archive.size:,}: delete it, and download it again with --download"
        )


def read_instances(members: Members, split: str) -> object:
    """The content of ``instances_<split>2014.json``.

    Raises:
        InputError: if it is not there, damaged, or not JSON.
    """
    name = f"instances_{split}2014.json"
    try:
        return json.loads(members.read(name, MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{members.place}: {name} is not valid JSON ({error}); download it again") from None
