"""SAM's image encoder with fused attention.

The arithmetic of segment-anything's ViT; its attention forms the whole matrix of scores in several passes over memory
(0.8 GB for one image in a global layer of ViT-B), here PyTorch's fused kernel does it.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.image_encoder import Attention, Block, get_rel_pos, window_partition, window_unpartition
from torch import Tensor

# On a CPU, attention over more tokens than this (the global layers) goes through in pieces of so many rows.
MOST_TOKENS, ROWS = 1024, 8


class PackageEncoder:
    """segment-anything's own image encoder; bit for bit what the package computes."""

    def __init__(self, sam: Sam):
        self.encoder = sam.image_encoder

    def __call__(self, images: Tensor) -> Tensor:
        """float32 Bx3xSxS from ``Sam.preprocess`` -> embeddings BxCx(S/16)x(S/16)."""
        return self.encoder(images)


class FusedEncoder:
    """The same function as `PackageEncoder`, up to the rounding of floats, with fused attention."""

    def __init__(self, sam: Sam):
        self.encoder: ImageEncoderViT = sam.image_encoder

    def __call__(self, images: Tensor) -> Tensor:
        """float32 Bx3xSxS from ``Sam.preprocess`` -> embeddings BxCx(S/16)x(S/16)."""
        encoder = self.encoder
        tokens = encoder.patch_embed(images)
        if encoder.pos_embed is not None:
            tokens = tokens + encoder.pos_embed
        for block in encoder.blocks:
            tokens = tokens + self._attend(block, block.norm1(tokens))
            tokens = tokens + block.mlp(block.norm2(tokens))
        return encoder.neck(tokens.permute(0, 3, 1, 2))

    @staticmethod
    def _attend(block: Block, tokens: Tensor) -> Tensor:
        if block.window_size == 0:
            return fused_attention(block.attn, tokens)
        height, width = tokens.shape[1:3]
        windows, padded = window_partition(tokens, block.window_size)
        return window_unpartition(fused_attention(block.attn, windows), block.window_size, padded, (height, width))


def fused_attention(attention: Attention, tokens: Tensor) -> Tensor:
    """Multi-head self-attention with decomposed relative positions, BxHxWxC -> BxHxWxC."""
    batch, height, width, channels = tokens.shape
    heads = attention.num_heads
    qkv = attention.qkv(tokens).view(batch, height * width, 3, heads, channels // heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    bias = None
    if attention.use_rel_pos:
        rel_h = relative_positions(height, attention.rel_pos_h).to(query.dtype)
        rel_w = relative_positions(width, attention.rel_pos_w).to(query.dtype)
        grid = query.unflatten(2, (height, width))
        bias_h = torch.einsum("bnhwc,hkc->bnhwk", grid, rel_h)[..., :, None]
        bias_w = torch.einsum("bnhwc,wkc->bnhwk", grid, rel_w)[..., None, :]
        if query.is_cuda or height * width <= MOST_TOKENS:
            bias = (bias_h + bias_w).reshape(batch, heads, height * width, height * width)
        else:
            return attention.proj(_row_by_row(query, key, value, bias_h, bias_w, (height, width)))
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return attention.proj(out.transpose(1, 2).reshape(batch, height, width, channels))


def relative_positions(side: int, embeddings: Tensor) -> Tensor:
    """The embedding of every pair of places: (2*side-1)xC -> side x side x C; other lengths are interpolated."""
    if len(embeddings) != 2 * side - 1:
        return get_rel_pos(side, side, embeddings)
    return embeddings[_distances(side, embeddings.device)]


@lru_cache(maxsize=16)
def _distances(side: int, device: torch.device) -> Tensor:
    # Kept on the device: the package makes it on the host for every layer, and a GPU is waited for each time.
    with torch.inference_mode(False):
        places = torch.arange(side, device=device)
        return places[:, None] - places + side - 1


def _row_by_row(
    query: Tensor, key: Tensor, value: Tensor, bias_h: Tensor, bias_w: Tensor, size: tuple[int, int]
) -> Tensor:
    """Attention of some image rows of one head at a time, so that scores and biases stay in a CPU's cache.

    Args:
        query, key, value: BxheadsxNxd, N = HxW.
        bias_h, bias_w: BxheadsxHxWxHx1 and BxheadsxHxWx1xW, to be added to the scores.
        size: (H, W).

    Returns:
        BxHxWx(heads*d).
    """
    height, width = size
    batch, heads, count, depth = query.shape
    out = query.new_empty(batch, heads, count, depth)
    for b in range(batch):
        for h in range(heads):
            for start in range(0, height, ROWS):
                stop = min(start + ROWS, height)
                part = slice(start * width, stop * width)
                bias = (bias_h[b, h, start:stop] + bias_w[b, h, start:stop]).reshape(-1, count)
                out[b, h, part] = F.scaled_dot_product_attention(
                    query[None, None, b, h, part], key[None, None, b, h], value[None, None, b, h], attn_mask=bias
                )
    return out.transpose(1, 2).reshape(batch, height, width, -1)
