"""Checkpoint files of Segment Anything's families: where the published ones are, what a file holds, and reading it.

Files are those that the authors publish (``sam_vit_h_4b8939.pth``, ``sam_hq_vit_h.pth``, ``sam2.1_hiera_large.pt``,
``mobile_sam.pt``), or anything with the same parameters; what a file holds follows from its content, not from its name.

Source: Kirillov et al., "Segment Anything", arXiv 2304.02643, whose networks are those of its package; for the other
families see `models.sam.conversion` and `models.sam.tiny_vit`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch import Tensor

from models.common.weights import check_state, plain_state
from models.sam import conversion
from models.sam.families import TransformersNetwork
from models.sam.tiny_vit import TinyEncoder, renamed
from util.runtime import checkpoint
from util.runtime.download import download
from util.runtime.errors import InputError

OFFICIAL_URL = "https://dl.fbaipublicfiles.com/segment_anything"


@dataclass(frozen=True)
class Variant:
    """A published SAM: the name of its checkpoint (which ends in the first digits of its MD5), and its encoder."""

    file: str
    channels: int

    @property
    def md5_prefix(self) -> str:
        return self.file.removesuffix(".pth").rpartition("_")[2]


VARIANTS = {
    "vit_h": Variant("sam_vit_h_4b8939.pth", 1280),
    "vit_l": Variant("sam_vit_l_0b3195.pth", 1024),
    "vit_b": Variant("sam_vit_b_01ec64.pth", 768),
}
READ = "SAM, SAM-HQ, SAM 2 and 2.1, MobileSAM"
# Parameter whose name starts so -> what the file holds, and what to do instead.
_NOT_READ = {
    "detector.": ("SAM 3", "use --model sam3, which fetches its weights for transformers, or a folder with them"),
    "image_encoder.trunk.body.": ("EdgeTAM", "use --model edgetam"),
    "sam_mask_decoder.hf_token.": ("HQ-SAM 2", "use --model sam2.1-large, or sam-hq-h"),
    "vision_encoder.": ("a network of transformers", "give --model the folder that it is in, with its config.json"),
    "model.22.proto.": ("FastSAM, a YOLO", "use mobile_sam.pt or sam2.1_hiera_tiny.pt, which are as small"),
}


def official_checkpoint(name: str, mirror: str = OFFICIAL_URL) -> str:
    """Path of the published checkpoint, downloaded to torch's cache when it is not there yet.

    Args:
        name: of `VARIANTS`.
        mirror: URL of a folder that holds the official files.
    """
    variant = VARIANTS[name]
    return os.fspath(download(f"{mirror.rstrip('/')}/{variant.file}", variant.md5_prefix))


def load_sam(path: str | os.PathLike, name: str | None = None) -> tuple[str, Sam | TransformersNetwork]:
    """The name and the network of a checkpoint file, in evaluation mode, on the CPU.

    Args:
        path: as published; read without running code.
        name: what the file must hold: ``vit_h``, ``sam-hq-l``, ``sam2.1-tiny``, ``mobile-sam``, ...; None: any.

    Raises:
        InputError: if the file cannot be read, or holds another network.
    """
    source = os.fspath(path)
    state = plain_state(_content(source), source)
    found = recognise(state, source)
    if name is not None and name != found:
        raise InputError(f"{source}: expected the checkpoint of a {name}, found a {found}: use --model {found}")
    family, _, size = found.partition("-")
    if found.startswith("sam-hq-"):
        return found, TransformersNetwork(*conversion.sam_hq(found.removeprefix("sam-hq-"), state, source), padded=True)
    if family in ("sam2", "sam2.1"):
        return found, TransformersNetwork(*conversion.sam2(size, state, source), padded=False)
    sam = sam_model_registry["vit_b" if found == "mobile-sam" else found]()
    if found == "mobile-sam":
        sam.image_encoder, state = TinyEncoder(), renamed(state)
    check_state(state, sam.state_dict(), source)
    sam.load_state_dict(state)
    return found, sam.eval()


def _content(source: str) -> Mapping[str, Any]:
    try:
        return checkpoint.load(source)
    except InputError as error:
        if "ultralytics" in str(error):
            raise InputError(
                f"{source}: holds a network of ultralytics that only its code can load, such as FastSAM, which is a YOLO and "
                f"not a SAM. Files that are read: {READ}; mobile_sam.pt and sam2.1_hiera_tiny.pt are as small"
            ) from None
        raise


def recognise(state: Mapping[str, Tensor], source: str) -> str:
    """What network a state dict is of, such as ``vit_b`` or ``sam2.1-large``.

    Raises:
        InputError: if it is of none that is read.
    """
    for start, (found, remedy) in _NOT_READ.items():
        if any(name.startswith(start) for name in state):
            raise InputError(f"{source}: holds {found}, in a file that is not read here; {remedy}")
    is_hq = "mask_decoder.hf_token.weight" in state
    if "image_encoder.patch_embed.seq.0.c.weight" in state:
        if is_hq:
            raise InputError(
                f"{source}: holds Light HQ-SAM, which is not read here; use mobile_sam.pt or --model sam-hq-b"
            )
        return "mobile-sam"
    vit, hiera = (_channels(state, f"image_encoder.{part}patch_embed.proj.weight") for part in ("", "trunk."))
    for name, variant in VARIANTS.items():
        if vit == variant.channels:
            return f"sam-hq-{name[-1]}" if is_hq else name
    blocks = sum(name.startswith("image_encoder.trunk.blocks.") and name.endswith(".norm1.weight") for name in state)
    for size, (channels, _, stages, *_) in conversion.HIERA.items():
        if hiera == channels and blocks == sum(stages):
            return f"sam2.1-{size}" if "no_obj_embed_spatial" in state else f"sam2-{size}"
    other = f"a SAM of another size ({vit or hiera} channels)" if vit or hiera else "no SAM"
    raise InputError(
        f"{source}: expected the weights of a SAM, found {other}. Give a file of {READ}, as their authors publish them, such as "
        + ", ".join(variant.file for variant in VARIANTS.values())
    )


def _channels(state: Mapping[str, Tensor], name: str) -> int | None:
    value = state.get(name)
    return value.shape[0] if isinstance(value, torch.Tensor) else None
