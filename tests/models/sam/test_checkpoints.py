"""Checkpoint files of the authors' own repositories: recognised by content, read, or refused with the way out."""

import re
import sys
from collections import OrderedDict

import pytest
import torch
from segment_anything import sam_model_registry
from tiny_sams import random_image, tiny, transformers

from models.sam import conversion, families, tiny_vit
from models.sam.checkpoints import load_sam, recognise
from models.sam.families import TransformersNetwork
from models.sam.options import FILE_MODELS
from util.runtime.errors import InputError

# Names in the authors' files, each for a rule of the conversion -> transformers' names. Facts of the published files.
HQ_NAMES = {
    "image_encoder.pos_embed": "vision_encoder.pos_embed",
    "image_encoder.blocks.3.norm1.weight": "vision_encoder.layers.3.layer_norm1.weight",
    "image_encoder.blocks.0.attn.rel_pos_h": "vision_encoder.layers.0.attn.rel_pos_h",
    "image_encoder.neck.1.bias": "vision_encoder.neck.layer_norm1.bias",
    "prompt_encoder.mask_downscaling.4.weight": "prompt_encoder.mask_embed.layer_norm2.weight",
    "prompt_encoder.point_embeddings.2.weight": "prompt_encoder.point_embed.2.weight",
    "mask_decoder.transformer.norm_final_attn.bias": "mask_decoder.transformer.layer_norm_final_attn.bias",
    "mask_decoder.output_hypernetworks_mlps.1.layers.1.weight": "mask_decoder.output_hypernetworks_mlps.1.layers.0.weight",
    "mask_decoder.iou_prediction_head.layers.2.bias": "mask_decoder.iou_prediction_head.proj_out.bias",
    "mask_decoder.hf_token.weight": "mask_decoder.hq_token.weight",
    "mask_decoder.hf_mlp.layers.0.weight": "mask_decoder.hq_mask_mlp.proj_in.weight",
    "mask_decoder.compress_vit_feat.3.bias": "mask_decoder.compress_vit_conv2.bias",
    "mask_decoder.embedding_encoder.1.weight": "mask_decoder.encoder_norm.weight",
    "mask_decoder.embedding_maskfeature.0.weight": "mask_decoder.mask_conv1.weight",
}
SAM2_NAMES = {
    "image_encoder.trunk.pos_embed_window": "vision_encoder.backbone.pos_embed_window",
    "image_encoder.trunk.patch_embed.proj.weight": "vision_encoder.backbone.patch_embed.projection.weight",
    "image_encoder.trunk.blocks.1.mlp.layers.1.weight": "vision_encoder.backbone.blocks.1.mlp.proj_out.weight",
    "image_encoder.neck.convs.2.conv.bias": "vision_encoder.neck.convs.2.bias",
    "sam_mask_decoder.transformer.layers.0.mlp.layers.0.bias": "mask_decoder.transformer.layers.0.mlp.proj_in.bias",
    "sam_mask_decoder.transformer.layers.1.self_attn.out_proj.bias": "mask_decoder.transformer.layers.1.self_attn.o_proj.bias",
    "sam_mask_decoder.pred_obj_score_head.layers.1.weight": "mask_decoder.pred_obj_score_head.layers.0.weight",
    "sam_mask_decoder.conv_s0.weight": "mask_decoder.conv_s0.weight",
    "sam_prompt_encoder.no_mask_embed.weight": "prompt_encoder.no_mask_embed.weight",
    "no_mem_embed": "no_memory_embedding",
}


