"""Where masks come from: a graph segmentation, a grid of prompts, or prompts that know the class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.sam.generator import MaskGenerator
from models.sam.networks import Seen
from models.sam.options import CamPromptOptions
from models.sam.prompt_files import check_size
from models.sam.prompted import PromptedGenerator
from models.sam.prompts import Prompt, cam_prompts
from models.sam.regions import region_masks
from models.sam.text import TextGenerator
from util.data.cams import cam_file, read_cam
from util.data.image_labels import Tags, tags_of_image
from util.data.masks import Masks
from util.data.voc import ClassTable
from util.runtime.errors import InputError
from util.runtime.files import read_bytes

Finish = Callable[[], Masks]
# An image, as the network sees it where anything is asked, and what is asked.
Asked = tuple[np.ndarray | Seen, Sequence[Any]]


class MaskSource(Protocol):
    """Makes the masks of images."""

    def key_parts(self, image_id: str) -> list[bytes | str]:
        """What the masks of an image depend on beside the image; raises InputError if it is missing."""

    def prepare(self, image_id: str, image: np.ndarray) -> Any:
        """What is asked about an image (uint8 HxWx3 RGB), and what the network sees of it; made ahead, in another thread.

        Raises:
            InputError: if both do not fit together.
        """

    def masks(self, asked: Sequence[Any]) -> Iterator[Finish]:
        """For each image that `prepare` gave this for, what gives its masks; called behind, in another thread."""


def finished(masks: Iterable[Masks]) -> Iterator[Finish]:
    """Masks of which nothing is left to do."""
    for each in masks:
        yield partial(_itself, each)


def _itself(masks: Masks) -> Masks:
    return masks


class Regions:
    """A graph segmentation; no network."""

    def key_parts(self, image_id: str) -> list[bytes | str]:
        return []

    def prepare(self, image_id: str, image: np.ndarray) -> np.ndarray:
        return image

    def masks(self, asked: Sequence[np.ndarray]) -> Iterator[Finish]:
        return finished(map(region_masks, asked))


@dataclass
class Grid:
    """A grid of points."""

    generator: MaskGenerator

    def key_parts(self, image_id: str) -> list[bytes | str]:
        return []

    def prepare(self, image_id: str, image: np.ndarray) -> Seen:
        return self.generator.fit(image)

    def masks(self, asked: Sequence[Seen]) -> Iterator[Finish]:
        return self.generator.search(asked)


@dataclass
class Words:
    """The names of each image's classes, asked by text."""

    generator: TextGenerator
    classes: ClassTable
    tags: Mapping[str, Tags]

    def key_parts(self, image_id: str) -> list[bytes | str]:
        return [repr(self._names(image_id))]

    def _names(self, image_id: str) -> list[str]:
        return [self.classes.names[value] for value in tags_of_image(self.tags, image_id)]

    def prepare(self, image_id: str, image: np.ndarray) -> Asked:
        names = self._names(image_id)
        return self.generator.fit(image) if names else image, names

    def masks(self, asked: Sequence[Asked]) -> Iterator[Finish]:
        return finished(self.generator.answer(*zip(*asked, strict=True)))


@dataclass
class Cams:
    """Peaks and boxes of the soft CAMs of each image's classes."""

    generator: PromptedGenerator
    folder: Path
    classes: ClassTable
    tags: Mapping[str, Tags] | None
    options: CamPromptOptions

    def key_parts(self, image_id: str) -> list[bytes | str]:
        values = "" if self.tags is None else repr(tags_of_image(self.tags, image_id))
        return [read_bytes(cam_file(self.folder, image_id)), values]

    def prepare(self, image_id: str, image: np.ndarray) -> Asked:
        size, cam = image.shape[:2], read_cam(self.folder, image_id)
        if self.tags is not None:
            cam = {value: cam[value] for value in tags_of_image(self.tags, image_id) if value in cam}
        for value, values in cam.items():
            if values.shape != size or value >= len(self.classes):
                raise InputError(
                    f"{self.folder}/{image_id}: the soft CAM of class {value} is {values.shape[1]}x{values.shape[0]} "
                    f"pixels, the image {size[1]}x{size[0]}, and there are {len(self.classes)} classes; make the CAMs of "
                    "this image and these classes"
                )
        prompts = cam_prompts(cam, self.classes.names, self.options)
        return self.generator.fit(image) if prompts else image, prompts

    def masks(self, asked: Sequence[Asked]) -> Iterator[Finish]:
        return finished(self.generator.answer(*zip(*asked, strict=True)))


@dataclass
class Listed:
    """Points or boxes of a file."""

    generator: PromptedGenerator
    prompts: Mapping[str, Sequence[Prompt]]

    def key_parts(self, image_id: str) -> list[bytes | str]:
        asked = self._of(image_id)
        return [repr([(p.category, p.points.tolist(), p.labels.tolist(), p.box) for p in asked])]

    def prepare(self, image_id: str, image: np.ndarray) -> Asked:
        prompts = self._of(image_id)
        for prompt in prompts:
            check_size(prompt, image.shape[:2])
        return self.generator.fit(image) if prompts else image, prompts

    def _of(self, image_id: str) -> Sequence[Prompt]:
        if image_id not in self.prompts:
            raise InputError("the file of prompts does not name it; add it, with an empty list if it has none")
        return self.prompts[image_id]

    def masks(self, asked: Sequence[Asked]) -> Iterator[Finish]:
        return finished(self.generator.answer(*zip(*asked, strict=True)))


@dataclass
class Several:
    """The masks of several sources in one file, in their order."""

    sources: Sequence[MaskSource]

    def key_parts(self, image_id: str) -> list[bytes | str]:
        return [part for source in self.sources for part in source.key_parts(image_id)]

    def prepare(self, image_id: str, image: np.ndarray) -> list[Any]:
        return [source.prepare(image_id, image) for source in self.sources]

    def masks(self, asked: Sequence[list[Any]]) -> Iterator[Finish]:
        answers = [source.masks([one[i] for one in asked]) for i, source in enumerate(self.sources)]
        for parts in zip(*answers, strict=True):
            yield partial(_joined, parts)


def _joined(parts: Sequence[Finish]) -> Masks:
    return Masks.join([finish() for finish in parts])
