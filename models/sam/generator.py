"""Masks of everything in an image, from a grid of point prompts to SAM.

The masks are those of segment-anything's ``SamAutomaticMaskGenerator`` with the same options; what is thrown away there
after it was computed is not computed here. Per batch of points: masks below the threshold of predicted IoU are never
upscaled; the others are upscaled a few at a time, judged while in cache, and kept at low resolution only. What survives
non-maximum suppression is upscaled once more and run-length coded. Memory thus does not grow with the image's size.

Source: Kirillov et al., "Segment Anything", arXiv 2304.02643, appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_point_grid, generate_crop_boxes
from torch import Tensor

from models.common.memory import free_memory
from models.common.precision import DTYPES, autocast
from models.common.transfer import to_device, to_host
from models.sam.geometry import clean_masks, cut_off, cut_out, mask_boxes, suppress
from models.sam.networks import PackageNetwork, PromptableNetwork, Seen
from models.sam.options import Options
from util.data.masks import Masks
from util.runtime.errors import InputError
from util.runtime.overlap import read_ahead

T = TypeVar("T")

# Floats of full-size masks under way at once: about a cache on a CPU, some hundred MB on a GPU.
FULL_SIZE_FLOATS = {"cpu": 2**20, "cuda": 2**26}
# What is done at once: attribute of `MaskGenerator` -> its smallest unit.
BATCHES = {"encode_batch": "one image's encoding", "points_per_batch": "one point's masks"}


@dataclass
class Candidates:
    """Masks before they are put in order; K of them, on the network's device.

    Attributes:
        logits: float32 KxSxS, low resolution.
        boxes: int64 Kx4, x0, y0, x1, y1 in the whole image, the last pixel included.
        predicted_iou, stability_score: float32 K.
        points: float64 Kx2, x, y in the whole image.
        crops: int64 Kx4, x0, y0, x1, y1 of the crop they were found in.
    """

    logits: Tensor
    boxes: Tensor
    predicted_iou: Tensor
    stability_score: Tensor
    points: Tensor
    crops: Tensor

    def select(self, indices: Tensor) -> Candidates:
        return Candidates(**{name: value[indices] for name, value in vars(self).items()})

    @staticmethod
    def join(parts: Sequence[Candidates]) -> Candidates:
        return Candidates(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@dataclass(frozen=True)
class Crop:
    """A part of an image that is searched, as its batches of points need it on the network's device.

    Attributes:
        size: (height, width).
        box, image: int64 4, x0, y0, x1, y1 of the crop and of the whole image.
        corner: int64 4, what takes a box in the crop to the whole image.
        points, placed: float64 Nx2, the grid's points in the whole image, and in pixels of the network's input.
    """

    size: tuple[int, int]
    box: Tensor
    image: Tensor
    corner: Tensor
    points: Tensor
    placed: Tensor


@dataclass
class MaskGenerator:
    """Turns images into masks.

    Args:
        sam: segment-anything's network or another promptable one, in evaluation mode, on its device.
        options: what the masks depend on.
        precision: ``fp32``, ``bf16`` or ``fp16``; of the encoder and the decoder. Masks are upscaled in float32.
        exact: use the package's modules in the package's order, so that in fp32 every bit is the package's. Otherwise
            faster ones that differ in the rounding of floats.
        encode_batch: crops that go through the encoder at once; halved whenever the GPU runs out of memory.

    Attributes:
        points_per_batch: as in the options, but halved whenever the GPU ran out of memory.

    Raises:
        InputError: from `generate`, if the GPU's memory holds not even one image or one point.
    """

    sam: Sam | PromptableNetwork
    options: Options = field(default_factory=Options)
    precision: str = "fp32"
    exact: bool = False
    encode_batch: int = 1

    def __post_init__(self) -> None:
        self.network = PackageNetwork(self.sam, self.exact) if isinstance(self.sam, Sam) else self.sam
        self.points_per_batch = self.options.points_per_batch

    def fit(self, image: np.ndarray | Seen) -> Seen:
        """What the network sees of an image (uint8 HxWx3 RGB); safe in any thread, so that it can be made ahead."""
        return image if isinstance(image, Seen) else Seen(image, self.network.fit(image))

    def generate(self, images: Sequence[np.ndarray | Seen]) -> Iterator[Masks]:
        """The masks of each image.

        Args:
            images: uint8 HxWx3 RGB, or what `fit` made of it.

        Yields:
            one `Masks` an image, in the order of ``SamAutomaticMaskGenerator``; ``extra`` has ``bbox`` (x, y, and the
            distances to the last pixel's x and y, as the package gives them), ``point_coords`` and ``crop_box``.
        """
        for finish in self.search(images):
            yield finish()

    @torch.inference_mode()
    def search(self, images: Sequence[np.ndarray | Seen]) -> Iterator[Callable[[], Masks]]:
        """As `generate`, but for each image a function that gives its masks: safe in any thread, behind the network."""
        layers, overlap = self.options.crop_n_layers, self.options.crop_overlap_ratio
        pixels = [image.image if isinstance(image, Seen) else image for image in images]
        crops = [
            (number, tuple(crop), layer)
            for number, image in enumerate(pixels)
            for crop, layer in zip(*generate_crop_boxes(image.shape[:2], layers, overlap), strict=True)
        ]

        def fitted(which: tuple[int, tuple[int, int, int, int], int]) -> Any:
            number, crop, layer = which
            image = images[number]
            if isinstance(image, Seen) and layer == 0:
                return image.pixels
            return self.network.fit(cut_out(pixels[number], crop))

        found: list[list[Candidates]] = [[] for _ in images]
        seen: list[Any] = []
        finished = start = 0
        with closing(read_ahead(fitted, crops, self.encode_batch)) as reading:
            while start < len(crops):
                while len(seen) < min(start + self.encode_batch, len(crops)):
                    seen.append(next(reading)[1].result())
                embeddings = self._halve_on_demand("encode_batch", lambda part: self._embed(seen[part]), start)
                for (number, crop, layer), embedding in zip(crops[start:], embeddings):
                    found[number].append(self._search_crop(embedding, crop, layer, pixels[number].shape[:2]))
                seen[start : start + len(embeddings)] = [None] * len(embeddings)
                start += len(embeddings)
                last = crops[start][0] if start < len(crops) else len(images)
                for number in range(finished, last):
                    yield self._finish(found[number], pixels[number].shape[:2])
                    found[number] = []
                finished = last

    def _halve_on_demand(self, attribute: str, work: Callable[[slice], T], start: int = 0) -> T:
        """``work`` on as many items from ``start`` as ``attribute`` says; halved, for good, while the GPU's memory runs out."""
        while True:
            count = getattr(self, attribute)
            try:
                return work(slice(start, start + count))
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
            # Outside of the except clause, which holds on to the failed tensors.
            if count == 1:
                raise InputError(
                    f"{self.network.device}: its memory does not even hold {BATCHES[attribute]} ({reason}); free it, "
                    "choose a smaller --model, --precision bf16 or --device cpu, then run again to resume"
                )
            setattr(self, attribute, count // 2)
            free_memory()

    # --- network ----------------------------------------------------------------------------------------------

    def _autocast(self):
        return autocast(self.network.device, DTYPES[self.precision])

    def _embed(self, fitted: list[Any]) -> Any:
        """One embedding for each image, from what the network's ``fit`` made of it."""
        with self._autocast():
            return self.network.embed(fitted)

    def _search_crop(
        self, embedding: Any, box: tuple[int, int, int, int], layer: int, size: tuple[int, int]
    ) -> Candidates:
        """All masks of one crop, after its non-maximum suppression."""
        options = self.options
        crop = self._crop(box, layer, size)
        with self._autocast():
            image = self.network.image_side(embedding)
        parts = []
        start = 0
        while start < len(crop.points):
            found = self._halve_on_demand(
                "points_per_batch", lambda part: self._search_points(image, crop, part), start
            )
            parts.append(found)
            start += self.points_per_batch
        found = Candidates.join(parts)
        return found.select(suppress(found.boxes, found.predicted_iou, options.box_nms_thresh))

    def _crop(self, box: tuple[int, int, int, int], layer: int, size: tuple[int, int]) -> Crop:
        x0, y0, x1, y1 = box
        grid = build_point_grid(self.options.points_in_layer(layer)) * np.array([[x1 - x0, y1 - y0]])
        edges = np.array([box, (0, 0, size[1], size[0]), (x0, y0, x0, y0)], np.int64)
        device, inner = self.network.device, (y1 - y0, x1 - x0)
        crop, image, corner = to_device(edges, device)
        own = to_device(grid + np.array([[x0, y0]]), device)
        return Crop(inner, crop, image, corner, own, self.network.place(grid, inner))

    def _search_points(self, image: Any, crop: Crop, part: slice) -> Candidates:
        """The masks of a batch of points that pass the thresholds; a GPU is waited for once here and once in `decode`."""
        options = self.options
        with self._autocast():
            low = self.network.decode(image, crop.placed[part], options.pred_iou_thresh)
        stability, boxes = self._judge(low.logits, crop.size)
        boxes = boxes + crop.corner
        passes = ~cut_off(boxes, crop.box, crop.image)
        if options.stability_score_thresh > 0:
            passes &= stability >= options.stability_score_thresh
        kept = to_device(np.flatnonzero(to_host(passes)[0]), boxes.device)
        return Candidates(
            low.logits[kept],
            boxes[kept],
            low.predicted_iou[kept],
            stability[kept],
            crop.points[part][low.point[kept]],
            crop.box.expand(len(kept), -1),
        )

    # --- full size --------------------------------------------------------------------------------------------

    def _full_size(self, logits: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """Upscaled logits float32 kxHxW, a few masks at a time."""
        limit = FULL_SIZE_FLOATS.get(logits.device.type, FULL_SIZE_FLOATS["cuda"])
        step = 3 * max(1, limit // max(size[0] * size[1], self.network.side**2) // 3)
        for start in range(0, len(logits), step):
            yield self.network.upscale(logits[start : start + step], size)

    def _judge(self, logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Stability score float32 K and box int64 Kx4 (x0, y0, x1, y1 in the crop) of each mask."""
        threshold, offset = self.network.mask_threshold, self.options.stability_score_offset
        scores, boxes = [logits.new_zeros(0)], [torch.zeros(0, 4, dtype=torch.int64, device=logits.device)]
        for full in self._full_size(logits, size):
            high = (full > threshold + offset).flatten(1).sum(1, dtype=torch.int32)
            low = (full > threshold - offset).flatten(1).sum(1, dtype=torch.int32)
            scores.append(high / low)
            boxes.append(mask_boxes(full > threshold))
        return torch.cat(scores), torch.cat(boxes)

    def _finish(self, parts: list[Candidates], size: tuple[int, int]) -> Callable[[], Masks]:
        """Suppress duplicates between crops; what is left is coded by the function, which needs no GPU."""
        found = Candidates.join(parts)
        if len(parts) > 1:
            wide, high = found.crops[:, 2] - found.crops[:, 0], found.crops[:, 3] - found.crops[:, 1]
            found = found.select(suppress(found.boxes, 1 / (wide * high), self.options.crop_nms_thresh))
        about = to_host(found.boxes, found.points, found.crops, found.predicted_iou, found.stability_score)
        return partial(self._coded, self._borders(found.logits, about[2], size), about, size)

    def _coded(self, borders: tuple[np.ndarray, np.ndarray], about: list[np.ndarray], size: tuple[int, int]) -> Masks:
        """The masks of an image, from `_borders` and the values of `Candidates`."""
        boxes, points, crops, scores, stability = map(torch.from_numpy, about)
        masks = run_lengths(borders, len(boxes), size)
        boxes, order = boxes.clone(), torch.arange(len(masks))
        if self.options.min_mask_region_area > 0 and len(masks):
            threshold = max(self.options.box_nms_thresh, self.options.crop_nms_thresh)
            masks, boxes, order = clean_masks(masks, boxes, self.options.min_mask_region_area, threshold)
        boxes[:, 2:] -= boxes[:, :2]
        crops = crops[order]
        crops[:, 2:] -= crops[:, :2]
        rows = zip(boxes.tolist(), points[order].tolist(), crops.tolist(), strict=True)
        extra = tuple({"bbox": box, "point_coords": [point], "crop_box": crop} for box, point, crop in rows)
        predicted_iou, stable = (values[order].double().numpy() for values in (scores, stability))
        return replace(masks, predicted_iou=predicted_iou, stability_score=stable, extra=extra)

    def _borders(self, logits: Tensor, crops: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Where runs of masks start and end in the whole image: the masks' numbers and the positions, see `run_lengths`.

        Args:
            logits: of `Candidates`.
            crops: int64 Kx4, as there but on the host.
            size: of the image.
        """
        height, width = size
        owners, positions = [logits.new_zeros(0, dtype=torch.int64)], [logits.new_zeros(0, dtype=torch.int64)]
        for x0, y0, x1, y1 in np.unique(crops, axis=0).tolist():
            members = to_device((crops == (x0, y0, x1, y1)).all(1).nonzero()[0], logits.device)
            done = 0
            for full in self._full_size(logits[members], (y1 - y0, x1 - x0)):
                inside = full > self.network.mask_threshold
                inside = F.pad(inside, (x0, width - x1, y0, height - y1))
                # Column by column, with an empty pixel before and after, so that runs start and end in pairs.
                flat = F.pad(inside.transpose(1, 2).flatten(1), (1, 1))
                owner, position = (flat[:, 1:] ^ flat[:, :-1]).nonzero(as_tuple=True)
                owners.append(members[done + owner])
                positions.append(position)
                done += len(full)
        borders = to_host(torch.cat(owners), torch.cat(positions))
        return borders[0], borders[1]


def run_lengths(borders: tuple[np.ndarray, np.ndarray], count: int, size: tuple[int, int]) -> Masks:
    """Run-length codes of ``count`` masks; masks of one crop lie together or not, their order is kept.

    Args:
        borders: int64, of each start and end of a run its mask, and its place counted column by column.
    """
    owner, position = borders
    steps = position[owner.argsort(kind="stable")]
    counts = np.bincount(owner, minlength=count) // 2
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    unknown = np.full(count, np.nan)
    return Masks(*size, steps[0::2].copy(), steps[1::2].copy(), offsets, unknown, unknown)
