"""A folder of pictures through a trained network: label maps and pictures of them, resumable and shared out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from models.common.refine import pixel_adaptive_refinement
from models.segmentation.deeplabv3 import Segmenter, load_checkpoint
from util.data.images import decode_image, find_image
from util.data.labels import write_label
from util.data.voc import ClassTable
from util.runtime.distributed import Dist
from util.runtime.errors import InputError, disk_error
from util.runtime.files import check_folder, file_digest, read_bytes
from util.runtime.ledger import Stage
from util.vis import overlay, save_image

REFINEMENTS = ("none", "pixel-adaptive")
# A class below this at every pixel is left out of the refinement.
_SMALLEST_PROBABILITY = 0.01


def predict_folder(
    checkpoint: str | os.PathLike,
    ids: Sequence[str],
    images: Path,
    out: Path,
    dist: Dist,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    long_side: int | None = None,
    refinement: str = "none",
    overwrite: bool = False,
    classes: ClassTable | None = None,
) -> tuple[Segmenter, dict[str, str]]:
    """Segment pictures at their full size.

    Writes ``out/labels/<id>.png`` (label maps) and ``out/pictures/<id>.jpg`` (laid over the photograph). What is there
    already, from the same checkpoint, picture, options and code, is kept.

    Args:
        checkpoint: written by ``train_deeplabv3.py``.
        ids: of ``images/<id>.jpg`` or similar.
        dist: the processes that share the work.
        scales, flip: see `Segmenter.predict`.
        long_side: see `Segmenter.long_side`; 0 for the images' own size, None for the size that the network was trained at.
        classes: what the checkpoint must have been trained on; None takes what it says.
        refinement: ``none``, or ``pixel-adaptive`` for `models.common.refine`.

    Returns:
        the network that was used, and id -> message for pictures that could not be segmented.

    Raises:
        InputError: if the checkpoint cannot be used or has other classes, a scale is not positive, no picture could be
            segmented, or the disk is full.
    """
    if refinement not in REFINEMENTS:
        raise InputError(f"refinement {refinement!r}: choose one of {', '.join(REFINEMENTS)}")
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise InputError(f"scales {list(scales)}: give factors above 0, such as 0.75 1 1.25")
    check_folder(images, "pictures")
    segmenter = load_checkpoint(checkpoint, dist.device)
    if classes is not None and classes.names != segmenter.classes.names:
        raise InputError(
            f"{checkpoint}: trained on {', '.join(segmenter.classes.names)}; the command asks for "
            f"{', '.join(classes.names)}. Give the class names that it was trained with, or leave them out"
        )
    if long_side is not None:
        segmenter.long_side = long_side or None
    if dist.is_main:
        print(segmenter.size_text())
    options = {
        "checkpoint_digest": file_digest(checkpoint), "scales": list(scales), "flip": flip, "refinement": refinement,
        "long_side": segmenter.long_side,
    }  # fmt: skip
    made_from = {"checkpoint": os.fspath(checkpoint), "images": os.fspath(images)}
    with Stage(
        out, options, code=[__file__], made_from=made_from, overwrite=overwrite, rank=dist.rank
    ) as stage:  # fmt: skip
        bar = tqdm(dist.shard(list(ids)), desc="segmenting", unit="image", disable=not dist.is_main, dynamic_ncols=True)
        for image_id in bar:
            try:
                path = find_image(images, image_id)
                data = read_bytes(path)
                key = stage.key(data)
                if stage.is_current(image_id, key):
                    continue
                image = decode_image(data, path)
            except InputError as error:
                stage.fail(image_id, str(error))
                continue
            label = segment(segmenter, image, scales, flip, refinement)
            files = out / "labels" / f"{image_id}.png", out / "pictures" / f"{image_id}.jpg"
            try:
                write_label(files[0], label, segmenter.palette)
                save_image(files[1], overlay(image, label, segmenter.palette))
            except OSError as error:
                raise disk_error(error, out) from None
            stage.record(image_id, key, files)
        stage.finish()
    failures: dict[str, str] = {}
    for part in dist.gather(stage.failures):
        failures |= part
    if ids and len(failures) == len(ids):
        raise InputError(f"{images}: none of the {len(ids)} pictures could be segmented; mend them, or check the list")
    return segmenter, failures


def segment(
    segmenter: Segmenter,
    image: np.ndarray,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    refinement: str = "none",
) -> np.ndarray:
    """The label map of a picture.

    Args:
        image: uint8 HxWx3.
        scales, flip: see `Segmenter.predict`.
        refinement: see `predict_folder`.

    Returns:
        uint8 HxW, values below the number of classes.
    """
    probabilities = segmenter.predict(image, scales, flip)
    if refinement == "none":
        return probabilities.argmax(0).astype(np.uint8)
    # Refinement is a weighted mean, so a class that is improbable everywhere cannot win; leaving it out saves time.
    likely = np.flatnonzero(probabilities.max(axis=(1, 2)) > _SMALLEST_PROBABILITY)
    with torch.inference_mode():
        pixels = torch.from_numpy(image).to(segmenter.device).permute(2, 0, 1)[None].float()
        maps = torch.from_numpy(probabilities[likely])[None].to(segmenter.device)
        refined = pixel_adaptive_refinement(pixels, maps)[0].argmax(0).cpu().numpy()
    return likely.astype(np.uint8)[refined]
