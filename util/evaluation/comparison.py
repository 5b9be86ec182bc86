"""Is one set of labels better than another? Intervals of differences, choice on one half, tables and charts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from util.evaluation.metrics import Evaluation
from util.vis import new_figure, save_figure

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
        name -> float64 samples, fractions.
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
    return np.nanmean(iou if evaluation.only is None else iou[:, evaluation.only], axis=1)


def interval(after: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    """95 % interval (low, high) of the difference of two results of one `bootstrap_miou`."""
    low, high = np.percentile(after - before, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_difference(
    after: Evaluation, before: Evaluation, *, samples: int = SAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the difference of set-level mIoU over the ids that both have; see `bootstrap_miou`."""
    shared = [image_id for image_id in after.cells if image_id in before.cells]
    drawn = bootstrap_miou({"after": after.of(shared), "before": before.of(shared)}, samples=samples, seed=seed)
    return interval(drawn["after"], drawn["before"])


def halves(ids: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
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
        of all images in which each stands as the setting chosen on the *other* half left it.
    """
    parts = halves(ids, seed)
    chosen = [int(np.argmax([candidate.of(part).scores["miou"] for candidate in candidates])) for part in parts]
    cells = {i: candidates[chosen[1]].cells[i] for i in parts[0]} | {
        i: candidates[chosen[0]].cells[i] for i in parts[1]
    }
    first = candidates[0]
    return chosen, Evaluation(first.classes, {i: cells[i] for i in ids}, {}, first.only)


def rows_to_text(rows: Sequence[Sequence[str]]) -> str:
    """A terminal table; the first row is the header, the first column is flush left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(f"{cell:>{width}}" if i else f"{cell:<{width}}" for i, (cell, width) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def per_cent(value: float | None, sign: bool = False) -> str:
    """A fraction as per cent with two decimals; nothing for None."""
    return "" if value is None else f"{100 * value:{'+' if sign else ''}.2f}"


def interval_text(bounds: Sequence[float] | None) -> str:
    """``+0.32 .. +1.81``, per cent; nothing for None."""
    return "" if bounds is None else " .. ".join(per_cent(bound, sign=True) for bound in bounds)


def activation_rows(scores: Mapping[str, dict]) -> Iterator[list[str]]:
    """Header and a row a class: IoU, partial and false activation under each name, per cent as text.

    Partial activation is the share of a class's pixels that its label misses (1 - recall), false activation the share of
    its label that is something else (1 - precision).

    Args:
        scores: name -> what `util.evaluation.metrics.scores_of` gives; the first decides the classes.
    """
    yield ["class", *(f"{what} {name}" for what in ("IoU", "partial", "false") for name in scores)]
    for name in next(iter(scores.values()))["per_class"]:
        found = [values["per_class"][name] for values in scores.values()]
        cells = [v["iou"] for v in found] + [1 - v["recall"] for v in found] + [1 - v["precision"] for v in found]
        yield [name, *map(per_cent, cells)]


def draw_bars(path: str | os.PathLike, miou: Mapping[str, float], panels: Mapping[str, Mapping[str, dict]]) -> None:
    """Bars of mIoU, best first, beside one panel of differences with their 95 % intervals for each thing compared with.

    Args:
        miou: name -> fraction, in the order of the rows.
        panels: title -> name -> ``{"miou": difference, "interval_95": (low, high)}``.
    """
    names = list(miou)
    figure = new_figure(5 + 3 * len(panels), 0.45 * len(names) + 1.4)
    axes = figure.subplots(1, 1 + len(panels), sharey=True, squeeze=False)[0]
    values = [100 * miou[name] for name in names]
    axes[0].barh(range(len(names)), values, color=["tab:gray" if name == "input" else "tab:blue" for name in names])
    for row, value in enumerate(values):
        axes[0].text(value, row, f" {value:.2f}", va="center", fontsize=8)
    axes[0].set_xlim(max(0, min(values) - 8), min(105, max(values) + 5))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_xlabel("mIoU, per cent")
    axes[0].invert_yaxis()
    for axis, (title, differences) in zip(axes[1:], panels.items()):
        axis.axvline(0, color="tab:gray", linestyle=":")
        for row, name in enumerate(names):
            if name not in differences:
                continue
            low, high = (100 * bound for bound in differences[name]["interval_95"])
            color = "tab:green" if low > 0 else "tab:red" if high < 0 else "black"
            axis.plot([low, high], [row, row], color=color, linewidth=1.5)
            axis.plot(100 * differences[name]["miou"], row, "o", color=color, markersize=4)
        axis.set_xlabel(f"against {title}, points; 95 %")
    save_figure(path, figure)


def draw_curve(
    path: str | os.PathLike, title: str, points: Sequence[dict], default, levels: Mapping[str, float]
) -> None:
    """mIoU against a parameter, with a band that stands for the 95 % interval of the difference to the default.

    Args:
        points: ``{"value", "miou", "interval_95"}``, the interval of the difference to the score at the default.
        default: the parameter's default value.
        levels: name -> mIoU of what does not depend on the parameter, drawn as lines.
    """
    figure = new_figure(6, 3.6)
    axes = figure.add_subplot()
    values = [point["value"] for point in points]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    x = values if numeric else range(len(values))
    base = next(point["miou"] for point in points if point["value"] == default)
    low, high = ([100 * (base + point["interval_95"][side]) for point in points] for side in (0, 1))
    axes.fill_between(x, low, high, alpha=0.2, label="95 % interval of the difference to the default")
    axes.plot(x, [100 * point["miou"] for point in points], "o-")
    axes.plot(x[values.index(default)], 100 * base, "o", markersize=9, label=f"default, {default}")
    for (name, level), style in zip(levels.items(), (":", "--", "-.", (0, (1, 4)))):
        axes.axhline(100 * level, color="tab:gray", linestyle=style, label=name)
    if not numeric:
        axes.set_xticks(x, map(str, values))
    axes.set_xlabel(title)
    axes.set_ylabel("mIoU, per cent")
    axes.legend(fontsize=7)
    save_figure(path, figure)
