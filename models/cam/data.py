"""Images with image-level labels for the classifiers, and their augmentation."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import Dataset

from models.common.preprocessing import IMAGENET
from util.data.images import find_image, read_image
from util.runtime.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """TransCAM's augmentation: random size, flip, colour jitter, and a crop that is padded with the mean colour.

    Attributes:
        crop: side of the square crop in pixels.
        long_side: smallest and largest length that the image's long side is scaled to.
        jitter: brightness, contrast and saturation change by up to this factor, hue by a third of it
            (of the colour circle).
        padding: the colour beyond the image.
    """

    crop: int
    long_side: tuple[int, int]
    jitter: float = 0.3
    padding: tuple[int, int, int] = IMAGENET.padding

    def __call__(self, image: np.ndarray, generator: random.Random) -> np.ndarray:
        """uint8 HxWx3 to ``crop``x``crop``x3."""
        picture = resize_long_side(Image.fromarray(image), generator.randint(*self.long_side))
        if generator.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(self._jittered(picture, generator))
        height, width = pixels.shape[:2]
        top, left = (generator.randint(0, max(0, side - self.crop)) for side in (height, width))
        part = pixels[top : top + self.crop, left : left + self.crop]
        down, right = (generator.randint(0, self.crop - side) for side in part.shape[:2])
        return _padded(part, self.crop, self.padding, down, right)

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


def _padded(image: np.ndarray, side: int, color: tuple[int, int, int], top: int = 0, left: int = 0) -> np.ndarray:
    """A square of one colour with an image in it: uint8 hxwx3 to ``side``x``side``x3."""
    square = np.full((side, side, 3), color, np.uint8)
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square


def resize_long_side(image: Image.Image, length: int) -> Image.Image:
    """Scale an image, keeping its proportions, until its long side is ``length`` pixels."""
    scale = length / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


class TaggedImages(Dataset):
    """Images with image-level labels.

    An item is ``(number, image, target, weight, message)``: int, uint8 3xSxS, float32 C-1, and 1.0 with an empty message;
    an image that cannot be read gives zeros with weight 0.0 and the reason, so that the run continues.

    Args:
        ids, folder: the images ``folder/<id>.jpg`` or similar.
        tags: id -> label-map values from 1.
        num_classes: with the background.
        augmentation: also without randomness it sets the size, and the colour of padding.
        seed: what an item looks like depends on the seed, the epoch and its number alone; None scales and pads without
            randomness, for held-out images.
    """

    def __init__(
        self,
        ids: list[str],
        folder: Path,
        tags: dict[str, tuple[int, ...]],
        num_classes: int,
        augmentation: Augmentation,
        seed: int | None,
    ):
        self.ids, self.folder, self.tags, self.num_classes = ids, folder, tags, num_classes
        self.augmentation, self.seed = augmentation, seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[int, Tensor, Tensor, Tensor, str]:
        number, epoch = item if isinstance(item, tuple) else (item, 0)
        image_id, side = self.ids[number], self.augmentation.crop
        target = torch.zeros(self.num_classes - 1)
        target[[tag - 1 for tag in self.tags[image_id]]] = 1
        try:
            image = read_image(find_image(self.folder, image_id))
        except InputError as error:
            return number, torch.zeros(3, side, side, dtype=torch.uint8), target, torch.tensor(0.0), str(error)
        if self.seed is None:
            whole = np.asarray(resize_long_side(Image.fromarray(image), side))
            square = _padded(whole, side, self.augmentation.padding)
        else:
            square = self.augmentation(image, random.Random(f"{self.seed} {epoch} {number}"))
        return number, torch.from_numpy(square).permute(2, 0, 1), target, torch.tensor(1.0), ""
