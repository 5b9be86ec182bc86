"""Charts of the page Results."""

from __future__ import annotations

from typing import TypeVar

import altair as alt
import pandas as pd

from Web_demo.src.utils import theme

_ROW, _AXIS = 28, 60  # pixels; Streamlit draws the axis within the height
_CELL, _NAMES = 44, 130  # pixels of a cell of a matrix, and of the names beside it
_DOTTED = 60  # points; a curve of more has no dots
# Of Okabe and Ito, whose colours colour-blind people distinguish.
_BLUE, _ORANGE = "#0072b2", "#d55e00"
_INPUT, _METHOD, _INTERVAL = "#8a8a8a", "#2a87a8", "#e08e0b"

Chart = TypeVar("Chart", alt.Chart, alt.LayerChart)


def comparison_chart(scores: pd.DataFrame) -> alt.LayerChart:
    """A dot for every method's mIoU, with the 95 % interval of its change, in the order of the table."""
    names = scores["method"].tolist()
    base = alt.Chart(scores).encode(y=alt.Y("method:N", sort=names, title="method", axis=_names_axis()))
    low, high = scores[["mIoU", "low"]].min().min(), scores[["mIoU", "high"]].max().max()
    room = max(0.05 * (high - low), 0.1)
    scale = alt.Scale(domain=[max(0, low - room), min(100, high + room)], zero=False)
    x, start = (alt.X(f"{name}:Q", title="mIoU (%)", scale=scale) for name in ("mIoU", "low"))
    color = alt.condition(alt.datum.method == "input", alt.value(_INPUT), alt.value(_METHOD))
    tooltip = ["method", *(alt.Tooltip(name, format=".2f") for name in ("mIoU", "low", "high"))]
    line = alt.Chart(scores[scores["method"] == "input"]).mark_rule(color=_INPUT, strokeDash=[4, 4]).encode(x=x)
    chart = (
        line
        + base.mark_rule(strokeWidth=2, color=_INTERVAL).encode(x=start, x2="high:Q")
        + base.mark_circle(size=110, opacity=1).encode(x=x, color=color, tooltip=tooltip)
    )
    return _readable(chart.properties(height=_ROW * len(scores) + _AXIS))


def class_chart(table: pd.DataFrame) -> alt.Chart:
    """IoU per class, in the order of the table."""
    names = table["class"].tolist()
    chart = (
        alt.Chart(table)
        .mark_circle(size=80, opacity=1, color=_METHOD)
        .encode(
            x=alt.X("IoU:Q", title="IoU (%)", scale=alt.Scale(domain=[0, 100])),
            y=alt.Y("class:N", sort=names, title="class", axis=_names_axis(grid=True)),
            tooltip=["class", alt.Tooltip("IoU", format=".2f")],
        )
    )
    return _readable(chart.properties(height=_ROW * len(names) + _AXIS))


def change_chart(table: pd.DataFrame) -> alt.LayerChart:
    """IoU of every class under every method, blue where it is above that of the input labels, orange where below."""
    largest = max(float(table["change"].abs().max()), 1.0)
    table = table.assign(strength=table["change"].abs() / largest * 0.7)
    base = _matrix(table, "class", "method", (alt.Tooltip("IoU", format=".2f"), alt.Tooltip("change", format="+.2f")))
    color = alt.condition(alt.datum.change > 0, alt.value(_BLUE), alt.value(_ORANGE))
    return _with_numbers(base, color, alt.value(theme.ink()), alt.Text("IoU:Q", format=".1f"))


def confusion_chart(table: pd.DataFrame) -> alt.LayerChart:
    """The confusion matrix with its numbers: per cent of the pixels of the true class, so that rows sum to 100."""
    base = _matrix(
        table.assign(strength=table["share"] / 100),
        "predicted",
        "true",
        (alt.Tooltip("share", format=".2f", title="% of the true class"),),
        " class",
    )
    ink = alt.condition(alt.datum.share > 90, alt.value("white"), alt.value(theme.ink()))
    number = alt.condition(alt.datum.share >= 0.05, alt.Text("share:Q", format=".1f"), alt.value(""))
    return _with_numbers(base, alt.value(_BLUE), ink, number)


def _matrix(table: pd.DataFrame, x: str, y: str, tooltip: tuple[alt.Tooltip, ...], what: str = "") -> alt.Chart:
    """Cells of a matrix; rows and columns are in the order of the table."""
    columns, rows = table[x].unique().tolist(), table[y].unique().tolist()
    chart = alt.Chart(table).encode(
        x=alt.X(f"{x}:N", sort=columns, title=x + what, axis=_names_axis(labelAngle=-45)),
        y=alt.Y(f"{y}:N", sort=rows, title=y + what, axis=_names_axis()),
        tooltip=[y, x, *tooltip],
    )
    return chart.properties(height=_ROW * len(rows) + _NAMES, width=_CELL * len(columns) + _NAMES)


def _with_numbers(base: alt.Chart, color, ink, number) -> alt.LayerChart:
    """Cells, the fainter the smaller their ``strength`` (0 to 1) is, with numbers."""
    opacity = alt.Opacity("strength:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None)
    cells = base.mark_rect().encode(color=color, opacity=opacity)
    frames = base.mark_rect(filled=False, stroke="#8a8a8a", strokeWidth=0.3)
    return _readable(cells + frames + base.mark_text(fontSize=11).encode(text=number, color=ink))


def _names_axis(**more) -> alt.Axis:
    return alt.Axis(labelLimit=_NAMES + 50, labelOverlap=False, labelFlush=False, **more)


def _readable(chart: Chart) -> Chart:
    return chart.configure_axis(labelColor=theme.ink(), titleColor=theme.ink())


def line_chart(table: pd.DataFrame, x: str, y: str, y_title: str) -> alt.Chart:
    """A curve of the column ``y`` over the column ``x``; no ticks between values of ``x``."""
    step = float(table[x].diff().abs().min()) if len(table) > 1 else 1.0
    return _readable(
        alt.Chart(table)
        .mark_line(point=len(table) < _DOTTED)
        .encode(
            x=alt.X(f"{x}:Q", title=x, scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=step)),
            y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(zero=False)),
            tooltip=[x, alt.Tooltip(y, format=".4f")],
        )
    )


def histogram(table: pd.DataFrame, column: str) -> alt.Chart:
    """How many images have which score."""
    return _readable(
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X(f"{column}:Q", bin=alt.Bin(step=5), title=f"{column} of an image (%)"),
            y=alt.Y("count()", title="number of images", axis=alt.Axis(tickMinStep=1)),
        )
    )
