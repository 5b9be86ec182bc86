"""Charts of scores: strategies compared, parameters swept, classes before and after, confusion, and training curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from util.figures.style import STYLE, legend_below, new_figure, save, write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Stem = str | os.PathLike
_ROW, _FRAME = 0.17, 1.2  # inches: a row of a chart; title, axis and legend together
_NAME = 1.3  # inches: the longest name beside a chart; what is longer is cut off with an ellipsis
_TICK = 0.25  # inches between labels of an axis
_DOTTED = 30  # points; a curve of more has no dots, which would hide it


@dataclass(frozen=True)
class Difference:
    """A difference of two scores with its 95 % interval, all as fractions."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    def points(self) -> tuple[float, float, float]:
        """Value, and how far the interval reaches below and above it, in points of per cent."""
        return 100 * self.value, 100 * (self.value - self.low), 100 * (self.high - self.value)


@dataclass(frozen=True)
class Strategy:
    """A row of `draw_strategies`.

    Attributes:
        name, group: of the strategy; the group is a key of `Style.groups`.
        miou: a fraction.
        differences: what it is compared with -> the difference, where there is one.
    """

    name: str
    group: str
    miou: float
    differences: Mapping[str, Difference] = field(default_factory=dict)


def draw_strategies(stem: Stem, strategies: Sequence[Strategy], levels: Mapping[str, float], title: str) -> list[Path]:
    """Dots with 95 % intervals of differences in mIoU: one row per strategy, the best first, as in the tables.

    Args:
        stem: path of the files without suffix.
        levels: what is compared with -> its mIoU; one panel each, with a line at zero for it.

    Returns:
        the files, see `util.figures.style.save`.
    """
    rows = sorted(strategies, key=lambda strategy: (-strategy.miou, strategy.name))
    known = [group for group in STYLE.groups if any(strategy.group == group for strategy in strategies)]
    with new_figure(STYLE.double, _ROW * len(rows) + _FRAME) as figure:
        panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
        for axes, (name, level) in zip(panels, levels.items()):
            axes.axvline(0, color=STYLE.neutral, linewidth=0.8, linestyle=":")
            for place, strategy in enumerate(rows):
                if name in strategy.differences:
                    _dot(axes, place, strategy.differences[name], *STYLE.groups[strategy.group])
            axes.set_xlabel(STYLE.fitted(f"against {name} ({100 * level:.2f} %)", 4.2 / len(levels)))
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x", linewidth=0.3, alpha=0.5)
        names = {place: f"{row.name}  {100 * row.miou:.2f}" for place, row in enumerate(rows)}
        panels[0].set_yticks(list(names), list(names.values()))
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        panels[0].set_title("mIoU, %", loc="left", x=0, ha="right")
        write_title(figure, f"Change of mIoU with 95 % intervals, points\n{title}")
        entries = [_marker(*STYLE.groups[group], group or "strategy") for group in known]
        entries += [_marker("#808080", "o", "interval excludes 0"), _marker("#808080", "o", "includes 0", False)]
        legend_below(figure, entries, len(entries))
        return save(figure, stem)


def _dot(axes: Axes, place: float, difference: Difference, color: str, marker: str) -> None:
    value, below, above = difference.points()
    face = color if difference.is_clear else "white"
    axes.errorbar(value, place, xerr=[[below], [above]], fmt=marker, color=color, markerfacecolor=face, elinewidth=1.2)


def _marker(color: str, marker: str, label: str, filled: bool = True) -> Line2D:
    from matplotlib.lines import Line2D

    face = color if filled else "white"
    return Line2D([], [], color=color, marker=marker, markerfacecolor=face, linestyle="none", label=label)


