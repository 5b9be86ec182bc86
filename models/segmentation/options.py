"""What a prediction may be asked for; without torch, so that scripts can read the defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass

from util.runtime.cli import COMMON
from util.runtime.errors import InputError

EXPORTS = ("onnx", "smp")
FORMATS = ("label-map", "overlay", "coco-json", "labelme")
REFINEMENTS = ("none", "pixel-adaptive")
# Changes of these common options where the checkpoint is to say what they do.
OF_CHECKPOINT = {
    "encoder": {"default": None, "help": f"{COMMON['encoder'].help}; of a checkpoint that does not name it"},
    "class_names": {"help": "one class per line, background first; of a checkpoint that does not name its classes"},
}


@dataclass(frozen=True)
class Prediction:
    """How images are segmented, and what is written.

    Attributes:
        scales, flip: see `Segmenter.predict`.
        long_side: see `Segmenter.long_side`; 0: the images' own size, None: the size that the network was trained at.
        refinement: ``none``, or ``pixel-adaptive`` for `models.common.refine`.
        formats: of ``FORMATS``; label maps are always written.
        confidence: whether to write ``confidence/<id>.png``, 8-bit grey, 255 = 1.
        probabilities: whether to write ``probabilities/<id>.npy``, soft CAMs of the classes (see `util.data.cams`).
        min_confidence: pixels with a lower probability become void.
        amp: precision of the network, a key of `models.common.precision.DTYPES` or ``auto``.
        encoder: of a checkpoint that does not name it, see `models.segmentation.deeplabv3.load_checkpoint`.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    long_side: int | None = None
    refinement: str = "none"
    formats: tuple[str, ...] = ("label-map", "overlay")
    confidence: bool = False
    probabilities: bool = False
    min_confidence: float = 0.0
    amp: str = "off"
    encoder: str | None = None

    def check(self) -> None:
        """Raise InputError for a choice that does not exist."""
        if self.refinement not in REFINEMENTS:
            raise InputError(f"refinement {self.refinement!r}: choose one of {', '.join(REFINEMENTS)}")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise InputError(f"scales {list(self.scales)}: give factors above 0, such as 0.75 1 1.25")
        if self.probabilities and self.refinement != "none":
            raise InputError("probabilities are those of the network, without a refinement; choose one of them")
        unknown = set(self.formats) - set(FORMATS)
        if unknown:
            raise InputError(f"format {', '.join(sorted(unknown))}: choose of {', '.join(FORMATS)}")
