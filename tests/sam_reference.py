"""segment-anything's own generator as the reference, a small network for it, and how two results compare."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import segment_anything.automatic_mask_generator as package
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torchvision.ops import batched_nms

from models.sam.generator import MaskGenerator, Options
from util.data.masks import Masks

OPTIONS = Options(
    points_per_side=12,
    points_per_batch=32,
    pred_iou_thresh=0.3,
    stability_score_thresh=0.02,
    stability_score_offset=0.1,
    box_nms_thresh=0.98,
    crop_nms_thresh=0.98,
)


def changed(**values) -> Options:
    """`OPTIONS` with other values."""
    return Options(**{**vars(OPTIONS), **values})


def small_sam(seed: int = 0, side: int = 128, width: int = 32) -> Sam:
    """A Sam of the package's own modules, small enough for a test; random weights give ragged masks.

    The factors make its masks differ from point to point. With higher ones of the attention the softmax saturates, and
    rounding alone moves the package's own scores by a thousandth.
    """
    torch.manual_seed(seed)
    grid = side // 16
    sam = Sam(
        ImageEncoderViT(
            img_size=side,
            embed_dim=width,
            depth=2,
            num_heads=2,
            out_chans=width,
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ),
        PromptEncoder(width, (grid, grid), (side, side), mask_in_chans=4),
        MaskDecoder(
            transformer_dim=width,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, num_heads=4, mlp_dim=64),
            iou_head_hidden_dim=16,
        ),
    )
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                torch.nn.init.normal_(parameter, std=0.3)
            elif "output_hypernetworks" in name or "iou_prediction" in name:
                parameter *= 2.5
            elif "cross_attn" in name or "final_attn" in name or "output_upscaling.0" in name:
                parameter *= 4
    sam.mask_threshold = 1.7  # about one pixel in 20 lies above it, so that masks are small and differ
    return sam.eval()


def float64_sam(sam: Sam) -> Sam:
    """A copy that computes in float64, so that two orders of the same arithmetic agree to about 1e-12.

    The package encodes positions in float32 whatever the weights; these stay so, and are widened.
    """
    wide = copy.deepcopy(sam).double()
    own, positions = sam.prompt_encoder.pe_layer, wide.prompt_encoder.pe_layer
    positions.forward = lambda size: own(size).double()
    positions.forward_with_coords = lambda points, size: own.forward_with_coords(points, size).double()
    return wide


def official(sam: Sam, image: np.ndarray, options: Options, **more) -> list[dict]:
    """What ``SamAutomaticMaskGenerator`` gives, with masks as bool HxW unless ``output_mode`` says otherwise."""
    generator = package.SamAutomaticMaskGenerator(sam, **{"output_mode": "binary_mask", **vars(options), **more})
    try:
        # The package hands float32 boxes to a suppression that wants one dtype; the scores' is that of the network.
        package.batched_nms = lambda boxes, scores, categories, iou_threshold: batched_nms(
            boxes.to(scores.dtype), scores, categories, iou_threshold
        )
        return generator.generate(image)
    finally:
        package.batched_nms = batched_nms


def passing_options(sam: Sam, image: np.ndarray, part: float, **values) -> Options:
    """Options whose two thresholds each let about that part of a random network's masks pass, from a coarse grid."""
    coarse = Options(
        points_per_side=4,
        pred_iou_thresh=-9,
        stability_score_thresh=-9,
        stability_score_offset=0.01,
        box_nms_thresh=1.0,
    )
    masks = next(MaskGenerator(sam, coarse).generate([image]))
    return Options(
        **values,
        pred_iou_thresh=max(1e-6, float(np.quantile(masks.predicted_iou, 1 - part))),
        stability_score_thresh=max(1e-6, float(np.quantile(masks.stability_score, 1 - part))),
        stability_score_offset=0.01,
        box_nms_thresh=1.0,  # a random network's masks reach every border, so their boxes are all one
    )


