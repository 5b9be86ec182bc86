"""grow: objects found in part grow into the good mask that holds them, labels that overshoot are trimmed to it.

Where label and mask nearly agree, the label's border is as good as the mask's: painting masks over the label gains nothing
there and costs other classes their pixels. What masks know and labels do not is the extent of an object that was found
in part, or with its surroundings. So only masks of good quality speak, each for the class that holds most of it:

1. Growth: a mask that holds most of a class, or most of which the class holds, hands its background to the class, as far
   as it hangs together with the class's own pixels once the mask is cut at its narrow necks. The more of the class it
   holds, the less quality it needs.
2. Trimming: where the good masks of a class hold only a part of it, though more than half, the rest is background.
3. Rescue: the one class that the image's tags name and the label lost gets the best mask that the label leaves free.
4. Holes: small holes in the label are closed.

A mask that lies along the frame of the picture is background rather than object, so a class must hold a larger share of
it than it holds of the frame to grow into it. None of these rules turns one class into another.

Masks without a predicted IoU (regions, or SAM's from a folder of PNG files) may be anything, so the label has to vouch for
them: a class must hold a fair share of such a mask to grow into it, and only one of high stability trims. There is one case
in which they know more than the label: when they tile the picture, and most of it lies in regions that hardly change with
the scale of the segmentation, as where objects have plain surfaces. Then these even the label, or the soft CAM where there
is one, out as in `cam_level`, and nothing else follows from them. On photographs most regions change with the scale.

Sources: the rule of coverage is `max_iou_imp2`'s (SAM_WSSS, arXiv 2305.05803); predicted IoU and stability score are
those of Kirillov et al., "Segment Anything", ICCV 2023; the frame as a sign of background is Zhu et al., "Saliency
Optimization from Robust Background Detection", CVPR 2014; parts are told apart by erosion and reconstruction from a marker
(Vincent, IEEE Trans. Image Processing 1993); regions that stay over thresholds are trusted in Matas et al., "Robust
Wide-Baseline Stereo from Maximally Stable Extremal Regions", BMVC 2002.

What each part adds: mIoU of seven classes on 437 images of VOC 2012 train, TransCAM labels, about 5 masks an image of a
small SAM; in brackets the 95 % interval of the difference to the whole. The rules were worked out on these images.

    input labels                      82.95   -3.12  [-4.46, -1.84]
    max_iou_imp2                      84.14   -1.94  [-3.16, -0.87]
    whole                             86.07
    without growth by coverage        84.63   -1.44  [-2.41, -0.61]
    quality = 0 (all by majority)     85.39   -0.68  [-1.34, -0.13]
    without connection to the class   85.57   -0.50  [-1.01, -0.05]
    without the sign of the frame     85.73   -0.35  [-1.25,  0.00]
    without tags (no rescue)          85.79   -0.28  [-0.76,  0.00]
    without trimming                  85.90   -0.17  [-0.69, +0.30]
    without necks                     85.92   -0.16  [-0.40,  0.00]
    without growth by majority        86.07   -0.01  [-0.03, +0.01]
    without closing holes             86.07   -0.01  [-0.05, +0.03]
    quality and coverage apart        86.07    0.00  [-0.13, +0.11]; the rules up to here, 0.75 and 0.7 instead of a product
    void = True                       86.04   -0.03  [-0.07, +0.01]; 0.56 % void

Other inputs; "part" is `grow` without what the last column names. Parameters come from half of these images and from the
generated pictures of seed 0; those of seeds 1 to 5 served for this table only.

                                            input  max_iou_imp2   grow   part
    plain CAM + PAR, 437 images             60.14         70.18  70.40  70.04  quality and coverage apart
    plain CAM, 437 images                   57.66         71.86  71.10  70.56  the same; to max_iou_imp2 [-2.65, +1.12]
    plain CAM + PAR, no predicted IoU       60.14         70.18  69.71  62.46  growth by coverage; [-1.95, +1.11]
    TransCAM, no predicted IoU              82.95         84.14  84.77  83.51  growth by coverage
    TransCAM, regions, 120 images           82.89         60.08  82.65  82.53  growth by coverage; to input [-1.06, +0.65]
    plain CAM + PAR, regions, 120 images    58.24         47.42  58.81  58.11  growth by coverage; to input [-0.53, +1.99]
    generated, seed 1, soft CAMs, regions   57.29         60.71  67.63  60.80  levels; without soft CAMs 68.11
    generated, seed 2                       52.50         55.32  62.88  56.31  levels; without soft CAMs 62.36
    generated, seed 3                       52.79         55.52  62.47  55.72  levels; without soft CAMs 61.33
    generated, seed 4                       61.50         64.50  75.60         without soft CAMs 73.05
    generated, seed 5                       58.66         62.81  74.71         without soft CAMs 73.77

Tried on the same images and left out. Differences to `max_iou_imp2` (84.14): argmax over classes and background per mask,
purer masks on top, -2.9; votes of all masks as sums of log shares, weighted by predicted IoU, -3.1, and with a bonus for the
label's own class -1.7; boosted trees over measures of mask and label, trained on one half and tested on the other, -1.2 to
+0.2. Differences to forerunners of `grow` (84 to 86): masks of a majority painted over the label, -0.1 to -0.5; label
outside good masks always taken away, -0.2 to -0.6; background masks erase the label, -0.1 to -0.9; small label patches
removed, 0.0 to -0.3; the IoU of label and mask as the sign for trimming, -0.1 to -0.2. On one half of the images with
plain-CAM labels: the share of the soft CAM in a mask instead of the label's, 0.0 to -1.3; coverage of the parts of a label
that a mask touches instead of all of it, 0.0 to -0.7. On half of the 120 images with regions: `cam_level` by all of them
-14.4, by those of stability 0.9 or more -2.4, without asking whether they cover the picture.
"""

