"""The Segment Anything Model: its published variants, and loading their checkpoints.

Source: Kirillov et al., "Segment Anything", arXiv 2304.02643; the networks are those of its package.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from models.common.weights import check_state
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


def official_checkpoint(name: str, mirror: str = OFFICIAL_URL) -> str:
    """Path of the published checkpoint, downloaded to torch's cache when it is not there yet.

    Args:
        name: of `VARIANTS`.
        mirror: URL of a folder that holds the official files.
    """
    variant = VARIANTS[name]
    return os.fspath(download(f"{mirror.rstrip('/')}/{variant.file}", variant.md5_prefix))


def load_sam(name: str, path: str | os.PathLike) -> Sam:
    """A SAM in evaluation mode, on the CPU, with the parameters of a checkpoint.

    Args:
        name: of `VARIANTS`.
        path: a state dict as published; read without running code.

    Raises:
        InputError: if the file cannot be read, or holds another network.
    """
    state = checkpoint.load(path)
    found = getattr(state.get("image_encoder.patch_embed.proj.weight"), "shape", [None])[0]
    if found != VARIANTS[name].channels:
        other = next((key for key, variant in VARIANTS.items() if variant.channels == found), None)
        what = f"a {other}: use --model {other}, or give a checkpoint of {name}" if other else "no SAM of the package"
        raise InputError(
            f"{path}: expected the checkpoint of a {name} ({VARIANTS[name].channels} channels), found {what}"
            + ("" if other else "; give one of " + ", ".join(variant.file for variant in VARIANTS.values()))
        )
    sam = sam_model_registry[name]()
    check_state(state, sam.state_dict(), os.fspath(path))
    sam.load_state_dict(state)
    return sam.eval()
