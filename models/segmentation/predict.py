"""Images through a trained network: label maps and what else is wanted of them, resumable and shared out."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from models.common.memory import memory_named
from models.common.precision import DTYPES, choose_precision
from models.common.refine import pixel_adaptive_refinement
from models.common.transfer import to_device, to_host
from models.segmentation.inference import Segmentation, Segmenter
from models.segmentation.networks import check_asked, network_digest, open_network
from models.segmentation.options import Prediction
from models.segmentation.outputs import (
    class_shares,
    classes_text,
    write_coco,
    write_legend,
    write_outputs,
    write_summary,
)
from util.data.image_labels import Tags, read_image_labels
from util.data.image_sources import find_sources
from util.data.images import decode_image, find_image
from util.data.voc import VOID, ClassTable, load_classes
from util.runtime.distributed import Dist, init
from util.runtime.errors import InputError
from util.runtime.files import check_folder, read_bytes
from util.runtime.ledger import LEDGER, Stage, describe_files
from util.runtime.options import from_args
from util.runtime.overlap import Behind, read_ahead
from util.runtime.progress import Progress

# A class below this at every pixel is left out of the refinement.
_SMALLEST_PROBABILITY = 0.01


def predict_folder(
    checkpoint: str | os.PathLike,
    ids: Sequence[str],
    images: Path,
    out: Path,
    dist: Dist,
    how: Prediction,
    *,
    overwrite: bool = False,
    classes: ClassTable | None = None,
    check: Callable[[ClassTable], object] = lambda classes: None,
) -> tuple[Segmenter, dict[str, str]]:
    """Segment the listed images of a folder.

    Args:
        checkpoint: see `open_network`.
        ids: of ``images/<id>.jpg`` or similar.
        out, dist, how, overwrite: see `predict_images`.
        classes: what the network must have been trained on; None takes what it says.
        check: called with the network's classes before the first image is segmented.

    Returns:
        the network that was used, and id -> message for images that could not be segmented.

    Raises:
        InputError: as `predict_images`, or if the network has other classes.
    """
    how.check()
    check_folder(images, "images")
    network = _open(checkpoint, dist, how, classes)
    check(network.classes)
    found = {}
    for image_id in ids:
        try:
            found[image_id] = find_image(images, image_id)
        except InputError:
            found[image_id] = images / image_id  # reported where it is read
    made_from = {"checkpoint": os.fspath(checkpoint), "images": os.fspath(images)}
    entries, failures = predict_images(
        network, network_digest(checkpoint), found, out, dist, how, made_from=made_from, overwrite=overwrite
    )
    if ids and not entries:
        raise InputError(f"{images}: none of the {len(ids)} images could be segmented; fix them, or check the list")
    return network, failures


def run(args: argparse.Namespace) -> int:
    """Segment folders, files and patterns as the options of ``predict.py`` say.

    Also writes ``summary.csv``, and ``annotations.json`` for ``coco-json``.

    Returns:
        the exit code: 0, or 1 if an image could not be segmented.

    Raises:
        InputError: as `predict_images`, or if there is no image, or the network or the labels cannot be read.
    """
    how, out = from_args(Prediction, args, scales=tuple(args.scales), formats=tuple(args.format)), args.out
    how.check()
    with init(args.device) as dist:
        named = None if args.class_names is None else load_classes(args.class_names)
        network = _open(args.checkpoint, dist, how, named)
        tags = None if args.image_labels is None else read_image_labels(args.image_labels, network.classes)
        sources = find_sources(args.images, args.list)
        earlier = (out / LEDGER).is_file()
        entries, failures = predict_images(
            network,
            network_digest(args.checkpoint),
            sources.files,
            out,
            dist,
            how,
            tags=tags,
            made_from={"checkpoint": os.fspath(args.checkpoint), "images": args.images},
            overwrite=args.overwrite,
        )
        if not dist.is_main:
            return 0
        for path, message in sources.problems.items():
            print(f"{path}: {message}", file=sys.stderr)
        write_summary(out / "summary.csv", entries, network.classes)
        if "coco-json" in how.formats:
            write_coco(out / "annotations.json", entries, sources.files, out, network.classes)
        elif earlier:  # it would be of other options than the label maps
            (out / "annotations.json").unlink(missing_ok=True)
        seen = f"; look at {out / 'overlays'}, colours: {out / 'legend.png'}" if "overlay" in how.formats else ""
        if entries:
            print(classes_text(entries, network.classes))
        every = len(sources.files) + len(sources.problems)
        print(f"{out}: {len(entries)} of {every} images segmented{seen if entries else ''}")
        return 1 if failures or sources.problems else 0


def _open(checkpoint: str | os.PathLike, dist: Dist, how: Prediction, classes: ClassTable | None) -> Segmenter:
    """The network of a checkpoint; what the command says of it must be so."""
    network = open_network(checkpoint, dist.device, how.encoder, classes)
    check_asked(network, checkpoint, how.encoder, classes, warn=dist.is_main)
    return network


def predict_images(
    network: Segmenter,
    digest: str,
    sources: Mapping[str, Path],
    out: Path,
    dist: Dist,
    how: Prediction,
    *,
    tags: Mapping[str, Tags] | None = None,
    made_from: dict | None = None,
    overwrite: bool = False,
) -> tuple[dict[str, dict], dict[str, str]]:
    """Segment images into ``out``; what is there already, from the same network, image, options and code, is kept.

    Writes ``labels/<id>.png`` and, by ``how``, overlays with ``legend.png``, ``labelme/<id>.json``, ``confidence/<id>.png`` and
    ``probabilities/<id>.npy``.

    Args:
        network, digest: the network, and the digest of its file.
        sources: id -> file; an id may have folders in front.
        dist: the processes that share the work.
        tags: id -> label values that may occur beside the background; None allows all classes.
        made_from: for ``run.json``.

    Returns:
        id -> entry of the ledger, with ``size`` and ``classes`` (label value, share of the pixels, mean confidence); and
        id -> message for images that could not be segmented.

    Raises:
        InputError: for a choice that does not exist, or a full disk.
    """
    how.check()
    if how.long_side is not None:
        network.long_side = how.long_side or None
    if dist.is_main:
        print(network.size_text(), flush=True)
    precision = choose_precision("--amp", how.amp, dist)
    network.amp = DTYPES[precision]
    options = {**vars(how), "amp": precision, "long_side": network.long_side, "network_digest": digest}
    options["classes"] = [network.classes.names, network.classes.colors]
    made_from = {**(made_from or {}), "classes": network.classes.names}
    with Stage(out, options, code=[__file__], made_from=made_from, overwrite=overwrite, rank=dist.rank) as stage:
        # What is left is shared, not what there was: a resumed run keeps every process at work.
        work = dist.share(_find_work(sources, stage, tags, dist.shard(list(sources))))
        _segment_all(network, stage, how, work, dist)
        stage.finish_together(dist)
        failures = {image_id: message for part in dist.gather(stage.failures) for image_id, message in part.items()}
        done = {image_id: stage.done[image_id] for image_id in sources if image_id not in failures}
        if dist.is_main and "overlay" in how.formats:
            write_legend(out / "legend.png", network.classes, done)
    return done, failures


@dataclass(frozen=True)
class _Work:
    """An image that is to be segmented: its file, the key of the result, and the classes to choose from."""

    path: Path
    key: str
    allowed: tuple[int, ...] | None

    def image(self) -> np.ndarray:
        return decode_image(read_bytes(self.path), self.path)


def _find_work(
    sources: Mapping[str, Path], stage: Stage, tags: Mapping[str, Tags] | None, ids: Sequence[str]
) -> dict[str, _Work]:
    """The images whose results are missing or out of date; what cannot be read is reported."""
    left: dict[str, _Work] = {}
    names = Counter(image_id.rpartition("/")[2] for image_id in sources)
    for image_id, future in read_ahead(partial(_work_of, sources, stage, tags, names), ids):
        try:
            work = future.result()
        except InputError as error:
            stage.fail(image_id, str(error))
        else:
            left |= {image_id: work} if work else {}
    return left


def _work_of(
    sources: Mapping[str, Path], stage: Stage, tags: Mapping[str, Tags] | None, names: Mapping[str, int], image_id: str
) -> _Work | None:
    path = sources[image_id]
    allowed = None if tags is None else _allowed(tags, image_id, names)
    if not path.is_file():
        path = find_image(path.parent, path.name)  # whose message lists the suffixes
    key = stage.key(read_bytes(path), str(allowed))
    return None if stage.is_current(image_id, key) else _Work(path, key, allowed)


def _segment_all(network: Segmenter, stage: Stage, how: Prediction, work: Mapping[str, _Work], dist: Dist) -> None:
    """Segment images; the next ones are read, and the last ones written, while the network works."""
    bar = Progress(total=len(work), desc="segmenting", unit="image", disable=not dist.is_main)
    with bar, memory_named("segmenting an image", "give a smaller --long-side or --scales"), Behind() as behind:
        for image_id, future in read_ahead(lambda image_id: work[image_id].image(), work):
            try:
                image = future.result()
            except InputError as error:
                stage.fail(image_id, str(error))
            else:
                found = segment(network, image, how, work[image_id].allowed)
                behind(_write_one, network, stage, how, image_id, work[image_id], image, found)
            bar.update()


def _write_one(
    network: Segmenter,
    stage: Stage,
    how: Prediction,
    image_id: str,
    work: _Work,
    image: np.ndarray,
    found: Segmentation,
) -> None:
    """Write an image's files and note them in the ledger."""
    files = write_outputs(image_id, work.path, image, found, network.classes, stage.out, how)
    entry = {"id": image_id, "key": work.key, "files": describe_files(files, stage.out)}
    stage.note({**entry, "size": list(found.label.shape), "classes": class_shares(found)})


