"""SAM 3 asked by words: masks and scores are those of the processor's own post-processing."""

import numpy as np
import pytest
import torch
from tiny_sams import random_image, sam3_text

from models.sam.text import TextGenerator
from util.runtime.errors import InputError


@pytest.fixture(scope="module")
def sam3(tmp_path_factory):
    return sam3_text(tmp_path_factory.mktemp("tokenizer"))


@torch.inference_mode()
def of_processor(sam3, image, phrase, threshold):
    net, processor = sam3
    inputs = processor(images=image, text=phrase, return_tensors="pt")
    out = net(**{key: inputs[key] for key in ("pixel_values", "input_ids", "attention_mask")})
    found = processor.post_process_instance_segmentation(out, threshold, target_sizes=[image.shape[:2]])[0]
    kept = found["masks"].flatten(1).any(1)
    return found["masks"][kept].numpy().astype(bool), found["scores"][kept].numpy()


def median_score(sam3, image):
    return float(np.median(of_processor(sam3, image, "cat", 0.0)[1]))


def test_masks_and_scores_are_the_processor_s(sam3):
    image = random_image(90, 120)
    threshold = median_score(sam3, image)
    found = next(TextGenerator(*sam3, threshold=threshold).answer([image], [["cat", "dog"]]))
    expected = [(name, *of_processor(sam3, image, name, threshold)) for name in ("cat", "dog")]
    names = [name for name, masks, _ in expected for _ in masks]
    assert len(found) == len(names) > 0 and list(found.categories) == names
    assert found.scores == pytest.approx(np.concatenate([scores for *_, scores in expected]), abs=1e-5)
    dense = np.concatenate([masks for _, masks, _ in expected])
    assert sum(np.count_nonzero(dense[k] != found.dense(k)) for k in range(len(found))) <= 1e-5 * dense.size


def test_synonyms_are_asked_under_the_class_s_name(sam3):
    image = random_image(60, 80)
    generator = TextGenerator(*sam3, {"person": ["man", "woman"]}, threshold=0.0)
    found = next(generator.answer([image], [["person"]]))
    expected = sum(len(of_processor(sam3, image, phrase, 0.0)[0]) for phrase in ("man", "woman"))
    assert len(found) == expected and set(found.categories) == {"person"}


def test_encoder_once_per_image_and_text_encoder_once_per_phrase(sam3, monkeypatch):
    net, processor = sam3
    seen, read = [], []
    see, understand = net.get_vision_features, net.get_text_features
    monkeypatch.setattr(net, "get_vision_features", lambda *a, **k: seen.append(1) or see(*a, **k))
    monkeypatch.setattr(net, "get_text_features", lambda *a, **k: read.append(1) or understand(*a, **k))
    tags = [chr(97 + k % 26) * (1 + k // 26) for k in range(30)]
    images = [random_image(40, 50, seed) for seed in range(2)]
    list(TextGenerator(net, processor).answer(images, [tags, tags]))
    assert len(seen) == 2 and len(read) == 30


def test_an_image_without_tags_has_no_masks(sam3):
    found = next(TextGenerator(*sam3).answer([random_image(30, 40)], [[]]))
    assert len(found) == 0 and found.shape == (30, 40)


def test_no_memory_is_said_in_words(sam3, monkeypatch):
    net, processor = sam3

    def none(*arguments, **named):
        raise torch.OutOfMemoryError("none at all")

    monkeypatch.setattr(net, "get_vision_features", none)
    with pytest.raises(InputError, match="does not hold one image.*none at all.*--device cpu"):
        next(TextGenerator(net, processor).answer([random_image(30, 40)], [["cat"]]))
