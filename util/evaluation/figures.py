"""Charts of comparisons and of sweeps over a parameter."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from util.vis import new_figure, save_figure


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
    """mIoU against a parameter, with a band for the 95 % interval of the difference to the default.

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
