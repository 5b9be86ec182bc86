"""What an image goes through before a network: the normalisation of its encoder, and padding.

Encoders expect the normalisation that they were trained with: ImageNet's mean and deviation most of them, 0.5 and 0.5
EfficientNet-Lite, MobileNetV3 and others. A network carries its own (`normalization_of`), and its checkpoint too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.runtime.errors import InputError

# Encoders whose normalisation timm knows under another name.
_TIMM_NAMES = {
    "inceptionv4": "inception_v4",
    "inceptionresnetv2": "inception_resnet_v2",
    "xception": "legacy_xception",
}


@dataclass(frozen=True)
class Normalization:
    """Mean and deviation of each channel, of colours in 0..1."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Images with values in 0..255, any dtype, ...x3xHxW -> float32 of the same shape and memory format."""
        mean, deviation = _constants(self, pixels.device)
        return (pixels.float() - mean) / deviation

    @property
    def padding(self) -> tuple[int, int, int]:
        """The mean as an 8-bit colour: what fills up an image that is smaller than its crop."""
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    @property
    def content(self) -> dict[str, list[float]]:
        """What a checkpoint holds of it, for `from_content`."""
        return {"mean": list(self.mean), "deviation": list(self.deviation)}

    @classmethod
    def from_content(cls, content: Mapping[str, Any], source: str) -> Normalization:
        """The normalisation of a checkpoint; those that say nothing were trained with ImageNet's.

        Raises:
            InputError: if it is not six numbers, or a deviation is not above 0.
        """
        if "normalization" not in content:
            return IMAGENET
        try:
            found = content["normalization"]
            result = _of_three(found["mean"], found["deviation"])
        except (TypeError, KeyError, ValueError):
            raise InputError(f"{source}: its normalization cannot be that of a network; train again") from None
        return result


def _of_three(mean: Any, deviation: Any) -> Normalization:
    """Raises ValueError or TypeError where these are not three numbers each, deviations above 0."""
    (red, green, blue), (first, second, third) = map(float, mean), map(float, deviation)
    if not (
        min(first, second, third) > 0 and max(first, second, third) < 1e3 and abs(red) + abs(green) + abs(blue) < 1e3
    ):
        raise ValueError("out of range")
    return Normalization((red, green, blue), (first, second, third))


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@lru_cache(maxsize=32)
def _constants(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor]:
    # Kept for each device: making them anew for each batch would make a GPU wait for the host.
    with torch.inference_mode(False):
        values = torch.tensor([normalization.mean, normalization.deviation], device=device) * 255
    return values[0, :, None, None], values[1, :, None, None]


def encoder_normalization(encoder: str, weights: str | None = None) -> Normalization:
    """The normalisation that the published weights of an encoder were trained with.

    Args:
        encoder: a name in segmentation-models-pytorch; ``tu-`` and ``timm-`` encoders are timm's.
        weights: the name of the published weights where one was chosen. They have been downloaded, so their description
            can be; else it is taken from timm, which knows it without a download.
    """
    import segmentation_models_pytorch as smp
    import timm  # here, as loaders' workers import this module, too

    if weights is not None and not encoder.startswith(("tu-", "timm-")):
        found = smp.encoders.get_preprocessing_params(encoder, weights)
        scale = max(found["input_range"])
        return _of_three([value / scale for value in found["mean"]], [value / scale for value in found["std"]])
    if weights == "advprop":
        return Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    name = encoder.removeprefix("tu-").removeprefix("timm-")
    if encoder.startswith("timm-mobilenetv3"):
        name = f"tf_{name}"
    config = timm.models.get_pretrained_cfg(_TIMM_NAMES.get(name, name))
    return _of_three(config.mean, config.std) if config is not None else IMAGENET


def normalization_of(net: nn.Module) -> Normalization:
    """The normalisation that a network of `models` carries."""
    return net.normalization  # type: ignore[return-value]  # nn.Module types every attribute as a tensor or module


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad BxCxHxW with zeros at the right and bottom until both sides are multiples of ``multiple``."""
    height, width = images.shape[2:]
    right, bottom = -width % multiple, -height % multiple
    return F.pad(images, (0, right, 0, bottom)) if right or bottom else images
