"""Tiny networks of every SAM family of transformers, with random weights, and their image processors."""

import json

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

SIDE = 128
HEADS = dict(hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32)


def padded(prefix):
    """SAM, SAM-HQ."""
    vision = dict(
        hidden_size=32,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        window_size=4,
        global_attn_indexes=[1],
        num_pos_feats=16,
        mlp_dim=64,
        initializer_range=0.5,
    )
    prompt = dict(hidden_size=32, image_size=SIDE, mask_input_channels=4)
    more = {"vit_dim": 32} if prefix == "SamHQ" else {}
    config = getattr(transformers, f"{prefix}Config")(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config={**HEADS, **more}
    )
    processor = transformers.SamImageProcessor(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    return getattr(transformers, f"{prefix}Model")(config), processor


def sam2():
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[3],
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        fpn_hidden_size=32,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    )
    prompt = dict(hidden_size=32, image_size=SIDE, mask_input_channels=4)
    config = transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=HEADS)
    return transformers.Sam2Model(config), transformers.Sam2ImageProcessor(size={"height": SIDE, "width": SIDE})


def edgetam():
    # The published configuration's backbone; its default here is another one, for the misspelt name of an argument.
    arguments = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    vision = transformers.EdgeTamVisionConfig(
        backbone_config=transformers.TimmWrapperConfig(architecture="repvit_m1", model_args=arguments),
        backbone_channel_list=[384, 192, 96, 48],
        fpn_hidden_size=32,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    )
    prompt = dict(hidden_size=32, image_size=SIDE, mask_input_channels=4)
    config = transformers.EdgeTamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=HEADS)
    return transformers.EdgeTamModel(config), transformers.Sam2ImageProcessor(size={"height": SIDE, "width": SIDE})


def sam3_vision():
    side = 112
    backbone = transformers.Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        window_size=4,
        global_attn_indexes=[1],
        pretrain_image_size=56,
    )
    sizes = [[side // 14 * 4] * 2, [side // 14 * 2] * 2, [side // 14] * 2]
    vision = transformers.Sam3VisionConfig(backbone_config=backbone, fpn_hidden_size=32, backbone_feature_sizes=sizes)
    return vision, transformers.Sam3ImageProcessor(size={"height": side, "width": side}), side


def sam3_tracker():
    vision, processor, side = sam3_vision()
    prompt = dict(hidden_size=32, image_size=side, mask_input_channels=4)
    config = transformers.Sam3TrackerConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=HEADS
    )
    return transformers.Sam3TrackerModel(config), processor


BUILDERS = {
    "sam": lambda: padded("Sam"),
    "sam_hq": lambda: padded("SamHQ"),
    "sam2": sam2,
    "edgetam": edgetam,
    "sam3_tracker": sam3_tracker,
}


def tiny(kind, seed=0):
    """A network of the family, in evaluation mode, and its image processor.

    Random decoders predict IoUs around 0 and masks of noise; the last layers are widened so that thresholds matter.
    """
    torch.manual_seed(seed)
    net, processor = BUILDERS[kind]()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1 and parameter.std() < 0.1:
                parameter.mul_(4)
    return net.eval(), processor


def random_image(height=90, width=120, seed=0):
    """uint8 HxWx3 of blurred noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 15 + 1, width // 15 + 1, 3)).repeat(15, 0).repeat(15, 1)
    return coarse[:height, :width].astype(np.uint8)


def sam3_text(folder):
    """A tiny SAM 3 for text and its processor, with a tokenizer that spells words in letters."""
    vision, image_processor, _ = sam3_vision()
    sizes = dict(hidden_size=32, num_attention_heads=2, intermediate_size=64)
    text = dict(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        vocab_size=60,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    config = transformers.Sam3Config(
        vision_config=vision.to_dict(),
        text_config=text,
        geometry_encoder_config=dict(num_layers=1, **sizes),
        detr_encoder_config=dict(num_layers=1, **sizes),
        mask_decoder_config=dict(hidden_size=32, num_attention_heads=2),
        detr_decoder_config=dict(num_layers=1, num_queries=12, **sizes),
    )
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = {letter: number for number, letter in enumerate([*letters, *(f"{c}</w>" for c in letters)])}
    vocabulary |= {"<|startoftext|>": 52, "<|endoftext|>": 53}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    return transformers.Sam3Model(config).eval(), transformers.Sam3Processor(image_processor, tokenizer)