def _allowed(tags: Mapping[str, Tags], image_id: str, names: Mapping[str, int]) -> tuple[int, ...]:
    """The classes of an image, by its id, or by the last part of it where that is one image's alone (``names`` counts them)."""
    last = image_id.rpartition("/")[2]
    name = last if image_id not in tags and names[last] == 1 else image_id
    if name not in tags:
        raise InputError("no image-level label; add a line for it, or leave --image-labels out")
    return (0, *tags[name])


def segment(
    network: Segmenter, image: np.ndarray, how: Prediction, allowed: Sequence[int] | None = None
) -> Segmentation:
    """The label map of an image and its confidence.

    Args:
        image: uint8 HxWx3.
        how: see `Prediction`; its ``long_side`` has been given to the network.
        allowed: label values to choose from; None allows all.

    Returns:
        label values below the number of classes, or void where ``min_confidence`` is not reached.
    """
    if how.probabilities:
        found = _with_probabilities(network.predict(image, how.scales, how.flip, allowed), allowed)
    elif how.refinement == "none":
        found = network.segment(image, how.scales, how.flip, allowed)
    else:
        found = _refined(network, image, network.predict(image, how.scales, how.flip), allowed)
    if how.min_confidence:
        found.label[found.confidence < 255 * how.min_confidence] = VOID
    return found


