"""SAM's mask decoder for many single-point prompts on one image.

Two decoders with one interface. `PackageDecoder` calls segment-anything's transformer as it is. `FoldedDecoder`
computes the same function in another order, with about a third of the arithmetic:

* A prompt is seven tokens and the image thousands. A projection of the image side of an attention, followed by a
  product with the seven tokens of each head, is moved to the token side: ``q . (W x) = (W' q) . x``, and for the values
  ``sum a (W x) = W (sum a x)``. The bias of the keys adds the same number to every key of a query and drops out of the
  softmax.
* In the first layer the image side is the same for every point, so its projections are made once an image.
* Only points of which a mask passes the threshold of predicted IoU are upscaled. The transposed convolutions do not
  overlap (kernel = stride), so they are matrix products on pixels, and only the final masks are put in raster order.

Source: Kirillov et al., "Segment Anything", arXiv 2304.02643, and its package ``segment-anything``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn

from models.common.transfer import to_device, to_host


@dataclass(frozen=True)
class LowMasks:
    """The masks of a batch of points that passed the threshold, at the decoder's resolution.

    Attributes:
        logits: float32 KxSxS; the masks in order of points, and of outputs within a point.
        predicted_iou: float32 K.
        point: int64 K, which point of the batch.
    """

    logits: Tensor
    predicted_iou: Tensor
    point: Tensor


@contextlib.contextmanager
def exact_positions(device: torch.device) -> Iterator[None]:
    """Within, nothing is computed below float32: bfloat16 or TF32 would move points by up to a pixel."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def embed_points(sam: Sam, points: Tensor) -> Tensor:
    """Prompt tokens of single foreground points, as the package's prompt encoder gives them but without its masks.

    Args:
        points: float64 Bx2, (x, y) in the pixels of the network's input.

    Returns:
        float32 Bx2xC: the point and the padding that stands where a box could.
    """
    encoder = sam.prompt_encoder
    with exact_positions(sam.device):
        found = encoder.pe_layer.forward_with_coords(points[:, None] + 0.5, encoder.input_image_size)
        found = found + encoder.point_embeddings[1].weight
        return torch.cat([found, encoder.not_a_point_embed.weight.expand(len(points), 1, -1)], dim=1)


def image_positions(sam: Sam) -> Tensor:
    """Positional encoding of the image tokens, float32 1xCxHxW."""
    with exact_positions(sam.device):
        return sam.prompt_encoder.get_dense_pe()


