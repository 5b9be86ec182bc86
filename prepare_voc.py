"""From the downloaded archives of PASCAL VOC 2012 and SBD to the folder that the other scripts read.

    python prepare_voc.py --archives downloads --out VOC2012

reads downloads/VOCtrainval_11-May-2012.tar and downloads/benchmark.tgz (or the folders they unpack to) and writes

    OUT/JPEGImages, OUT/Annotations, OUT/SegmentationClass    VOC's, as they are
    OUT/SegmentationClassAug    VOC's label maps, and SBD's for the other pictures (from its .mat files)
    OUT/ImageSets/Segmentation    VOC's train, val and trainval, and trainaug: train and all of SBD without val (10,582)
    OUT/cls_labels.npy    image-level labels of trainaug and val, from the annotations
    OUT/check.json    what was checked: counts, sizes, label values

What is there already is kept, so an interrupted run goes on.
"""

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from util.runtime.cli import Parser, run
from util.runtime.errors import InputError


@dataclass(frozen=True)
class Archive:
    """A published archive: its file, the folder it unpacks to, its size in bytes, its MD5 sum and its address."""

    what: str
    file: str
    folder: str
    size: int
    md5: str
    address: str


VOC = Archive(
    "PASCAL VOC 2012, training and validation data", "VOCtrainval_11-May-2012.tar", "VOCdevkit/VOC2012", 1_999_639_040,
    "6cd6e144f989b92b3379bac3b3de84fd",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
)  # fmt: skip
SBD = Archive(
    "SBD, the semantic boundaries data set", "benchmark.tgz", "benchmark_RELEASE", 1_419_539_633,
    "82b4d87ceb2ed10f6038a1cba92111cb",
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
)  # fmt: skip

# What the published archives give.
COUNTS = {"JPEGImages": 17_125, "Annotations": 17_125, "SegmentationClass": 2_913}
LIST_COUNTS = {"train": 1_464, "val": 1_449, "trainval": 2_913, "trainaug": 10_582}
MAX_MEMBER = 1 << 26  # bytes; nothing that is wanted comes near

