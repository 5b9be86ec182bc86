"""The stage behind generate_cams.py: from a classifier, or others' soft CAMs, to refined CAMs, and label maps or a threshold."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from models.cam import inference, labels, plain_cam, transcam
from models.cam.classifier import load_classifier
from models.common import refine
from models.common.memory import memory_named
from models.common.precision import DTYPES, choose_precision
from models.common.transfer import to_device, to_host
from util.data.cams import cam_file, fit_cam, read_cam, write_cam
from util.data.classes import find_classes
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.images import find_image, image_size, read_image
from util.data.labels import label_path, read_label, write_label
from util.data.voc import ClassTable, load_classes
from util.evaluation.label_check import check_cams_fit, check_foreground
from util.runtime import distributed
from util.runtime.cli import class_indices, print_next
from util.runtime.distributed import Dist
from util.runtime.errors import InputError
from util.runtime.files import check_folder, file_digest, read_bytes, write_json
from util.runtime.ledger import Stage
from util.runtime.locking import lock_if
from util.runtime.overlap import Behind, read_ahead
from util.runtime.parallel import batches_of, start_worker
from util.runtime.progress import Progress
from util.runtime.provenance import Code

# Input sizes in pixels, and what they are the side or the long side of, by the classifier's method.
SIZES = {"transcam": (256, 512, 768), "cam": (512, 640)}
SHAPES = {"transcam": "square", "cam": "long"}
Tags = dict[str, tuple[int, ...]]
Classifier = plain_cam.PlainCAM | transcam.TransCAM


def run(args: argparse.Namespace) -> int:
    """Make what is missing or out of date below ``args.out``; the exit code is 1 if an image failed."""
    with distributed.init(args.device) as dist, lock_if(dist.is_main, args.out):
        # What the data says must be what the checkpoint was trained on; where it says nothing, the checkpoint's names count.
        asked = find_classes((args.image_labels, args.gt, args.images), args.class_names, args.num_classes)
        net, classes = load_classifier(args.checkpoint, asked) if args.checkpoint else (None, asked or load_classes())
        check_folder(args.images, "images")
        ids = read_id_list(args.list, args.images)
        tags = read_image_labels(args.image_labels, classes, ids)
        code = make_cams(args, dist, net, ids, tags) if net else take_cams(args, dist, ids, tags, classes)
        folder = args.out / "cams"
        if args.refine == "par":
            dist.barrier()
            code |= refine_cams(args, dist, ids, folder, args.out / "cams_par")
            folder = args.out / "cams_par"
        dist.barrier()
        if args.sweep:
            return code | (sweep(args, ids, folder, classes) if dist.is_main else 0)
        code |= make_labels(args, dist, ids, folder, classes)
        if dist.is_main:
            check_foreground(args.out / "labels", ids)
            print(f"{args.out}: CAM labels are in labels, soft CAMs in cams")
            masks = ("--out", args.out.parent / "sam_masks")
            print_next(
                "generate_sam_masks.py", "--model", "vit_b", "--images", args.images, "--list", args.list, *masks
            )
        return code


def make_cams(args: argparse.Namespace, dist: Dist, net: Classifier, ids: list[str], tags: Tags) -> int:
    """Images -> OUT/cams; the exit code."""
    method = net.config["method"]
    sizes, shape = tuple(args.sizes or SIZES[method]), args.shape or SHAPES[method]
    amp = DTYPES[choose_precision("--amp", args.amp, dist)]
    options = {
        **{"checkpoint": file_digest(args.checkpoint), "sizes": list(sizes), "shape": shape, "flip": args.flip},
        **{"raw": args.raw, "amp": str(amp)},
    }
    code = [plain_cam if method == "cam" else transcam, inference]
    with stage_of(args, dist, args.out / "cams", options, code, {"checkpoint": str(args.checkpoint)}) as stage:
        batches = dist.share(find_work(args, stage, dist.shard(ids), tags))
        keys = {image_id: key for batch in batches.values() for image_id, key in batch.items()}
        todo = list(keys)
        place = {image_id: number for number, image_id in enumerate(todo)}
        loader: DataLoader = DataLoader(
            inference.ScaledImages(todo, args.images, sizes, shape == "square"),
            batch_sampler=[[place[image_id] for image_id in batch] for batch in batches.values()],
            num_workers=args.workers,
            pin_memory=dist.device.type == "cuda",
            collate_fn=list,
            worker_init_fn=start_worker,
        )

        def write(image_id: str, cam: dict) -> None:
            stage.record(image_id, keys[image_id], [write_cam(stage.out, image_id, cam)])

        net = net.to(dist.device).to(memory_format=torch.channels_last)
        what = f"CAMs of {args.batch_size} images at once"
        with (
            Progress(total=len(todo), desc="CAMs", unit="image", disable=not dist.is_main) as bar,
            memory_named(what, "lower --batch-size or --sizes"),
            Behind(2 * args.batch_size) as behind,
        ):
            for batch in batches_of(loader):
                good = [item for item in batch if item[2]]
                for image_id, *_, message in (item for item in batch if not item[2]):
                    stage.fail(image_id, message)
                for image_id, cam in cams_of(args, dist, net, good, tags, amp):
                    behind(write, image_id, cam)
                bar.update(len(batch))
        return stage.finish_together(dist)


def take_cams(args: argparse.Namespace, dist: Dist, ids: list[str], tags: Tags, classes: ClassTable) -> int:
    """Soft CAMs of another repository -> OUT/cams, as large as the images and of their classes alone; the exit code."""
    out = args.out / "cams"
    if check_folder(args.cams, "soft CAMs").resolve() == out.resolve():
        raise InputError(f"--cams {args.cams}: these are results of --out {args.out}; give another --out")
    check_cams_fit(args.cams, ids, lambda image_id: set(tags.get(image_id, ())), classes)

    def size_of(image_id: str) -> tuple[int, int]:
        return image_size(find_image(args.images, image_id))

    def key_parts(image_id: str) -> list[bytes]:
        shown = repr((size_of(image_id), tags_of(args, tags, image_id)))
        return [read_bytes(cam_file(args.cams, image_id)), shown.encode()]

    def read(image_id: str) -> tuple[dict[int, np.ndarray]]:
        shown = tags_of(args, tags, image_id)
        cam = {value: part for value, part in read_cam(args.cams, image_id).items() if value in shown}
        return (fit_cam(cam, size_of(image_id)),)

    with stage_of(args, dist, out, {}, [fit_cam], {"cams": str(args.cams)}) as stage:
        return each_image(dist, stage, ids, "CAMs", key_parts, read, lambda cam: cam, partial(write_cam, out))


def tags_of(args: argparse.Namespace, tags: Tags, image_id: str) -> tuple[int, ...]:
    """The classes of an image.

    Raises:
        InputError: if it has no image-level label.
    """
    if image_id not in tags:
        raise InputError(f"no image-level label in {args.image_labels}; add it or drop the id")
    return tags[image_id]


def find_work(args: argparse.Namespace, stage: Stage, ids: Sequence[str], tags: Tags) -> dict[str, dict[str, str]]:
    """Batches with soft CAMs that are missing or out of date: by their first id, id -> key of the images that can be read.

    Rounding depends on how many images share a batch: batches are fixed by the list and made again as a whole, so that
    a resumed run ends with the same bits as one that was never stopped.
    """
    keys: dict[str, str] = {}
    wanted: set[int] = set()
    for number, image_id in enumerate(ids):
        try:
            shown = tags_of(args, tags, image_id)
            key = stage.key(read_bytes(find_image(args.images, image_id)), repr(shown))
        except InputError as error:
            stage.fail(image_id, str(error))
            continue
        keys[image_id] = key
        if not stage.is_current(image_id, key):
            wanted.add(number // args.batch_size)
    size = args.batch_size
    batches = ([i for i in ids[size * n : size * (n + 1)] if i in keys] for n in sorted(wanted))
    return {batch[0]: {image_id: keys[image_id] for image_id in batch} for batch in batches}


def cams_of(
    args: argparse.Namespace, dist: Dist, net: nn.Module, items: list[tuple], tags: Tags, amp: torch.dtype | None
) -> Iterable[tuple[str, dict]]:
    """Id and soft CAMs of each item of `inference.ScaledImages`."""
    if not items:
        return ()
    ids, shapes, inputs, _ = zip(*items, strict=True)
    asked = [tags[image_id] for image_id in ids]
    cams = inference.multi_scale_cams(net, list(inputs), list(shapes), asked, args.flip, dist.device, amp, args.raw)
    return zip(ids, cams, strict=True)


def stage_of(
    args: argparse.Namespace, dist: Dist, out: Path, options: dict[str, Any], code: Iterable[Code], made_from: dict
) -> Stage:
    """A stage into ``out``, with what all of them are made from."""
    made_from = {**made_from, "images": str(args.images), "list": str(args.list)}
    return Stage(out, options, code=code, made_from=made_from, overwrite=args.overwrite, rank=dist.rank)


def refine_cams(args: argparse.Namespace, dist: Dist, ids: list[str], source: Path, out: Path) -> int:
    """OUT/cams and images -> OUT/cams_par; the exit code."""

    def key_parts(image_id: str) -> list[bytes]:
        return [read_bytes(cam_file(source, image_id)), read_bytes(find_image(args.images, image_id))]

    def read(image_id: str) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
        cam = read_cam(source, image_id)
        return cam, read_image(find_image(args.images, image_id)) if cam else None

    def make(cam: dict[int, np.ndarray], image: np.ndarray | None) -> dict[int, np.ndarray]:
        if image is None:
            return cam
        maps = to_device(np.stack(list(cam.values())), dist.device)
        refined = inference.stretch(refine.refine_maps(to_device(image, dist.device), maps))
        return dict(zip(cam, to_host(refined)[0], strict=True))

    with (
        stage_of(args, dist, out, {}, [refine, inference], {"cams": str(source)}) as stage,
        memory_named("refining the CAMs of an image", "give --device cpu, or leave --refine out"),
    ):
        return each_image(dist, stage, ids, "refinement", key_parts, read, make, partial(write_cam, out))


def make_labels(args: argparse.Namespace, dist: Dist, ids: list[str], source: Path, classes: ClassTable) -> int:
    """Soft CAMs -> OUT/labels; the exit code."""
    out = args.out / "labels"

    def key_parts(image_id: str) -> list[bytes]:
        return [read_bytes(cam_file(source, image_id))]

    def read(image_id: str) -> tuple[np.ndarray]:
        shape = image_size(find_image(args.images, image_id))
        return (labels.label_from_cams(read_cam(source, image_id), args.bg_threshold, shape),)

    def write(image_id: str, label: np.ndarray) -> Path:
        write_label(out / f"{image_id}.png", label, classes.palette)
        return out / f"{image_id}.png"

    options = {"bg_threshold": args.bg_threshold, "classes": classes.names, "source": source.name}
    with stage_of(args, dist, out, options, [labels], {"cams": str(source)}) as stage:
        return each_image(dist, stage, ids, "labels", key_parts, read, lambda label: label, write)


def each_image(
    dist: Dist,
    stage: Stage,
    ids: list[str],
    description: str,
    key_parts: Callable[[str], list[bytes]],
    read: Callable[[str], tuple],
    make: Callable[..., Any],
    write: Callable[[str, Any], Path],
) -> int:
    """Make the file of every image that is new or out of date; the exit code.

    Args:
        key_parts: of an id: what its file depends on.
        read: of an id: what `make` is called with, in threads ahead of it.
        make: what is to be written, in this thread.
        write: of an id and what was made: the file written, in a thread behind.
    """

    def new_key(image_id: str) -> str | None:
        key = stage.key(*key_parts(image_id))
        return None if stage.is_current(image_id, key) else key

    found = {image_id: key for image_id, key in each_result(stage, new_key, dist.shard(ids)) if key is not None}
    keys = dist.share(found)

    def finish(image_id: str, made: Any) -> None:
        stage.record(image_id, keys[image_id], [write(image_id, made)])

    bar = Progress(total=len(keys), desc=description, unit="image", disable=not dist.is_main)
    with bar, Behind(2) as behind:
        for image_id, parts in each_result(stage, read, keys):
            behind(finish, image_id, make(*parts))
            bar.update()
    return stage.finish_together(dist)


def each_result(stage: Stage, read: Callable[[str], Any], ids: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Each id with what ``read(id)`` gives, read ahead; images that it fails for are reported and left out."""
    for image_id, future in read_ahead(read, ids):
        try:
            found = future.result()
        except InputError as error:
            stage.fail(image_id, str(error))
        else:
            yield image_id, found


