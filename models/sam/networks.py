"""What the mask generator asks of a promptable network, and segment-anything's network as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from segment_anything.modeling import ImageEncoderViT, Sam
from torch import Tensor

from models.common.transfer import to_device
from models.sam.decoder import FoldedDecoder, LowMasks, PackageDecoder, at_least_float32, exact_positions
from models.sam.encoder import FusedEncoder, PackageEncoder


@dataclass(frozen=True)
class Seen:
    """An image and what a network sees of it, which can be made ahead, in another thread.

    Attributes:
        image: uint8 HxWx3 RGB.
        pixels: what the network's ``fit`` made of it.
    """

    image: np.ndarray
    pixels: Any


def size_of(image: np.ndarray | Seen) -> tuple[int, int]:
    """(height, width)."""
    height, width = (image.image if isinstance(image, Seen) else image).shape[:2]
    return height, width


class PromptableNetwork(Protocol):
    """A network that encodes an image once and then answers prompts.

    Attributes:
        device: where it runs.
        mask_threshold: logits above it are inside a mask.
        side: pixels of its square input.
    """

    device: torch.device
    mask_threshold: float
    side: int

    def fit(self, image: np.ndarray) -> Any:
        """What `embed` takes of an image (uint8 HxWx3 RGB): resized, on the host; safe in any thread."""

    def embed(self, fitted: Sequence[Any]) -> Sequence[Any]:
        """One embedding for each image, from what `fit` gave for it."""

    def image_side(self, embedding: Any) -> Any:
        """What all prompts on an image share, from one of `embed`'s embeddings."""

    def place(self, points: np.ndarray, size: tuple[int, int]) -> Tensor:
        """Points float64 Nx2 (x, y) in an image of ``size`` (height, width) -> in pixels of the network's input."""

    def decode(self, image: Any, points: Tensor, threshold: float) -> LowMasks:
        """The masks of single foreground points whose predicted IoU is above ``threshold`` (0 or less: all).

        Args:
            image: from `image_side`.
            points: float64 Bx2 from `place`.
        """

    def decode_prompts(
        self, embedding: Any, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Every mask of each prompt.

        Args:
            embedding: one of `embed`'s.
            points: float64 BxNx2 from `place`, or None.
            labels: int BxN, 1 for a point inside the object and 0 for one outside, or None.
            boxes: float64 Bx4 (x0, y0, x1, y1) in pixels of the network's input, or None.
            multimask: three masks for each prompt, for ambiguous ones, instead of one.

        Returns:
            logits float32 BxMxSxS and predicted IoU float32 BxM, with M = 3 or 1.
        """

    def upscale(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits float32 kxSxS at the decoder's resolution -> kxHxW of an image of ``size`` (height, width)."""


class PackageNetwork:
    """segment-anything's SAM.

    Args:
        sam: in evaluation mode, on its device.
        exact: use the package's modules in the package's order, bit for bit; otherwise faster ones that differ in the
            rounding of floats.
    """

    def __init__(self, sam: Sam, exact: bool = False):
        self.sam, self.device = sam, sam.device
        self.mask_threshold, self.side = sam.mask_threshold, sam.image_encoder.img_size
        plain = exact or not isinstance(sam.image_encoder, ImageEncoderViT)  # MobileSAM's is another
        self.encoder = (PackageEncoder if plain else FusedEncoder)(sam)
        self.decoder = (PackageDecoder if exact else FoldedDecoder)(sam)
        self.image_side, self.decode = self.decoder.image_side, self.decoder.decode

    def fit(self, image: np.ndarray) -> np.ndarray:
        """uint8 hxwx3 whose long side is that of the network's input."""
        height, width = input_size(image.shape[:2], self.side)
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def embed(self, fitted: Sequence[np.ndarray]) -> Tensor:
        """Images -> float32 BxCxHxW."""
        tensors = (to_device(pixels, self.device).permute(2, 0, 1).contiguous() for pixels in fitted)
        return at_least_float32(self.encoder(torch.stack([self.sam.preprocess(tensor) for tensor in tensors])))

    def place(self, points: np.ndarray, size: tuple[int, int]) -> Tensor:
        height, width = input_size(size, self.side)
        return to_device(points * np.array([[width / size[1], height / size[0]]]), self.device)

    def decode_prompts(
        self, embedding: Tensor, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        encoder = self.sam.prompt_encoder
        given = None if points is None or labels is None else (points, labels)
        with exact_positions(self.device):
            sparse, dense = encoder(points=given, boxes=boxes, masks=None)
            position = encoder.get_dense_pe()
        logits, iou = self.sam.mask_decoder(embedding[None], position, sparse, dense, multimask_output=multimask)
        return at_least_float32(logits), at_least_float32(iou)

    def upscale(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        return upscale_padded(logits, size, self.side)


def input_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of an image scaled so that its long side is ``side``; a sliver keeps one pixel."""
    scale = side / max(size)
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def upscale_padded(logits: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Logits from the decoder's resolution to the image's: float32 kxSxS -> kxHxW.

    Bilinear in two steps, by way of the network's input, as the package does; rows that only the padding needs are
    left out of the first step.
    """
    count, low = len(logits), logits.shape[-1]
    height, width = input_size(size, side)
    factor = side // low
    # One row more than is kept, so that the border's clamping stays outside. Columns all stay: the kernel's vectors
    # would end elsewhere, and round otherwise.
    rows = min(low, -(-height // factor) + 1)
    # Three masks per image, as the package has them: by the number of channels PyTorch chooses a kernel, and its rounding.
    logits = F.pad(logits, (0, 0, 0, 0, 0, -count % 3)).unflatten(0, (-1, 3))
    scaled = F.interpolate(
        logits[:, :, :rows].contiguous(), (rows * factor, side), mode="bilinear", align_corners=False
    )[..., :height, :width]
    return F.interpolate(scaled, size, mode="bilinear", align_corners=False).flatten(0, 1)[:count]
