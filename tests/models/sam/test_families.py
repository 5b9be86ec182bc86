"""Every family gives the masks of transformers' own code: its pipeline where that is right, single prompts elsewhere."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_sams import BUILDERS, random_image, tiny

from models.sam.families import FAMILIES, TransformersNetwork
from models.sam.generator import MaskGenerator, Options

transformers = pytest.importorskip("transformers")


def network(kind):
    net, processor = tiny(kind)
    return TransformersNetwork(net, processor, FAMILIES[kind].padded)


@torch.inference_mode()
def options_for(net, image, **changes):
    """Options under which about half of the masks of a random network pass."""
    embedding = net.embed([net.fit(image)])[0]
    points = np.random.default_rng(0).random((40, 2)) * image.shape[1::-1]
    found = net.decode(embedding, net.place(points, image.shape[:2]), 0)
    values = dict(
        points_per_side=6,
        points_per_batch=10,
        box_nms_thresh=1.0,
        pred_iou_thresh=max(1e-6, float(found.predicted_iou.median())),
        stability_score_thresh=0.7,
        stability_score_offset=0.1 * float(found.logits.std()),
    )
    return Options(**{**values, **changes})


def of_pipeline(net, image, options):
    pipe = transformers.pipeline("mask-generation", model=net.net, image_processor=net.processor)
    found = pipe(
        Image.fromarray(image),
        points_per_crop=options.points_per_side,
        points_per_batch=options.points_per_batch,
        pred_iou_thresh=options.pred_iou_thresh,
        stability_score_thresh=options.stability_score_thresh,
        stability_score_offset=options.stability_score_offset,
        crops_nms_thresh=options.box_nms_thresh,
    )
    return [np.asarray(mask) for mask in found["masks"]], np.asarray(found["scores"])


def agree(ours, masks, scores):
    assert len(ours) == len(masks) > 0
    assert np.abs(ours.predicted_iou - np.asarray(scores)).max() <= 1e-4
    different = sum(np.count_nonzero(mask != ours.dense(k)) for k, mask in enumerate(masks))
    assert different <= 1e-5 * sum(mask.size for mask in masks)


@pytest.mark.parametrize("threshold", [1.0, 0.9])
@pytest.mark.parametrize("kind", BUILDERS)
def test_grid_masks_are_those_of_the_pipeline(kind, threshold):
    # The pipeline places points as if the image kept its proportions, which is right for SAM 2 and later on squares only.
    image = random_image(90, 120 if FAMILIES[kind].padded else 90)
    net = network(kind)
    options = options_for(net, image, box_nms_thresh=threshold)
    agree(next(MaskGenerator(net, options).generate([image])), *of_pipeline(net, image, options))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in BUILDERS if not FAMILIES[kind].padded])
def test_grid_masks_are_those_of_single_prompts(kind):
    image = random_image(70, 130)
    net = network(kind)
    options = options_for(net, image)
    found = next(MaskGenerator(net, options).generate([image]))
    masks, scores = single_prompts(net, image, options)
    order = np.argsort(-scores, kind="stable")
    agree(found, [masks[k] for k in order], scores[order])


@torch.inference_mode()
def single_prompts(net, image, options):
    """One forward pass of the whole network for each point of the grid, with the processor's own scaling."""
    pixels = net.processor(images=[image], return_tensors="pt")["pixel_values"]
    height, width = image.shape[:2]
    line = (np.arange(options.points_per_side) + 0.5) / options.points_per_side
    masks, scores = [], []
    for y in line:
        for x in line:
            point = torch.tensor([[[[x * net.side, y * net.side]]]], dtype=torch.float32)
            out = net.net(pixel_values=pixels, input_points=point, input_labels=torch.ones(1, 1, 1, dtype=torch.int))
            full = torch.nn.functional.interpolate(out.pred_masks[0], (height, width), mode="bilinear")[0]
            for logits, score in zip(full, out.iou_scores[0, 0]):
                high, low = ((logits > sign * options.stability_score_offset).sum() for sign in (1, -1))
                if score > options.pred_iou_thresh and high / low >= options.stability_score_thresh:
                    masks.append((logits > 0).numpy())
                    scores.append(float(score))
    return masks, np.array(scores)


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_encoder_runs_once_per_image(kind, monkeypatch):
    net = network(kind)
    calls = []
    encode = net.net.get_image_embeddings
    monkeypatch.setattr(net.net, "get_image_embeddings", lambda pixels: calls.append(len(pixels)) or encode(pixels))
    images = [random_image(60, 80, seed) for seed in range(2)]
    list(MaskGenerator(net, Options(points_per_side=3, points_per_batch=2)).generate(images))
    assert calls == [1, 1]


@pytest.mark.parametrize("kind", BUILDERS)
def test_several_images_and_crops_at_once_change_nothing(kind):
    net = network(kind)
    images = [random_image(60, 80, seed) for seed in range(3)]
    options = options_for(net, images[0], crop_n_layers=1, points_per_side=3, crop_nms_thresh=1.0)
    alone = [next(MaskGenerator(net, options).generate([image])) for image in images]
    together = list(MaskGenerator(net, options, encode_batch=4).generate(images))
    assert sum(map(len, alone)) > 0
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        assert np.abs(one.areas - other.areas).sum() <= 1e-3 * one.areas.sum()


@torch.inference_mode()
@pytest.mark.parametrize("kind", BUILDERS)
def test_positions_are_float32_under_autocast(kind):
    """bfloat16 would move points by up to a pixel."""
    net = network(kind)
    encoders = [part for part in net.net.modules() if type(part).__name__.endswith("PositionalEmbedding")]
    places = torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(0))
    assert encoders
    for encoder in encoders:
        expected = encoder(places)
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(places)
        assert found.dtype == torch.float32 and torch.equal(found, expected)