def sweep(args: argparse.Namespace, ids: list[str], source: Path, classes: ClassTable) -> int:
    """Print the mIoU of every threshold against ``args.gt``, and write OUT/sweep.json; the exit code."""
    curve = labels.ThresholdSweep(len(classes))
    failed = 0
    for image_id in Progress(ids, desc="sweep", unit="image"):
        try:
            curve.update(read_cam(source, image_id), read_label(label_path(args.gt, image_id), len(classes)))
        except InputError as error:
            failed += 1
            tqdm.write(f"{image_id}: {error}", file=sys.stderr)
    if not curve.images:
        raise InputError(
            f"none of the {len(ids)} images of {args.list} could be used for the sweep; the messages above say why"
        )
    only = class_indices(args.classes, classes)
    thresholds: list[float] = np.asarray(curve.thresholds).tolist()
    rows = list(zip(thresholds, curve.scores(classes, only), curve.scores(classes), strict=True))
    print("threshold   mIoU" + ("   mIoU of all present" if only else ""))
    for threshold, scores, every in rows:
        print(f"{threshold:9.2f} {100 * scores['miou']:6.2f}" + (f" {100 * every['miou']:21.2f}" if only else ""))
    best, miou = curve.best(classes, only)
    names = rows[0][1]["classes"]
    over = f"over {', '.join(names)} on {curve.images} images of {args.list}"
    print(f"best: --bg-threshold {best}, mIoU {100 * miou:.2f} {over}")
    found = {"best": best, "miou": miou, "source": source.name, "list": str(args.list), "images": curve.images}
    points = [
        {"threshold": round(threshold, 4), "miou": scores["miou"], "miou_all_present": every["miou"]}
        for threshold, scores, every in rows
    ]
    write_json(args.out / "sweep.json", {**found, "classes": names, "curve": points})
    return 1 if failed else 0