def draw_sweep(
    stem: Stem,
    parameter: str,
    points: Sequence[tuple[Any, Difference]],
    default: object,
    levels: Mapping[str, float],
    title: str,
) -> list[Path]:
    """The difference in mIoU to the input labels, with its 95 % interval, at each value of a parameter.

    Args:
        stem: path of the files without suffix.
        points: (value, difference to the input); the default's is among them.
        levels: what does not depend on the parameter -> mIoU; the input labels' first, drawn as the line at zero.
    """
    values = [value for value, _ in points]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    x = np.array(values if numeric else range(len(values)), float)
    y, below, above = np.array([difference.points() for _, difference in points]).T
    place = values.index(default)
    with new_figure(STYLE.single, 2.9) as figure:
        axes = figure.add_subplot()
        base, color = next(iter(levels.values())), STYLE.lines[0]
        for (name, level), style in zip(levels.items(), (":", "--", "-.", (0, (1, 4)))):
            label = f"{name}, {100 * level:.2f} %"
            axes.axhline(100 * (level - base), color=STYLE.neutral, linewidth=0.8, linestyle=style, label=label)
        axes.errorbar(x, y, yerr=[below, above], fmt="o-" if numeric else "o", color=color, label="with 95 % interval")
        mark: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "color": STYLE.lines[1]}
        axes.plot(x[place], y[place], "o", linestyle="none", label=f"default, {default}", **mark)
        axes.set_xticks(x, _tick_labels(x, [f"{value:g}" if numeric else str(value) for value in values], place))
        axes.margins(x=0.08)
        axes.set_xlabel(parameter)
        axes.set_ylabel("change of mIoU, points")
        write_title(figure, title)
        legend_below(figure, axes.get_legend_handles_labels()[0], 2)
        return save(figure, stem)


def _tick_labels(x: np.ndarray, texts: Sequence[str], first: int) -> list[str]:
    """The texts; those that would run into others are left empty, where ``first`` and the ends come before the rest."""
    room = (STYLE.single - 1) / max(float(np.ptp(x)), 1e-9)  # inches of a unit of x
    kept: list[int] = []
    for k in dict.fromkeys((first, len(x) - 1, 0, *range(len(x)))):
        wide = STYLE.inches(texts[k])
        if all(abs(x[k] - x[j]) * room >= max(_TICK, (wide + STYLE.inches(texts[j])) / 2 + 0.05) for j in kept):
            kept.append(k)
    return [text if k in kept else "" for k, text in enumerate(texts)]


