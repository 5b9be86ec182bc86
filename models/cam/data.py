"""Pictures for the classifiers: normalisation, augmentation, and an order that a resumed run repeats."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from util.data.images import find_image, read_image
from util.runtime.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def normalize(image: np.ndarray | Image.Image) -> Tensor:
    """uint8 HxWx3 RGB to float32 3xHxW with ImageNet's mean and deviation."""
    pixels = np.asarray(image, np.float32) / 255
    pixels = (pixels - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_DEVIATION)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


@dataclass(frozen=True)
class Augmentation:
    """TransCAM's augmentation: random size, flip, colour jitter, and a crop that is padded with the mean colour.

    Attributes:
        crop: side of the square crop in pixels.
        long_side: smallest and largest length that the picture's long side is scaled to.
        jitter: brightness, contrast and saturation change by up to this factor, hue by a third of it
            (of the colour circle).
    """

    crop: int
    long_side: tuple[int, int]
    jitter: float = 0.3

    def __call__(self, image: np.ndarray, generator: random.Random) -> Tensor:
        """uint8 HxWx3 to float32 3x``crop``x``crop``."""
        picture = resize_long_side(Image.fromarray(image), generator.randint(*self.long_side))
        if generator.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = normalize(self._jittered(picture, generator))
        height, width = pixels.shape[1:]
        kept_height, kept_width = min(height, self.crop), min(width, self.crop)
        top, left = generator.randint(0, height - kept_height), generator.randint(0, width - kept_width)
        to_top = generator.randint(0, self.crop - kept_height)
        to_left = generator.randint(0, self.crop - kept_width)
        crop = torch.zeros(3, self.crop, self.crop)
        crop[:, to_top : to_top + kept_height, to_left : to_left + kept_width] = pixels[
            :, top : top + kept_height, left : left + kept_width
        ]
        return crop

    def _jittered(self, picture: Image.Image, generator: random.Random) -> Image.Image:
        if not self.jitter:
            return picture
        changes = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color, None]
        generator.shuffle(changes)
        for change in changes:
            if change is None:
                hue, saturation, value = picture.convert("HSV").split()
                shift = round(255 * generator.uniform(-self.jitter / 3, self.jitter / 3))
                hue = hue.point([(level + shift) % 256 for level in range(256)])
                picture = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
            else:
                picture = change(picture).enhance(generator.uniform(1 - self.jitter, 1 + self.jitter))
        return picture


def resize_long_side(picture: Image.Image, length: int) -> Image.Image:
    """Scale a picture, keeping its proportions, until its long side is ``length`` pixels."""
    scale = length / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    return picture.resize(size, Image.Resampling.BICUBIC)


class TaggedImages(Dataset):
    """Pictures with image-level labels.

    An item is ``(image, target, weight, message)``: float32 3xHxW, float32 C-1, and 1.0 with an empty message; a
    picture that cannot be read gives zeros with weight 0.0 and the reason, so that the run goes on.

    Args:
        ids, folder: the pictures ``folder/<id>.jpg`` or similar.
        tags: id -> label-map values from 1.
        num_classes: with the background.
        augmentation: None scales and pads to ``crop`` without randomness, for held-out pictures.
        crop: side of what comes out, in pixels.
        seed: what an item looks like depends on the seed, the epoch and its number alone.
    """

    def __init__(
        self,
        ids: list[str],
        folder: Path,
        tags: dict[str, tuple[int, ...]],
        num_classes: int,
        crop: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        self.ids, self.folder, self.tags, self.num_classes = ids, folder, tags, num_classes
        self.crop, self.augmentation, self.seed = crop, augmentation, seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, str]:
        number, epoch = item if isinstance(item, tuple) else (item, 0)
        image_id = self.ids[number]
        target = torch.zeros(self.num_classes - 1)
        target[[tag - 1 for tag in self.tags[image_id]]] = 1
        try:
            image = read_image(find_image(self.folder, image_id))
        except InputError as error:
            return torch.zeros(3, self.crop, self.crop), target, torch.tensor(0.0), f"{image_id}: {error}"
        if self.augmentation is None:
            return self._whole(image), target, torch.tensor(1.0), ""
        generator = random.Random(f"{self.seed} {epoch} {number}")
        return self.augmentation(image, generator), target, torch.tensor(1.0), ""

    def _whole(self, image: np.ndarray) -> Tensor:
        pixels = normalize(resize_long_side(Image.fromarray(image), self.crop))
        whole = torch.zeros(3, self.crop, self.crop)
        whole[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        return whole


class EpochOrder(Sampler):
    """A shuffled order that depends on the seed and the epoch alone, shared out over processes, from a given step on.

    Yields ``(number, epoch)`` for `TaggedImages`; incomplete last batches are dropped.
    """

    def __init__(self, count: int, batch: int, seed: int, rank: int = 0, world: int = 1):
        self.count, self.batch, self.seed, self.rank, self.world = count, batch, seed, rank, world
        self.epoch = self.start = 0

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch; ``batch`` is that of one process."""
        return self.count // (self.batch * self.world)

    def __len__(self) -> int:
        return (self.steps - self.start) * self.batch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = list(range(self.count))
        random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        order = order[: self.steps * self.batch * self.world]
        mine = order[self.rank :: self.world][self.start * self.batch :]
        return iter([(number, self.epoch) for number in mine])