TINY_NAMES = {
    "image_encoder.patch_embed.seq.2.bn.running_var": "image_encoder.trunk.patch_embed.conv2.bn.running_var",
    "image_encoder.layers.0.downsample.conv1.c.weight": "image_encoder.trunk.stages.1.downsample.conv1.conv.weight",
    "image_encoder.layers.2.blocks.5.local_conv.c.weight": "image_encoder.trunk.stages.2.blocks.5.local_conv.conv.weight",
    "image_encoder.layers.3.blocks.1.attn.attention_biases": "image_encoder.trunk.stages.3.blocks.1.attn.attention_biases",
    "image_encoder.neck.2.weight": "image_encoder.neck.2.weight",
    "mask_decoder.iou_token.weight": "mask_decoder.iou_token.weight",
}


@pytest.mark.parametrize(
    "rules, names", [(conversion.SAM_HQ, HQ_NAMES), (conversion.SAM2, SAM2_NAMES), (None, TINY_NAMES)]
)
def test_published_names_become_ours(rules, names):
    state = {name: torch.tensor(float(number)) for number, name in enumerate(names)}
    found = conversion.renamed(state, rules) if rules else tiny_vit.renamed(state)
    assert found == dict(zip(names.values(), state.values()))


# --- whole files, with zeros that take no room, by the rules backwards ---------------------------------------------


def backwards(state, rules):
    found = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


def meta(build):
    with torch.device("meta"):
        return build().state_dict()


def hq_state():
    """sam_hq_vit_b.pth: the names of SAM's own file, and those that HQ adds."""
    decoder = meta(lambda: transformers.SamHQModel(transformers.SamHQConfig()).mask_decoder)
    added = {
        name: value for name, value in decoder.items() if re.match("hq_|compress_|encoder_|mask_(conv|norm)", name)
    }
    rules = [("hq_token", "hf_token"), (r"mlp\.layers\.0", "mlp.layers.1"), ("hq_mask_mlp", "hf_mlp")]
    rules += [("proj_in", "layers.0"), ("proj_out", "layers.2"), ("^encoder_", "embedding_encoder_")]
    rules += [("^compress_vit_", "compress_vit_feat_"), ("^mask_", "embedding_maskfeature_")]
    rules += [("_conv1", ".0"), ("_norm", ".1"), ("_conv2", ".3"), ("^", "mask_decoder.")]
    return meta(sam_model_registry["vit_b"]) | backwards(added, rules)


def sam2_state():
    """sam2.1_hiera_tiny.pt, as far as it is for images, and two parameters that are for videos."""
    state = meta(lambda: transformers.Sam2Model(transformers.Sam2Config()))
    del state["shared_image_embedding.positional_embedding"]
    points = state.pop("prompt_encoder.point_embed.weight")
    rules = [(r"backbone\.", "trunk."), ("vision_encoder", "image_encoder"), (r"(convs\.\d)", r"\1.conv")]
    rules += [("^(mask_decoder|prompt_encoder)", r"sam_\1"), ("no_memory_embedding", "no_mem_embed")]
    rules += [(r"mask_embed\.conv1", "mask_downscaling.0"), (r"mask_embed\.layer_norm1", "mask_downscaling.1")]
    rules += [(r"mask_embed\.conv2", "mask_downscaling.3"), (r"mask_embed\.layer_norm2", "mask_downscaling.4")]
    rules += [(r"mask_embed\.conv3", "mask_downscaling.6"), ("upscale_conv1", "output_upscaling.0")]
    rules += [("upscale_layer_norm", "output_upscaling.1"), ("upscale_conv2", "output_upscaling.3")]
    rules += [(r"(head|mlps\.\d)\.layers\.0", r"\1.layers.1"), (r"(head|mlps\.\d)\.proj_out", r"\1.layers.2")]
    rules += [
        ("proj_in", "layers.0"),
        (r"mlp\.proj_out", "mlp.layers.1"),
        ("layer_norm", "norm"),
        ("o_proj", "out_proj"),
    ]
    rules += [("projection", "proj"), (r"shared_embedding\.positional_", "pe_layer.positional_encoding_gaussian_")]
    state = backwards(state, [*rules, ("gaussian_embedding", "gaussian_matrix")])
    state |= {f"sam_prompt_encoder.point_embeddings.{i}.weight": points[i : i + 1] for i in range(4)}
    return state | {"maskmem_tpos_enc": torch.zeros(7, 1, 1, 64), "no_obj_embed_spatial": torch.zeros(1, 64)}


