"""Masks for prompts that know the class: the encoder runs once per image, the decoder once per batch of prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from models.common.transfer import to_host
from models.sam.generator import Candidates, MaskGenerator, run_lengths
from models.sam.networks import Seen, size_of
from models.sam.prompts import Prompt
from util.data.masks import Masks

# Prompts of equal numbers of points, with or without a box, go through the decoder together.
Shape = tuple[int, bool]


class PromptedGenerator(MaskGenerator):
    """Turns images and their prompts into masks; see `MaskGenerator` for its arguments.

    A prompt of a single point is ambiguous: of SAM's three masks for it, the one with the highest predicted IoU is taken.
    A box, or several points, get one mask, as SAM's authors recommend. Of a category's masks with a box IoU above
    ``box_nms_thresh`` the best is kept.
    """

    @torch.inference_mode()
    def answer(self, images: Sequence[np.ndarray | Seen], prompts: Sequence[Sequence[Prompt]]) -> Iterator[Masks]:
        """The masks of each image.

        Args:
            images: uint8 HxWx3 RGB, or what `fit` made of it.
            prompts: of each image; an image without prompts has no masks.

        Yields:
            one `Masks` per image, in the order of the prompts; ``extra`` has ``category``, ``prompt``, ``score`` (the predicted
            IoU), ``point_coords`` and ``crop_box``.
        """
        for image, asked in zip(images, prompts, strict=True):
            yield self._answer_image(image, asked)

    def _answer_image(self, image: np.ndarray | Seen, asked: Sequence[Prompt]) -> Masks:
        size = size_of(image)
        if not asked:
            return Masks.from_dense(np.zeros((0, *size), bool))
        pixels = self.fit(image).pixels
        embedding = self._halve_on_demand("encode_batch", lambda _: self._embed([pixels]))[0]
        groups: dict[Shape, list[int]] = defaultdict(list)
        for number, prompt in enumerate(asked):
            groups[len(prompt.points), prompt.box is not None].append(number)
        parts = [
            part
            for members in groups.values()
            for part in self._answer_group(embedding, [asked[number] for number in members], size)
        ]
        order = torch.tensor([number for members in groups.values() for number in members]).argsort()
        found = Candidates.join(parts).select(order.to(parts[0].boxes.device))
        kept = self._distinct(found, asked)
        return self._describe(found.select(kept), [asked[number] for number in kept.tolist()], size)

    def _answer_group(self, embedding: Any, asked: Sequence[Prompt], size: tuple[int, int]) -> Iterator[Candidates]:
        start = 0
        while start < len(asked):
            part = self._halve_on_demand(
                "points_per_batch", lambda some: self._answer_batch(embedding, asked[some], size), start
            )
            yield part
            start += len(part.boxes)

    def _answer_batch(self, embedding: Any, asked: Sequence[Prompt], size: tuple[int, int]) -> Candidates:
        """The best mask of each prompt; all prompts have as many points, and a box or not."""
        device, network = self.network.device, self.network
        count, boxed = len(asked[0].points), asked[0].box is not None
        points = labels = boxes = None
        if count:
            points = torch.stack([network.place(prompt.points, size) for prompt in asked])
            labels = torch.from_numpy(np.stack([prompt.labels for prompt in asked])).to(device, torch.int)
        if boxed:
            corners = np.array([prompt.box for prompt in asked], np.float64).reshape(-1, 2)
            boxes = network.place(corners, size).reshape(-1, 4)
        with self._autocast():
            logits, iou = network.decode_prompts(embedding, points, labels, boxes, multimask=count == 1 and not boxed)
        best = iou.argmax(1)
        rows = torch.arange(len(asked), device=device)
        logits, iou = logits[rows, best], iou[rows, best]
        stability, tight = self._judge(logits, size)
        first = [prompt.points[0] if count else np.zeros(2) for prompt in asked]
        whole = torch.tensor([0, 0, size[1], size[0]], device=device).expand(len(asked), -1)
        return Candidates(logits, tight, iou, stability, torch.from_numpy(np.stack(first)).to(device), whole)

    def _distinct(self, found: Candidates, asked: Sequence[Prompt]) -> Tensor:
        """Ascending indices of the masks without empty ones and duplicates within a category."""
        categories = sorted({prompt.category or "" for prompt in asked})
        owner = torch.tensor([categories.index(prompt.category or "") for prompt in asked])
        boxes = found.boxes.cpu()
        kept = batched_nms(boxes.float(), found.predicted_iou.cpu().float(), owner, self.options.box_nms_thresh)
        sizes = (found.logits > self.network.mask_threshold).flatten(1).any(1).cpu()
        return kept[sizes[kept]].sort().values

    def _describe(self, found: Candidates, asked: Sequence[Prompt], size: tuple[int, int]) -> Masks:
        masks = run_lengths(self._borders(found.logits, to_host(found.crops)[0], size), len(asked), size)
        extra = []
        for prompt, score in zip(asked, found.predicted_iou.tolist(), strict=True):
            about: dict[str, Any] = {"score": score, "point_coords": prompt.points.tolist()}
            about["crop_box"] = [0, 0, size[1], size[0]]
            named = {"category": prompt.category, "prompt": prompt.kind}
            about |= {key: name for key, name in named.items() if name is not None}
            extra.append(about)
        return replace(
            masks,
            predicted_iou=found.predicted_iou.cpu().double().numpy(),
            stability_score=found.stability_score.cpu().double().numpy(),
            extra=tuple(extra),
        )
