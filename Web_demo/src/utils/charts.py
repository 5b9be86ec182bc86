"""Charts of the page Results."""

from __future__ import annotations

import altair as alt
import pandas as pd

_ROW, _AXIS, _LEGEND_ROW = 28, 60, 24  # pixels; Streamlit draws axis and legend within the height
_CELL, _NAMES = 44, 130  # pixels of a cell of the confusion matrix, and of the class names beside it
_COLUMNS = 2  # of a legend
# Okabe and Ito's colours, which colour-blind people distinguish.
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")
_SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-right", "triangle-left")
_INPUT, _METHOD, _INTERVAL = "#8a8a8a", "#2a87a8", "#e08e0b"


def comparison_chart(scores: pd.DataFrame) -> alt.LayerChart:
    """A dot for every method's mIoU, with the 95 % interval of its change, in the order of the table."""
    names = scores["method"].tolist()
    axis = alt.Axis(labelLimit=220, labelOverlap=False, labelFlush=False, grid=True)
    base = alt.Chart(scores).encode(y=alt.Y("method:N", sort=names, title="method", axis=axis))
    low, high = scores[["mIoU", "low"]].min().min(), scores[["mIoU", "high"]].max().max()
    scale = alt.Scale(domain=[max(0, low - 2), min(100, high + 2)], zero=False)
    x, start = (alt.X(f"{name}:Q", title="mIoU (%)", scale=scale) for name in ("mIoU", "low"))
    color = alt.condition(alt.datum.method == "input", alt.value(_INPUT), alt.value(_METHOD))
    tooltip = ["method", *(alt.Tooltip(name, format=".2f") for name in ("mIoU", "low", "high"))]
    line = alt.Chart(scores[scores["method"] == "input"]).mark_rule(color=_INPUT, strokeDash=[4, 4]).encode(x=x)
    chart = (
        line
        + base.mark_rule(strokeWidth=2, color=_INTERVAL).encode(x=start, x2="high:Q")
        + base.mark_circle(size=110, opacity=1).encode(x=x, color=color, tooltip=tooltip)
    )
    return chart.properties(height=_ROW * len(scores) + _AXIS)


def class_chart(table: pd.DataFrame, column: str = "method") -> alt.Chart:
    """IoU per class, a dot for each value of ``column``; classes and values in the order of the table."""
    values, names = table[column].unique().tolist(), table["class"].unique().tolist()
    colors = [_INPUT if value == "input" else _COLORS[k % len(_COLORS)] for k, value in enumerate(values)]
    shapes = [_SHAPES[k % len(_SHAPES)] for k in range(len(values))]
    legend = alt.Legend(orient="top", columns=_COLUMNS, title=None) if len(values) > 1 else None
    height = _ROW * len(names) + _AXIS + (_LEGEND_ROW * (-(-len(values) // _COLUMNS) + 1) if legend else 0)
    axis = alt.Axis(grid=True, labelLimit=180, labelOverlap=False, labelFlush=False)
    return (
        alt.Chart(table)
        .mark_point(size=80, opacity=0.9, filled=True)
        .encode(
            x=alt.X("IoU:Q", title="IoU (%)", scale=alt.Scale(domain=[0, 100])),
            y=alt.Y("class:N", sort=names, title="class", axis=axis),
            color=alt.Color(f"{column}:N", scale=alt.Scale(domain=values, range=colors), legend=legend),
            shape=alt.Shape(f"{column}:N", scale=alt.Scale(domain=values, range=shapes), legend=legend),
            tooltip=["class", column, alt.Tooltip("IoU", format=".2f")],
        )
        .properties(height=height)
    )


def confusion_chart(table: pd.DataFrame) -> alt.LayerChart:
    """The confusion matrix with its numbers: per cent of the pixels of the true class, so that rows sum to 100."""
    there, found = table["true"].unique().tolist(), table["predicted"].unique().tolist()
    base = alt.Chart(table).encode(
        x=alt.X(
            "predicted:N",
            sort=found,
            title="predicted class",
            axis=alt.Axis(labelAngle=-45, labelLimit=_NAMES, labelOverlap=False, labelFlush=False),
        ),
        y=alt.Y(
            "true:N",
            sort=there,
            title="true class",
            axis=alt.Axis(labelLimit=_NAMES, labelOverlap=False, labelFlush=False),
        ),
        tooltip=["true", "predicted", alt.Tooltip("share", format=".2f", title="% of the true class")],
    )
    color = alt.Color("share:Q", title="%", scale=alt.Scale(scheme="blues", domain=[0, 100]), legend=None)
    ink = alt.condition(alt.datum.share > 50, alt.value("white"), alt.value("#1f2328"))
    number = alt.condition(alt.datum.share >= 0.05, alt.Text("share:Q", format=".1f"), alt.value(""))
    numbers = base.mark_text(fontSize=11).encode(text=number, color=ink)
    return (base.mark_rect(stroke="#d0d7de", strokeWidth=0.5).encode(color=color) + numbers).properties(
        height=_ROW * len(there) + _NAMES, width=_CELL * len(found) + _NAMES
    )


def line_chart(table: pd.DataFrame, x: str, y: str, y_title: str | None = None) -> alt.Chart:
    """A curve of the column ``y`` over the column ``x``."""
    return (
        alt.Chart(table)
        .mark_line(point=len(table) < 60)
        .encode(
            x=alt.X(f"{x}:Q", title=x, scale=alt.Scale(nice=False)),
            y=alt.Y(f"{y}:Q", title=y_title or y, scale=alt.Scale(zero=False)),
            tooltip=[x, alt.Tooltip(y, format=".4f")],
        )
    )


def histogram(table: pd.DataFrame, column: str) -> alt.Chart:
    """How many images have which score."""
    return (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X(f"{column}:Q", bin=alt.Bin(step=5), title=f"{column} of an image (%)"),
            y=alt.Y("count()", title="number of images", axis=alt.Axis(tickMinStep=1)),
        )
    )
