"""From the archives of COCO 2014 to the folder that the other scripts read, checked against what is published."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from util.data.archives import check_counts, fetch, find
from util.data.coco import CocoImage, CocoInstances, label_of, parse_instances, tags_of
from util.data.coco_archives import ANNOTATIONS, ARCHIVES, MAX_IMAGE, SPLITS, TRAIN, VAL, Members, read_instances
from util.data.image_labels import Tags, write_image_labels
from util.data.labels import encode_label
from util.data.layout import CLASS_FILE, IMAGES, LABELS, TAGS, write_lines, write_lists
from util.data.voc import ClassTable
from util.evaluation.label_check import check_labels, report_text
from util.runtime.cli import print_next
from util.runtime.errors import InputError
from util.runtime.files import check_id, write_bytes, write_json
from util.runtime.ledger import Stage, describe_files
from util.runtime.parallel import run_parallel
from util.runtime.progress import Progress

# What the published archives give.
COUNTS = {"train": 82_783, "val": 40_504, "classes": 81}


def run(args: Namespace) -> int:
    """Prepare ``args.out`` as prepare_coco.py's options say; the exit code."""
    folder = args.archives or args.out / "archives"
    if args.download:
        fetch(ARCHIVES, folder, args.mirror)
    places = dict(zip(ARCHIVES, find(ARCHIVES, folder), strict=True))
    made_from = {archive.file: str(place) for archive, place in places.items()}
    lists: dict[str, list[str]] = {}
    tags: dict[str, Tags] = {}
    with Stage(args.out, {}, code=[__file__], made_from=made_from, overwrite=args.overwrite) as stage:
        for split, archive in zip(SPLITS, (TRAIN, VAL), strict=True):
            instances = _instances(places[ANNOTATIONS], split)
            with Members(archive, places[archive]) as members:
                unpack_images(stage, members, instances)
            write_labels(stage, instances, split, args.workers)
            lists[split] = [image.image_id for image in instances.images]
            tags |= {image.image_id: tags_of(image, instances.values) for image in instances.images}
            classes = instances.classes
        # What a classifier trains on: training images that show a class.
        lists["trainaug"] = [image_id for image_id in lists["train"] if tags[image_id]]
        write_texts(args.out, lists, tags, classes)
        code = max(stage.finish(), check(args, lists, tags, classes))
    print(f"{args.out}: {'ready' if code == 0 else 'something is wrong, see above'}")
    print_next("quickstart.py", "--voc", args.out)
    return code


def _instances(place: Path, split: str) -> CocoInstances:
    with Members(ANNOTATIONS, place) as members:
        instances = parse_instances(read_instances(members, split), f"{place}: instances_{split}2014.json")
    for image in instances.images:
        check_id(image.image_id)
    return instances


def unpack_images(stage: Stage, members: Members, instances: CocoInstances) -> None:
    """The images, byte by byte."""
    for image in Progress(instances.images, desc=members.place.name, unit="image"):
        name = f"{image.image_id}.jpg"
        target = stage.out / IMAGES / name
        try:
            key = stage.key(members.identity(name))
            if stage.is_current(f"{IMAGES}/{name}", key):
                continue
            data = members.read(name, MAX_IMAGE)
        except InputError as error:
            stage.fail(image.image_id, str(error), f"{IMAGES}/{name}")
            continue
        write_bytes(target, data)
        stage.record(f"{IMAGES}/{name}", key, [target])


@dataclass(frozen=True)
class _Writer:
    """Makes and writes one label map, in a worker process."""

    out: Path
    values: dict[int, int]

    def __call__(self, item: tuple[CocoImage, str]) -> tuple[str, dict | str]:
        """(image, key) -> the image's id, and the entry for the ledger or what is wrong."""
        image, key = item
        target = self.out / LABELS / f"{image.image_id}.png"
        try:
            data = encode_label(label_of(image, self.values))
        except InputError as error:
            return image.image_id, str(error)
        write_bytes(target, data)
        name = f"{LABELS}/{image.image_id}.png"
        return image.image_id, {"id": name, "key": key, "files": describe_files([target], self.out)}


def write_labels(stage: Stage, instances: CocoInstances, split: str, workers: int) -> None:
    """The label maps, of what is not up to date."""
    waiting = []
    for image in instances.images:
        key = stage.key(json.dumps([image.height, image.width, image.annotations, sorted(instances.values.items())]))
        if not stage.is_current(f"{LABELS}/{image.image_id}.png", key):
            waiting.append((image, key))
    writer = _Writer(stage.out, instances.values)
    for image_id, outcome in run_parallel(writer, waiting, workers=workers, description=f"{split} labels"):
        if isinstance(outcome, str):
            stage.fail(image_id, outcome, f"{LABELS}/{image_id}.png")
        else:
            stage.note(outcome)


def write_texts(out: Path, lists: dict[str, list[str]], tags: dict[str, Tags], classes: ClassTable) -> None:
    """Lists, class names and image-level labels."""
    write_lists(out, lists)
    write_lines(out / CLASS_FILE, classes.names)
    write_image_labels(out / TAGS, tags, classes)


def check(args: Namespace, lists: dict[str, list[str]], tags: dict[str, Tags], classes: ClassTable) -> int:
    """Counts against the published ones, and every label map against its image and its tags; the exit code."""
    ids = [*lists["train"], *lists["val"]]
    counts = {"train": len(lists["train"]), "val": len(lists["val"]), "classes": len(classes)}
    report = check_labels(args.out / LABELS, ids, classes, args.out / IMAGES, tags, workers=args.workers)
    write_json(args.out / "check.json", {"counts": {**counts, "trainaug": len(lists["trainaug"])}, "labels": report})
    print(report_text(report))
    code = check_counts(counts, COUNTS, args.partial)
    print(f"{'trainaug':<20}{len(lists['trainaug']):>8,}   training images that show a class")
    return max(code, 1 if report["errors"] else 0)
