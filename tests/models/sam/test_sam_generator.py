"""Our masks against those of SamAutomaticMaskGenerator, from one small network under a fixed seed.

Equal means: the same bits in float32 where the package's kernels run in the package's order; and for our order of the
arithmetic, the same to 1e-9 in float64, where rounding decides nothing on any processor, and in float32 but for rounding.
"""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from sam_reference import OPTIONS, Agreement, changed, float64_sam, official, small_sam
from segment_anything.modeling import Sam

from models.sam import decoder, networks
from models.sam.generator import MaskGenerator, Options
from util.data.images import read_image
from util.data.masks import Masks
from util.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sam() -> Sam:
    return small_sam()


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured blobs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    "options, size",
    [
        (OPTIONS, (60, 90)),
        (changed(crop_n_layers=1, crop_n_points_downscale_factor=2, crop_nms_thresh=0.7), (90, 61)),
        (changed(crop_n_layers=2, crop_overlap_ratio=0.2, points_per_side=4, pred_iou_thresh=1.0), (70, 100)),
        (changed(min_mask_region_area=12, box_nms_thresh=0.7), (128, 128)),
        (changed(pred_iou_thresh=0, stability_score_thresh=0, points_per_side=5, points_per_batch=7), (40, 200)),
        (changed(stability_score_thresh=0.6, stability_score_offset=0.2), (128, 100)),
        (changed(pred_iou_thresh=99), (50, 50)),
    ],
)
def test_same_masks_as_the_package(sam, options, size):
    check_same(sam, random_image(*size), options)


def check_same(sam: Sam, image: np.ndarray, options: Options) -> int:
    """How many masks were compared."""
    expected = official(sam, image, options)
    assert bool(expected) == (options.pred_iou_thresh < 99)
    exact = Agreement().add(generate(sam, options, image, exact=True), expected)
    assert exact.is_identical(), exact
    ours = Agreement().add(generate(sam, options, image), expected)
    assert ours.is_same(), ours
    wide = float64_sam(sam)
    ours = Agreement().add(generate(wide, options, image), official(wide, image, options), rounding=1e-9)
    assert ours.is_same(pixels_off=0, rounding=1e-9) and ours.in_place == ours.expected, ours
    return len(expected)


def generate(sam: Sam, options: Options, image: np.ndarray, **more) -> Masks:
    return next(MaskGenerator(sam, options, **more).generate([image]))


@pytest.mark.slow
def test_same_masks_on_photos(sam, voc12):
    # Two of them, for time.
    names = (voc12 / "ImageSets/Segmentation/train.txt").read_text().split()[:2]
    survived = 0
    for name in names:
        image = read_image(voc12 / "JPEGImages" / f"{name}.jpg")
        for options in (changed(points_per_side=8), changed(crop_n_layers=1, points_per_side=4)):
            survived += check_same(sam, image, options)
    assert survived > 60


def test_the_comparison_sees_real_differences(sam):
    image = random_image(60, 90)
    expected = official(sam, image, OPTIONS)
    masks = generate(sam, OPTIONS, image, exact=True)
    assert len(masks) > 10 and Agreement().add(masks, expected).is_identical()
    order = np.arange(len(masks))
    first_last = np.r_[order[-1], order[1:-1], order[0]]
    scores, boxes = masks.predicted_iou.copy(), [dict(extra) for extra in masks.extra]
    scores[0] *= 1.001
    boxes[0]["bbox"] = [0, 0, 1, 1]
    dense = np.stack([masks.dense(k) for k in order])
    dense[0, :2, :5] ^= True
    for other in (
        masks.select(order[1:]),
        masks.select(np.r_[order, order[0]]),
        masks.select(first_last),
        dataclasses.replace(masks, predicted_iou=scores),
        dataclasses.replace(masks, stability_score=masks.stability_score * 1.01),
        dataclasses.replace(masks, extra=tuple(boxes)),
        Masks.from_dense(dense, masks.predicted_iou, masks.stability_score, masks.extra),
    ):
        agreement = Agreement().add(other, expected)
        assert not agreement.is_same() and not agreement.is_identical(), agreement
    # Two scores that rounding makes equal may change places, and nothing else follows from it.
    near = [{**annotation, "predicted_iou": 1.0 + 1e-6 * k} for k, annotation in enumerate(expected)]
    level = dataclasses.replace(masks, predicted_iou=np.ones(len(masks)))
    assert Agreement().add(level.select(first_last), near).is_same()
    assert not Agreement().add(level.select(first_last), near).is_identical()


