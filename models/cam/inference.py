"""Class activation maps of whole images: several sizes, flips, sums and normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.cam.data import resize_long_side
from models.cam.plain_cam import STRIDE
from models.common.precision import autocast
from models.common.preprocessing import normalization_of, pad_to_multiple
from models.common.transfer import to_device, to_host
from util.data.images import find_image, read_image
from util.runtime.errors import InputError


class ScaledImages(Dataset):
    """Images in several sizes for inference.

    An item is ``(id, (H, W), inputs, message)`` with one uint8 3xhxw per size; when the image cannot be read,
    ``inputs`` is empty and the message says why.

    Args:
        ids, folder: the images.
        sizes: in pixels.
        square: whether an image is squeezed into squares of these sizes, as TransCAM does, or keeps its
            proportions with its long side at these sizes.
    """

    def __init__(self, ids: list[str], folder, sizes: tuple[int, ...], square: bool):
        self.ids, self.folder, self.sizes, self.square = ids, folder, sizes, square

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> tuple[str, tuple[int, int], list[Tensor], str]:
        image_id = self.ids[number]
        try:
            image = read_image(find_image(self.folder, image_id))
        except InputError as error:
            return image_id, (0, 0), [], str(error)
        whole = Image.fromarray(image)
        inputs = [_tensor(self._resized(whole, size)) for size in self.sizes]
        return image_id, image.shape[:2], inputs, ""

    def _resized(self, image: Image.Image, size: int) -> Image.Image:
        if self.square:
            return image.resize((size, size), Image.Resampling.BICUBIC)
        return resize_long_side(image, size)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))


@torch.inference_mode()
def multi_scale_cams(
    net: nn.Module,
    inputs: list[list[Tensor]],
    shapes: list[tuple[int, int]],
    tags: list[tuple[int, ...]],
    flip: bool,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
    raw: bool = False,
) -> list[dict[int, np.ndarray]]:
    """Soft class activation maps of some images.

    A map is the sum over sizes and flips at the image's own size, clipped at 0, and stretched to reach from 0 to
    1. Images of one input size go through the network together; what comes out does not depend on the company.

    Args:
        net: a classifier with its ``normalization``, whose output has ``cam`` and ``raw_cam`` (Bx(C-1)xhxw).
        inputs: for each image its sizes, see `ScaledImages`.
        shapes: for each image (H, W).
        tags: for each image its classes, label-map values from 1; other classes get no map.
        flip: whether to add the mirrored image.
        autocast_dtype: for mixed precision; None computes in float32.
        raw: take the class convolution's maps as they are, without attention (TransCAM) or random walk (plain CAM).

    Returns:
        for each image class -> float32 HxW in [0, 1].
    """
    sums = [torch.zeros(len(tag), *shape, device=device) for tag, shape in zip(tags, shapes, strict=True)]
    rows = [to_device(np.array(tag, np.int64) - 1, device) for tag in tags]
    for size in range(len(inputs[0])):
        for numbers in _same_size([sizes[size] for sizes in inputs]):
            pixels = torch.stack([inputs[number][size].to(device, non_blocking=True) for number in numbers])
            batch = normalization_of(net)(pixels)
            images = pad_to_multiple(torch.cat([batch, batch.flip(-1)]) if flip else batch, STRIDE)
            with autocast(device, autocast_dtype):
                output = net(images, with_attention=not raw)
                cams = (output.raw_cam if raw else output.cam).float()
            for number, *views in zip(numbers, *cams.split(len(numbers)), strict=True):
                for mirrored, cam in enumerate(views if tags[number] else []):
                    enlarged = _enlarge(cam[rows[number]], images.shape[2:], batch.shape[2:], shapes[number])
                    sums[number] += enlarged.flip(-1) if mirrored else enlarged
    maps = to_host(*(stretch(total) for total in sums))
    return [dict(zip(tag, values, strict=True)) for tag, values in zip(tags, maps, strict=True)]


def stretch(maps: Tensor) -> Tensor:
    """Clip KxHxW at 0 and stretch every map to reach from 0 to 1; a map without anything positive becomes 0."""
    maps = maps.clamp(min=0)
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-5)


def _same_size(images: list[Tensor]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(tuple(image.shape), []).append(number)
    return list(groups.values())


def _enlarge(cam: Tensor, padded: Sequence[int], inner: Sequence[int], shape: tuple[int, int]) -> Tensor:
    # The maps cover the padded input: enlarge them by what takes the input to the image, then cut the padding off.
    size = [round(side * whole / part) for side, whole, part in zip(shape, padded, inner, strict=True)]
    enlarged = F.interpolate(cam[None], size=size, mode="bilinear", align_corners=False)[0]
    return enlarged[:, : shape[0], : shape[1]]
