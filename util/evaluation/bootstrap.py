"""Is one set of labels better than another? Intervals of differences, and choices on one half of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from util.evaluation.metrics import Evaluation

SAMPLES = 1000


def bootstrap_miou(
    evaluations: Mapping[str, Evaluation], *, samples: int = SAMPLES, seed: int = 0, void_left_out: bool = False
) -> dict[str, np.ndarray]:
    """Set-level mIoU of resampled sets of images, the same sets for every evaluation.

    Images are drawn with replacement; each draw's counts are summed over the set before IoU is taken (Efron, "Bootstrap
    methods: another look at the jackknife", 1979). Differences of the arrays are therefore paired.

    Args:
        evaluations: name -> evaluation, all of the same ids.
        samples: draws.
        seed: of the draws.
        void_left_out: leave pixels predicted as void out; they count as wrong otherwise, as in the score itself.

    Returns:
        name -> float64 samples, fractions; NaN for draws without any of the classes that the mean is taken over.
    """
    first, *others = evaluations.values()
    ids = list(first.cells)
    if any(other.cells.keys() != first.cells.keys() for other in others):
        raise ValueError("a paired bootstrap needs evaluations of the same images")
    draws = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=samples)
    return {
        name: _resampled(evaluation, ids, draws.astype(np.float64), void_left_out)
        for name, evaluation in evaluations.items()
    }


def _resampled(evaluation: Evaluation, ids: Sequence[str], draws: np.ndarray, void_left_out: bool) -> np.ndarray:
    size = len(evaluation.classes)
    hit, there, predicted = (np.zeros((len(ids), size)) for _ in range(3))
    for row, image_id in enumerate(ids):
        counts = evaluation.image_counts(image_id)
        hit[row] = np.diagonal(counts)
        there[row] = counts[:, :size].sum(axis=1) if void_left_out else counts.sum(axis=1)
        predicted[row] = counts[:, :size].sum(axis=0)
    hit, there, predicted = (draws @ values for values in (hit, there, predicted))
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(there > 0, hit / (there + predicted - hit), np.nan)
        iou = iou if evaluation.only is None else iou[:, evaluation.only]
        return np.nansum(iou, axis=1) / (~np.isnan(iou)).sum(axis=1)


def interval(after: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    """95 % interval (low, high) of the difference of two results of one `bootstrap_miou`."""
    low, high = np.nanpercentile(after - before, [2.5, 97.5])
    return float(low), float(high)


def random_halves(ids: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """The ids in two halves, at random under a seed; each keeps the order of the list."""
    order = np.random.default_rng(seed).permutation(len(ids))
    first = {ids[i] for i in order[: len(ids) // 2]}
    return [i for i in ids if i in first], [i for i in ids if i not in first]


def choose_and_report(candidates: Sequence[Evaluation], ids: Sequence[str], seed: int) -> tuple[list[int], Evaluation]:
    """Choose the best of several settings on one half of the images, score it on the other; both ways round.

    Args:
        candidates: the same images under every setting.
        ids: of all images.
        seed: of the halves.

    Returns:
        for either half the index of the setting with the highest mIoU there (the first of equals), and the evaluation
        of all images in which each is as the setting chosen on the *other* half left it.
    """
    parts = random_halves(ids, seed)
    chosen = [int(np.argmax([candidate.of(part).scores["miou"] for candidate in candidates])) for part in parts]
    cells = {i: candidates[chosen[1]].cells[i] for i in parts[0]} | {
        i: candidates[chosen[0]].cells[i] for i in parts[1]
    }
    first = candidates[0]
    return chosen, Evaluation(first.classes, {i: cells[i] for i in ids}, {}, first.only)
