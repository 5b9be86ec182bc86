"""The published archives of COCO 2014, and reading them without unpacking."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from util.data.archives import Archive
from util.runtime.errors import InputError
from util.runtime.files import read_bytes

SPLITS = ("train", "val")
MAX_JSON = 1 << 30  # bytes; instances_train2014.json has a third of it
MAX_IMAGE = 1 << 26


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
                raise self.archive.damaged(self.place, error) from None
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
            raise self.archive.damaged(self.place, error) from None

    def names(self) -> Iterator[str]:
        """File names without their folder."""
        return iter(self._names) if self._zip else (path.name for path in self.place.iterdir())

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._names:
            raise InputError(f"{self.place}: {name} is not in it; download {self.archive.file} again")
        return self._names[name]


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