@dataclass
class Agreement:
    """How our masks compare with the package's, summed up over images.

    Attributes:
        expected, found: masks of the package, and ours.
        unmatched: the package's masks without one of ours from the same point of the same crop.
        swapped: matched masks at another place, though the scores at both places differ by more than rounding.
        boxes_off: boxes that differ though no pixel does.
        pixels_off, pixels: differing and all pixels of matched masks.
        iou_off: largest difference of a predicted IoU, relative where that is above 1.
        stability_off: differences of the stability scores, in pixels: times the mask's area, summed up.
        stability_most: the largest of these differences as it is.
        ious: IoU of each matched pair.
        in_place: pairs at the same place with the same box, point and crop.
    """

    expected: int = 0
    found: int = 0
    unmatched: int = 0
    swapped: int = 0
    boxes_off: int = 0
    pixels_off: int = 0
    pixels: int = 0
    iou_off: float = 0.0
    stability_off: float = 0.0
    stability_most: float = 0.0
    ious: list[float] = field(default_factory=list)
    in_place: int = 0

    def add(self, masks: Masks, expected: list[dict], rounding: float = 1e-4) -> Agreement:
        """Compare an image's masks.

        Args:
            expected: annotations with dense masks.
            rounding: predicted IoUs this near (relative above 1) may have swapped places.
        """
        self.expected += len(expected)
        self.found += len(masks)
        free: dict[tuple, list[int]] = {}
        for j, extra in enumerate(masks.extra):
            free.setdefault(_origin(extra), []).append(j)
        scores = [annotation["predicted_iou"] for annotation in expected]
        for k, annotation in enumerate(expected):
            theirs = annotation["segmentation"]
            rivals = free.get(_origin(annotation), [])
            if not rivals:
                self.unmatched += 1
                continue
            # A point has up to three masks; the most similar is the same one, the nearer place decides among equals.
            wrong, _, j = min((int((masks.dense(j) != theirs).sum()), abs(j - k), j) for j in rivals)
            rivals.remove(j)
            ours = masks.dense(j)
            if j != k and (j >= len(scores) or _gap(scores[k], scores[j]) > rounding):
                self.swapped += 1
            self.in_place += j == k and masks.extra[j]["bbox"] == annotation["bbox"]
            self.boxes_off += not wrong and masks.extra[j]["bbox"] != annotation["bbox"]
            self.pixels_off += wrong
            self.pixels += theirs.size
            union = int((theirs | ours).sum())
            self.ious.append(int((theirs & ours).sum()) / union if union else 1.0)
            self.iou_off = max(self.iou_off, _gap(scores[k], masks.predicted_iou[j]))
            stable = abs(annotation["stability_score"] - masks.stability_score[j])
            # Where nothing is above the lower cutoff, stability is undefined: both must say NaN, else they differ by 1.
            both_unknown = np.isnan(annotation["stability_score"]) and np.isnan(masks.stability_score[j])
            stable = 0.0 if both_unknown else 1.0 if np.isnan(stable) else float(stable)
            self.stability_most = max(self.stability_most, stable)
            self.stability_off += stable * max(1, int(theirs.sum()))
        return self

    def __str__(self) -> str:
        return (
            f"{self.found} masks, {self.expected} of the package, {self.in_place} at the same place with the same box and "
            f"point, {len(self.ious)} from the same point with a mean IoU of {np.mean(self.ious or [1]):.4f} (least "
            f"{min(self.ious, default=1):.4f}), {self.pixels_off} of {self.pixels} pixels off, predicted IoU off by "
            f"{self.iou_off:.1e} (relative above 1), stability score by {self.stability_most:.1e}"
        )

    def is_identical(self) -> bool:
        """Every number, place, box, point, score and pixel the same, bit for bit."""
        return self.is_same(0.0) and self.iou_off == self.stability_most == 0 and self.in_place == self.expected

    def is_same(self, pixels_off: float = 1e-5, rounding: float = 1e-4) -> bool:
        """The same masks but for the rounding of floats.

        Args:
            pixels_off: part of the pixels that may differ; as many may cross each of the stability score's two cutoffs.
            rounding: largest difference of a predicted IoU, relative above 1.
        """
        return (
            self.expected == self.found
            and self.unmatched == self.swapped == self.boxes_off == 0
            and self.pixels_off <= pixels_off * self.pixels
            and self.stability_off <= max(2 * pixels_off * self.pixels, rounding)
            and self.iou_off <= rounding
        )


def _origin(annotation: dict) -> tuple:
    return (*annotation["point_coords"][0], *annotation["crop_box"])


def _gap(first: float, second: float) -> float:
    return float(abs(first - second)) / max(1.0, abs(first))
