"""Where masks come from: a graph segmentation, a grid of prompts, or prompts that know the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.sam.generator import MaskGenerator
from models.sam.options import CamPromptOptions
from models.sam.prompt_files import check_size
from models.sam.prompted import PromptedGenerator
from models.sam.prompts import Prompt, cam_prompts
from models.sam.regions import region_masks
from models.sam.text import TextGenerator
from util.data.cams import cam_file, read_cam
from util.data.masks import Masks
from util.data.voc import ClassTable
from util.runtime.errors import InputError
from util.runtime.files import read_bytes


class MaskSource(Protocol):
    """Makes the masks of images."""

    def key_parts(self, image_id: str) -> list[bytes | str]:
        """What the masks of an image depend on beside the image; raises InputError if it is missing."""

    def prepare(self, image_id: str, size: tuple[int, int]) -> Any:
        """What is asked about an image of ``size`` (height, width); raises InputError if it does not fit."""

    def masks(self, images: Sequence[np.ndarray], asked: Sequence[Any]) -> Iterator[Masks]:
        """The masks of each image (uint8 HxWx3 RGB), from what `prepare` gave for it."""


class Regions:
    """A graph segmentation; no network."""

    def key_parts(self, image_id: str) -> list[bytes | str]:
        return []

    def prepare(self, image_id: str, size: tuple[int, int]) -> None:
        return None

    def masks(self, images: Sequence[np.ndarray], asked: Sequence[None]) -> Iterator[Masks]:
        return map(region_masks, images)


@dataclass
class Grid(Regions):
    """A grid of points."""

    generator: MaskGenerator

    def masks(self, images: Sequence[np.ndarray], asked: Sequence[None]) -> Iterator[Masks]:
        return self.generator.generate(images)


@dataclass
class Tags:
    """The classes that each image is known to show."""

    tags: Mapping[str, tuple[int, ...]]
    classes: ClassTable

    def values(self, image_id: str) -> tuple[int, ...]:
        """The label values of an image's classes.

        Raises:
            InputError: if the image has no image-level label.
        """
        if image_id not in self.tags:
            raise InputError("it has no image-level label; add it to --image-labels or drop the id from the list")
        return self.tags[image_id]


@dataclass
class Words:
    """The names of each image's classes, asked by text."""

    generator: TextGenerator
    tags: Tags

    def key_parts(self, image_id: str) -> list[bytes | str]:
        return [repr(self.prepare(image_id, (0, 0)))]

    def prepare(self, image_id: str, size: tuple[int, int]) -> list[str]:
        return [self.tags.classes.names[value] for value in self.tags.values(image_id)]

    def masks(self, images: Sequence[np.ndarray], asked: Sequence[list[str]]) -> Iterator[Masks]:
        return self.generator.answer(images, asked)


@dataclass
class Cams:
    """Peaks and boxes of the soft CAMs of each image's classes."""

    generator: PromptedGenerator
    folder: Path
    classes: ClassTable
    tags: Tags | None = None
    options: CamPromptOptions = field(default_factory=CamPromptOptions)

    def key_parts(self, image_id: str) -> list[bytes | str]:
        values = repr(self.tags.values(image_id)) if self.tags else ""
        return [read_bytes(cam_file(self.folder, image_id)), values]

    def prepare(self, image_id: str, size: tuple[int, int]) -> list[Prompt]:
        cam = read_cam(self.folder, image_id)
        if self.tags is not None:
            cam = {value: cam[value] for value in self.tags.values(image_id) if value in cam}
        for value, values in cam.items():
            if values.shape != size or value >= len(self.classes):
                raise InputError(
                    f"{self.folder}/{image_id}: the soft CAM of class {value} is {values.shape[1]}x{values.shape[0]} "
                    f"pixels, the image {size[1]}x{size[0]}, and there are {len(self.classes)} classes; make the CAMs of "
                    "this image and these classes"
                )
        return cam_prompts(cam, self.classes.names, self.options)

    def masks(self, images: Sequence[np.ndarray], asked: Sequence[list[Prompt]]) -> Iterator[Masks]:
        return self.generator.answer(images, asked)


@dataclass
class Listed:
    """Points or boxes of a file."""

    generator: PromptedGenerator
    prompts: Mapping[str, Sequence[Prompt]]

    def key_parts(self, image_id: str) -> list[bytes | str]:
        asked = self._of(image_id)
        return [repr([(p.category, p.points.tolist(), p.labels.tolist(), p.box) for p in asked])]

    def prepare(self, image_id: str, size: tuple[int, int]) -> Sequence[Prompt]:
        for prompt in self._of(image_id):
            check_size(prompt, size)
        return self._of(image_id)

    def _of(self, image_id: str) -> Sequence[Prompt]:
        if image_id not in self.prompts:
            raise InputError("the file of prompts does not name it; add it, with an empty list if it has none")
        return self.prompts[image_id]

    def masks(self, images: Sequence[np.ndarray], asked: Sequence[Sequence[Prompt]]) -> Iterator[Masks]:
        return self.generator.answer(images, asked)


@dataclass
class Several:
    """The masks of several sources in one file, in their order."""

    sources: Sequence[MaskSource]

    def key_parts(self, image_id: str) -> list[bytes | str]:
        return [part for source in self.sources for part in source.key_parts(image_id)]

    def prepare(self, image_id: str, size: tuple[int, int]) -> list[Any]:
        return [source.prepare(image_id, size) for source in self.sources]

    def masks(self, images: Sequence[np.ndarray], asked: Sequence[list[Any]]) -> Iterator[Masks]:
        answers = [source.masks(images, [one[i] for one in asked]) for i, source in enumerate(self.sources)]
        for parts in zip(*answers, strict=True):
            yield Masks.join(parts)