def test_several_images_at_once_give_what_each_gives_alone(sam):
    images = [random_image(60, 90, 1), random_image(33, 20, 2), random_image(60, 90, 3)]
    options = changed(crop_n_layers=1, points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0)
    alone = [next(MaskGenerator(sam, options).generate([image])) for image in images]
    for batch in (2, 4, 100):
        together = list(MaskGenerator(sam, options, encode_batch=batch).generate(images))
        assert [m.shape for m in together] == [(60, 90), (33, 20), (60, 90)]
        for one, other in zip(alone, together, strict=True):
            assert len(one) == len(other) > 0
            assert np.abs(one.areas - other.areas).sum() <= 1e-4 * one.areas.sum()


def test_out_of_memory_halves_the_batch_and_changes_no_mask(sam, monkeypatch):
    image = random_image(60, 90)
    expected = next(MaskGenerator(sam, OPTIONS, exact=True).generate([image]))
    generator = MaskGenerator(sam, OPTIONS, exact=True)
    decode = generator.network.decode

    def small_memory(side, points, threshold):
        if len(points) > 10:
            raise torch.OutOfMemoryError("no memory for so many points")
        return decode(side, points, threshold)

    monkeypatch.setattr(generator.network, "decode", small_memory)
    masks = next(generator.generate([image]))
    assert generator.points_per_batch == 8
    assert len(masks) == len(expected) > 0
    assert masks.counts() == expected.counts()

    def no_memory(side, points, threshold):
        raise torch.OutOfMemoryError("none at all")

    monkeypatch.setattr(generator.network, "decode", no_memory)
    with pytest.raises(InputError, match="not even hold one point's masks.*none at all.*--device cpu"):
        next(generator.generate([image]))


def test_out_of_memory_halves_the_images_at_once(sam, monkeypatch):
    images = [random_image(60, 90, seed) for seed in range(5)]
    options = changed(points_per_side=4, pred_iou_thresh=0)
    expected = list(MaskGenerator(sam, options, exact=True).generate(images))
    generator = MaskGenerator(sam, options, exact=True, encode_batch=8)
    encoder = generator.network.encoder

    def small_memory(inputs):
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("no memory for so many images")
        return encoder(inputs)

    generator.network.encoder = small_memory
    found = list(generator.generate(images))
    assert generator.encode_batch == 2
    assert [len(masks) for masks in found] == [len(masks) for masks in expected]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 2)])
def test_slivers(sam, size):
    masks = next(MaskGenerator(sam, changed(points_per_side=2, pred_iou_thresh=0)).generate([random_image(*size)]))
    assert masks.shape == size


def test_bf16_stays_near(sam):
    image = random_image(60, 90)
    options = changed(points_per_side=6, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1.0)
    expected = official(sam, image, options)
    half = Agreement().add(generate(sam, options, image, precision="bf16"), expected)
    # Eight bits move a random network's scores and so the order; the masks of each point must stay what they are.
    assert half.expected == half.found == 108 and not half.unmatched
    assert np.mean(half.ious) > 0.8 and half.pixels_off < 0.004 * half.pixels, half
    assert half.pixels_off > 0


def test_positions_are_float32_in_mixed_precision(sam):
    """In bfloat16 points would move by up to a pixel."""
    points = torch.rand(9, 2, dtype=torch.float64) * 128
    network = networks.PackageNetwork(sam)
    expected = decoder.embed_points(sam, points), network.image_side(torch.zeros(32, 8, 8)).position
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder.embed_points(sam, points), network.image_side(torch.zeros(32, 8, 8)).position
    labels = torch.ones(9, 1, dtype=torch.int)
    packaged = sam.prompt_encoder(points=(points[:, None], labels), boxes=None, masks=None)[0]
    assert torch.equal(found[0], packaged)
    assert all(torch.equal(one, other) and one.dtype == torch.float32 for one, other in zip(found, expected))


def test_upscaling_leaves_out_only_what_padding_needs(sam):
    logits = torch.randn(9, 32, 32)
    for size in ((60, 90), (90, 60), (128, 128), (7, 300), (1, 1)):
        inner = networks.input_size(size, 128)
        expected = sam.postprocess_masks(logits.unflatten(0, (3, 3)), inner, size).flatten(0, 1)
        for count in range(1, 10):
            assert torch.equal(networks.upscale_padded(logits[:count], size, 128), expected[:count])