def at_least_float32(values: Tensor) -> Tensor:
    """What mixed precision made smaller, in float32; a float64 network's values stay float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@dataclass(frozen=True)
class Passing:
    """Masks whose predicted IoU is above the threshold, as indices int64 on the network's device.

    Attributes:
        point, output: K, of the mask.
        points: ascending, the points that have such a mask.
        owner: K, the place of ``point`` in ``points``.
    """

    point: Tensor
    output: Tensor
    points: Tensor
    owner: Tensor


def passing(predicted_iou: Tensor, threshold: float) -> Passing:
    """The masks of predicted IoU BxM above the threshold; 0 or less lets all pass. A GPU is waited for once at most."""
    if threshold > 0:
        (passes,) = to_host(predicted_iou > threshold)
    else:
        passes = np.ones(predicted_iou.shape, bool)
    point, output = passes.nonzero()
    points, owner = np.unique(point, return_inverse=True)
    found = to_device(np.concatenate([point, output, owner, points]), predicted_iou.device)
    count = len(point)
    return Passing(found[:count], found[count : 2 * count], found[3 * count :], found[2 * count : 3 * count])


class PackageDecoder:
    """segment-anything's own decoder modules, in their own order; bit for bit what the package computes.

    Args:
        sam: the network; only its decoder and prompt encoder are used.
    """

    def __init__(self, sam: Sam):
        self.sam = sam

    def image_side(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """What every batch of points on an image shares.

        Args:
            embedding: float32 CxHxW from the image encoder.
        """
        return embedding[None], image_positions(self.sam)

    def decode(self, image: tuple[Tensor, Tensor], points: Tensor, threshold: float) -> LowMasks:
        """The masks of a batch of points whose predicted IoU is above ``threshold``.

        Args:
            image: from `image_side`.
            points: float64 Bx2, (x, y) in the pixels of the network's input.
            threshold: of the predicted IoU; 0 or less keeps all masks.
        """
        embedding, position = image
        sparse = embed_points(self.sam, points)
        height, width = embedding.shape[-2:]
        dense = self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(len(points), -1, height, width)
        logits, iou = self.sam.mask_decoder(embedding, position, sparse, dense, multimask_output=True)
        iou = at_least_float32(iou)
        kept = passing(iou, threshold)
        return LowMasks(at_least_float32(logits[kept.point, kept.output]), iou[kept.point, kept.output], kept.point)


@dataclass(frozen=True)
class ImageSide:
    """What every point on an image shares, N = HxW image tokens of C channels.

    Attributes:
        keys: NxC, the image embedding with the embedding of "no mask".
        position: NxC, its positional encoding.
        key, value: headsxNxd, of the first attention from tokens to the image.
        query: Nx(heads*d), of the first attention from the image to tokens.
        size: (H, W).
    """

    keys: Tensor
    position: Tensor
    key: Tensor
    value: Tensor
    query: Tensor
    size: tuple[int, int]


class FoldedDecoder:
    """The same function as `PackageDecoder`, up to the rounding of floats, with a third of the arithmetic.

    Args:
        sam: the network; only its decoder and prompt encoder are used. Its weights must not change afterwards.

    Raises:
        ValueError: if the decoder is not built as segment-anything 1.0 builds it.
    """

    def __init__(self, sam: Sam):
        self.sam = sam
        self.decoder = sam.mask_decoder
        self.transformer = self.decoder.transformer
        self.first, *self.rest = self.transformer.layers
        first_up, norm, gelu, second_up, last_gelu = self.decoder.output_upscaling
        for layer in (first_up, second_up):
            if layer.kernel_size != (2, 2) or layer.stride != (2, 2) or layer.padding != (0, 0):
                raise ValueError(f"the decoder upsamples by {layer}; FoldedDecoder knows kernel and stride of 2 only")
        if not self.first.skip_first_layer_pe or any(layer.skip_first_layer_pe for layer in self.rest):
            raise ValueError("the decoder's first layer must be the one without positional encoding")
        self.norm, self.gelu, self.last_gelu = norm, gelu, last_gelu
        self.first_up, self.second_up = (self._as_matrix(layer) for layer in (first_up, second_up))

    @staticmethod
    def _as_matrix(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
        # (in, out, 2, 2) -> (in, 2*2*out): every pixel becomes four, one after the other.
        weight = layer.weight.detach().permute(0, 2, 3, 1).flatten(1).contiguous()
        assert layer.bias is not None
        return weight, layer.bias.detach().repeat(4)

    def image_side(self, embedding: Tensor) -> ImageSide:
        """What every batch of points on an image shares.

        Args:
            embedding: float32 CxHxW from the image encoder.
        """
        encoder, (height, width) = self.sam.prompt_encoder, embedding.shape[-2:]
        keys = (embedding + encoder.no_mask_embed.weight.reshape(-1, 1, 1)).flatten(1).t().contiguous()
        position = image_positions(self.sam)[0].flatten(1).t().contiguous()
        to_image, to_tokens = self.first.cross_attn_token_to_image, self.first.cross_attn_image_to_token
        positioned = keys + position
        key, value = (
            projected.unflatten(-1, (to_image.num_heads, -1)).transpose(0, 1).contiguous()
            for projected in (to_image.k_proj(positioned), to_image.v_proj(keys))
        )
        return ImageSide(keys, position, key, value, to_tokens.q_proj(positioned), (height, width))

    def decode(self, image: ImageSide, points: Tensor, threshold: float) -> LowMasks:
        """The masks of a batch of points whose predicted IoU is above ``threshold``; as `PackageDecoder.decode`."""
        decoder = self.decoder
        prompt = embed_points(self.sam, points)
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).to(prompt.dtype)
        tokens = torch.cat([outputs.expand(len(points), -1, -1), prompt], dim=1)

        queries, keys = self._transform(image, tokens)
        iou = at_least_float32(decoder.iou_prediction_head(queries[:, 0])[:, 1:])
        kept = passing(iou, threshold)
        logits = self._upscale(keys, queries, kept, image.size)
        return LowMasks(logits, iou[kept.point, kept.output], kept.point)

    def _transform(self, image: ImageSide, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens BxTxC -> tokens BxTxC and image tokens BxNxC, through the two-way transformer."""
        layer = self.first
        queries = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
        queries = layer.norm2(queries + self._look_at_shared_image(image, queries + tokens))
        queries = layer.norm3(queries + layer.mlp(queries))
        keys = self._look_at_tokens(layer, image.query, image.keys, queries + tokens, queries)

        for layer in self.rest:
            positioned = queries + tokens
            queries = layer.norm1(queries + layer.self_attn(q=positioned, k=positioned, v=queries))
            keys_at = keys + image.position
            attention = layer.cross_attn_token_to_image
            queries = layer.norm2(queries + self._look_at_image(attention, queries + tokens, keys_at, keys))
            queries = layer.norm3(queries + layer.mlp(queries))
            keys = self._look_at_tokens(layer, keys_at, keys, queries + tokens, queries)

        attention = self.transformer.final_attn_token_to_image
        queries = queries + self._look_at_image(attention, queries + tokens, keys + image.position, keys)
        return self.transformer.norm_final_attn(queries), keys

    def _look_at_shared_image(self, image: ImageSide, positioned: Tensor) -> Tensor:
        """First layer, tokens to image: all points at once against one set of keys. BxTxC -> BxTxC."""
        attention = self.first.cross_attn_token_to_image
        batch, count, _ = positioned.shape
        query = attention.q_proj(positioned).flatten(0, 1).unflatten(-1, (attention.num_heads, -1)).transpose(0, 1)
        out = F.scaled_dot_product_attention(query[None], image.key[None], image.value[None])[0]
        return attention.out_proj(out.transpose(0, 1).reshape(batch, count, -1))

    @staticmethod
    def _look_at_image(attention: Attention, positioned: Tensor, keys_at: Tensor, keys: Tensor) -> Tensor:
        """Tokens to image, the image's projections folded into the tokens. BxTxC, BxNxC, BxNxC -> BxTxC."""
        heads, (batch, count, channels) = attention.num_heads, positioned.shape
        query = attention.q_proj(positioned).unflatten(-1, (heads, -1))
        scale = query.shape[-1] ** -0.5
        key_weight = attention.k_proj.weight.unflatten(0, (heads, -1)).to(query.dtype)
        folded = torch.einsum("bthd,hdc->bhtc", query * scale, key_weight).reshape(batch, -1, channels)
        weights = torch.bmm(folded, keys_at.transpose(1, 2).to(folded.dtype)).softmax(-1)
        seen = torch.bmm(weights.to(keys.dtype), keys).view(batch, heads, count, channels)
        value_weight = attention.v_proj.weight.unflatten(0, (heads, -1)).to(seen.dtype)
        out = torch.einsum("bhtc,hdc->bthd", seen, value_weight).flatten(2) + attention.v_proj.bias
        return attention.out_proj(out)

    @staticmethod
    def _look_at_tokens(
        layer: TwoWayAttentionBlock, source: Tensor, keys: Tensor, positioned: Tensor, values: Tensor
    ) -> Tensor:
        """Image to tokens, with the residual and its norm: the layer's new image tokens BxNxC.

        Args:
            source: what the image asks with: projected queries Nx(heads*d) that all points share, or BxNxC not yet
                projected.
            keys: the residual, NxC or BxNxC.
            positioned, values: BxTxC, the tokens as keys and as values.
        """
        attention = layer.cross_attn_image_to_token
        heads, (batch, count, _) = attention.num_heads, positioned.shape
        key = attention.k_proj(positioned).unflatten(-1, (heads, -1))
        key = key * key.shape[-1] ** -0.5
        value = attention.v_proj(values).unflatten(-1, (heads, -1))
        if source.dim() == 2:
            # Every head sees its own d channels: the token keys in a block-diagonal matrix.
            identity = torch.eye(heads, dtype=key.dtype, device=key.device)
            folded = torch.einsum("bthd,hg->bhtgd", key, identity).reshape(batch * heads * count, -1)
            scores = (folded @ source.t().to(folded.dtype)).view(batch, heads, count, -1)
        else:
            query_weight = attention.q_proj.weight.unflatten(0, (heads, -1)).to(key.dtype)
            folded = torch.einsum("bthd,hdc->bhtc", key, query_weight).reshape(batch, heads * count, -1)
            # Unlike a bias of the keys, one of the queries differs from token to token.
            bias = torch.einsum("bthd,hd->bht", key, attention.q_proj.bias.unflatten(0, (heads, -1)).to(key.dtype))
            scores = torch.baddbmm(bias.reshape(batch, -1, 1), folded, source.transpose(1, 2).to(folded.dtype))
            scores = scores.view(batch, heads, count, -1)
        weights = scores.softmax(2).flatten(1, 2).transpose(1, 2)
        out_weight = attention.out_proj.weight.unflatten(1, (heads, -1)).to(value.dtype)
        folded_value = torch.einsum("bthd,chd->bhtc", value, out_weight).reshape(batch, heads * count, -1)
        residual = (keys + attention.out_proj.bias).to(folded_value.dtype)
        residual = residual.expand(batch, -1, -1)
        return layer.norm4(torch.baddbmm(residual, weights.to(folded_value.dtype), folded_value))

    def _upscale(self, keys: Tensor, queries: Tensor, kept: Passing, size: tuple[int, int]) -> Tensor:
        """Logits float32 Kx(4H)x(4W) of the masks that pass."""
        (height, width), points = size, kept.points
        if not len(points):
            return at_least_float32(keys.new_zeros((0, 4 * height, 4 * width)))
        pixels = keys[points]
        weight, bias = self.first_up
        pixels = torch.addmm(bias, pixels.flatten(0, 1), weight).view(-1, weight.shape[1] // 4)
        # LayerNorm2d normalises over channels, which come last here.
        pixels = self.gelu(F.layer_norm(pixels, pixels.shape[-1:], self.norm.weight, self.norm.bias, self.norm.eps))
        weight, bias = self.second_up
        pixels = self.last_gelu(torch.addmm(bias, pixels, weight)).view(len(points), height * width * 16, -1)

        hyper = torch.stack(
            [mlp(queries[points, 2 + i]) for i, mlp in enumerate(self.decoder.output_hypernetworks_mlps[1:])], dim=2
        )
        logits = torch.bmm(pixels, hyper.to(pixels.dtype))[kept.owner, :, kept.output]
        # pixel, its four parts, their four parts -> rows and columns
        logits = logits.view(-1, height, width, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
        return at_least_float32(logits.reshape(-1, 4 * height, 4 * width))
