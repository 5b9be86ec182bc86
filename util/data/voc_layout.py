"""From the archives of PASCAL VOC 2012 and SBD to the folder that the other scripts read, checked against what is published."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from util.data.archives import check_counts, fetch, find
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels, write_image_labels
from util.data.labels import encode_label
from util.data.layout import IMAGES, LABELS, LISTS, TAGS, write_lists
from util.data.sbd import decode_sbd
from util.data.voc import load_classes
from util.data.voc_archives import SBD, VOC, members
from util.evaluation.label_check import check_labels, report_text
from util.runtime.cli import print_next
from util.runtime.errors import InputError
from util.runtime.files import check_id, write_bytes, write_json
from util.runtime.ledger import Stage

# What the published archives give.
COUNTS = {"JPEGImages": 17_125, "Annotations": 17_125, "SegmentationClass": 2_913}
LIST_COUNTS = {"train": 1_464, "val": 1_449, "trainval": 2_913, "trainaug": 10_582}
_SUFFIXES = {"JPEGImages": "[!.]*.jpg", "Annotations": "[!.]*.xml", "SegmentationClass": "[!.]*.png"}


def run(args: Namespace) -> int:
    """Prepare ``args.out`` as prepare_voc.py's options say; the exit code."""
    archives = (VOC,) if args.no_sbd else (VOC, SBD)
    folder = args.archives or args.out / "archives"
    if args.download:
        fetch(archives, folder, args.mirror)
    voc, *sbd = find(archives, folder)
    made_from = {"voc": str(voc), "sbd": str(sbd[0]) if sbd else None}
    with Stage(args.out, {}, code=[__file__], made_from=made_from, overwrite=args.overwrite) as stage:
        unpack_voc(stage, voc)
        lists = read_lists(args.out)
        if sbd:
            lists["trainaug"] = convert_sbd(stage, sbd[0], lists)
            write_lists(args.out, {"trainaug": lists["trainaug"]})
        ids = sorted({image_id for part in lists.values() for image_id in part})
        write_tags(args.out, ids)
        code = max(stage.finish(), check(args.out, lists, ids, args.workers, args.partial))
    print(f"{args.out}: {'ready' if code == 0 else 'something is wrong, see above'}")
    print_next("quickstart.py", "--voc", args.out)
    return code


def unpack_voc(stage: Stage, voc: Path) -> None:
    """Images, annotations, label maps and lists, byte by byte."""
    for member in members(voc, VOC):
        name = member.match[1]
        key = stage.key(member.identity)
        if stage.is_current(name, key):
            continue
        targets = [stage.out / name]
        if name.startswith("SegmentationClass/"):
            targets.append(stage.out / LABELS / Path(name).name)
        data = member.read()
        for target in targets:
            write_bytes(target, data)
        stage.record(name, key, targets)


def read_lists(out: Path) -> dict[str, list[str]]:
    """VOC's lists.

    Raises:
        InputError: if the archive did not hold them.
    """
    folder = out / LISTS
    missing = [name for name in ("train", "val") if not (folder / f"{name}.txt").exists()]
    if missing:
        raise InputError(f"{folder}: no {missing[0]}.txt; {VOC.file} does not hold it, download {VOC.address} again")
    return {name: read_id_list(folder / f"{name}.txt") for name in ("train", "val")}


def convert_sbd(stage: Stage, sbd: Path, lists: dict[str, list[str]]) -> list[str]:
    """SBD's class segmentations of images without a VOC label map -> OUT/SegmentationClassAug.

    Returns:
        ids of ``trainaug``, sorted: VOC's train and all of SBD, without VOC's val.

    Raises:
        InputError: if the archive does not hold SBD's lists.
    """
    own = {path.stem for path in (stage.out / "SegmentationClass").glob("[!.]*.png")}
    listed: set[str] = set()
    converted: set[str] = set()
    for member in members(sbd, SBD):
        if member.match[2]:
            listed.update(member.read().decode("ascii", "replace").split())
            continue
        image_id = member.match[1]
        converted.add(image_id)
        if image_id in own:
            continue
        name = f"{LABELS}/{image_id}.png"
        key = stage.key(member.identity, "sbd")
        if stage.is_current(name, key):
            continue
        try:
            data = encode_label(decode_sbd(member.read(), f"{sbd.name}: {check_id(image_id)}.mat"))
        except InputError as error:
            stage.fail(image_id, str(error), name)
            continue
        write_bytes(stage.out / name, data)
        stage.record(name, key, [stage.out / name])
    if not listed:
        raise InputError(f"{sbd}: no train.txt and val.txt in it; download {SBD.address} again")
    for image_id in sorted(listed - converted):
        stage.fail(image_id, f"listed by {sbd.name}, which holds no cls/{image_id}.mat; download it again")
    return sorted((set(lists["train"]) | listed) - set(lists["val"]))


def write_tags(out: Path, ids: list[str]) -> None:
    """OUT/Annotations -> OUT/cls_labels.npy.

    Raises:
        InputError: if an annotation is missing or damaged.
    """
    classes = load_classes()
    tags = read_image_labels(out / "Annotations", classes)
    untagged = [image_id for image_id in ids if image_id not in tags]
    if untagged:
        raise InputError(
            f"{out / 'Annotations'}: no annotation for {len(untagged)} of {len(ids)} listed images, the first: "
            f"{untagged[0]}; {VOC.file} may be cut short, download {VOC.address} again"
        )
    write_image_labels(out / TAGS, {image_id: tags[image_id] for image_id in ids}, classes)


def check(out: Path, lists: dict[str, list[str]], ids: list[str], workers: int, is_partial: bool) -> int:
    """Counts against the published ones, and every label map against its image and its tags; the exit code."""
    classes = load_classes()
    counts = {name: sum(1 for _ in (out / name).glob(suffix)) for name, suffix in _SUFFIXES.items()}
    counts |= {f"{name}.txt": len(part) for name, part in lists.items()}
    expected = {**COUNTS, **{f"{name}.txt": count for name, count in LIST_COUNTS.items()}}
    tags = read_image_labels(out / TAGS, classes)
    report = check_labels(out / LABELS, ids, classes, out / IMAGES, tags, workers=workers)
    write_json(out / "check.json", {"counts": counts, "labels": report})
    print(report_text(report))
    return max(check_counts(counts, expected, is_partial), 1 if report["errors"] else 0)
