"""Run folders: what is in them, as tables for the page Results."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import altair as alt
import pandas as pd

from util.evaluation.comparison import comparison_rows, ranking
from util.runtime.errors import InputError
from util.runtime.files import is_hidden, read_json, read_text
from Web_demo.src.utils.files import walk_files

COMPARISON, SWEEP, RUN = "compare.json", "sweep.json", "run.json"
SCORES, PER_IMAGE = "metrics.json", "per_image.csv"
EVENTS = "events.out.tfevents."


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Folders that hold results, those with the newest first."""
    newest: dict[Path, float] = {}
    for path in walk_files(folders):
        if path.name in (COMPARISON, SWEEP) or path.name.endswith(SCORES) or path.name.startswith(EVENTS):
            try:
                changed = path.stat().st_mtime
            except OSError:  # replaced at this very moment
                continue
            newest[path.parent] = max(changed, newest.get(path.parent, 0.0))
    return sorted(newest, key=lambda folder: (-newest[folder], folder))


def score_files(folder: Path) -> list[Path]:
    """``metrics.json`` and ``<method>.metrics.json`` of a folder."""
    return sorted(path for path in folder.glob(f"*{SCORES}") if not is_hidden(path.name))


def read_comparison(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A ``compare.json``: the table as ``main.py`` prints it, bars with their intervals, and IoU a class.

    Raises:
        InputError: if the file is no comparison.
    """
    content = read_json(path)
    try:
        header, *rows = comparison_rows(content)
        wide = len(header) - len(content["input"]["per_class"])  # the classes have a chart of their own
        table = pd.DataFrame([row[:wide] for row in rows], columns=header[:wide])
        base = 100 * content["input"]["miou"]
        bars = [{"method": "input", "mIoU": base, "low": None, "high": None}]
        for name in ranking(content):
            low, high = content["difference"][name]["interval_95"]
            miou = 100 * content["methods"][name]["miou"]
            bars.append({"method": name, "mIoU": miou, "low": base + 100 * low, "high": base + 100 * high})
        scores = {"input": content["input"], **content["methods"]}
        classes = [
            {"class": name, "method": method, "IoU": 100 * values["iou"]}
            for method, found in scores.items()
            for name, values in found["per_class"].items()
        ]
        return table, pd.DataFrame(bars), pd.DataFrame(classes)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _not_ours(path, "comparison", "main.py --mode compare", error) from None


def read_scores(path: Path) -> tuple[dict[str, float], pd.DataFrame, pd.DataFrame]:
    """A ``metrics.json``: mean scores, a row a class, and the confusion matrix in long form; per cent.

    Raises:
        InputError: if the file holds no scores.
    """
    content = read_json(path)
    try:
        names = {"mIoU": "miou", "precision": "precision", "recall": "recall", "pixel accuracy": "pixel_accuracy"}
        means = {name: 100 * content[key] for name, key in names.items()}
        classes = pd.DataFrame(
            [
                {"class": name, **{key: 100 * values[key] for key in ("iou", "precision", "recall")}}
                for name, values in content["per_class"].items()
            ]
        ).rename(columns={"iou": "IoU"})
        return means, classes, _confusion(content)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _not_ours(path, "set of scores", "evaluate_enhanced.py", error) from None


def _confusion(content: dict) -> pd.DataFrame:
    # Row and column numbers are class indices; names are told for the classes of the ground truth alone, in order.
    counts = content["confusion"]
    there = [index for index, row in enumerate(counts) if sum(row)]
    names = dict(zip(there, content["per_class"]))
    rows = []
    for true in there:
        total = sum(counts[true])
        shares = [(names[found], counts[true][found]) for found in there]
        shares.append(("other or void", total - sum(count for _, count in shares)))
        rows += [{"true": names[true], "predicted": name, "share": 100 * count / total} for name, count in shares]
    return pd.DataFrame(rows)


def read_per_image(scores: Path) -> pd.DataFrame | None:
    """The table of images beside a ``metrics.json``; None where there is none.

    Raises:
        InputError: if it is damaged.
    """
    path = scores.with_name(scores.name.removesuffix(SCORES) + PER_IMAGE)
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(io.StringIO(read_text(path)), dtype={"id": str})
        table[["miou", "pixel_accuracy"]] *= 100
        return table[["id", "miou", "pixel_accuracy", "pixels"]].rename(
            columns={"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(path, "table of images", "evaluate_enhanced.py", error) from None


def read_sweep(path: Path) -> pd.DataFrame:
    """A ``sweep.json`` of generate_cams.py: threshold and mIoU in per cent.

    Raises:
        InputError: if the file is no sweep.
    """
    content = read_json(path)
    try:
        return pd.DataFrame([{"threshold": p["threshold"], "mIoU": 100 * p["miou"]} for p in content["curve"]])
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(path, "sweep of thresholds", "generate_cams.py", error) from None


def read_curves(folder: Path) -> dict[str, pd.DataFrame]:
    """What a training wrote for TensorBoard: name -> table of ``step`` and ``value``."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not any(path.name.startswith(EVENTS) for path in folder.iterdir()):
        return {}
    # Pictures, the bulk of these files, are skipped.
    events = EventAccumulator(str(folder), {"scalars": 3000, "images": 1, "tensors": 1, "histograms": 1})
    events.Reload()
    return {
        name: pd.DataFrame([{"step": event.step, "value": event.value} for event in events.Scalars(name)])
        for name in events.Tags()["scalars"]
    }


def _not_ours(path: Path, what: str, maker: str, error: Exception) -> InputError:
    return InputError(f"{path}: not a {what} ({type(error).__name__}: {error}); make it again with {maker}")


# --- charts -------------------------------------------------------------------------------------------------------
_ROW, _AXIS, _LEGEND_ROW = 28, 60, 24  # pixels; Streamlit draws axis and legend within the height
_COLUMNS = 2  # of a legend


def comparison_chart(bars: pd.DataFrame) -> alt.LayerChart:
    """Bars of mIoU, best first, each with the 95 % interval of its change."""
    start = max(0.0, 5 * ((bars[["mIoU", "low"]].min().min() - 2) // 5))
    axis = alt.Axis(labelLimit=220, labelOverlap=False)
    base = alt.Chart(bars).encode(y=alt.Y("method:N", sort=None, title=None, axis=axis))
    scale = alt.Scale(domain=[start, min(100.0, bars[["mIoU", "high"]].max().max() + 3)], nice=False)
    shade = alt.condition(alt.datum.method == "input", alt.value("#999999"), alt.value("#1f6f8b"))
    return (
        base.mark_bar(clip=True).encode(
            x=alt.X("mIoU:Q", title="mIoU, per cent", scale=scale), x2=alt.datum(start), color=shade,
            tooltip=["method", alt.Tooltip("mIoU", format=".2f")],
        )
        + base.mark_rule(strokeWidth=2, color="#e08e0b", clip=True).encode(x="low:Q", x2="high:Q")
    ).properties(height=_ROW * len(bars) + _AXIS)  # fmt: skip


def class_chart(table: pd.DataFrame, column: str = "method") -> alt.Chart:
    """IoU a class, a dot for each value of ``column``."""
    count = table[column].nunique()
    legend = alt.Legend(orient="top", columns=_COLUMNS) if count > 1 else None
    height = _ROW * table["class"].nunique() + _AXIS + (_LEGEND_ROW * (-(-count // _COLUMNS) + 1) if legend else 0)
    return (
        alt.Chart(table).mark_circle(size=90, opacity=0.85).encode(
            x=alt.X("IoU:Q", title="IoU, per cent"),
            y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(grid=True, labelLimit=180, labelOverlap=False)),
            color=alt.Color(f"{column}:N", sort=None, title=None, legend=legend),
            tooltip=["class", column, alt.Tooltip("IoU", format=".2f")],
        )
    ).properties(height=height)  # fmt: skip


def confusion_chart(table: pd.DataFrame) -> alt.Chart:
    """The confusion matrix, rows summing to 100 per cent."""
    return (
        alt.Chart(table).mark_rect().encode(
            x=alt.X("predicted:N", sort=None, title="predicted", axis=alt.Axis(labelAngle=-60)),
            y=alt.Y("true:N", sort=None, title="true"),
            color=alt.Color("share:Q", title="per cent", scale=alt.Scale(scheme="blues", domain=[0, 100])),
            tooltip=["true", "predicted", alt.Tooltip("share", format=".1f")],
        )
    ).properties(height=_ROW * table["true"].nunique() + 2 * _AXIS)  # fmt: skip


def line_chart(table: pd.DataFrame, x: str, y: str) -> alt.Chart:
    """A curve."""
    tooltip = [x, alt.Tooltip(y, format=".4f")]
    return (
        alt.Chart(table).mark_line(point=len(table) < 60)
        .encode(x=alt.X(f"{x}:Q"), y=alt.Y(f"{y}:Q", scale=alt.Scale(zero=False)), tooltip=tooltip)
    )  # fmt: skip


def histogram(table: pd.DataFrame, column: str) -> alt.Chart:
    """How many images have which score."""
    return (
        alt.Chart(table).mark_bar()
        .encode(x=alt.X(f"{column}:Q", bin=alt.Bin(step=5), title=f"{column} of an image"), y=alt.Y("count()", title="images"))
    )  # fmt: skip
