"""TransCAM: class activation maps from a Conformer, refined by its own attention.

Sources: Conformer (Peng et al., arXiv 2105.03889) is the network, TransCAM (Li et al., arXiv 2203.07239) the
class activation maps. Parameter names and shapes are those of the published networks, so that their
checkpoints load unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from models.common.preprocessing import IMAGENET, pad_to_multiple
from models.common.weights import check_state, plain_state
from util.runtime import checkpoint

STRIDE = 16
# The published network normalises with 1e-6 everywhere but in its stem and its last LayerNorm.
BLOCK_EPS = 1e-6
HEADS = ("trans_cls_head.", "conv_cls_head.")


@dataclass(frozen=True)
class ConformerSize:
    """What one Conformer differs from another in.

    Attributes:
        base_channels: width of the first CNN stage; the second and third have 2 and 4 times as many channels.
        embed_dim: width of a token.
        depth: number of blocks, a multiple of 3; a third of them run at each of the strides 4, 8 and 16.
        heads: attention heads of a block.
        drop_path: stochastic depth of the last block's transformer part; it grows linearly from 0.
    """

    base_channels: int
    embed_dim: int
    depth: int
    heads: int
    drop_path: float = 0.1


# "tiny" is for tests and generated images; it is smaller than the published Conformer-Ti.
SIZES = {
    "tiny": ConformerSize(base_channels=64, embed_dim=96, depth=6, heads=3, drop_path=0.0),
    "small": ConformerSize(base_channels=256, embed_dim=384, depth=12, heads=6),
    "base": ConformerSize(base_channels=384, embed_dim=576, depth=12, heads=9),
}


class TransCAMOutput(NamedTuple):
    """What `TransCAM` returns for float images Bx3xHxW; C counts the background at 0, h and w are H/16 and W/16.

    Attributes:
        conv_logits: float BxC, the mean of ``conv_cam`` over the image.
        trans_logits: float BxC, from the class token.
        conv_cam: float BxCxhxw, class maps of the CNN branch, signed.
        attention: float32 BxNxN with N = 1 + h*w (class token first), averaged over heads and summed over
            blocks: a row sums to the number of blocks. None if it was not asked for.
    """

    conv_logits: Tensor
    trans_logits: Tensor
    conv_cam: Tensor
    attention: Tensor | None

    @property
    def logits(self) -> Tensor:
        """float Bx(C-1): the sum of both branches, without the background, which no label ever trains."""
        return (self.conv_logits + self.trans_logits)[:, 1:]

    @property
    def raw_cam(self) -> Tensor:
        """float Bx(C-1)xhxw, signed: the CNN branch's maps, without the background."""
        return self.conv_cam[:, 1:]

    @property
    def cam(self) -> Tensor:
        """float Bx(C-1)xhxw, signed: the maps refined by attention, without the background."""
        assert self.attention is not None, "the network was asked to leave the attention out"
        return refine_by_attention(self.conv_cam, self.attention)[:, 1:]


