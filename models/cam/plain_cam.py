"""Plain class activation maps on any segmentation-models-pytorch encoder.

Source: Zhou et al., "Learning Deep Features for Discriminative Localization", arXiv 1512.04150. As usual in
weakly supervised segmentation, the linear classifier is a 1x1 convolution without bias before the average
pooling, so that its output is the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.convolution import use_own_convolutions
from models.common.preprocessing import Normalization, encoder_normalization, pad_to_multiple
from models.common.weights import download_in_words, is_own, load_encoder_file
from util.runtime.errors import InputError

STRIDE = 16

# Chosen on 100 images of VOC's train list with a MobileNetV2; see docs/results.md for what the walk brings.
AFFINITY_POWER = 4
WALK_STEPS = 16


class PlainCAMOutput(NamedTuple):
    """What `PlainCAM` returns; C-1 classes, the background is not counted; h and w are a 16th of the image's.

    Attributes:
        logits: float Bx(C-1), the mean of ``conv_cam`` over the image.
        conv_cam: float Bx(C-1)xhxw, class maps, signed.
        affinity: float32 BxNxN with N = h*w, see `feature_affinity`. None if it was not asked for.
    """

    logits: Tensor
    conv_cam: Tensor
    affinity: Tensor | None

    @property
    def raw_cam(self) -> Tensor:
        """float Bx(C-1)xhxw, signed: ``conv_cam`` as it is."""
        return self.conv_cam

    @property
    def cam(self) -> Tensor:
        """float32 Bx(C-1)xhxw, not negative: the maps after the random walk."""
        assert self.affinity is not None, "the network was asked to leave the affinities out"
        return random_walk(self.conv_cam, self.affinity)


def feature_affinity(features: list[Tensor]) -> Tensor:
    """How alike two places of an image look to the encoder.

    Every stage's features are brought to the grid of the last, freed of their mean over the image and scaled to
    length 1; the affinity is the mean of the stages' cosines, negative ones cut off, to the power `AFFINITY_POWER`.

    Args:
        features: BxCxHxW of several stages, the coarsest last (hxw).

    Returns:
        float32 BxNxN with N = h*w; rows sum to 1.
    """
    height, width = features[-1].shape[2:]
    with torch.autocast(features[-1].device.type, enabled=False):  # in bfloat16 rows would not sum to 1
        stages = [F.adaptive_avg_pool2d(stage.float(), (height, width)) for stage in features]
        stages = [F.normalize(stage - stage.mean(dim=(2, 3), keepdim=True), dim=1) for stage in stages]
        places = torch.cat(stages, dim=1).flatten(2)
        cosines = torch.einsum("bci,bcj->bij", places, places) / len(stages)
        affinity = cosines.clamp(min=0) ** AFFINITY_POWER
        # An image of one colour has no features left after its mean: every place is then alike.
        affinity = affinity + 1e-12
        return affinity / affinity.sum(dim=2, keepdim=True)


def random_walk(cam: Tensor, affinity: Tensor, steps: int = WALK_STEPS) -> Tensor:
    """Spread the positive part of class maps over places that look alike.

    A random walk on an image's affinities comes from Ahn and Kwak, "Learning Pixel-level Semantic Affinity",
    arXiv 1803.10464; taking the affinities from a classifier's features, without training for them, from Wang
    et al., "Self-supervised Equivariant Attention Mechanism", arXiv 2004.04581.

    Args:
        cam: float BxKxhxw.
        affinity: float BxNxN, rows sum to 1.
        steps: how often every place takes the weighted mean of all places.

    Returns:
        float32 BxKxhxw.
    """
    maps = cam.float().clamp(min=0).flatten(2)
    with torch.autocast(cam.device.type, enabled=False):
        for _ in range(steps):
            maps = torch.einsum("bij,bkj->bki", affinity, maps)
    return maps.reshape(cam.shape)


class PlainCAM(nn.Module):
    """An encoder at stride 16, and a 1x1 class convolution.

    An encoder that comes trained is ``frozen`` where little data can only harm it: batch normalisation keeps its
    statistics (batches of crops are too small to measure better ones), and the stages down to stride 8 keep
    their weights, which also saves a third of the time of a training step.

    Args:
        num_classes: classes with the background, which gets no map.
        encoder: name of an encoder of segmentation-models-pytorch that can run at stride 16.
        encoder_weights: name of its published weights (downloaded), or None for random ones.
        frozen: whether batch normalisation and the early stages keep what they came with while training.
    """

    def __init__(
        self,
        num_classes: int,
        encoder: str,
        encoder_weights: str | None = None,
        frozen: bool = True,
    ):
        super().__init__()
        self.num_classes, self.encoder_name, self.frozen = num_classes, encoder, frozen
        try:
            with download_in_words(encoder, encoder_weights):
                encoder_net: Any = smp.encoders.get_encoder(encoder, weights=encoder_weights, output_stride=STRIDE)
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise InputError(
                f"--encoder {encoder} with --encoder-weights {encoder_weights}: {error}. Choose an encoder of "
                "segmentation-models-pytorch that supports an output stride of 16, and weights that it has"
            ) from None
        self.encoder = use_own_convolutions(encoder_net)
        self.normalization = encoder_normalization(encoder, encoder_weights)
        if frozen:
            self._freeze_early_stages()
        self.classifier = nn.Conv2d(encoder_net.out_channels[-1], num_classes - 1, 1, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def _freeze_early_stages(self) -> None:
        # The library names the stages of stride 16 and 32; timm's encoders ("tu-...") it takes as one piece.
        encoder: Any = self.encoder
        if hasattr(encoder, "get_stages"):
            encoder.requires_grad_(False)
            for modules in encoder.get_stages().values():
                for module in modules:
                    module.requires_grad_(True)

    @property
    def config(self) -> dict:
        """What `from_config` builds the same network from."""
        return {
            "method": "cam",
            "num_classes": self.num_classes,
            "encoder": self.encoder_name,
            "frozen": self.frozen,
        }

    @classmethod
    def from_config(cls, config: Mapping) -> PlainCAM:
        return cls(config["num_classes"], config["encoder"], None, config["frozen"])

    def train(self, mode: bool = True) -> PlainCAM:
        super().train(mode)
        if self.frozen:
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor, with_attention: bool = True) -> PlainCAMOutput:
        """Class logits and maps of float images Bx3xHxW, normalised by ``normalization``.

        Sides that are not multiples of 16 are padded as in `TransCAM`. ``with_attention=False`` leaves out the
        affinities, which training does not need.
        """
        features = self.encoder(pad_to_multiple(images, STRIDE))
        conv_cam = self.classifier(features[-1])
        affinity = feature_affinity(features[-4:]) if with_attention else None
        return PlainCAMOutput(conv_cam.mean(dim=(2, 3)), conv_cam, affinity)

    def parameter_groups(self, lr: float) -> list[dict]:
        """Optimiser groups: the new classifier learns ten times as fast as the encoder."""
        return [
            {"params": [p for p in self.encoder.parameters() if p.requires_grad], "lr": lr},
            {"params": list(self.classifier.parameters()), "lr": 10 * lr},
        ]

    def load_encoder(self, file: str) -> None:
        """Load the encoder's weights from a file, see `models.common.weights.load_encoder`.

        Raises:
            InputError: if the file cannot be read, or anything is missing, over, or of another shape.
        """
        content = load_encoder_file(self.encoder, file, self.encoder_name)
        if is_own(content):
            self.normalization = Normalization.from_content(content, file)