import numpy as np

from merge import cam_level
from merge.merge_base import class_sizes, cut_at_necks, fill_holes, frame_share
from util.data.voc import VOID

SEARCH = {"coverage": (0.55, 0.65, 0.75), "quality": (0.7, 0.75, 0.8), "trim": (0.0, 0.7, 0.8, 0.9)}  # worth trying

LEAST_SHARE = 0.03, 0.3  # of a mask, for its class to grow into it by coverage: with a predicted IoU, and without
TRIMMING_SHARE = 0.7  # of a mask, for it to stand for its class when that is trimmed
STABLE = 0.9  # the least stability score that trims without a predicted IoU


def merge(
    label,
    masks,
    *,
    tags=None,
    cam=None,
    coverage=0.65,
    quality=0.75,
    majority=0.5,
    trim=0.8,
    neck=0.06,
    hole=0.01,
    void=False,
):
    """Mend a label; the contract stands in `merge.merge_base`.

    Args:
        coverage: a mask is grown into when its quality times the share of its class's pixels that it holds reaches this,
        majority: or when its quality is good and its class holds this share of it.
        quality: what good quality is, the quality of a mask being the lower of predicted IoU and stability score. A mask
            without a predicted IoU needs a stability of this for growth of either kind, and a majority of this; without
            both scores it counts as stable.
        trim: a class is trimmed when its good masks hold less than this share of it; 0 trims nothing.
        neck: parts of a mask that hang together by necks narrower than twice this share of the square root of its area
            count as separate; 0 cuts nowhere.
        hole: background holes smaller than this share of the label's foreground are closed; 0 closes none.
        void: make what is in dispute void (255) instead of background, for training: trimmed pixels, and what a neck cuts
            off a mask that grew.
    """
    scored = ~np.isnan(masks.predicted_iou)
    levelled = _level(label, masks.select(~scored), tags, cam)
    if levelled is not None:
        label, masks, scored = levelled, masks.select(scored), scored[scored]
    result = label.copy(order="F")
    classes, sizes = class_sizes(label)
    framed = frame_share(masks)
    disputed = VOID if void else 0
    if len(masks) and len(classes):
        overlaps = masks.overlaps(label, classes)
        share = overlaps / np.maximum(masks.areas, 1)[:, None]
        chosen, every = share.argmax(axis=1), np.arange(len(masks))
        pure, covered = share[every, chosen], (overlaps / sizes)[every, chosen]
        score = np.nan_to_num(np.fmin(masks.predicted_iou, masks.stability_score), nan=1.0)
        good = score >= quality
        clear = (share == pure[:, None]).sum(axis=1) == 1  # held by two classes alike, a mask speaks for neither
        if trim:
            own = clear & good & (pure >= TRIMMING_SHARE) & (scored | (score >= STABLE))
            for column, value in enumerate(classes):
                _trim(result, label == value, masks, own & (chosen == column), trim, disputed)
        whole = (
            (score * covered >= coverage)
            & (scored | good)
            & (pure > np.maximum(framed, np.where(scored, *LEAST_SHARE)))
        )
        grown = clear & (whole | good & (pure >= np.where(scored, majority, np.maximum(majority, quality))))
        for k in sorted(np.flatnonzero(grown), key=lambda k: (-pure[k], -covered[k], *masks.boxes[k])):
            _grow(result, label, masks, k, classes[chosen[k]], neck, disputed)
    if tags is not None:
        _rescue(result, label, masks, [t for t in tags if not (label == t).any()], framed, quality)
    return fill_holes(result, hole)


