"""From soft class activation maps to label maps, and the background threshold that does it best."""

from __future__ import annotations

import numpy as np

from util.data.voc import OTHER_CLASSES, VOID, ClassTable
from util.evaluation.metrics import scores_of
from util.runtime.errors import InputError

THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(2, 96, 2))


def label_from_cams(cam: dict[int, np.ndarray], threshold: float, shape: tuple[int, int]) -> np.ndarray:
    """The class with the highest map at every pixel, or background where none exceeds the threshold.

    Args:
        cam: class (label-map value, from 1) -> float32 HxW in [0, 1]; may be empty.
        threshold: the constant that stands for the background's map.
        shape: (H, W).

    Returns:
        uint8 HxW.

    Raises:
        InputError: if the maps have another size.
    """
    label, score = _strongest(cam, shape)
    label[score <= threshold] = 0
    return label


def _strongest(cam: dict[int, np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    label, score = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for value in sorted(cam):
        if cam[value].shape != shape:
            height, width = cam[value].shape
            raise InputError(
                f"the soft CAM is {width}x{height} pixels, the image {shape[1]}x{shape[0]}; make the CAMs again"
            )
        higher = cam[value] > score
        label[higher], score[higher] = value, cam[value][higher]
    return label, score


class ThresholdSweep:
    """Scores of the label maps at many thresholds, in one pass over the images."""

    def __init__(self, num_classes: int, thresholds: tuple[float, ...] = THRESHOLDS):
        self.thresholds = np.array(sorted(thresholds), np.float32)
        self.num_classes = num_classes
        self.counts = np.zeros((len(self.thresholds), num_classes, num_classes + 1), np.int64)
        self.images = 0

    def update(self, cam: dict[int, np.ndarray], truth: np.ndarray) -> None:
        """Add an image: its maps (see `label_from_cams`) and its ground truth, uint8 HxW."""
        label, score = _strongest(cam, truth.shape)
        wrong = np.unique(truth[(truth >= self.num_classes) & (truth != VOID)])
        if wrong.size:
            raise InputError(
                f"the ground truth holds {', '.join(map(str, wrong[:8]))} with {self.num_classes} classes; {OTHER_CLASSES}"
            )
        # A pixel is foreground at the thresholds below its score: the first `above` of them.
        above = np.searchsorted(self.thresholds, score, side="left")
        shape = (len(self.thresholds) + 1, self.num_classes, self.num_classes)
        valid = truth != VOID
        index = np.ravel_multi_index((above[valid], truth[valid], label[valid]), shape)
        pixels = np.bincount(index, minlength=np.prod(shape)).reshape(shape)
        foreground = pixels[::-1].cumsum(axis=0)[::-1][1:]
        background = pixels.sum(axis=2).cumsum(axis=0)[:-1]
        self.counts[:, :, : self.num_classes] += foreground
        self.counts[:, :, 0] += background
        self.images += 1

    def scores(self, classes: ClassTable, only: list[int] | None = None) -> list[dict]:
        """Scores (see `util.evaluation.metrics.scores_of`) at every threshold, in ascending order."""
        return [scores_of(counts, self.images, classes, only) for counts in self.counts]

    def best(self, classes: ClassTable, only: list[int] | None = None) -> tuple[float, float]:
        """The threshold with the highest mIoU, and that mIoU (a fraction)."""
        miou = [scores["miou"] for scores in self.scores(classes, only)]
        index = int(np.argmax(miou))
        return round(float(self.thresholds[index]), 4), miou[index]
