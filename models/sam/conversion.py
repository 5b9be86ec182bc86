"""SAM-HQ and SAM 2 from the checkpoint files of their authors: the parameters under the names of ``transformers``.

Sources: https://github.com/SysCV/sam-hq and https://github.com/facebookresearch/sam2 for the files and the networks' sizes,
and the networks of ``transformers``, whose parameters are the same under other names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.common.weights import State, check_state

# Rules (pattern, replacement) that turn the name of a parameter into transformers', in this order.
_EVERY = (
    *((rf"mask_downscaling\.{i}\.", f"mask_embed.{name}.") for i, name in ((0, "conv1"), (3, "conv2"), (6, "conv3"))),
    *((rf"mask_downscaling\.{i}\.", f"mask_embed.layer_norm{n}.") for i, n in ((1, 1), (4, 2))),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"point_embeddings\.", "point_embed."),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"\.norm", ".layer_norm"),
    # Perceptrons of three layers: heads and hypernetworks.
    *(
        (rf"(_head|hf_mlp|hypernetworks_mlps\.\d)\.layers\.{i}\.", rf"\1.{name}.")
        for i, name in ((0, "proj_in"), (2, "proj_out"), (1, "layers.0"))
    ),
)
_HQ_PARTS = {"compress_vit_feat": "compress_vit", "embedding_encoder": "encoder", "embedding_maskfeature": "mask"}
SAM_HQ = (
    *_EVERY,
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.", "vision_encoder."),
    *((rf"neck\.{i}\.", f"neck.{name}.") for i, name in enumerate(("conv1", "layer_norm1", "conv2", "layer_norm2"))),
    (r"hf_token\.", "hq_token."),
    (r"hf_mlp\.", "hq_mask_mlp."),
    *(
        (rf"{old}\.{i}\.", f"{new}_{name}.")
        for old, new in _HQ_PARTS.items()
        for i, name in ((0, "conv1"), (1, "norm"), (3, "conv2"))
    ),
)
SAM2 = (
    *_EVERY,
    (r"^sam_", ""),
    (r"^no_mem_embed", "no_memory_embedding"),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.(convs\.\d)\.conv\.", r"vision_encoder.neck.\1."),
    (r"(backbone\.blocks\.\d+|transformer\.layers\.\d)\.mlp\.layers\.0\.", r"\1.mlp.proj_in."),
    (r"(backbone\.blocks\.\d+|transformer\.layers\.\d)\.mlp\.layers\.1\.", r"\1.mlp.proj_out."),
    (r"(mask_decoder\..*)\.out_proj\.", r"\1.o_proj."),
)
# Parts of SAM 2 that only videos need.
VIDEO = ("memory_", "maskmem_", "mask_downsample.", "obj_ptr_", "no_obj_", "no_mem_pos_enc")

# Channels, layers, heads, layers with global attention.
VIT = {
    "b": (768, 12, 12, [2, 5, 8, 11]),
    "l": (1024, 24, 16, [5, 11, 17, 23]),
    "h": (1280, 32, 16, [7, 15, 23, 31]),
}
# Channels and heads of the first stage (each later one has twice as many), blocks per stage, blocks with global attention,
# windows per stage, side of the window of positions.
HIERA: dict[str, tuple[int, int, list[int], list[int], list[int], int]] = {
    "tiny": (96, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7], 7),
    "small": (96, 1, [1, 2, 11, 2], [7, 10, 13], [8, 4, 14, 7], 7),
    "base-plus": (112, 2, [2, 3, 16, 3], [12, 16, 20], [8, 4, 14, 7], 14),
    "large": (144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8], 7),
}


def sam_hq(size: str, state: Mapping[str, Tensor], source: str) -> tuple[Any, Any]:
    """SAM-HQ of transformers, in evaluation mode, and its image processor.

    Args:
        size: a key of `VIT`.
        state: as in the authors' file.
        source: what to call the file in messages.

    Raises:
        InputError: if parameters are missing, over, or of other shapes.
    """
    import transformers

    channels, layers, heads, global_layers = VIT[size]
    vision = {
        "hidden_size": channels,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "global_attn_indexes": global_layers,
    }
    config = transformers.SamHQConfig(vision_config=vision, mask_decoder_config={"vit_dim": channels})
    return _built(transformers.SamHQModel, config, renamed(state, SAM_HQ), source), transformers.SamImageProcessor()


def sam2(size: str, state: Mapping[str, Tensor], source: str) -> tuple[Any, Any]:
    """SAM 2 or 2.1 of transformers, for images; as `sam_hq`, with ``size`` a key of `HIERA`."""
    import transformers

    channels, heads, blocks, global_blocks, windows, background = HIERA[size]
    stages = [2**stage for stage in range(4)]
    widths = [channels * factor for factor in stages]
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=channels,
        num_attention_heads=heads,
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * factor for factor in stages],
        window_size_per_stage=windows,
        global_attention_blocks=global_blocks,
        window_positional_embedding_background_size=[background, background],
    )
    vision = transformers.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
    state = renamed({name: value for name, value in state.items() if not name.startswith(VIDEO)}, SAM2)
    points = [state.pop(name) for i in range(4) if (name := f"prompt_encoder.point_embed.{i}.weight") in state]
    if points:
        state["prompt_encoder.point_embed.weight"] = torch.cat(points)
    config = transformers.Sam2Config(vision_config=vision)
    return _built(transformers.Sam2Model, config, state, source), transformers.Sam2ImageProcessor()


def renamed(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> State:
    """The same parameters under transformers' names."""
    result: State = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = value
    positions = result.get("prompt_encoder.shared_embedding.positional_embedding")
    return result if positions is None else {**result, "shared_image_embedding.positional_embedding": positions}


def _built(kind: Any, config: Any, state: State, source: str) -> Any:
    with torch.device("meta"):
        check_state(state, kind(config).state_dict(), source)
    return kind.from_pretrained(None, config=config, state_dict=state).eval()