def mobile_state():
    """mobile_sam.pt, with the left-over head of its classifier."""
    sam = sam_model_registry["vit_b"]()
    sam.image_encoder = tiny_vit.TinyEncoder()
    rules = [("trunk.", ""), (r"stages\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample")]
    rules += [
        ("stages", "layers"),
        (r"\.conv\.", ".c."),
        (r"embed\.conv1", "embed.seq.0"),
        (r"embed\.conv2", "embed.seq.2"),
    ]
    return backwards(sam.state_dict(), rules) | {"image_encoder.head.bias": torch.zeros(1000)}


FILES = {
    "sam-hq-b": (hq_state, TransformersNetwork),
    "sam2.1-tiny": (lambda: {"model": sam2_state()}, TransformersNetwork),
    "mobile-sam": (mobile_state, torch.nn.Module),
}


def write(path, content):
    """Save a state whose values are on no device as zeros that take no room."""
    nested = content.get("model")
    state = nested or content
    small = OrderedDict((k, torch.zeros(()).to(v.dtype).expand(v.shape) if v.is_meta else v) for k, v in state.items())
    torch.save({"model": small} if nested else small, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_files_of_the_authors_are_read(tmp_path, name):
    build, kind = FILES[name]
    content = build()
    write(tmp_path / "weights.pt", content)
    found, network = load_sam(tmp_path / "weights.pt")
    assert found == name and name in FILE_MODELS and isinstance(network, kind)
    with pytest.raises(InputError, match=f"expected the checkpoint of a vit_b, found a {name}: use --model {name}"):
        load_sam(tmp_path / "weights.pt", "vit_b")
    state = content.get("model", content)
    state.pop(next(key for key in state if key.endswith("iou_token.weight")))
    write(tmp_path / "weights.pt", content)
    with pytest.raises(InputError, match="mask_decoder.iou_token.weight"):
        load_sam(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    "names, message",
    [
        ({"detector.backbone.vision_backbone.trunk.pos_embed": 1}, "holds SAM 3.*--model sam3"),
        ({"image_encoder.trunk.body.stem.weight": 1}, "holds EdgeTAM.*use --model edgetam"),
        ({"sam_mask_decoder.hf_token.weight": 1}, "holds HQ-SAM 2.*sam2.1-large"),
        ({"vision_encoder.pos_embed": 1}, "a network of transformers.*the folder"),
        ({"image_encoder.patch_embed.seq.0.c.weight": 1, "mask_decoder.hf_token.weight": 1}, "Light HQ-SAM"),
        ({"image_encoder.patch_embed.proj.weight": 192}, r"a SAM of another size \(192 channels\)"),
        ({"image_encoder.trunk.patch_embed.proj.weight": 96}, r"a SAM of another size \(96 channels\)"),
        ({"conv1.weight": 1}, "found no SAM. Give a file of SAM, SAM-HQ, SAM 2 and 2.1, MobileSAM"),
    ],
)
def test_other_files_are_refused_by_name(names, message):
    with pytest.raises(InputError, match=message):
        recognise({name: torch.zeros(size) for name, size in names.items()}, "weights.pt")


def test_versions_and_sizes_are_seen():
    for size, (channels, _, stages, *_) in conversion.HIERA.items():
        state = {f"image_encoder.trunk.blocks.{i}.norm1.weight": torch.zeros(1) for i in range(sum(stages))}
        state["image_encoder.trunk.patch_embed.proj.weight"] = torch.zeros(channels)
        assert recognise(state, "f") == f"sam2-{size}"
        assert recognise(state | {"no_obj_embed_spatial": torch.zeros(1)}, "f") == f"sam2.1-{size}"


class SegmentationModel:
    """Stands for the class whose pickle a file of FastSAM is."""


def test_a_pickled_yolo_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(SegmentationModel, "__module__", "ultralytics.nn.tasks")
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        monkeypatch.setitem(sys.modules, name, sys.modules[__name__])
    torch.save({"model": SegmentationModel()}, tmp_path / "FastSAM-s.pt")
    with pytest.raises(InputError, match="network of ultralytics.*FastSAM.*not a SAM.*mobile_sam.pt"):
        load_sam(tmp_path / "FastSAM-s.pt")


# --- the networks --------------------------------------------------------------------------------------------------


def hq_by_hand(net, embedding, point):
    """The four masks of SAM-HQ's decoder for one point, as its authors' MaskDecoderHQ makes them: SAM's, each plus HQ's."""
    d, labels = net.mask_decoder, torch.ones(1, 1, 1, dtype=torch.int)
    image, (early, *_) = embedding["image_embeddings"], embedding["intermediate_embeddings"]
    sparse, dense = net.prompt_encoder(input_points=point, input_labels=labels, input_boxes=None, input_masks=None)
    tokens = torch.cat([d.iou_token.weight, d.mask_tokens.weight, d.hq_token.weight, sparse[0, 0]])[None, None]
    queries, keys = d.transformer(
        point_embeddings=tokens,
        image_embeddings=image + dense,
        image_positional_embeddings=net.get_image_wide_positional_embeddings(),
        attention_similarity=None,
    )
    up = d.upscale_conv1(keys[:, 0].transpose(1, 2).reshape(image.shape))
    up = d.activation(d.upscale_conv2(d.activation(d.upscale_layer_norm(up))))
    fine = d.mask_conv2(d.activation(d.mask_norm(d.mask_conv1(up))))
    fine = fine + d.encoder_conv2(d.activation(d.encoder_norm(d.encoder_conv1(image))))
    early = d.compress_vit_norm(d.compress_vit_conv1(early.permute(0, 3, 1, 2)))
    fine = fine + d.compress_vit_conv2(d.activation(early))
    own = [torch.einsum("c,chw->hw", d.output_hypernetworks_mlps[i](queries[0, 0, 1 + i]), up[0]) for i in range(4)]
    return torch.stack(own) + torch.einsum("c,chw->hw", d.hq_mask_mlp(queries[0, 0, 5]), fine[0])


@torch.inference_mode()
def test_sam_hq_s_masks_are_those_of_its_authors_decoder():
    # transformers 5.24 drops the image tokens of SAM-HQ's decoder; see families.keep_image_tokens.
    net, processor = tiny("sam_hq")
    network = TransformersNetwork(net, processor, padded=True)
    (embedding,) = network.embed([network.fit(random_image(128, 128))])
    point = torch.tensor([[[[40.0, 70.0]]]])
    expected = hq_by_hand(net, embedding, point)
    labels = torch.ones(1, 1, dtype=torch.int)
    single, _ = network.decode_prompts(embedding, point[0], labels, None, multimask=False)
    several, _ = network.decode_prompts(embedding, point[0], labels, None, multimask=True)
    assert (single[0, 0] - expected[0]).abs().max() < 1e-4 * expected.abs().max()
    distance = (several[0, :, None] - expected[None, 1:]).abs().amax((2, 3))  # they come in the order of their scores
    assert (distance.amin(1) < 1e-4 * expected.abs().max()).all() and len(set(distance.argmin(1).tolist())) == 3


@pytest.mark.parametrize(
    "name, near", [("sam2.1_large", "sam2.1-large"), ("vit-h", "vit_h"), ("SAM3", "sam3"), ("samhq-h", "sam-hq-h")]
)
def test_a_wrong_name_is_answered_with_the_near_one(name, near):
    with pytest.raises(InputError, match=f"did you mean {re.escape(near)}\\?"):
        families.model_source(name)
