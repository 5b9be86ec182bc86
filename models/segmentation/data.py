"""Images with label maps: checking them, and augmentation."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.common.preprocessing import IMAGENET
from util.data.images import decode_image, find_image
from util.data.labels import OtherClasses, check_label_size, decode_label, label_path
from util.data.voc import VOID
from util.evaluation.label_check import report_no_foreground
from util.runtime.errors import InputError
from util.runtime.files import digest, read_bytes
from util.runtime.parallel import run_parallel

MOST_OF_OTHER_CLASSES = 0.05  # of the label maps; more are a wrong option, not a damaged file


def read_pair(images: Path, labels: Path, num_classes: int, image_id: str) -> tuple[np.ndarray, np.ndarray, str]:
    """An image, its label map, and the digest of both files.

    Returns:
        uint8 HxWx3, uint8 HxW, and a hexadecimal string.

    Raises:
        InputError: if one is missing or unreadable, sizes differ, or the label holds a value of no class.
    """
    image_file, label_file = find_image(images, image_id), label_path(labels, image_id)
    image_bytes, label_bytes = read_bytes(image_file), read_bytes(label_file)
    image = decode_image(image_bytes, image_file)
    label = decode_label(label_bytes, label_file, num_classes)
    check_label_size(label.shape, label_file, image.shape[:2], image_file)
    return image, label, digest(image_bytes, label_bytes)


def check_pairs(
    ids: list[str], images: Path, labels: Path, num_classes: int, workers: int
) -> tuple[list[str], dict[str, str], str]:
    """Read every image and label once, before hours are spent on them.

    Returns:
        the ids that are fit for use, in their order; id -> message for the others; and the digest of all files.

    Raises:
        InputError: if none is fit, all labels are of 0 and 255, or more than a few have values of no class.
    """
    check: Callable[[str], _Pair] = partial(_check_pair, images, labels, num_classes)
    checked = run_parallel(check, ids, workers=workers, description="checking")
    results = {pair.image_id: pair for pair in checked}
    good = [image_id for image_id in ids if results[image_id].digest]
    failures = {image_id: results[image_id].problem for image_id in ids if not results[image_id].digest}
    if not good:
        first, message = next(iter(failures.items()))
        raise InputError(f"none of the {len(ids)} listed images can be used; the first, {first}: {message}")
    others = [results[image_id].problem for image_id in ids if results[image_id].other_classes]
    if len(others) > max(1, MOST_OF_OTHER_CLASSES * len(ids)):  # training without them would leave out classes
        raise InputError(
            f"{labels}: {len(others)} of {len(ids)} label maps do not fit the classes; the first, {others[0]}"
        )
    if not any(results[image_id].foreground for image_id in good):
        report_no_foreground(labels, f"{len(good)} label maps", any(results[image_id].void for image_id in good))
    return good, failures, digest(*(part for image_id in good for part in (image_id, results[image_id].digest)))


class _Pair(NamedTuple):
    image_id: str
    digest: str = ""
    foreground: bool = False
    void: bool = False
    problem: str = ""
    other_classes: bool = False


def _check_pair(images: Path, labels: Path, num_classes: int, image_id: str) -> _Pair:
    try:
        _, label, found = read_pair(images, labels, num_classes, image_id)
        return _Pair(image_id, found, bool(((label > 0) & (label < VOID)).any()), bool((label == VOID).any()))
    except InputError as error:
        return _Pair(image_id, problem=str(error), other_classes=isinstance(error, OtherClasses))


@dataclass(frozen=True)
class CropAugmentation:
    """Random scale, crop, mirroring and colour.

    By OpenCV: torchvision's transforms take half as long again for the same, or more. What reaches over the image has the
    mean colour, labelled void.

    Attributes:
        crop: side of the square crop in pixels.
        scale: smallest and largest factor.
        jitter: brightness, contrast and saturation change by up to this share.
        padding: the colour beyond the image.
        long_side: of the images that the factors are applied to, pixels; 0: every image has its own size.
    """

    crop: int
    scale: tuple[float, float] = (0.5, 2.0)
    jitter: float = 0.3
    padding: tuple[int, int, int] = IMAGENET.padding
    long_side: int = 0

    def __call__(self, image: np.ndarray, label: np.ndarray, generator: random.Random) -> tuple[np.ndarray, np.ndarray]:
        """uint8 HxWx3 and HxW to ``crop`` x ``crop``."""
        factor = generator.uniform(*self.scale) * (self.long_side / max(label.shape) if self.long_side else 1)
        height, width = (max(1, round(side * factor)) for side in label.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR if factor > 1 else cv2.INTER_AREA)
        label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        top = generator.randint(min(0, height - self.crop), max(0, height - self.crop))
        left = generator.randint(min(0, width - self.crop), max(0, width - self.crop))
        image_crop = np.full((self.crop, self.crop, 3), self.padding, np.uint8)
        label_crop = np.full((self.crop, self.crop), VOID, np.uint8)
        # A negative corner puts the whole side of a small image inside the crop.
        source = np.s_[max(0, top) : top + self.crop, max(0, left) : left + self.crop]
        part = label[source]
        target = np.s_[max(0, -top) : max(0, -top) + part.shape[0], max(0, -left) : max(0, -left) + part.shape[1]]
        image_crop[target], label_crop[target] = self._jittered(image[source], generator), part
        if generator.random() < 0.5:
            image_crop, label_crop = image_crop[:, ::-1], label_crop[:, ::-1]
        return image_crop, label_crop

    def _jittered(self, image: np.ndarray, generator: random.Random) -> np.ndarray:
        if not self.jitter:
            return image
        low, high = 1 - self.jitter, 1 + self.jitter
        brightness, contrast, saturation = (generator.uniform(low, high) for _ in range(3))
        pixels = image.astype(np.float32)
        grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        pixels = grey[..., None] + saturation * (pixels - grey[..., None])
        mean = grey.mean()
        pixels = brightness * (mean + contrast * (pixels - mean))
        return np.clip(pixels, 0, 255).astype(np.uint8)


class LabelledImages(Dataset):
    """Augmented crops. An item is ``(number, image, label)``: int, uint8 3xSxS, uint8 SxS.

    Args:
        ids: of images that `check_pairs` found fit.
        images, labels: folders.
        num_classes: with the background.
        augmentation: makes the crop.
        seed: what a crop looks like depends on the seed, the epoch and its number alone.
    """

    def __init__(
        self, ids: list[str], images: Path, labels: Path, num_classes: int, augmentation: CropAugmentation, seed: int
    ):
        self.ids, self.images, self.labels = ids, images, labels
        self.num_classes, self.augmentation, self.seed = num_classes, augmentation, seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: tuple[int, int]) -> tuple[int, Tensor, Tensor]:
        number, epoch = item
        image, label, _ = read_pair(self.images, self.labels, self.num_classes, self.ids[number])
        generator = random.Random(f"{self.seed} {epoch} {number}")
        image, label = self.augmentation(image, label, generator)
        return number, torch.from_numpy(image.copy()).permute(2, 0, 1), torch.from_numpy(label.copy())
