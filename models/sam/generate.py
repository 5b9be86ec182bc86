"""The stage behind generate_sam_masks.py: images in, one mask file per image out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from models.common.memory import memory_named
from models.common.precision import choose_precision, use_tf32
from models.sam import checkpoints, families, generator, options, prompt_files, prompted, prompts, sources, text
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.image_labels import Tags, read_image_labels
from util.data.images import find_image, list_image_ids, read_image
from util.data.mask_files import read_masks, repack, write_masks
from util.data.masks import LEAST_SCORE
from util.data.voc import ClassTable
from util.figures.panels import Panel, draw_panels
from util.runtime import distributed
from util.runtime.distributed import Dist
from util.runtime.errors import InputError, counted
from util.runtime.files import check_folder, file_digest, read_bytes, read_json
from util.runtime.ledger import Stage
from util.runtime.options import from_args
from util.runtime.overlap import Behind, read_ahead
from util.runtime.progress import Progress
from util.vis import draw_masks, mask_notes

PREVIEW = "preview"


@dataclass(frozen=True)
class Setup:
    """What makes the masks, and what they depend on.

    Attributes:
        source: makes them.
        batch: images at once.
        options: for the key of the results.
        code: whose source the results depend on.
    """

    source: sources.MaskSource
    batch: int
    options: dict[str, Any]
    code: Sequence[Any]


def run(args: argparse.Namespace) -> int:
    """Make the masks that are missing or out of date; the exit code is 1 if an image failed."""
    with distributed.init(args.device) as dist:
        check_folder(args.images, "images")
        ids = read_id_list(args.list, args.images) if args.list else list_image_ids(args.images)
        setup = set_up(args, dist, ids)
        made_from = {"images": str(args.images), "list": str(args.list), "checkpoint": str(args.checkpoint)}
        with Stage(
            args.out, setup.options, code=setup.code, made_from=made_from, overwrite=args.overwrite, rank=dist.rank
        ) as stage:
            # Also a barrier: every process has read what is done before one of them goes on.
            work = dist.share(find_work(args, stage, setup.source, dist.shard(ids)))
            write_all(args, dist, stage, setup, work)
            code = stage.finish_together(dist)
            if dist.is_main:
                done = sum(image_id in stage.done for image_id in ids)
                drawn = preview(args, ids)
                shown = f"; {drawn} of them drawn in {args.out / PREVIEW}" if drawn else ""
                print(f"{args.out}: masks of {done} of {len(ids)} images{shown}")
        return code


# --- what makes the masks -----------------------------------------------------------------------------------------


def set_up(args: argparse.Namespace, dist: Dist, ids: Sequence[str]) -> Setup:
    """The source that the command line asks for, with its network on the device."""
    if args.model == "regions":
        return Setup(sources.Regions(), 1, {"model": "regions"}, [sources.region_masks])
    if args.threads:
        torch.set_num_threads(args.threads)
    asked = "fp32" if args.exact and args.precision == "auto" else args.precision
    use_tf32(asked, dist)
    precision = choose_precision("--precision", asked, dist)
    batch = args.encode_batch or (4 if dist.device.type == "cuda" else 1)
    settings = from_args(options.Options, args)
    name = "fp32" if precision == "off" else precision  # masks of an earlier --precision fp32 stay current
    depends: dict[str, Any] = {"precision": name, "exact": args.exact, **asdict(settings)}
    kinds = [kind for kind, _ in args.prompt]
    network = None
    if kinds != ["tags"]:
        network, identity = load_network(args, dist)
        depends = {"model": args.model, "checkpoint": identity, **depends}
    if kinds == ["grid"]:
        grid = generator.MaskGenerator(network, settings, precision, args.exact, batch)
        return Setup(sources.Grid(grid), batch, depends, [generator, checkpoints])
    # Found beside the data: with VOC's in their place, every mask would have the name of another class.
    classes = classes_of((args.image_labels, args.images, args.cam_path), args.class_names, ids=ids)
    tags = None if args.image_labels is None else read_image_labels(args.image_labels, classes, ids)
    found: list[sources.MaskSource] = []
    for kind, file in args.prompt:
        source, more = prompt_source(args, dist, kind, file, network, settings, precision, (classes, tags))
        found.append(source)
        depends[f"prompt {kind}"] = more
    source = found[0] if len(found) == 1 else sources.Several(found)
    return Setup(source, batch, depends, [generator, checkpoints, prompted, prompts, prompt_files, text])


def load_network(args: argparse.Namespace, dist: Dist) -> tuple[Any, str]:
    """The network for point and box prompts, on its device, and what distinguishes it."""
    if args.checkpoint is None and args.model not in checkpoints.VARIANTS:
        with dist.main_first():
            return families.load_network(args.model, dist.device), families.identity(args.model)
    if args.checkpoint is None:
        mirror = args.mirror or checkpoints.OFFICIAL_URL
        with dist.main_first():  # one download per machine, the others find it in the cache
            args.checkpoint = Path(checkpoints.official_checkpoint(args.model, mirror))
    args.model, network = checkpoints.load_sam(args.checkpoint, args.model)
    if args.exact and isinstance(network, families.TransformersNetwork):
        raise InputError(
            f"--exact: {args.checkpoint} holds a {args.model}, which has only one way to run; leave it out"
        )
    return network.to(dist.device), file_digest(args.checkpoint)


def prompt_source(
    args: argparse.Namespace,
    dist: Dist,
    kind: str,
    file: Path | None,
    network: Any,
    settings: Any,
    precision: str,
    known: tuple[ClassTable, Mapping[str, Tags] | None],
) -> tuple[sources.MaskSource, Any]:
    """A source of one kind of prompts, and what its masks depend on beside each image."""
    classes, tags = known
    if kind == "tags":
        assert tags is not None
        synonyms = read_synonyms(args.synonyms, classes.names)
        with dist.main_first():
            net, processor = text.load_text_network(args.model, dist.device)
            identity = families.identity(args.model)
        if args.score_thresh < LEAST_SCORE and dist.is_main:
            print(
                f"note: to count masks with scores up to {LEAST_SCORE}, merge with --param score={args.score_thresh:g}"
            )
        ask = text.TextGenerator(net, processor, synonyms, args.score_thresh, precision)
        return sources.Words(ask, classes, tags), [identity, synonyms, args.score_thresh]
    if kind == "grid":
        return sources.Grid(generator.MaskGenerator(network, settings, precision, args.exact)), None
    answerer = prompted.PromptedGenerator(network, settings, precision, args.exact)
    if kind == "cam":
        check_folder(args.cam_path, "soft CAMs")
        cam_options = from_args(options.CamPromptOptions, args)
        return sources.Cams(answerer, args.cam_path, classes, tags, cam_options), [classes.names, asdict(cam_options)]
    assert file is not None
    return sources.Listed(answerer, prompt_files.read_prompts(file, kind, classes)), None


def read_synonyms(path: Path | None, names: Sequence[str]) -> dict[str, list[str]]:
    """Phrases to ask with for each class, ``{"person": ["person", "man"]}``; {} without a file.

    Raises:
        InputError: if the file is not of this form or names an unknown class.
    """
    if path is None:
        return {}
    content = read_json(path)
    example = 'write {"person": ["person", "man"]}'
    if not isinstance(content, dict):
        raise InputError(f"{path}: should hold a list of phrases for each class; {example}")
    for name, phrases in content.items():
        if name not in names[1:]:
            raise InputError(f"{path}: class {name!r} is unknown; the classes are {', '.join(names[1:])}")
        if not isinstance(phrases, list) or not phrases or not all(isinstance(p, str) and p.strip() for p in phrases):
            raise InputError(f"{path}: {name}: found {str(phrases)[:80]}; {example}")
    return content


# --- walking the images -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """An image whose masks are to be made: its file and the key of the result."""

    path: Path
    key: str


def find_work(
    args: argparse.Namespace, stage: Stage, source: sources.MaskSource, ids: Sequence[str]
) -> dict[str, Work]:
    """The images whose masks are missing or out of date; current ones are put in the form that is asked for."""
    wanted = {}
    for image_id in ids:
        try:
            path = find_image(args.images, image_id)
            key = stage.key(read_bytes(path), path.name, *source.key_parts(image_id))
        except InputError as error:
            stage.fail(image_id, str(error))
            continue
        if not stage.is_current(image_id, key):
            wanted[image_id] = Work(path, key)
            continue
        target, other = mask_files(args, image_id)
        if target.name not in stage.done[image_id]["files"]:
            repack(other, target)
            stage.record(image_id, key, [target])
        other.unlink(missing_ok=True)
    return wanted


def mask_files(args: argparse.Namespace, image_id: str) -> tuple[Path, Path]:
    """The mask file that is asked for, and the other form of it, which is not to be left there."""
    plain, packed = args.out / f"{image_id}.json", args.out / f"{image_id}.json.gz"
    return (packed, plain) if args.gzip else (plain, packed)


def write_all(args: argparse.Namespace, dist: Dist, stage: Stage, setup: Setup, work: dict[str, Work]) -> None:
    """Images -> mask files; the next ones are decoded and resized, and the last ones coded and written, meanwhile."""
    bar = Progress(total=len(work), desc="masks", unit="image", disable=not dist.is_main)

    def prepare(image_id: str) -> Any:
        return setup.source.prepare(image_id, read_image(work[image_id].path))

    reading = read_ahead(prepare, work, 2 * setup.batch)
    remedy = "give a smaller --points-per-batch or --encode-batch, or higher thresholds, so that fewer masks are kept"
    with bar, memory_named("making masks", remedy), Behind(2 * setup.batch) as behind:
        while part := dict(islice(reading, setup.batch)):
            write_batch(args, stage, setup, work, part, behind)
            bar.update(len(part))


def write_batch(
    args: argparse.Namespace,
    stage: Stage,
    setup: Setup,
    work: dict[str, Work],
    reading: dict[str, Future],
    behind: Behind,
) -> None:
    """The mask files of some images that are being read; what cannot be read or asked is reported."""
    asked: dict[str, Any] = {}
    for image_id, future in reading.items():
        try:
            asked[image_id] = future.result()
        except InputError as error:
            stage.fail(image_id, str(error))
    if not asked:
        return
    for image_id, finish in zip(asked, setup.source.masks(list(asked.values())), strict=True):
        behind(write_one, args, stage, image_id, work[image_id], finish)


def write_one(args: argparse.Namespace, stage: Stage, image_id: str, work: Work, finish: sources.Finish) -> None:
    """The mask file of an image, in the form that is asked for, and its line in the ledger."""
    target, other = mask_files(args, image_id)
    write_masks(target, finish(), image_id, work.path.name)
    other.unlink(missing_ok=True)
    stage.record(image_id, work.key, [target])


def preview(args: argparse.Namespace, ids: Sequence[str]) -> int:
    """OUT/preview/<id>.png: the image, and its masks drawn over it. How many were drawn."""
    shown = 0
    for image_id in ids:
        if shown == args.preview:
            break
        try:
            image = read_image(find_image(args.images, image_id))
            masks = read_masks(args.out, image_id, size=image.shape[:2])
        except InputError:
            continue  # reported when its masks were made
        panels = [
            Panel(image_id, image),
            Panel(counted(len(masks), "mask"), draw_masks(image, masks), mask_notes(masks)),
        ]
        draw_panels(args.out / PREVIEW / image_id, [panels], formats=("png",))
        shown += 1
    return shown
