"""How DeepLabV3+ is trained, and the command line that follows from it; without torch."""

from __future__ import annotations

from dataclasses import dataclass

from models.common.recipe import Recipe
from util.runtime.cli import real, whole
from util.runtime.options import option

LOSSES = ("cross-entropy", "symmetric", "bootstrapped", "online-mined")


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(Recipe):
    """`Recipe` with this network's defaults, and what it has beyond.

    Attributes:
        output_stride: of the encoder.
        scale: smallest and largest factor that images are scaled by.
        long_side: pixels that the long side of every image is brought to before that; 0: none.
        loss: a name in `models.segmentation.losses.LOSSES`.
        head_factor: what the rate is multiplied by for the decoder.
        freeze_norm: leave the statistics of the encoder's batch norm as they are in the weights that it starts from.
    """

    output_stride: int = option(
        16, "pixels of the image per step of the encoder's features; 8 is finer and slower", type=int, choices=[8, 16]
    )
    scale: tuple[float, float] = option(
        (0.5, 2.0),
        "smallest and largest random scale of the images, above 0",
        type=real(0, above=True),
        nargs=2,
        metavar=("MIN", "MAX"),
    )
    long_side: int = option(
        0,
        "pixels that the long side of every image is brought to before --scale, for images of many sizes; 0: leave them",
        type=whole(0),
        metavar="PX",
    )
    loss: str = option("cross-entropy", "loss; the last three are meant for wrong labels", choices=LOSSES)
    lr: float = option(0.005, "learning rate of the encoder", type=real(0, above=True), metavar="RATE")
    head_factor: float = option(10.0, "times --lr for the decoder", type=real(0), metavar="X")
    optimizer: str = option(
        "sgd", "adamw needs fewer steps, at a --lr of 0.0001 and a --weight-decay of 0.01", choices=["sgd", "adamw"]
    )
    momentum: float = option(0.9, "momentum of SGD, 0 to 1", type=real(0, 1), metavar="X")
    weight_decay: float = option(1e-4, "weight decay", type=real(0), metavar="X")
    warm_up: float = option(
        0.05, "share of the steps in which the learning rate rises, 0 to 1", type=real(0, 1), metavar="SHARE"
    )
    clip_norm: float = option(
        2.0, "gradients with a larger norm are scaled down to it; 0: none are", type=real(0), metavar="X"
    )
    ema: float = option(
        0.0, "decay of the weights' moving average, below 1; 0: none", type=real(0, 0.999999), metavar="X"
    )
    freeze_norm: bool = option(
        False, "keep the statistics of the encoder's batch norm: for short trainings and small batches"
    )
    compile: bool = option(False, "use torch.compile")
    deterministic: bool = option(False, "the same bits every time on a GPU as well; slower")
