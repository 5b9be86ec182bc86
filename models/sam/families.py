"""Every family of Segment Anything that Hugging Face's ``transformers`` has, behind the mask generator's interface.

A model is a short name of `MODELS`, the id of a repository on the Hugging Face hub, or a folder that holds one. Its
configuration decides the family, so that fine-tuned models work as well.

Sources: Kirillov et al., "Segment Anything", arXiv 2304.02643; Ke et al., "Segment Anything in High Quality", arXiv
2306.01567; Ravi et al., "SAM 2: Segment Anything in Images and Videos", arXiv 2408.00714; Zhou et al., "EdgeTAM",
arXiv 2501.07256; Carion et al., "SAM 3: Segment Anything with Concepts", arXiv 2511.16719.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.hub import hub_downloads
from models.common.transfer import to_device
from models.sam.decoder import LowMasks, at_least_float32, exact_positions, passing
from models.sam.networks import input_size, upscale_padded
from models.sam.options import PACKAGE_MODELS
from util.runtime.errors import InputError, meant
from util.runtime.files import digest, file_digest


@dataclass(frozen=True)
class Model:
    """A published model.

    Attributes:
        hub_id: of its repository on the Hugging Face hub.
        size: of the download, megabytes.
        gated: whether the hub asks for a login and the acceptance of the licence.
        words: whether it takes text prompts.
    """

    hub_id: str
    size: int
    gated: bool = False
    words: bool = False


MODELS = {
    "sam-b": Model("facebook/sam-vit-base", 375),
    "sam-l": Model("facebook/sam-vit-large", 1250),
    "sam-h": Model("facebook/sam-vit-huge", 2560),
    "sam-hq-b": Model("syscv-community/sam-hq-vit-base", 380),
    "sam-hq-l": Model("syscv-community/sam-hq-vit-large", 1260),
    "sam-hq-h": Model("syscv-community/sam-hq-vit-huge", 2570),
    "sam2.1-tiny": Model("facebook/sam2.1-hiera-tiny", 156),
    "sam2.1-small": Model("facebook/sam2.1-hiera-small", 184),
    "sam2.1-base-plus": Model("facebook/sam2.1-hiera-base-plus", 324),
    "sam2.1-large": Model("facebook/sam2.1-hiera-large", 898),
    "edgetam": Model("yonigozlan/EdgeTAM-hf", 56),
    "sam3": Model("facebook/sam3", 3440, gated=True, words=True),
}

FREE_ALTERNATIVE = "sam2.1-large"


@dataclass(frozen=True)
class Family:
    """How a kind of network is loaded and fed.

    Attributes:
        network: name of its class in ``transformers``.
        padded: whether an image keeps its proportions and is padded to a square; otherwise it is stretched to one.
    """

    network: str
    padded: bool


# By the model type of the configuration; networks for videos hold the one for images.
FAMILIES = {
    "sam": Family("SamModel", padded=True),
    "sam_hq": Family("SamHQModel", padded=True),
    "sam2": Family("Sam2Model", padded=False),
    "sam2_video": Family("Sam2Model", padded=False),
    "edgetam": Family("EdgeTamModel", padded=False),
    "edgetam_video": Family("EdgeTamModel", padded=False),
    "sam3": Family("Sam3TrackerModel", padded=False),
    "sam3_video": Family("Sam3TrackerModel", padded=False),
    "sam3_tracker": Family("Sam3TrackerModel", padded=False),
    "sam3_tracker_video": Family("Sam3TrackerModel", padded=False),
}
TEXT_TYPES = ("sam3", "sam3_video")  # model types that hold a network for text prompts


def model_source(name: str) -> str:
    """The hub id or folder that a name stands for.

    Raises:
        InputError: if it is a path without a model.
    """
    if name in MODELS:
        return MODELS[name].hub_id
    if Path(name).is_dir():
        if not Path(name, "config.json").is_file():
            raise InputError(
                f"--model {name}: this folder holds no config.json; give a folder that save_pretrained wrote, "
                f"a hub id, or one of {', '.join(MODELS)}"
            )
        return name
    if name.count("/") != 1 or name.startswith((".", os.sep)):
        known = [*PACKAGE_MODELS, *MODELS, "regions"]
        question = meant(name.lower().replace("_", "-"), known) or meant(name, known)
        raise InputError(
            f"--model {name}: neither a known name nor a folder; {f'{question} Else ' if question else ''}give a "
            f"hub id (owner/name), a folder, a checkpoint file, or one of {', '.join(known)}"
        )
    return name


@contextlib.contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turns what goes wrong between here and the Hugging Face hub into an InputError."""
    from huggingface_hub import get_session
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    hooks = get_session().event_hooks["request"]
    if limit_waiting not in hooks:
        hooks.append(limit_waiting)
    try:
        with hub_downloads():
            yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        causes = [error, error.__cause__, error.__context__]
        source = MODELS[name].hub_id if name in MODELS else name
        if any(isinstance(cause, GatedRepoError) for cause in causes) or (name in MODELS and MODELS[name].gated):
            raise InputError(
                f"--model {name}: its weights are gated. Accept the licence at https://huggingface.co/{source} and log "
                f"in with `hf auth login`, or use --model {FREE_ALTERNATIVE}, which is free. The hub said: {_line(error)}"
            ) from None
        if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            raise InputError(
                f"--model {name}: the hub has no {source}, or it is private; check the name, or log in with "
                "`hf auth login`"
            ) from None
        raise InputError(
            f"--model {name}: cannot be loaded ({_line(error)}); check the network and run again to resume, or give the "
            "folder of a downloaded model"
        ) from None


