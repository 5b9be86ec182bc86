"""Published archives of data sets: where they come from, which of them are there, and whether they gave all that is published."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from util.runtime.download import download_from
from util.runtime.errors import InputError, counted
from util.runtime.files import make_folder


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        what: it is, for messages.
        file: its name.
        folder: that it unpacks to.
        size: in bytes.
        md5: its MD5 sum, hexadecimal.
        folders: addresses of folders that hold it, in the order in which they are tried.
        hint: how to go without it, where one can.
    """

    what: str
    file: str
    folder: str
    size: int
    md5: str
    folders: tuple[str, ...]
    hint: str = ""

    @property
    def address(self) -> str:
        """The first address."""
        return f"{self.folders[0]}/{self.file}"

    def place(self, folder: Path) -> Path | None:
        """The archive in a folder, or the folder that it unpacks to; None if neither is there."""
        return next((folder / name for name in (self.file, self.folder) if (folder / name).exists()), None)

    def damaged(self, path: Path, error: Exception) -> InputError:
        """What to say of a file that cannot be read to its end."""
        return InputError(
            f"{path}: cut short or damaged ({error}); it has {path.stat().st_size:,} bytes, the published file "
            f"{self.size:,}: delete it, and download it again with --download or from {self.address}"
        )


def fetch(archives: Sequence[Archive], folder: Path, mirrors: Sequence[str] = ()) -> None:
    """Download what is not in ``folder`` yet; an interrupted download is resumed.

    Args:
        mirrors: addresses of folders with the archives' files, tried before the published ones.

    Raises:
        InputError: if no server gives an archive, naming what each of them said.
    """
    make_folder(folder)
    for archive in archives:
        if archive.place(folder) is None:
            tried = [f"{mirror.rstrip('/')}/{archive.file}" for mirror in (*mirrors, *archive.folders)]
            download_from(tried, archive.md5, folder)


def find(archives: Sequence[Archive], folder: Path) -> list[Path]:
    """The archives, or the folders that they unpack to.

    Raises:
        InputError: saying what to download where, if one is missing.
    """
    places = [(archive, archive.place(folder)) for archive in archives]
    missing = [
        f"  {archive.what}: download {archive.address}\n    to {folder / archive.file} ({archive.size:,} bytes, MD5 "
        f"{archive.md5}; a copy from elsewhere with this sum will do){archive.hint and f'; {archive.hint}'}"
        for archive, place in places
        if place is None
    ]
    if missing:
        raise InputError(
            f"{folder}: {counted(len(missing), 'archive')} missing; give --download, or\n" + "\n".join(missing)
        )
    return [place for _, place in places if place is not None]


def check_counts(counts: Mapping[str, int], published: Mapping[str, int], is_partial: bool) -> int:
    """Print how much of everything there is, beside what is published; the exit code, 0 with ``is_partial``."""
    wrong = {name for name, count in counts.items() if count != published[name]}
    for name, count in counts.items():
        print(f"{name:<20}{count:>8,}" + (f"   the published data has {published[name]:,}" if name in wrong else ""))
    if not wrong or is_partial:
        return 0
    print(
        "the counts differ from the published data: an archive may be incomplete, download it again, "
        "or give --partial if that is what you want",
        file=sys.stderr,
    )
    return 1