_VOC_MEMBER = re.compile(
    r"(?:^|.*/)(JPEGImages/[^/]+\.jpg|Annotations/[^/]+\.xml|SegmentationClass/[^/]+\.png"
    r"|ImageSets/Segmentation/(?:train|val|trainval)\.txt)$"
)
_SBD_MEMBER = re.compile(r"(?:^|.*/)(?:cls/([^/]+)\.mat|(train|val)\.txt)$")


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--archives", type=Path, required=True, metavar="DIR", help="folder of the downloaded archives")
    parser.add_common("out", "workers", "overwrite", required=("out",))
    parser.add_argument("--no-sbd", action="store_true", help="VOC alone: no trainaug list")
    parser.add_argument(
        "--partial", action="store_true", help="take archives with fewer files than the published ones have"
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from util.runtime.ledger import Stage

    voc, sbd = find_archives(args.archives, sbd=not args.no_sbd)
    with Stage(
        args.out, {}, code=[__file__], made_from={"voc": str(voc), "sbd": str(sbd)}, overwrite=args.overwrite
    ) as stage:
        unpack_voc(stage, voc)
        lists = read_lists(args.out)
        if sbd:
            lists["trainaug"] = convert_sbd(stage, sbd, lists)
            write_list(args.out, "trainaug", lists["trainaug"])
        ids = sorted({image_id for part in lists.values() for image_id in part})
        write_tags(args.out, ids)
        code = max(stage.finish(), check(args, lists, ids))
    done = f"{args.out}: ready" if code == 0 else f"{args.out}: not all is well, see above"
    print(f"{done}; next: python quickstart.py --voc {args.out}, or the scripts one by one")
    return code


def find_archives(folder: Path, sbd: bool) -> tuple[Path, Path | None]:
    """The archives, or the folders that they unpack to.

    Raises:
        InputError: saying what to download where, if one is missing.
    """
    found, missing = [], []
    for archive in (VOC, SBD) if sbd else (VOC,):
        place = next((folder / name for name in (archive.file, archive.folder) if (folder / name).exists()), None)
        if place is None:
            missing.append(archive)
        found.append(place)
    if missing:
        lines = [
            f"  {archive.what}: download {archive.address}\n    to {folder / archive.file} ({archive.size:,} bytes, MD5 "
            f"{archive.md5}; a copy from elsewhere with this sum will do)"
            for archive in missing
        ]
        hint = "\nWithout SBD (no trainaug list): --no-sbd" if SBD in missing else ""
        raise InputError(f"{folder}: {len(missing)} archive(s) are missing\n" + "\n".join(lines) + hint)
    return found[0], found[1] if sbd else None


def members(path: Path, pattern: re.Pattern, archive: Archive) -> Iterator[tuple[re.Match, str, Callable[[], bytes]]]:
    """The wanted files of an archive, or of a folder: match of the name, identity, and how to read it.

    Nothing is unpacked by the names that stand in the archive.

    Raises:
        InputError: if the archive is cut short or damaged.
    """
    from tqdm import tqdm

    from util.runtime.files import is_hidden, read_bytes

    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not is_hidden(file.name))
        for file in tqdm(files, desc=path.name, unit="file", dynamic_ncols=True):
            match = pattern.match(file.relative_to(path).as_posix())
            if match:
                status = file.stat()
                yield match, f"{status.st_size} {status.st_mtime_ns}", partial(read_bytes, file)
        return
    with (
        _whole(path, archive),
        open(path, "rb") as file,
        tarfile.open(fileobj=file, mode="r|*") as tar,
        tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, dynamic_ncols=True) as bar,
    ):
        for member in tar:
            match = pattern.match(member.name)
            wanted = match and not is_hidden(PurePosixPath(member.name).name)
            if wanted and member.isreg() and member.size <= MAX_MEMBER:
                yield match, f"{member.size} {member.mtime}", partial(_read_member, path, archive, tar, member)
            bar.update(file.tell() - bar.n)


