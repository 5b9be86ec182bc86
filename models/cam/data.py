"""Images with image-level labels for the classifiers, and their augmentation."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

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
        """uint8 HxWx3 to ``crop``x``crop``x3; the generator alone decides what is random."""
        scaled = resize_long_side(Image.fromarray(image), generator.randint(*self.long_side))
        change = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(self.jitter, self.jitter, self.jitter, self.jitter / 3),
                v2.RandomCrop(self.crop, pad_if_needed=True, fill=self.padding),
            ]
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.getrandbits(63))
            return np.array(change(scaled))


def _padded(image: np.ndarray, side: int, color: tuple[int, int, int]) -> np.ndarray:
    """A square of one colour with an image in its corner: uint8 hxwx3 to ``side``x``side``x3."""
    square = np.full((side, side, 3), color, np.uint8)
    square[: image.shape[0], : image.shape[1]] = image
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