def refine_by_attention(cam: Tensor, attention: Tensor) -> Tensor:
    """TransCAM's refinement: every patch gathers the class scores of the patches that it attends to.

    ``refined[i] = sum_j attention[i, j] * cam[j]``; the class token is left out of rows and columns and the
    remaining rows are not scaled up again.

    Args:
        cam: float BxCxhxw, signed.
        attention: float Bx(1+h*w)x(1+h*w), class token first.

    Returns:
        BxCxhxw in the attention's dtype.
    """
    patches = attention[:, 1:, 1:]
    with torch.autocast(cam.device.type, enabled=False):
        refined = torch.einsum("bij,bcj->bci", patches, cam.flatten(2).to(patches.dtype))
    return refined.reshape(cam.shape)


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Multi-head self-attention that can also return its weights, averaged over heads."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        batch, tokens, dim = x.shape
        query, key, value = (
            part.reshape(batch, tokens, self.heads, dim // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        if with_weights:
            scale = (dim // self.heads) ** -0.5
            weights = torch.softmax((query * scale @ key.transpose(-2, -1)).float(), dim=-1)
            mixed = weights.to(value.dtype) @ value
            weights = weights.mean(dim=1)
        else:  # the fused kernel never holds the weights, which is what training needs
            mixed, weights = F.scaled_dot_product_attention(query, key, value), None
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim)), weights


class TransformerBlock(nn.Module):
    def __init__(self, dim: int, heads: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: Tensor, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.attn(self.norm1(x), with_weights)
        x = x + self.drop_path(attended)
        return x + self.drop_path(self.mlp(self.norm2(x))), weights


class ConvBlock(nn.Module):
    """A bottleneck whose 3x3 convolution can take in the transformer's features and hands out its own."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1, project: bool = False):
        super().__init__()
        middle = channels // 4
        self.conv1 = nn.Conv2d(channels_in, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle, eps=BLOCK_EPS)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle, eps=BLOCK_EPS)
        self.conv3 = nn.Conv2d(middle, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, eps=BLOCK_EPS)
        self.project = project
        if project:
            self.residual_conv = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)
            self.residual_bn = nn.BatchNorm2d(channels, eps=BLOCK_EPS)

    def forward(self, x: Tensor, from_tokens: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Features after the block (channels) and those after its 3x3 convolution (channels / 4)."""
        shortcut = self.residual_bn(self.residual_conv(x)) if self.project else x
        middle = F.relu(self.bn1(self.conv1(x)))
        middle = F.relu(self.bn2(self.conv2(middle + from_tokens)))
        return F.relu(self.bn3(self.conv3(middle)) + shortcut), middle


class SqueezeBlock(nn.Module):
    """Feature-coupling unit, CNN to transformer: a 1x1 convolution and average pooling make one vector per patch."""

    def __init__(self, channels: int, dim: int, cell: int):
        super().__init__()
        self.conv_project = nn.Conv2d(channels, dim, 1)
        self.ln = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.cell = cell

    def forward(self, features: Tensor) -> Tensor:
        pooled = F.avg_pool2d(self.conv_project(features), self.cell)
        return F.gelu(self.ln(pooled.flatten(2).transpose(1, 2)))


class ExpandBlock(nn.Module):
    """Feature-coupling unit, transformer to CNN: patch tokens become a map, enlarged by nearest neighbour."""

    def __init__(self, dim: int, channels: int, cell: int):
        super().__init__()
        self.conv_project = nn.Conv2d(dim, channels, 1)
        self.bn = nn.BatchNorm2d(channels, eps=BLOCK_EPS)
        self.cell = cell

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        patches = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
        return F.interpolate(F.relu(self.bn(self.conv_project(patches))), scale_factor=self.cell)


class ConvTransBlock(nn.Module):
    """One block of both branches; ``cell`` is the side of a patch in pixels of the CNN's features."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        cell: int,
        size: ConformerSize,
        drop_path: float,
        stride: int = 1,
        project: bool = False,
        project_fusion: bool = False,
    ):
        super().__init__()
        self.cnn_block = ConvBlock(channels_in, channels, stride, project)
        self.fusion_block = ConvBlock(channels, channels, project=project_fusion)
        self.squeeze_block = SqueezeBlock(channels // 4, size.embed_dim, cell)
        self.expand_block = ExpandBlock(size.embed_dim, channels // 4, cell)
        self.trans_block = TransformerBlock(size.embed_dim, size.heads, drop_path)

    def forward(
        self, x: Tensor, tokens: Tensor, grid: tuple[int, int], with_weights: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        x, middle = self.cnn_block(x)
        # The squeezed features come with a copy of the class token, so that the sum holds it twice.
        squeezed = torch.cat([tokens[:, :1], self.squeeze_block(middle)], dim=1)
        tokens, weights = self.trans_block(squeezed + tokens, with_weights)
        x, _ = self.fusion_block(x, self.expand_block(tokens, grid))
        return x, tokens, weights


class TransCAM(nn.Module):
    """Conformer with a 3x3 class convolution, returning class logits and what class activation maps need.

    Args:
        num_classes: classes with the background, which has outputs that are never trained nor used.
        size: a name in `SIZES` or a `ConformerSize`.
    """

    def __init__(self, num_classes: int = 21, size: str | ConformerSize = "small"):
        super().__init__()
        size = SIZES[size] if isinstance(size, str) else size
        if size.depth % 3 or size.depth < 6:
            raise ValueError(f"a Conformer's depth is a multiple of 3 and at least 6, not {size.depth}")
        self.num_classes, self.size, self.last_block = num_classes, size, size.depth
        self.normalization = IMAGENET
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.embed_dim))
        self.trans_norm = nn.LayerNorm(size.embed_dim)
        self.trans_cls_head = nn.Linear(size.embed_dim, num_classes)
        self.conv_cls_head = nn.Conv2d(4 * size.base_channels, num_classes, 3, padding=1)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv_1 = ConvBlock(64, size.base_channels, project=True)
        self.trans_patch_conv = nn.Conv2d(64, size.embed_dim, 4, stride=4)
        rates = [size.drop_path * number / (size.depth - 1) for number in range(size.depth)]
        self.trans_1 = TransformerBlock(size.embed_dim, size.heads, rates[0])
        channels_in = size.base_channels
        for number in range(2, size.depth + 1):
            # Stage 1 ends a block early, because the stem's block counts as its first.
            stage = (number - 1) // (size.depth // 3)
            channels, enters = size.base_channels * 2**stage, stage > 0 and (number - 1) % (size.depth // 3) == 0
            block = ConvTransBlock(
                channels_in,
                channels,
                cell=4 // 2**stage,
                size=size,
                drop_path=rates[number - 1],
                stride=2 if enters else 1,
                project=enters,
                project_fusion=number == size.depth,
            )
            self.add_module(f"conv_trans_{number}", block)
            channels_in = channels
        self.apply(_initialise)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    @property
    def config(self) -> dict:
        """What `from_config` builds the same network from."""
        return {"method": "transcam", "num_classes": self.num_classes, "size": asdict(self.size)}

    @classmethod
    def from_config(cls, config: Mapping) -> TransCAM:
        return cls(config["num_classes"], ConformerSize(**config["size"]))

    def forward(self, images: Tensor, with_attention: bool = True) -> TransCAMOutput:
        """Class logits and maps of float images Bx3xHxW, normalised by ``normalization``.

        Sides that are not multiples of 16 are padded with zeros at the right and bottom; the maps then cover the
        padded image. ``with_attention=False`` saves the memory of the attention weights, for training.
        """
        images = pad_to_multiple(images, STRIDE)
        stem = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        x, _ = self.conv_1(stem)
        patches = self.trans_patch_conv(stem)
        grid = tuple(patches.shape[2:])
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens, attention = self.trans_1(tokens, with_attention)
        for number in range(2, self.last_block + 1):
            block = getattr(self, f"conv_trans_{number}")
            x, tokens, weights = block(x, tokens, grid, with_attention)
            if with_attention:
                attention = attention + weights
        conv_cam = self.conv_cls_head(x)
        trans_logits = self.trans_cls_head(self.trans_norm(tokens[:, 0]))
        return TransCAMOutput(conv_cam.mean(dim=(2, 3)), trans_logits, conv_cam, attention)

    def parameter_groups(self, lr: float) -> list[dict]:
        """Optimiser groups: one learning rate for all, as published."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": lr}]

    def load_backbone(self, file: str | os.PathLike) -> None:
        """Load a Conformer trained on other classes: everything but the two class heads, which stay as they are.

        Raises:
            InputError: if the file cannot be read, or anything else is missing, over, or of another shape.
        """
        source = os.fspath(file)
        state = plain_state(checkpoint.load(file), source)
        body = {name: value for name, value in state.items() if not name.startswith(HEADS)}
        expected = {n: v for n, v in self.state_dict().items() if not n.startswith(HEADS)}
        check_state(body, expected, source)
        self.load_state_dict(body, strict=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