def _level(label: np.ndarray, masks, tags, cam) -> np.ndarray | None:
    """The label evened out by masks without a predicted IoU, where these fit the picture; None where they do not.

    They do when they tile it, and most of it lies in masks that hardly change with the scale of the segmentation.
    """
    stability = np.nan_to_num(masks.stability_score)
    if masks.union().mean() < 0.95 or masks.union(stability >= 0.95).mean() < 0.6:
        return None
    stable = masks.select(stability >= 0.8)
    found = cam_level.merge(label, stable, tags=tags, cam=cam)
    return np.asfortranarray(np.where(stable.union(), found, label))


def _grow(result: np.ndarray, label: np.ndarray, masks, k: int, value: int, neck: float, disputed: int) -> None:
    """Give the free pixels of mask k to a class, as far as they hang together with its pixels in the label."""
    x, y, width, height = masks.boxes[k]
    # One pixel more, so that the mask's own shore lies inside; an object cut by the edge of the image has none there.
    box = slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)
    inside, now = masks.dense(k)[box], result[box]
    own = inside & (label[box] == value)
    free = inside & ((now == 0) | (now == VOID))
    reached = cut_at_necks(own, own | free, neck * np.sqrt(masks.areas[k]))
    now[free & reached] = value
    if disputed:
        now[free & ~reached] = disputed


def _trim(result: np.ndarray, own: np.ndarray, masks, chosen: np.ndarray, trim: float, disputed: int) -> None:
    """Take a class's pixels outside its good masks from it, where those hold half of it and less than ``trim``."""
    if chosen.any():
        outside = own & ~masks.union(chosen)
        if 0.5 <= 1 - np.count_nonzero(outside) / np.count_nonzero(own) < trim:
            result[outside] = disputed


def _rescue(result, label, masks, lost: list[int], framed: np.ndarray, quality: float) -> None:
    """Give the best free mask to the one class that vanished; with several, nothing tells which mask is whose."""
    if len(lost) != 1 or not len(masks):
        return
    taken = np.asfortranarray((label > 0) & (label < VOID), np.uint8)
    share = masks.overlaps(taken, [1])[:, 0] / np.maximum(masks.areas, 1)
    score = np.nan_to_num(np.fmin(masks.predicted_iou, masks.stability_score))
    score[np.isnan(masks.predicted_iou) | (share > 0.1) | (framed > 0.1) | (masks.areas > label.size / 2)] = 0
    best = max(range(len(masks)), key=lambda k: (score[k], *masks.boxes[k]))
    if score[best] >= max(quality, 1e-6):
        result[masks.dense(best) & ((result == 0) | (result == VOID))] = lost[0]
