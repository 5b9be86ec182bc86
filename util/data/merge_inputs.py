"""What a merge strategy is given for an image: its files as bytes, for the key of the result, and decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.data.cams import cam_file, read_cam
from util.data.image_labels import Tags, tags_of_image
from util.data.labels import decode_label, label_path
from util.data.mask_files import decode_masks, masks_bytes, masks_path
from util.data.masks import Masks
from util.data.voc import ClassTable
from util.runtime.errors import InputError
from util.runtime.files import check_folder, digest, read_bytes

Cam = dict[int, np.ndarray]


@dataclass(frozen=True)
class Inputs:
    """What a strategy is given, by folders.

    Attributes:
        pseudo_path: label maps ``<id>.png``; None: the label is empty, for strategies whose masks know their class.
        sam_path: masks, see `util.data.mask_files.read_masks`.
        classes: of the data set.
        image_labels: id -> classes that the image shows, or None.
        cam_path: soft CAMs ``<id>.npy``, or None.
    """

    pseudo_path: Path | None
    sam_path: Path
    classes: ClassTable
    image_labels: dict[str, Tags] | None = None
    cam_path: Path | None = None

    def check(self) -> None:
        """Raise InputError if a folder is not there, before any work starts."""
        if self.pseudo_path is not None:
            check_folder(self.pseudo_path, "pseudo labels")
        if self.sam_path.is_file():
            raise InputError(
                f"{self.sam_path}: one file, where a folder with the masks of each image is read; write one file per image, "
                "named by its id (such as <id>.json), and give their folder"
            )
        check_folder(self.sam_path, "SAM masks")
        if self.cam_path is not None:
            check_folder(self.cam_path, "soft CAMs")

    def tags(self, image_id: str) -> Tags | None:
        """The image's classes; None when no image-level labels are given.

        Raises:
            InputError: if there are image-level labels, but none for this image.
        """
        if self.image_labels is None:
            return None
        return tags_of_image(self.image_labels, image_id)

    def cam(self, image_id: str, shape: tuple[int, int]) -> Cam | None:
        """The image's soft CAMs, class -> float32 HxW; None when there is no folder of them.

        Raises:
            InputError: if they are missing, of another size or of unknown classes.
        """
        if self.cam_path is None:
            return None
        cam = read_cam(self.cam_path, image_id)
        for value, values in cam.items():
            if value >= len(self.classes):
                raise InputError(
                    f"{self.cam_path}/{image_id}.npy: a soft CAM of class {value - 1}, where {len(self.classes) - 1} classes "
                    "count from 0 without the background; give the class names with --class-names"
                )
            if values.shape != shape:
                raise InputError(
                    f"{self.cam_path}/{image_id}.npy: soft CAMs of {values.shape[1]}x{values.shape[0]} pixels, but the label "
                    f"is {shape[1]}x{shape[0]}; generate_cams.py --cams {self.cam_path} --out DIR enlarges them: give DIR/cams"
                )
        return cam

    def read(self, image_id: str) -> Files:
        """The bytes of an image's inputs.

        Raises:
            InputError: if one is missing or cannot be read.
        """
        label_file = None if self.pseudo_path is None else label_path(self.pseudo_path, image_id)
        mask_file = masks_path(self.sam_path, image_id)
        label = b"" if label_file is None else read_bytes(label_file)
        masks, tags, cam = masks_bytes(mask_file), self.tags(image_id), b""
        if self.cam_path is not None:
            cam = read_bytes(cam_file(self.cam_path, image_id))
        return Files(image_id, label_file, label, mask_file, masks, tags, cam)


@dataclass(frozen=True)
class Files:
    """The inputs of one image as bytes, and the files they come from."""

    image_id: str
    label_file: Path | None
    label: bytes
    mask_file: Path
    masks: bytes
    tags: Tags | None
    cam: bytes

    def key(self, fingerprint: str) -> str:
        """Digest of the inputs and of what else the result depends on."""
        return digest(fingerprint, self.label, self.masks, repr(self.tags), self.cam)

    def decode(self, inputs: Inputs) -> tuple[np.ndarray, Masks, Tags | None, Cam | None]:
        """A strategy's arguments.

        Raises:
            InputError: if a file is damaged or does not fit the others.
        """
        try:
            return self._decode(inputs)
        except (InputError, OSError):
            raise
        except Exception as error:  # one odd file must not end the run
            raise InputError(
                f"its files cannot be understood ({type(error).__name__}: {error}); make its masks, label and CAMs again"
            ) from error

    def _decode(self, inputs: Inputs) -> tuple[np.ndarray, Masks, Tags | None, Cam | None]:
        label = None
        if self.label_file is not None:
            label = decode_label(self.label, self.label_file, len(inputs.classes))
        data = None if self.mask_file.is_dir() else self.masks
        masks = decode_masks(data, self.mask_file, self.image_id, None if label is None else label.shape)
        if label is None:
            label = np.zeros(masks.shape, np.uint8)
        return label, masks.with_classes(inputs.classes.names), self.tags, inputs.cam(self.image_id, label.shape)