def _read_member(path: Path, archive: Archive, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with _whole(path, archive):
        return tar.extractfile(member).read()


@contextmanager
def _whole(path: Path, archive: Archive) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise InputError(
            f"{path}: cut short or damaged ({error}); it has {path.stat().st_size:,} bytes, the published file "
            f"{archive.size:,}: download it again from {archive.address}"
        ) from None


def unpack_voc(stage, voc: Path) -> None:
    """Pictures, annotations, label maps and lists, byte by byte."""
    for match, identity, read in members(voc, _VOC_MEMBER, VOC):
        name = match[1]
        key = stage.key(identity)
        if stage.is_current(name, key):
            continue
        targets = [stage.out / name]
        if name.startswith("SegmentationClass/"):
            targets.append(stage.out / "SegmentationClassAug" / Path(name).name)
        data = read()
        for target in targets:
            write(target, data, stage.out)
        stage.record(name, key, targets)


def write(target: Path, data: bytes, out: Path) -> None:
    from util.runtime.errors import disk_error
    from util.runtime.files import write_bytes

    try:
        write_bytes(target, data)
    except OSError as error:
        raise disk_error(error, out) from None


def read_lists(out: Path) -> dict[str, list[str]]:
    """VOC's lists.

    Raises:
        InputError: if the archive did not hold them.
    """
    from util.data.ids import read_id_list

    folder = out / "ImageSets" / "Segmentation"
    missing = [name for name in ("train", "val") if not (folder / f"{name}.txt").exists()]
    if missing:
        raise InputError(f"{folder}: no {missing[0]}.txt; {VOC.file} does not hold it, download {VOC.address} again")
    return {name: read_id_list(folder / f"{name}.txt") for name in ("train", "val")}


def convert_sbd(stage, sbd: Path, lists: dict[str, list[str]]) -> list[str]:
    """SBD's class segmentations of pictures without a VOC label map -> OUT/SegmentationClassAug.

    Returns:
        ids of ``trainaug``, sorted: VOC's train and all of SBD, without VOC's val.
    """
    from util.data.labels import encode_label
    from util.data.sbd import decode_sbd
    from util.runtime.files import check_id

    own = {path.stem for path in (stage.out / "SegmentationClass").glob("[!.]*.png")}
    listed, converted = set(), set()
    for match, identity, read in members(sbd, _SBD_MEMBER, SBD):
        if match[2]:
            listed.update(read().decode("ascii", "replace").split())
            continue
        image_id = match[1]
        converted.add(image_id)
        if image_id in own:
            continue
        name = f"SegmentationClassAug/{image_id}.png"
        key = stage.key(identity, "sbd")
        if stage.is_current(name, key):
            continue
        try:
            data = encode_label(decode_sbd(read(), f"{sbd.name}: {check_id(image_id)}.mat"))
        except InputError as error:
            stage.fail(image_id, str(error))
            continue
        write(stage.out / name, data, stage.out)
        stage.record(name, key, [stage.out / name])
    if not listed:
        raise InputError(f"{sbd}: no train.txt and val.txt in it; download {SBD.address} again")
    for image_id in sorted(listed - converted):
        stage.fail(image_id, f"listed by {sbd.name}, which holds no cls/{image_id}.mat; download it again")
    return sorted((set(lists["train"]) | listed) - set(lists["val"]))


def write_list(out: Path, name: str, ids: list[str]) -> None:
    write(out / "ImageSets" / "Segmentation" / f"{name}.txt", ("\n".join(ids) + "\n").encode(), out)


def write_tags(out: Path, ids: list[str]) -> None:
    """OUT/Annotations -> OUT/cls_labels.npy.

    Raises:
        InputError: if an annotation is missing or damaged.
    """
    from util.data.image_labels import read_image_labels, write_image_labels
    from util.data.voc import load_classes

    classes = load_classes()
    tags = read_image_labels(out / "Annotations", classes)
    untagged = [image_id for image_id in ids if image_id not in tags]
    if untagged:
        raise InputError(
            f"{out / 'Annotations'}: no annotation for {len(untagged)} of {len(ids)} listed pictures, the first: "
            f"{untagged[0]}; {VOC.file} may be cut short, download {VOC.address} again"
        )
    write_image_labels(out / "cls_labels.npy", {image_id: tags[image_id] for image_id in ids}, classes)


def check(args, lists: dict[str, list[str]], ids: list[str]) -> int:
    """Counts against the published ones, and every label map against its picture and its tags."""
    import sys

    from util.data.image_labels import read_image_labels
    from util.data.voc import load_classes
    from util.evaluation.label_check import check_labels, report_text
    from util.runtime.files import write_json

    out, classes = args.out, load_classes()
    suffixes = {"JPEGImages": "[!.]*.jpg", "Annotations": "[!.]*.xml", "SegmentationClass": "[!.]*.png"}
    counts = {name: sum(1 for _ in (out / name).glob(suffix)) for name, suffix in suffixes.items()}
    counts |= {f"{name}.txt": len(part) for name, part in lists.items()}
    expected = {**COUNTS, **{f"{name}.txt": count for name, count in LIST_COUNTS.items()}}
    tags = read_image_labels(out / "cls_labels.npy", classes)
    report = check_labels(out / "SegmentationClassAug", ids, classes, out / "JPEGImages", tags, workers=args.workers)
    write_json(out / "check.json", {"counts": counts, "labels": report})
    print(report_text(report))
    wrong = {name: count for name, count in counts.items() if count != expected[name]}
    for name, count in counts.items():
        print(f"{name:<20}{count:>8,}" + (f"   the published data has {expected[name]:,}" if name in wrong else ""))
    if wrong and not args.partial:
        print(
            "the counts differ from the published data: an archive may be incomplete, download it again, "
            "or give --partial if that is what you want",
            file=sys.stderr,
        )
        return 1
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    run(main)
