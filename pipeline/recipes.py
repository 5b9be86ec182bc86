"""How long, and at which size, the networks of a run are trained: options of the stages' scripts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pipeline.options import Argument, Settings
from util.data.ids import read_id_list, spread
from util.data.images import find_image, image_size
from util.runtime.errors import InputError

Recipes = dict[str, list[Argument]]

BATCH = 8
SAMPLE = 1000  # images whose size is looked at
LARGE = 700  # pixels of the long side; with larger images among them, all are trained on at LONG_SIDE
LONG_SIDE = 500  # as VOC's images, for which the scripts' defaults were chosen
# Of refined plain CAMs with their random walk. The mIoU is flat from 0.5 to 0.7 on 937 images of VOC (docs/results.md);
# with 48 images of three classes the CAMs reach further, and 0.65 is 7 to 8 points above 0.5.
PLAIN_CAM_THRESHOLD = 0.65
SMALL_ENCODER = "timm-mobilenetv3_small_minimal_100"
# Trainings of fewer steps than this follow docs/deeplab.md's settings for little time.
SHORT = 1500
_SHORT_TRAINING: list[Argument] = [
    *("--optimizer", "adamw", "--lr", 0.0001, "--weight-decay", 0.01, "--clip-norm", 10, "--freeze-norm"),
]


@dataclass(frozen=True)
class Extent:
    """How many images a run trains on, and the longest side among them in pixels."""

    images: int
    longest: int


VOC = Extent(10582, 500)  # its trainaug


def extent_of(ids: Path, images: Path) -> Extent:
    """Look at a training list and at the headers of its images; one that cannot be read is the scripts' to report."""
    listed = read_id_list(ids, images)
    longest = 0
    for image_id in spread(listed, SAMPLE):
        try:
            longest = max(longest, *image_size(find_image(images, image_id)))
        except InputError:
            continue
    return Extent(len(listed), longest)


def generated(settings: Settings) -> Recipes:
    """Networks that learn the generated data set from random weights in minutes."""
    encoder: list[Argument] = ["--encoder", settings.encoder or SMALL_ENCODER, "--encoder-weights"]
    epochs, steps = max(1, round(15 * settings.effort)), max(2, round(400 * settings.effort))
    cam: list[Argument] = [
        *("--method", "cam", *encoder, settings.encoder_weights or "none"),
        *("--epochs", epochs, "--crop-size", 128, "--long-side", 112, 160),
        *("--jitter", 0.1, "--lr", 0.002, "--batch-size", min(8, settings.count)),
    ]
    # The classifier's encoder, where there is one, has seen images without a download, and no ground truth.
    own = "imagenet" if settings.from_tags else settings.out / "cam" / "last.pth"
    weights: Argument = settings.encoder_weights or own
    deeplab: list[Argument] = [
        *(*encoder, weights, *_length(settings, steps), "--crop-size", 128),
        *("--scale", 0.7, 1.2, "--jitter", 0.1, "--optimizer", "adamw", "--lr", 0.0005, "--head-factor", 4),
        *("--weight-decay", 0.01, "--freeze-norm", "--batch-size", BATCH),
    ]
    return {"cam": cam, "labels": ["--sizes", 160, 240], "deeplab": deeplab}


def real(settings: Settings, extent: Extent) -> Recipes:
    """A person's images: the scripts' defaults, but enough steps for few images, and one size for many sizes.

    With ``--quick`` crops, steps and the sizes of the CAMs are small. With ``--encoder-weights none`` the network starts
    from the classifier's encoder where there is one; random weights have no statistics of batch norm that could be kept.
    """
    epoch = max(1, extent.images) / BATCH
    plain = "--method" not in settings.extra.get("cam", [])
    encoder = _encoder(settings)
    cam: list[Argument] = ["--method", "cam", *encoder] if plain else []
    labels: list[Argument] = ["--refine", "par"]
    if plain:
        labels += ["--bg-threshold", PLAIN_CAM_THRESHOLD]
    if settings.quick:
        cam += ["--crop-size", 304, "--long-side", 224, 384, "--epochs", _clamped_epochs(8, 60, 400, epoch)]
        labels += ["--sizes", 384] if settings.trains_classifier else []
        deeplab = [*_length(settings, 200), "--crop-size", 256, "--scale", 0.4, 0.8, *_SHORT_TRAINING]
    else:
        cam += ["--epochs", _clamped_epochs(20, 100, math.inf, epoch)]
        steps = max(400, round(60 * epoch))
        deeplab = [*_length(settings, steps), *_SHORT_TRAINING] if steps < SHORT else []
    if settings.encoder_weights == "none" and plain and settings.trains_classifier:
        encoder = [*encoder[:-1], settings.out / "cam" / "last.pth"]
    elif settings.encoder_weights == "none":
        deeplab = [option for option in deeplab if option != "--freeze-norm"]
    deeplab = [*encoder, *deeplab]
    if extent.longest > LARGE:
        deeplab += ["--long-side", LONG_SIDE]
    return {"cam": cam, "labels": labels, "deeplab": deeplab}


def _encoder(settings: Settings) -> list[Argument]:
    """What ``--encoder`` and ``--encoder-weights`` say, for both networks."""
    name: list[Argument] = ["--encoder", settings.encoder] if settings.encoder else []
    return [*name, *(["--encoder-weights", settings.encoder_weights] if settings.encoder_weights else [])]


def _length(settings: Settings, steps: int) -> list[Argument]:
    """``--steps``, unless the user gave ``--epochs``, which excludes it."""
    given = {word.partition("=")[0] for word in settings.extra.get("deeplab", [])}
    return [] if "--epochs" in given else ["--steps", steps]


def _clamped_epochs(epochs: int, fewest: float, most: float, epoch: float) -> int:
    """So many epochs that they take between ``fewest`` and ``most`` steps, and at least one."""
    return max(1, math.ceil(min(max(epochs * epoch, fewest), most) / epoch))
