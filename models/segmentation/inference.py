"""A trained network and an image of any size: class probabilities, or the label map in bounded memory.

Images go through the network at the size that it was trained at. Its answer is brought to the image's own size a few rows
at a time; where even the network's input would be too large, the image is cut into overlapping tiles.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.common.precision import autocast
from models.common.preprocessing import Normalization, pad_to_multiple
from models.common.transfer import to_device, to_host
from models.segmentation.tiling import Tile, tiles
from util.data.ids import spread
from util.data.images import find_image, image_size
from util.data.voc import ClassTable

STRIDE = 16  # the network's input has sides that are multiples of it
LARGEST_INPUT = 1536  # side of the largest square that goes through the network as one piece, in pixels
OVERLAP = 1 / 8  # of a tile's side, on each side
SAMPLE = 1000  # images that `typical_side` looks at
# Rows are worked on so many bytes at a time: what fits a CPU's cache, and what keeps a GPU busy.
STRIP_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}


@dataclass(frozen=True)
class Segmentation:
    """What a network says of an image.

    Attributes:
        label: uint8 HxW, below the number of classes.
        confidence: uint8 HxW, the probability of the chosen class; 255 stands for 1.
        probabilities: label value -> float32 HxW, of the classes but the background; None where they were not asked for.
    """

    label: np.ndarray
    confidence: np.ndarray
    probabilities: dict[int, np.ndarray] | None = None


class PixelNetwork(nn.Module):
    """A network with its normalisation and padding: float Bx3xHxW, 0 to 255, of any size -> logits BxCxHxW.

    Args:
        net: takes normalised images with sides that are multiples of ``STRIDE``.
        normalization: of its encoder.
    """

    def __init__(self, net: nn.Module, normalization: Normalization):
        super().__init__()
        self.net = net
        self.mean: Tensor
        self.deviation: Tensor
        mean, deviation = 255 * torch.tensor([normalization.mean, normalization.deviation])[:, :, None, None]
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        padded = pad_to_multiple((pixels - self.mean) / self.deviation, STRIDE)
        return self.net(padded.contiguous(memory_format=torch.channels_last))[:, :, :height, :width].float()


class Segmenter:
    """A trained segmentation network.

    Args:
        net: from pixel values to logits, such as a `PixelNetwork`.
        classes: background first.
        config: what it was trained with; ``working_size`` sets `long_side`, ``image_size`` is the long side of its images.
        score: of the held-out images while training (fractions), or None.
        device: where it computes.

    Attributes:
        long_side: pixels that the long side of an image is scaled to before it goes through the network: the size that it
            was trained at. None: images go through it as they are, as with checkpoints that do not say. May be set.
        amp: dtype of mixed precision, or None. May be set.
    """

    def __init__(self, net: nn.Module, classes: ClassTable, config: dict, score: dict | None, device: torch.device):
        self.net = net.to(device).eval()
        self.classes, self.palette, self.config, self.score = classes, classes.palette, config, score
        self.device = device
        self.long_side: int | None = config.get("working_size")
        self.amp: torch.dtype | None = None

    @torch.inference_mode()
    def predict(
        self,
        image: np.ndarray,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        allowed: Collection[int] | None = None,
    ) -> np.ndarray:
        """Class probabilities of an image, averaged over sizes and mirror images.

        Args:
            image: uint8 HxWx3 RGB, any size that goes through the network as one piece.
            scales: factors of the working size (`long_side`).
            flip: whether to add the mirrored image.
            allowed: label values to choose from; the others have a probability of 0. None allows all.

        Returns:
            float32 CxHxW, summing to 1 over the classes.
        """
        height, width = image.shape[:2]
        result = np.empty((len(self.classes), height, width), np.float32)
        views = self._views(image, self._factors(image, scales), flip, self._detail(image))
        if allowed is not None:
            _forbid(views, allowed)
        for rows in self._strips(height, width):
            (result[:, rows],) = to_host(_probabilities(views, rows, (height, width)).permute(2, 0, 1))
        return result

    @torch.inference_mode()
    def segment(
        self,
        image: np.ndarray,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        allowed: Collection[int] | None = None,
    ) -> Segmentation:
        """The label map of an image, in memory that does not grow with the number of classes.

        Args:
            image, scales, flip: see `predict`; the image may be of any size.
            allowed: label values to choose from; probabilities are those among them. None allows all.

        Returns:
            the classes of highest probability, and these probabilities.
        """
        height, width = image.shape[:2]
        factors, detail = self._factors(image, scales), self._detail(image)
        # On the device, so that it is waited for once, and for two bytes of each pixel.
        found = torch.empty(2, height, width, dtype=torch.uint8, device=self.device)
        for tile in tiles(height, width, max(STRIDE, round(LARGEST_INPUT / max(factors))), OVERLAP, STRIDE):
            views = self._views(image[tile.outer], factors, flip, detail)
            if allowed is not None:
                _forbid(views, allowed)
            size = (tile.outer[0].stop - tile.outer[0].start, tile.outer[1].stop - tile.outer[1].start)
            for rows in self._strips(*size):
                best, chosen = _best(views, rows, size)
                _place(found[0], chosen, tile, rows)
                # A damaged network may answer with NaN.
                _place(found[1], (255 * best).nan_to_num_().round_(), tile, rows)
        return Segmentation(*to_host(found)[0])

    def size_text(self) -> str:
        """For people: the size at which images go through the network."""
        if self.long_side is None:
            return "images go through the network at their own size"
        trained = " (the size that it was trained at)" if self.long_side == self.config.get("working_size") else ""
        return f"images go through the network with a long side of {self.long_side} pixels{trained}"

    def _factors(self, image: np.ndarray, scales: Sequence[float]) -> list[float]:
        to_working = self.long_side / max(image.shape[:2]) if self.long_side else 1.0
        return [to_working * scale for scale in scales]

    def _detail(self, image: np.ndarray) -> float:
        """The factor that makes a larger image as detailed as those of training; 1 for others."""
        return min(1.0, (self.config.get("image_size") or math.inf) / max(image.shape[:2]))

    def _views(self, image: np.ndarray, factors: Sequence[float], flip: bool, detail: float = 1.0) -> list[Tensor]:
        """Logits 1xCxhxw of the image at every size, and mirrored."""
        views = []
        for factor in factors:
            pixels = to_device(_resized(image, factor, detail), self.device).permute(2, 0, 1)[None].float()
            with autocast(self.device, self.amp):
                logits = self.net(torch.cat([pixels, pixels.flip(-1)]) if flip else pixels).float()
            views += [logits[:1], logits[1:].flip(-1)] if flip else [logits]
        # A pixel's classes side by side, which makes rows of all classes quick to scale and to compare.
        return [view.contiguous(memory_format=torch.channels_last) for view in views]

    def _strips(self, height: int, width: int) -> Iterator[slice]:
        row = 4 * len(self.classes) * width
        step = max(1, STRIP_BYTES.get(self.device.type, STRIP_BYTES["cpu"]) // row)
        return (slice(top, min(top + step, height)) for top in range(0, height, step))


def typical_side(images: str | os.PathLike, ids: Sequence[str]) -> int:
    """The median long side of images in pixels.

    Args:
        images: their folder; headers are read (those of ``SAMPLE`` images, if there are more).
        ids: which of them.
    """
    sides = [max(image_size(find_image(images, image_id))) for image_id in spread(ids, SAMPLE)]
    return round(float(np.median(sides)))


def working_size(side: int, scale: tuple[float, float]) -> int:
    """The size at which a network in training sees images: their typical long side times the typical scale.

    Args:
        side: pixels.
        scale: smallest and largest factor of the augmentation; their geometric mean is the typical one, so that twice as
            large and half as large cancel out (compared with other means in docs/results.md).

    Returns:
        pixels of the long side.
    """
    return max(1, round(side * math.sqrt(scale[0] * scale[1])))


def _resized(image: np.ndarray, factor: float, detail: float = 1.0) -> np.ndarray:
    """An image (uint8 HxWx3) as a network in training sees it.

    Args:
        factor: of its size.
        detail: see `Segmenter._detail`. A large image first becomes one of this size, by Lanczos' filter, which keeps what
            detail fits and no other; then both are made smaller as in training.
    """
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    if (first := max(factor, detail)) < 1:
        rows, columns = (max(1, round(side * first)) for side in image.shape[:2])
        image = np.array(Image.fromarray(image).resize((columns, rows), Image.Resampling.LANCZOS))
    if (height, width) == image.shape[:2]:
        return np.require(image, requirements=["C", "W"])  # torch's tensors can be written to
    kind = cv2.INTER_LINEAR if height > image.shape[0] else cv2.INTER_AREA
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=kind)


def _forbid(views: list[Tensor], allowed: Collection[int]) -> None:
    forbidden = [value for value in range(views[0].shape[1]) if value not in allowed]
    values = to_device(np.array(forbidden, np.int64), views[0].device)
    for view in views:
        view.index_fill_(1, values, -1e30)  # not infinite, which times a weight of 0 would not be a number


def _rows_of(view: Tensor, rows: slice, size: tuple[int, int]) -> Tensor:
    """RxWxC: these rows of a view (1xCxhxw), scaled to ``size`` as ``F.interpolate`` does (bilinear, no corners)."""
    small, (height, width) = view.shape[2], size
    if view.shape[2:] == torch.Size(size):
        return view[0, :, rows].permute(1, 2, 0)
    wanted = np.arange(rows.start, rows.stop)
    source = ((wanted + 0.5) * small / height - 0.5).clip(0, small - 1)
    upper = np.floor(source).astype(np.int64).clip(max=max(0, small - 2))
    first, count = int(upper[0]), min(small, int(upper[-1]) + 2) - int(upper[0])
    part = F.interpolate(view[:, :, first : first + count], size=(count, width), mode="bilinear", align_corners=False)
    part = part[0].permute(1, 2, 0)
    places = to_device(np.stack([upper, (upper + 1).clip(max=small - 1)]) - first, view.device)
    share = to_device((source - upper).astype(np.float32)[:, None, None], view.device)
    return torch.lerp(part[places[0]], part[places[1]], share)


def _probabilities(views: list[Tensor], rows: slice, size: tuple[int, int]) -> Tensor:
    """RxWxC: the mean over views of the probabilities of these rows."""
    total = _rows_of(views[0], rows, size).softmax(-1)
    for view in views[1:]:
        total += _rows_of(view, rows, size).softmax(-1)
    return total / len(views)


def _best(views: list[Tensor], rows: slice, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """RxW twice: the highest probability of these rows, and its class."""
    if len(views) > 1:
        best, chosen = _probabilities(views, rows, size).max(-1)
        return best, chosen
    # With one view there is no mean, so only the highest probability is needed.
    logits = _rows_of(views[0], rows, size)
    highest, chosen = logits.max(-1)
    return (logits - highest[..., None]).exp_().sum(-1).reciprocal_(), chosen


def _place(target: Tensor, values: Tensor, tile: Tile, rows: slice) -> None:
    """Put rows of a tile where they belong, as far as they are in its inner part."""
    top, left = tile.outer[0].start, tile.outer[1].start
    first = max(top + rows.start, tile.inner[0].start)
    last = min(top + rows.stop, tile.inner[0].stop)
    if first < last:
        columns = slice(tile.inner[1].start - left, tile.inner[1].stop - left)
        target[first:last, tile.inner[1]] = values[first - top - rows.start : last - top - rows.start, columns]
