"""MobileSAM's image encoder: timm's TinyViT with a neck, and the names that its parameters have in the authors' file.

Source: Zhang et al., "Faster Segment Anything: Towards Lightweight SAM for Mobile Applications", arXiv 2306.14289, and
https://github.com/ChaoningZhang/MobileSAM; the rest of the network is SAM's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

from models.common.weights import State

PREFIX = "image_encoder."
# Rules (pattern, replacement) from the authors' names to timm's. What reduces the resolution ends a layer there, and starts
# the next stage here.
_RULES = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^layers\.0\.downsample\.", "stages.1.downsample."),
    (r"^layers\.1\.downsample\.", "stages.2.downsample."),
    (r"^layers\.2\.downsample\.", "stages.3.downsample."),
    (r"^layers\.", "stages."),
    (r"\.c\.", ".conv."),
)
_OF_CLASSIFIER = ("norm_head.", "head.")  # left over from the training on ImageNet, and never used


class TinyEncoder(nn.Module):
    """Images float32 Bx3x1024x1024 -> embeddings Bx256x64x64; in the place of SAM's ``image_encoder``."""

    img_size = 1024

    def __init__(self) -> None:
        super().__init__()
        trunk: Any = TinyVit(
            num_classes=0,
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
        )
        trunk.head = nn.Identity()
        # The authors keep the resolution in the last stage.
        trunk.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.trunk = trunk
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(self.trunk.stages(self.trunk.patch_embed(images)))


def renamed(state: Mapping[str, Tensor]) -> State:
    """MobileSAM's parameters under the names of a SAM with a `TinyEncoder`."""
    result: State = {}
    for name, value in state.items():
        own = name.removeprefix(PREFIX)
        if own == name or own.startswith("neck."):
            result[name] = value
        elif not own.startswith(_OF_CLASSIFIER) and not own.endswith("attention_bias_idxs"):
            for pattern, replacement in _RULES:
                own = re.sub(pattern, replacement, own)
            result[f"{PREFIX}trunk.{own}"] = value
    return result