def _with_probabilities(maps: np.ndarray, allowed: Sequence[int] | None) -> Segmentation:
    """The label map of probabilities (float32 CxHxW), with those of foreground classes that are ``allowed``, or not improbable everywhere."""
    maps = np.nan_to_num(maps)  # a damaged network may answer with NaN
    confidence = np.rint(255 * maps.max(axis=0)).astype(np.uint8)
    kept = np.flatnonzero(maps.max(axis=(1, 2)) > _SMALLEST_PROBABILITY) if allowed is None else allowed
    probabilities = {int(value): maps[value] for value in kept if value}
    return Segmentation(maps.argmax(axis=0).astype(np.uint8), confidence, probabilities)


def _refined(
    network: Segmenter, image: np.ndarray, probabilities: np.ndarray, allowed: Sequence[int] | None
) -> Segmentation:
    # Refinement is a weighted mean, so a class that is improbable everywhere cannot win; leaving it out saves time.
    likely = np.flatnonzero(probabilities.max(axis=(1, 2)) > _SMALLEST_PROBABILITY)
    if allowed is not None:
        likely = np.array(sorted({*likely} & {*allowed}) or [0])
    with torch.inference_mode():
        pixels = to_device(image, network.device).permute(2, 0, 1)[None].float()
        maps = to_device(probabilities[likely], network.device)[None]
        best, chosen = pixel_adaptive_refinement(pixels, maps)[0].max(0)
        found = to_host(chosen.to(torch.uint8), (255 * best).nan_to_num_().round_().clamp_(0, 255).to(torch.uint8))
    return Segmentation(likely.astype(np.uint8)[found[0]], found[1])
