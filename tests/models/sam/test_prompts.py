"""Prompts with a class: equal to SamPredictor and to transformers for the same points and boxes; CAM prompts by hand."""

import math

import numpy as np
import pytest
import torch
from sam_reference import small_sam
from segment_anything import SamPredictor
from tiny_sams import random_image, tiny

from models.sam.families import FAMILIES, TransformersNetwork
from models.sam.generator import Options
from models.sam.prompted import PromptedGenerator
from models.sam.prompts import CamPromptOptions, Prompt, cam_prompts

NAMES = ("background", "cat", "dog")
PROMPTS = [
    Prompt("cat", np.array([[30.0, 40.0]]), np.array([1])),
    Prompt("dog", np.array([[80.0, 20.0], [10.0, 70.0]]), np.array([1, 0])),
    Prompt("cat", box=(20, 10, 90, 60)),
    Prompt("dog", np.array([[60.0, 50.0]]), np.array([1]), box=(5, 5, 100, 80)),
    Prompt("dog", np.array([[100.0, 70.0]]), np.array([1])),
]
OPTIONS = Options(box_nms_thresh=1.0, points_per_batch=2)


@pytest.fixture(scope="module")
def sam():
    return small_sam()


def of_predictor(sam, image, prompt):
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    single = len(prompt.points) == 1 and prompt.box is None
    masks, scores, _ = predictor.predict(
        prompt.points if len(prompt.points) else None,
        prompt.labels if len(prompt.points) else None,
        None if prompt.box is None else np.array(prompt.box),
        multimask_output=single,
    )
    return masks[scores.argmax()], scores.max()


def test_masks_are_those_of_sam_predictor(sam):
    image = random_image(90, 120)
    masks = next(PromptedGenerator(sam, OPTIONS, exact=True).answer([image], [PROMPTS]))
    expected = [of_predictor(sam, image, prompt) for prompt in PROMPTS]
    kept = [(prompt, *found) for prompt, found in zip(PROMPTS, expected) if found[0].any()]
    assert len(masks) == len(kept) > 0
    assert masks.categories == tuple(prompt.category for prompt, *_ in kept)
    for k, (_, mask, score) in enumerate(kept):
        assert (masks.dense(k) == mask).all()
        assert masks.scores[k] == pytest.approx(float(score), abs=1e-6)


@pytest.mark.parametrize("kind", ["sam_hq", "sam2", "edgetam", "sam3_tracker"])
@torch.inference_mode()
def test_masks_of_other_families_are_those_of_one_forward_pass(kind):
    net, processor = tiny(kind)
    network = TransformersNetwork(net, processor, FAMILIES[kind].padded)
    image = random_image(90, 90)
    masks = next(PromptedGenerator(network, OPTIONS).answer([image], [PROMPTS[:2]]))
    pixels = processor(images=[image], return_tensors="pt")["pixel_values"]
    for k, (prompt, multimask) in enumerate(zip(PROMPTS[:2], (True, False))):
        points = torch.tensor(prompt.points * network.side / 90, dtype=torch.float32)[None, None]
        out = net(
            pixel_values=pixels,
            input_points=points,
            input_labels=torch.tensor(prompt.labels, dtype=torch.int)[None, None],
            multimask_output=multimask,
        )
        best = out.iou_scores[0, 0].argmax()
        full = network.upscale(out.pred_masks[0, 0, best][None], (90, 90))[0] > 0
        assert np.count_nonzero(full.numpy() != masks.dense(k)) <= 1
        assert masks.scores[k] == pytest.approx(float(out.iou_scores[0, 0, best]), abs=1e-4)