def limit_waiting(request: Any) -> None:
    """Limit the time that a request to the hub waits: huggingface_hub 2.4 waits for some for ever, for others six minutes."""
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT

    given = request.extensions.get("timeout", {})
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {
        kind: min(given.get(kind) or HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT) for kind in kinds
    }


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def model_type(name: str) -> str:
    """The model type in the configuration of a model.

    Raises:
        InputError: if there is none, it cannot be fetched, or it is not a SAM.
    """
    from transformers import AutoConfig

    with hub_errors(name):
        kind = AutoConfig.from_pretrained(model_source(name)).model_type
    if kind not in FAMILIES:
        raise InputError(f"--model {name}: holds a {kind}, not a SAM; known are {', '.join(FAMILIES)}")
    return kind


def identity(name: str) -> str:
    """What distinguishes the weights of a model: a digest of the folder's files, or the commit on the hub."""
    from transformers import AutoConfig

    source = model_source(name)
    if Path(source).is_dir():
        files = sorted(f for f in Path(source).iterdir() if f.suffix in (".json", ".safetensors", ".bin"))
        return digest(*(part for file in files for part in (file.name, file_digest(file))))
    with hub_errors(name):
        return f"{source}@{AutoConfig.from_pretrained(source)._commit_hash}"


def load_network(name: str, device: torch.device) -> TransformersNetwork:
    """A network for point and box prompts, in evaluation mode.

    Args:
        name: a key of `MODELS`, a hub id, or a folder.
        device: where it runs.

    Raises:
        InputError: if it cannot be fetched, or is not a SAM.
    """
    import transformers

    family = FAMILIES[model_type(name)]
    with hub_errors(name):
        source = model_source(name)
        net = getattr(transformers, family.network).from_pretrained(source)
        processor = transformers.AutoImageProcessor.from_pretrained(source)
    return TransformersNetwork(net.eval().to(device), processor, family.padded)