def draw_classes(
    stem: Stem, before: Mapping[str, float], after: Mapping[str, float], names: tuple[str, str], title: str
) -> list[Path]:
    """IoU of every class before and after, the largest gain first, and the mean; a line joins the two.

    Args:
        stem: path of the files without suffix.
        before, after: class -> IoU, a fraction; both of the same classes.
        names: of the two.
    """
    order = sorted(before, key=lambda name: before[name] - after[name])
    rows = [(name, 100 * before[name], 100 * after[name]) for name in order]
    means = [100 * float(np.mean(list(side.values()))) for side in (before, after)]
    rows.append(("mean", means[0], means[1]))
    with new_figure(STYLE.single, _ROW * len(rows) + _FRAME + 0.1) as figure:
        axes = figure.add_subplot()
        axes.set_xlim(min(min(row[1:]) for row in rows) - 3, max(max(row[1:]) for row in rows) + 3)
        for place, (_, first, last) in enumerate(rows):
            _pair(axes, place, first, last)
        axes.axhline(len(rows) - 1.5, color=STYLE.neutral, linewidth=0.6)
        axes.set_yticks(range(len(rows)), [STYLE.fitted(row[0], _NAME, 1) for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="both", linewidth=0.3, alpha=0.5)
        axes.set_xlabel("IoU, %; at the right its change, points")
        write_title(figure, title)
        kinds = {"better": STYLE.better, "worse": STYLE.worse, "unchanged": STYLE.neutral}
        entries = [_marker(STYLE.neutral, "o", names[0], False)]
        entries += [_marker(color, "o", f"{names[1]}, {kind}") for kind, color in kinds.items()]
        legend_below(figure, entries, 2)
        return save(figure, stem)


def _pair(axes: Axes, place: int, first: float, last: float) -> None:
    """A class before and after, with the change at the right edge."""
    change = round(last - first, 1)
    color = STYLE.better if change > 0 else STYLE.worse if change < 0 else STYLE.neutral
    axes.plot([first, last], [place, place], color=color, zorder=2)
    axes.plot(first, place, "o", color=STYLE.neutral, markerfacecolor="white", markersize=5.5, zorder=2)
    axes.plot(last, place, "o", color=color, markersize=3.5, zorder=3)
    text = f"{change:+.1f}" if change else "0.0"
    axes.annotate(
        text,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(26, 0),
        textcoords="offset points",
        ha="right",
        va="center_baseline",
    )


def draw_confusion(stem: Stem, scores: Mapping[str, Any], names: Sequence[str], title: str) -> list[Path]:
    """A confusion matrix: how many of the pixels of each true class are labelled as what, in per cent of the row.

    Args:
        stem: path of the files without suffix.
        scores: what `util.evaluation.metrics.scores_of` gives; its ``classes`` are the rows. Other classes share a column.
        names: of all classes.
    """
    counts = np.array(scores["confusion"], np.int64)
    rows = [names.index(name) for name in scores["classes"]]
    columns = {names[k]: counts[rows, k] for k in rows}
    columns["other"] = counts[rows, : len(names)].sum(axis=1) - counts[np.ix_(rows, rows)].sum(axis=1)
    columns["void"] = counts[rows, len(names)]
    columns = {name: column for k, (name, column) in enumerate(columns.items()) if k < len(rows) or column.any()}
    table = np.stack(list(columns.values()), axis=1)
    shares = 100 * table / table.sum(axis=1, keepdims=True)
    width = STYLE.single if len(columns) <= 9 else STYLE.double
    shown = [STYLE.fitted(name, _NAME, 1) for name in columns]
    below = max(map(STYLE.inches, shown))
    with new_figure(width, 0.9 + below + min(0.24, (width - below) / len(columns)) * len(rows)) as figure:
        axes = figure.add_subplot()
        _draw_shares(axes, shares)
        axes.set_xticks(range(len(columns)), shown, rotation=90)
        axes.set_yticks(range(len(rows)), shown[: len(rows)])
        axes.tick_params(length=0)
        axes.set_xlabel("labelled as")
        axes.set_ylabel("true class")
        write_title(figure, f"Labels of the pixels of each class, % (blank: below 0.5)\n{title}")
        return save(figure, stem)


def _draw_shares(axes: Axes, shares: np.ndarray) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", STYLE.lines[0]])
    axes.imshow(shares, cmap=shades, vmin=0, vmax=100, aspect="auto")
    for row, column in zip(*np.nonzero(shares >= 0.5)):
        color = "white" if shares[row, column] > 90 else STYLE.neutral  # the one with more contrast
        text = f"{shares[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center_baseline", color=color)


def draw_curves(stem: Stem, histories: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> list[Path]:
    """Loss, learning rate and held-out score over the steps of one or several trainings.

    What was measured only once, as a score at the end is, has no panel: a dot is not a curve.

    Args:
        stem: path of the files without suffix.
        histories: name -> entries of its ``history.json``.
    """
    kinds = {
        "loss": ("loss", 1),
        "lr": ("learning rate", 1),
        "miou": ("held-out mIoU, %", 100),
        "map": ("held-out mAP, %", 100),
    }

    def points(key: str, history: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
        return [(entry["step"], kinds[key][1] * entry[key]) for entry in history if entry.get(key) is not None]

    longest = {key: max(len(points(key, history)) for history in histories.values()) for key in kinds}
    shown = [key for key in kinds if longest[key] > 1] or ["loss"]
    width = STYLE.double if len(shown) > 1 else STYLE.single
    with new_figure(width, 2.1 if len(histories) == 1 else 2.4) as figure:
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, key in zip(panels, shown):
            for (name, history), color in zip(histories.items(), STYLE.lines):
                found = points(key, history)
                marks = "o-" if len(found) <= _DOTTED else "-"
                axes.plot(*zip(*found), marks, color=color, markersize=3, label=name)
            axes.set_xlabel("step")
            axes.set_ylabel(kinds[key][0])
            axes.locator_params(axis="x", nbins=4, integer=True)
            axes.yaxis.set_major_formatter("{x:g}")  # without a factor above the axis
            axes.grid(linewidth=0.3, alpha=0.5)
        write_title(figure, title)
        if len(histories) > 1:
            legend_below(figure, panels[0].get_legend_handles_labels()[0], len(histories))
        return save(figure, stem)
