"""Our masks against those of SamAutomaticMaskGenerator, from one small network under a fixed seed."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from models import sam_generator
from models.sam_generator import MaskGenerator, Options
from util.images import read_image
from util.masks import Masks


def small_sam(seed: int = 0, side: int = 128, width: int = 32) -> Sam:
    """A Sam of the package's own modules, small enough for a test; random weights give ragged masks."""
    torch.manual_seed(seed)
    grid = side // 16
    sam = Sam(
        ImageEncoderViT(
            img_size=side, embed_dim=width, depth=2, num_heads=2, out_chans=width, use_rel_pos=True,
            window_size=3, global_attn_indexes=(1,), norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ),
        PromptEncoder(width, (grid, grid), (side, side), mask_in_chans=4),
        MaskDecoder(
            transformer_dim=width,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, num_heads=4, mlp_dim=64),
            iou_head_hidden_dim=16,
        ),
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                torch.nn.init.normal_(parameter, std=0.3)
            elif "output_hypernetworks" in name or "iou_prediction" in name:
                parameter *= 2.5
            elif "cross_attn" in name or "final_attn" in name or "output_upscaling.0" in name:
                parameter *= 6 if "q_proj" in name or "k_proj" in name else 3
    sam.mask_threshold = 1.88  # about one pixel in 30 lies above it, so that masks are small and differ
    return sam.eval()


def official(sam: Sam, image: np.ndarray, options: Options) -> list[dict]:
    return SamAutomaticMaskGenerator(sam, output_mode="binary_mask", **vars(options)).generate(image)


def compare(masks: Masks, expected: list[dict], pixels_off: float, scores_off: float) -> None:
    assert len(masks) == len(expected)
    for k, annotation in enumerate(expected):
        assert masks.extra[k]["bbox"] == annotation["bbox"]
        assert masks.extra[k]["point_coords"] == annotation["point_coords"]
        assert masks.extra[k]["crop_box"] == annotation["crop_box"]
        ours = [masks.predicted_iou[k], masks.stability_score[k]]
        # An empty mask has no stability: both say NaN.
        theirs = [annotation["predicted_iou"], annotation["stability_score"]]
        # The random network's scores are not confined to 0..1, so the bound is relative above 1.
        np.testing.assert_allclose(ours, theirs, rtol=scores_off, atol=scores_off)
    wrong = sum(int((masks.dense(k) != a["segmentation"]).sum()) for k, a in enumerate(expected))
    assert wrong <= pixels_off * masks.height * masks.width * max(1, len(expected))
    if not pixels_off:
        assert [int(area) for area in masks.areas] == [annotation["area"] for annotation in expected]


OPTIONS = Options(
    points_per_side=12, points_per_batch=32, pred_iou_thresh=0.3, stability_score_thresh=0.02,
    stability_score_offset=0.1, box_nms_thresh=0.95, crop_nms_thresh=0.95,
)  # fmt: skip


def changed(**values) -> Options:
    return Options(**{**vars(OPTIONS), **values})


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sam() -> Sam:
    return small_sam()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured blobs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "options, size",
    [
        (OPTIONS, (60, 90)),
        (changed(crop_n_layers=1, crop_n_points_downscale_factor=2, crop_nms_thresh=0.7), (90, 61)),
        (changed(min_mask_region_area=12, box_nms_thresh=0.7), (128, 128)),
        (changed(pred_iou_thresh=0, stability_score_thresh=0, points_per_side=5, points_per_batch=7), (40, 200)),
        (changed(pred_iou_thresh=99), (50, 50)),
    ],
)
def test_same_masks_as_the_package(sam, options, size, exact):
    image = picture(*size)
    expected = official(sam, image, options)
    assert bool(expected) == (options.pred_iou_thresh < 99)
    masks = next(MaskGenerator(sam, options, exact=exact).generate([image]))
    compare(masks, expected, 0 if exact else 1e-5, 0 if exact else 1e-4)


def test_same_masks_on_photographs(sam, voc12):
    # Two of them, for time; benchmarks/sam_equality.py takes 20.
    names = (voc12 / "ImageSets/Segmentation/train.txt").read_text().split()[:2]
    survived = 0
    for name in names:
        image = read_image(voc12 / "JPEGImages" / f"{name}.jpg")
        for options in (OPTIONS, changed(crop_n_layers=1, points_per_side=8)):
            expected = official(sam, image, options)
            survived += len(expected)
            for exact in (True, False):
                masks = next(MaskGenerator(sam, options, exact=exact).generate([image]))
                compare(masks, expected, 0 if exact else 1e-5, 0 if exact else 1e-4)
    assert survived > 100


def test_several_pictures_at_once_give_what_each_gives_alone(sam):
    images = [picture(60, 90, 1), picture(33, 20, 2), picture(60, 90, 3)]
    options = changed(crop_n_layers=1, points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0)
    alone = [next(MaskGenerator(sam, options).generate([image])) for image in images]
    for batch in (2, 4, 100):
        together = list(MaskGenerator(sam, options, encode_batch=batch).generate(images))
        assert [m.shape for m in together] == [(60, 90), (33, 20), (60, 90)]
        for one, other in zip(alone, together, strict=True):
            assert len(one) == len(other) > 0
            assert np.abs(one.areas - other.areas).sum() <= 1e-4 * one.areas.sum()


def test_out_of_memory_halves_the_batch_and_changes_no_mask(sam, monkeypatch):
    image = picture(60, 90)
    expected = next(MaskGenerator(sam, OPTIONS, exact=True).generate([image]))
    generator = MaskGenerator(sam, OPTIONS, exact=True)
    decode = generator.decoder.decode

    def small_memory(side, points, threshold):
        if len(points) > 10:
            raise torch.OutOfMemoryError("no memory for so many points")
        return decode(side, points, threshold)

    monkeypatch.setattr(generator.decoder, "decode", small_memory)
    masks = next(generator.generate([image]))
    assert generator.points_per_batch == 8
    assert len(masks) == len(expected) > 0
    assert masks.counts() == expected.counts()

    def no_memory(side, points, threshold):
        raise torch.OutOfMemoryError("none at all")

    monkeypatch.setattr(generator.decoder, "decode", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        next(generator.generate([image]))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 2)])
def test_slivers(sam, size):
    masks = next(MaskGenerator(sam, changed(points_per_side=2, pred_iou_thresh=0)).generate([picture(*size)]))
    assert masks.shape == size


def test_bf16_stays_near(sam):
    image = picture(60, 90)
    options = changed(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1.0)
    full = next(MaskGenerator(sam, options).generate([image]))
    half = next(MaskGenerator(sam, options, precision="bf16").generate([image]))
    assert len(half) == len(full)
    by_point = {str(extra["point_coords"]) for extra in half.extra}
    assert by_point == {str(extra["point_coords"]) for extra in full.extra}
    assert np.abs(np.sort(half.predicted_iou) - np.sort(full.predicted_iou)).max() < 0.5


def test_upscaling_leaves_out_only_what_padding_needs(sam):
    logits = torch.randn(3, 32, 32)
    for size in ((60, 90), (90, 60), (128, 128), (7, 300), (1, 1)):
        inner = sam_generator.input_size(size, 128)
        expected = sam.postprocess_masks(logits[None], inner, size)[0]
        for count in (1, 2, 3):
            assert torch.equal(sam_generator.upscale(logits[:count], size, 128), expected[:count])