def keep_image_tokens(module: nn.Module, args: tuple, given: dict[str, Any], found: tuple[Tensor, Tensor]) -> None:
    """A hook for the two-way transformer of SAM-HQ, whose image tokens transformers 5.24 throws away.

    `SamHQMaskDecoder.forward` goes on with the transformer's input, rows and columns swapped, and makes other masks than the
    authors' code. Here the tokens take the place of the input, swapped once more; a version that uses the tokens does not
    look at the input again.
    """
    image, tokens = given["image_embeddings"], found[1]
    if image.dim() == 4:
        image.copy_(tokens.transpose(2, 3).reshape(image.shape).transpose(2, 3))


def positions(forward: Callable[..., Tensor], coordinates: Tensor, *more: Any, **named: Any) -> Tensor:
    """Positional encodings, in float32 also under autocast."""
    with exact_positions(coordinates.device):
        return forward(coordinates, *more, **named)


class TransformersNetwork:
    """A SAM of ``transformers`` as a `models.sam.networks.PromptableNetwork`.

    Args:
        net: in evaluation mode, on its device.
        processor: its image processor.
        padded: as in `Family`.
    """

    mask_threshold = 0.0

    def __init__(self, net: Any, processor: Any, padded: bool):
        self.net, self.processor, self.padded = net, processor, padded
        if type(net).__name__ == "SamHQModel":
            net.mask_decoder.transformer.register_forward_hook(keep_image_tokens, with_kwargs=True)
        for module in net.modules():
            if type(module).__name__.endswith("PositionalEmbedding"):
                module.forward = partial(positions, module.forward)
        self.device = next(net.parameters()).device
        self.side = processor.size.get("longest_edge") or processor.size["height"]

    def to(self, device: torch.device) -> TransformersNetwork:
        """The same network, moved to a device."""
        self.net, self.device = self.net.to(device), device
        return self

    def fit(self, image: np.ndarray) -> np.ndarray:
        """float32 1x3xSxS, normalised."""
        return self.processor(images=image, return_tensors="np")["pixel_values"]

    def embed(self, fitted: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """One embedding for each image: keyword arguments of the network."""
        pixels = to_device(np.concatenate(fitted), self.device)
        found = self.net.get_image_embeddings(pixels)
        if isinstance(found, tuple):  # SAM-HQ: what its last layer and its early layers give
            last, early = found
            return [
                {"image_embeddings": last[i : i + 1], "intermediate_embeddings": [part[i : i + 1] for part in early]}
                for i in range(len(fitted))
            ]
        if isinstance(found, list):  # SAM 2: one map per resolution
            return [{"image_embeddings": [part[i : i + 1] for part in found]} for i in range(len(fitted))]
        return [{"image_embeddings": found[i : i + 1]} for i in range(len(fitted))]

    def image_side(self, embedding: dict[str, Any]) -> dict[str, Any]:
        return embedding

    def place(self, points: np.ndarray, size: tuple[int, int]) -> Tensor:
        height, width = input_size(size, self.side) if self.padded else (self.side, self.side)
        return to_device(points * np.array([width / size[1], height / size[0]]), self.device)

    def decode(self, image: dict[str, Any], points: Tensor, threshold: float) -> LowMasks:
        labels = torch.ones(len(points), 1, dtype=torch.int, device=self.device)
        logits, iou = self.decode_prompts(image, points[:, None], labels, None, multimask=True)
        kept = passing(iou, threshold)
        return LowMasks(logits[kept.point, kept.output], iou[kept.point, kept.output], kept.point)

    def decode_prompts(
        self,
        embedding: dict[str, Any],
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        prompts: dict[str, Tensor] = {}
        if points is not None and labels is not None:
            prompts |= {"input_points": points[None].float(), "input_labels": labels[None]}
        if boxes is not None:
            prompts["input_boxes"] = boxes[None].float()
        found = self.net(**embedding, **prompts, multimask_output=multimask)
        return at_least_float32(found.pred_masks[0]), at_least_float32(found.iou_scores[0])

    def upscale(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        if self.padded:
            return upscale_padded(logits, size, self.side)
        return F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]
