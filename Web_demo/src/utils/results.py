"""Run folders: what is in them, as tables for the page Results."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from util.evaluation.comparison import comparison_rows, ranking
from util.evaluation.report import text_rows
from util.figures import style
from util.runtime.errors import InputError
from util.runtime.files import is_hidden, read_json, read_text
from Web_demo.src.utils.files import walk_files

COMPARISON, SWEEP, RUN = "compare.json", "sweep.json", "run.json"
SCORES, PER_IMAGE = "metrics.json", "per_image.csv"
EVENTS = "events.out.tfevents."
_WAITING = "share of time waiting for data"  # for TensorBoard alone: it says nothing of the network


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Folders that hold results, those the newest first."""
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
    """A ``compare.json``: the table as ``main.py`` prints it, mIoU with intervals, and IoU per class.

    All three are in one order: best method first, the input last.

    Raises:
        InputError: if the file is not a comparison.
    """
    content = read_json(path)
    try:
        header, *rows = text_rows(comparison_rows(content))
        wide = len(header) - len(content["input"]["per_class"])  # the classes have a chart of their own
        table = pd.DataFrame([row[:wide] for row in rows], columns=header[:wide])
        if (table["void"] == "0.00").all():  # then the two columns say nothing
            table = table.drop(columns=["void", "without void"])
        base = 100 * content["input"]["miou"]
        means = []
        for name in ranking(content):
            low, high = content["difference"][name]["interval_95"]
            miou = 100 * content["methods"][name]["miou"]
            means.append({"method": name, "mIoU": miou, "low": base + 100 * low, "high": base + 100 * high})
        means.append({"method": "input", "mIoU": base, "low": None, "high": None})
        every = {**content["methods"], "input": content["input"]}
        before = {name: values["iou"] for name, values in content["input"]["per_class"].items()}
        classes = [
            {
                "class": name,
                "method": method,
                "IoU": 100 * values["iou"],
                "change": 100 * (values["iou"] - before[name]),
            }
            for method in [mean["method"] for mean in means]
            for name, values in every[method]["per_class"].items()
        ]
        return table, pd.DataFrame(means), pd.DataFrame(classes)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _not_ours(path, "comparison", "main.py --mode compare", error) from None


def described(path: Path) -> str:
    """What the scores of a ``compare.json``, ``metrics.json`` or ``sweep.json`` are of; empty for a file that lacks it."""
    content = read_json(path)
    content = content.get("input", content) if isinstance(content, dict) else None
    images, classes = (content.get(key) if isinstance(content, dict) else None for key in ("images", "classes"))
    return style.described("", images, len(classes)) if isinstance(images, int) and isinstance(classes, list) else ""


def read_scores(path: Path) -> tuple[dict[str, float], pd.DataFrame, pd.DataFrame]:
    """A ``metrics.json``: mean scores, one row per class, and the confusion matrix in long form; per cent.

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
    # Row and column numbers are class indices; there are names for the classes of the ground truth only, in order.
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
        InputError: if the file is not a sweep.
    """
    content = read_json(path)
    try:
        points = [{"threshold": p["threshold"], "mIoU": 100 * p["miou"]} for p in content["curve"]]
        return pd.DataFrame(points).sort_values("threshold", ignore_index=True)
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(path, "sweep of thresholds", "generate_cams.py", error) from None


def read_curves(folder: Path) -> dict[str, pd.DataFrame]:
    """What a training wrote for TensorBoard: name -> table of ``step`` and ``value``."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not any(path.name.startswith(EVENTS) for path in folder.iterdir()):
        return {}
    # Images, the bulk of these files, are skipped.
    events = EventAccumulator(str(folder), {"scalars": 3000, "images": 1, "tensors": 1, "histograms": 1})
    events.Reload()
    return {
        name: pd.DataFrame([{"step": event.step, "value": event.value} for event in events.Scalars(name)])
        for name in events.Tags()["scalars"]
        if name != _WAITING
    }


def _not_ours(path: Path, what: str, maker: str, error: Exception) -> InputError:
    return InputError(f"{path}: not a {what} ({type(error).__name__}: {error}); make it again with {maker}")
