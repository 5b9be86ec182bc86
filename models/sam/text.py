"""SAM 3 asked by words: the masks of every instance of an image's classes.

Source: Carion et al., "SAM 3: Segment Anything with Concepts", arXiv 2511.16719; network and post-processing are those
of ``transformers``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from models.common.precision import DTYPES, autocast
from models.common.transfer import to_device
from models.sam.families import MODELS, TEXT_TYPES, hub_errors, model_source, model_type
from models.sam.networks import Seen, size_of
from util.data.masks import LEAST_SCORE, Masks
from util.runtime.errors import InputError


class TextGenerator:
    """Turns images and the names of what they show into masks.

    The encoder runs once per image, the text encoder once per phrase.

    Args:
        net: ``Sam3Model`` in evaluation mode, on its device.
        processor: its ``Sam3Processor``.
        synonyms: category -> phrases to ask with; the category's own name where there are none.
        threshold: masks must have a higher score.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    def __init__(
        self,
        net: Any,
        processor: Any,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        threshold: float = LEAST_SCORE,
        precision: str = "fp32",
    ):
        self.net, self.processor, self.synonyms = net, processor, dict(synonyms or {})
        self.threshold, self.precision = threshold, precision
        self.device = next(net.parameters()).device
        self._phrases: dict[str, tuple[Any, torch.Tensor]] = {}

    def fit(self, image: np.ndarray | Seen) -> Seen:
        """What the network sees of an image (uint8 HxWx3 RGB); safe in any thread, so that it can be made ahead."""
        if isinstance(image, Seen):
            return image
        return Seen(image, self.processor(images=image, return_tensors="np")["pixel_values"])

    @torch.inference_mode()
    def answer(self, images: Sequence[np.ndarray | Seen], categories: Sequence[Sequence[str]]) -> Iterator[Masks]:
        """The masks of each image.

        Args:
            images: uint8 HxWx3 RGB, or what `fit` made of it.
            categories: names of the classes that each image shows; none: no masks.

        Yields:
            one `Masks` per image; ``extra`` has ``category``, ``prompt``, and ``score``, which is the predicted IoU as
            well.
        """
        for image, names in zip(images, categories, strict=True):
            size = size_of(image)
            found = self._answer_image(self.fit(image).pixels, names, size) if names else []
            dense = [mask for mask, _, _ in found]
            scores = [score for _, _, score in found]
            extra = [{"category": name, "prompt": "tags", "score": score} for _, name, score in found]
            yield Masks.from_dense(np.stack(dense) if dense else np.zeros((0, *size), bool), scores, None, extra)

    def _answer_image(
        self, pixels: np.ndarray, names: Sequence[str], size: tuple[int, int]
    ) -> list[tuple[np.ndarray, str, float]]:
        try:
            with autocast(self.device, DTYPES[self.precision]):
                seen = self.net.get_vision_features(to_device(pixels, self.device))
                return [
                    answer
                    for name in names
                    for phrase in self.synonyms.get(name) or (name,)
                    for answer in self._answer_phrase(seen, phrase, name, size)
                ]
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{self.device}: its memory does not hold one image ({str(error).splitlines()[0]}); free it, choose "
                "--precision bf16 or --device cpu, then run again to resume"
            ) from None

    def _answer_phrase(
        self, seen: Any, phrase: str, name: str, size: tuple[int, int]
    ) -> Iterator[tuple[np.ndarray, str, float]]:
        text, attention = self._embed(phrase)
        found = self.net(vision_embeds=seen, text_embeds=text, attention_mask=attention)
        result = self.processor.post_process_instance_segmentation(found, self.threshold, target_sizes=[size])[0]
        for mask, score in zip(result["masks"].cpu().numpy() > 0, result["scores"].float().tolist(), strict=True):
            if mask.any():
                yield mask, name, score

    def _embed(self, phrase: str) -> tuple[Any, torch.Tensor]:
        if phrase not in self._phrases:
            words = self.processor(text=phrase, return_tensors="pt").to(self.device)
            text = self.net.get_text_features(words["input_ids"], words["attention_mask"], return_dict=True)
            self._phrases[phrase] = text, words["attention_mask"]
        return self._phrases[phrase]


def check_words(name: str) -> None:
    """Raise InputError if a model takes no text prompts, or is not a SAM; for short names without the network."""
    kind = name if name in MODELS else model_type(name)
    if not (MODELS[name].words if name in MODELS else kind in TEXT_TYPES):
        raise InputError(
            f"--model {name}: a {kind} takes no words; use --model sam3 with --prompt tags, or --prompt cam, which "
            "needs no text"
        )


def load_text_network(name: str, device: torch.device) -> tuple[nn.Module, Any]:
    """SAM 3 for text prompts, in evaluation mode, and its processor.

    Raises:
        InputError: if it cannot be fetched, or is a network without text.
    """
    import transformers

    check_words(name)
    with hub_errors(name):
        source = model_source(name)
        net = transformers.Sam3Model.from_pretrained(source)
        processor = transformers.Sam3Processor.from_pretrained(source)
    return net.eval().to(device), processor
