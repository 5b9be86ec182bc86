"""The published archives of PASCAL VOC 2012 and SBD: where they come from, and reading their files without unpacking them.

Sources: Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010; Hariharan et al., "Semantic Contours
from Inverse Detectors", ICCV 2011. Addresses and MD5 sums are torchvision's.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from util.data.archives import Archive
from util.runtime.files import is_hidden, read_bytes
from util.runtime.progress import Progress

MAX_MEMBER = 1 << 26  # bytes; nothing that is wanted comes near


@dataclass(frozen=True)
class TarArchive(Archive):
    """A published tar file.

    Attributes:
        pattern: matches the names of the members that are wanted.
    """

    pattern: re.Pattern[str] = field(kw_only=True)


VOC = TarArchive(
    "PASCAL VOC 2012, training and validation data",
    "VOCtrainval_11-May-2012.tar",
    "VOCdevkit/VOC2012",
    1_999_639_040,
    "6cd6e144f989b92b3379bac3b3de84fd",
    (
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012",
        "https://d2l-data.s3-accelerate.amazonaws.com",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012",
    ),
    pattern=re.compile(
        r"(?:^|.*/)(JPEGImages/[^/]+\.jpg|Annotations/[^/]+\.xml|SegmentationClass/[^/]+\.png"
        r"|ImageSets/Segmentation/(?:train|val|trainval)\.txt)$"
    ),
)
SBD = TarArchive(
    "SBD, the semantic boundaries data set",
    "benchmark.tgz",
    "benchmark_RELEASE",
    1_419_539_633,
    "82b4d87ceb2ed10f6038a1cba92111cb",
    (
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours",
    ),
    hint="without it, and without the list trainaug: --no-sbd",
    pattern=re.compile(r"(?:^|.*/)(?:cls/([^/]+)\.mat|(train|val)\.txt)$"),
)


@dataclass(frozen=True)
class Member:
    """A wanted file of an archive.

    Attributes:
        match: of the archive's pattern.
        identity: size and time of change, which say whether it is still the same.
        read: gives its bytes; to be called before the next member is asked for.
    """

    match: re.Match[str]
    identity: str
    read: Callable[[], bytes]


def members(path: Path, archive: TarArchive) -> Iterator[Member]:
    """The wanted files of an archive, or of a folder that it was unpacked to.

    Nothing is written under the names that the archive holds.

    Raises:
        InputError: if the archive is cut short or damaged.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not is_hidden(file.name))
        for file in Progress(files, desc=path.name, unit="file"):
            match = archive.pattern.match(file.relative_to(path).as_posix())
            if match:
                status = file.stat()
                yield Member(match, f"{status.st_size} {status.st_mtime_ns}", partial(read_bytes, file))
        return
    with (
        _whole(path, archive),
        open(path, "rb") as file,
        tarfile.open(fileobj=file, mode="r|*") as tar,
        Progress(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as bar,
    ):
        for member in tar:
            match = archive.pattern.match(member.name)
            wanted = match and member.isreg() and not is_hidden(PurePosixPath(member.name).name)
            if match and wanted and member.size <= MAX_MEMBER:
                yield Member(match, f"{member.size} {member.mtime}", partial(_read, path, archive, tar, member))
            bar.update(file.tell() - bar.n)


def _read(path: Path, archive: TarArchive, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with _whole(path, archive):
        content = tar.extractfile(member)
        return content.read() if content else b""


@contextmanager
def _whole(path: Path, archive: TarArchive) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise archive.damaged(path, error) from None