def test_encoder_once_and_decoder_once_per_batch(sam, monkeypatch):
    generator = PromptedGenerator(sam, Options(points_per_batch=4))
    encoded, decoded = [], []
    embed, decode = generator.network.embed, generator.network.decode_prompts
    monkeypatch.setattr(generator.network, "embed", lambda crops: encoded.append(len(crops)) or embed(crops))
    monkeypatch.setattr(generator.network, "decode_prompts", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    asked = [Prompt("cat", np.array([[float(x), 20.0]]), np.array([1])) for x in range(0, 100, 10)]
    list(generator.answer([random_image()], [asked]))
    assert encoded == [1] and len(decoded) == 3  # ten prompts, four at once


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_prompts_of_cams_take_one_encoding_and_few_passes(sam, monkeypatch, batch):
    cams = [{1: np.maximum(bump(15, 20), bump(40, 60)), 2: bump(45, 15)}, {2: bump(30, 30)}, {1: np.zeros((60, 80))}]
    asked = [cam_prompts(cam, NAMES, CamPromptOptions()) for cam in cams]
    assert [len(prompts) for prompts in asked] == [5, 2, 0]
    generator = PromptedGenerator(sam, Options(points_per_batch=batch))
    encoded, decoded = [], []
    embed, decode = generator.network.embed, generator.network.decode_prompts
    monkeypatch.setattr(generator.network, "embed", lambda crops: encoded.append(len(crops)) or embed(crops))
    monkeypatch.setattr(generator.network, "decode_prompts", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    list(generator.answer([random_image(60, 80)] * 3, asked))
    assert encoded == [1, 1]  # none for the image without prompts
    # Points and boxes have other numbers of tokens, and go through the decoder apart.
    kinds = [
        [sum(prompt.box is not None for prompt in prompts), sum(len(prompt.points) > 0 for prompt in prompts)]
        for prompts in asked
    ]
    assert len(decoded) == sum(math.ceil(count / batch) for counts in kinds for count in counts)


def test_out_of_memory_halves_the_prompts_and_changes_nothing(sam, monkeypatch):
    image = random_image()
    expected = next(PromptedGenerator(sam, Options(points_per_batch=8)).answer([image], [PROMPTS]))
    generator = PromptedGenerator(sam, Options(points_per_batch=8))
    decode = generator.network.decode_prompts

    def small_memory(embedding, points, *rest, **more):
        if points is not None and len(points) > 1:
            raise torch.OutOfMemoryError("no memory for two")
        return decode(embedding, points, *rest, **more)

    monkeypatch.setattr(generator.network, "decode_prompts", small_memory)
    found = next(generator.answer([image], [PROMPTS]))
    assert generator.points_per_batch == 1
    assert found.counts() == expected.counts() and found.categories == expected.categories


def test_an_image_without_prompts_has_no_masks(sam):
    masks = next(PromptedGenerator(sam).answer([random_image(30, 40)], [[]]))
    assert len(masks) == 0 and masks.shape == (30, 40)


# --- prompts of CAMs ----------------------------------------------------------------------------------------------


def bump(y, x, height=60, width=80, spread=6.0, top=1.0):
    rows, columns = np.ogrid[:height, :width]
    return (top * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spread**2))).astype(np.float32)


def test_peaks_become_points_with_other_classes_and_background_outside():
    cam = {1: np.maximum(bump(15, 20), bump(40, 60, top=0.8)), 2: bump(45, 15, top=0.9)}
    prompts = cam_prompts(cam, NAMES, CamPromptOptions())
    cats = [prompt for prompt in prompts if prompt.category == "cat" and len(prompt.points)]
    assert [prompt.points[0].tolist() for prompt in cats] == [[20, 15], [60, 40]]
    for prompt in cats:
        assert prompt.labels.tolist() == [1, 0, 0]
        assert prompt.points[1].tolist() == [15, 45]  # the dog's peak
        x, y = prompt.points[2].astype(int)
        assert max(values[y, x] for values in cam.values()) < 0.05


def test_the_box_is_the_largest_component_s():
    values = np.zeros((60, 80), np.float32)
    values[10:30, 5:25] = 0.9
    values[50:55, 70:75] = 1.0
    boxes = [prompt.box for prompt in cam_prompts({2: values}, NAMES, CamPromptOptions()) if prompt.box]
    assert boxes == [(5, 10, 24, 29)]


def test_a_weak_map_still_asks_once_at_its_maximum():
    prompts = cam_prompts({1: bump(30, 50, top=0.2)}, NAMES, CamPromptOptions())
    assert [prompt.points[0].tolist() for prompt in prompts] == [[50, 30]]


def test_a_map_of_zeros_asks_nothing():
    assert cam_prompts({1: np.zeros((10, 10), np.float32)}, NAMES, CamPromptOptions()) == []
