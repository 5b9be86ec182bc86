"""Strategies against each other and against the input: what compare.json and its tables, CSV files and figures hold."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from util.evaluation.bootstrap import bootstrap_miou, choose_and_report, interval, random_halves
from util.evaluation.figures import draw_change, draw_comparison, draw_sensitivity
from util.evaluation.metrics import Evaluation, difference
from util.evaluation.report import (
    ACTIVATION_NOTE,
    Cell,
    activation_rows,
    csv_rows,
    per_cent,
    rows_to_text,
    text_rows,
)
from util.runtime.files import write_csv, write_json

SUMMARY_COLUMNS = 13  # of `comparison_rows`; what follows is the IoU of each class
SPARE = ("ms", "without void", "void", "recall", "precision", "group", "accuracy")  # in this order, then "to ..."
SUMMARY_NOTES = {
    "change (95 %)": "change, to ...: difference in mIoU, with the 95 % interval of a paired bootstrap over images",
    "void": "void: share of the pixels labelled void (255), which count as wrong; without void: mIoU of the other pixels",
    "ms": "ms: per image on one core, where it was merged now",
}


def compare_labels(
    before: Evaluation,
    methods: Mapping[str, Evaluation],
    times: Mapping[str, float],
    baseline: str | None = None,
    groups: Mapping[str, str] | None = None,
) -> dict:
    """What ``compare.json`` holds: every score, and every difference with its 95 % interval over images.

    Args:
        before: of the input labels.
        methods: of each strategy, over the same ids.
        times: seconds per image of each strategy; NaN where nothing had to be done.
        baseline: the method that the others are compared with besides the input; None for no such column.
        groups: method -> where it comes from (``ours``, ``published``, ``yours``).

    Returns:
        ``input`` and ``methods``: scores; ``difference``: of each method to the input; ``pairs``: method -> other method
        -> ``miou``, ``interval_95`` of the difference (first minus second); ``baseline``; ``groups``.
    """
    drawn = bootstrap_miou({"": before, **methods})
    kept = bootstrap_miou({"": before, **methods}, void_left_out=True)
    return {
        "input": before.scores,
        "methods": {name: evaluation.scores for name, evaluation in methods.items()},
        "difference": {
            name: {
                **difference(evaluation.scores, before.scores),
                "interval_95": interval(drawn[name], drawn[""]),
                "interval_95_void_left_out": interval(kept[name], kept[""]),
                "seconds_per_image": None if np.isnan(times[name]) else times[name],
            }
            for name, evaluation in methods.items()
        },
        "pairs": {
            one: {
                other: {
                    "miou": methods[one].scores["miou"] - methods[other].scores["miou"],
                    "interval_95": interval(drawn[one], drawn[other]),
                }
                for other in methods
                if other != one
            }
            for one in methods
        },
        "baseline": baseline,
        "groups": dict(groups or {}),
    }


def ranking(comparison: dict) -> list[str]:
    """Method names, best mIoU first."""
    return sorted(comparison["methods"], key=lambda name: (-comparison["methods"][name]["miou"], name))


def comparison_rows(comparison: dict) -> Iterator[list[Cell]]:
    """Header and one row per method, best first, the input last: per cent with two decimals as text, and intervals."""
    names = list(comparison["input"]["per_class"])
    baseline = comparison["baseline"]
    groups = comparison.get("groups", {})  # files of earlier versions have none
    yield [
        *("method", "group", "mIoU", "change", "95 % interval", "precision", "recall", "accuracy", "void", "ms"),
        *("without void", f"to {baseline or 'baseline'}", f"95 % to {baseline or 'baseline'}", *names),
    ]
    every = [(name, comparison["methods"][name], comparison["difference"][name]) for name in ranking(comparison)]
    for name, scores, change in [*every, ("input", comparison["input"], None)]:
        seconds = change and change["seconds_per_image"]
        other = comparison["pairs"].get(name, {}).get(baseline, {})
        yield [
            name,
            groups.get(name, ""),
            per_cent(scores["miou"]),
            per_cent(change and change["miou"], sign=True),
            change and change["interval_95"],
            *(per_cent(scores[key]) for key in ("precision", "recall", "pixel_accuracy", "void")),
            f"{1000 * seconds:.1f}" if seconds else "",
            per_cent(scores["miou_void_left_out"]),
            per_cent(other.get("miou"), sign=True),
            other.get("interval_95"),
            *(per_cent(scores["per_class"][name]["iou"]) for name in names),
        ]


def summary(rows: list[list[Cell]], count: int, width: int | None = None) -> str:
    """The first ``count`` columns for a terminal, and what they are: intervals beside their differences, no column of nothing.

    Args:
        width: characters in a line of the terminal, for which columns are left out; None: any number.
    """
    columns: dict[str, list[str]] = {}
    for name, *cells in zip(*(row[:count] for row in text_rows(rows))):
        if name.startswith("95 %"):
            last, differences = columns.popitem()
            name = f"{last} (95 %)"
            cells = [f"{value} ({bounds})" if bounds else value for value, bounds in zip(differences, cells)]
        columns[name] = cells
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    if set(columns["void"]) == {"0.00"}:
        del columns["void"], columns["without void"]
    spare = [name for name in columns if name in SPARE or name.startswith("to ")]
    spare.sort(key=lambda name: SPARE.index(name) if name in SPARE else len(SPARE))
    left_out: list[str] = []
    while width and spare and len(_table(columns).partition("\n")[0]) > width:
        left_out.append(spare.pop(0))
        del columns[left_out[-1]]
    notes = [note for name, note in SUMMARY_NOTES.items() if name in columns]
    if left_out:
        notes.append(f"left out, as this terminal is narrow: {', '.join(left_out)}; the CSV file has them")
    return "\n\n".join([_table(columns), "\n".join(notes)])


def _table(columns: dict[str, list[str]]) -> str:
    return rows_to_text([list(columns), *map(list, zip(*columns.values()))])


def _terminal_width() -> int | None:
    """Characters in a line of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write_comparison(comparison: dict, out: Path, data: str) -> tuple[str, list[Path]]:
    """Write ``compare.json`` and, as CSV, PDF and PNG, ``compare`` and ``compare_classes``.

    Args:
        data: name of the data, for the titles of the figures.

    Returns:
        the terminal's tables, and the files.
    """
    rows = list(comparison_rows(comparison))
    best = ranking(comparison)
    scores = {"input": comparison["input"], **{name: comparison["methods"][name] for name in best}}
    files = [out / "compare.json", out / "compare.csv", out / "compare_classes.csv"]
    write_json(files[0], comparison)
    write_csv(files[1], csv_rows(rows))
    write_csv(files[2], list(activation_rows(scores)))
    files += draw_comparison(out / "compare", comparison, data)
    files += draw_change(out / "compare_classes", comparison["input"], scores[best[0]], ("input labels", best[0]), data)
    before_after = rows_to_text(list(activation_rows({"input": scores["input"], best[0]: scores[best[0]]})))
    return f"{summary(rows, SUMMARY_COLUMNS, _terminal_width())}\n\n{before_after}\n\n{ACTIVATION_NOTE}", files


def split_half(
    before: Evaluation,
    searched: Mapping[str, list[tuple[dict, Evaluation]]],
    seed: int,
    baseline: str | None,
    groups: Mapping[str, str] | None = None,
) -> dict:
    """Parameters chosen on one half of the images, scores reported on the other, both ways round.

    Args:
        before: of the input labels.
        searched: method -> (parameters, evaluation over the images of ``before``) of every setting tried.
        seed: of the halves.
        baseline, groups: as in `compare_labels`.

    Returns:
        what ``split_half.json`` holds: ``compare_labels`` of the pooled labels, in which every image is as the
        setting chosen on the other half left it; ``chosen``: method -> settings tried, and for either half the
        parameters chosen there, mIoU there and on the other half; ``halves``: the ids.
    """
    ids = list(before.cells)
    parts = random_halves(ids, seed)
    pooled: dict[str, Evaluation] = {}
    chosen: dict[str, dict] = {}
    for method, settings in searched.items():
        candidates = [evaluation for _, evaluation in settings]
        picked, pooled[method] = choose_and_report(candidates, ids, seed)
        chosen[method] = {"settings": len(settings)}
        for name, here, there, index in zip("AB", parts, parts[::-1], picked):
            chosen[method][name] = {
                "parameters": settings[index][0],
                "miou_where_chosen": candidates[index].of(here).scores["miou"],
                "miou_on_the_other_half": candidates[index].of(there).scores["miou"],
                "input_on_the_other_half": before.of(there).scores["miou"],
            }
    comparison = compare_labels(before, pooled, dict.fromkeys(pooled, float("nan")), baseline, groups)
    return {**comparison, "seed": seed, "chosen": chosen, "halves": dict(zip("AB", parts))}


def write_split_half(result: dict, out: Path, data: str) -> tuple[str, list[Path]]:
    """Write ``split_half.json`` and ``split_half`` as CSV, PDF and PNG.

    Args:
        data: name of the data, for the title of the figure.

    Returns:
        the terminal's tables, and the files.
    """
    rows = [[*row[:9], *row[10:]] for row in comparison_rows(result)]  # no time: nothing was merged for it
    best = ranking(result)
    files = [out / "split_half.json", out / "split_half.csv"]
    write_json(files[0], result)
    write_csv(files[1], csv_rows(rows))
    files += draw_comparison(out / "split_half", result, f"{data}, parameters of the other half")
    picks = [["method", "settings", "chosen on", "mIoU there", "on the other", "input there", "parameters"]]
    for name in best:
        for half in "AB":
            pick = result["chosen"][name][half]
            numbers = (pick[key] for key in ("miou_where_chosen", "miou_on_the_other_half", "input_on_the_other_half"))
            text = " ".join(f"{key}={value}" for key, value in pick["parameters"].items())
            picks.append([name, str(result["chosen"][name]["settings"]), half, *map(per_cent, numbers), text])
    return f"{summary(rows, SUMMARY_COLUMNS - 1, _terminal_width())}\n\n{rows_to_text(picks)}", files


def sensitivity(before: Evaluation, points: list[tuple[object, Evaluation]], default) -> dict:
    """How the score depends on one parameter: what ``sensitivity_<NAME>.json`` holds for a method.

    Args:
        before: of the input labels.
        points: (value, evaluation over the images of ``before``); the default's is among them.
        default: the parameter's default.
    """
    drawn = bootstrap_miou({"": before, **{str(n): evaluation for n, (_, evaluation) in enumerate(points)}})
    base = str([value for value, _ in points].index(default))
    return {
        "default": default,
        "input": before.scores["miou"],
        "points": [
            {
                "value": value,
                **{
                    key: evaluation.scores[key] for key in ("miou", "miou_void_left_out", "void", "precision", "recall")
                },
                "interval_95": interval(drawn[str(n)], drawn[base]),
                "interval_95_to_input": interval(drawn[str(n)], drawn[""]),
            }
            for n, (value, evaluation) in enumerate(points)
        ],
    }


def write_sensitivity(
    method: str, name: str, result: dict, levels: dict[str, float], out: Path, data: str
) -> tuple[str, list[Path]]:
    """Write ``sensitivity_<METHOD>_<NAME>`` as JSON, CSV, PDF and PNG.

    Args:
        levels: what does not depend on the parameter -> mIoU.
        data: what the scores are of, for the title of the figure.

    Returns:
        the terminal's table, and the files.
    """
    stem = out / f"sensitivity_{method}_{name}"
    rows: list[list[Cell]] = [
        [name, "mIoU", "to default, 95 %", "to input, 95 %", "without void", "void", "precision", "recall"]
    ]
    for point in result["points"]:
        cells = (per_cent(point[key]) for key in ("miou_void_left_out", "void", "precision", "recall"))
        bounds = (point[key] for key in ("interval_95", "interval_95_to_input"))
        rows.append([str(point["value"]), per_cent(point["miou"]), *bounds, *cells])
    files = [Path(f"{stem}.json"), Path(f"{stem}.csv")]
    write_json(files[0], {"method": method, "parameter": name, **result})
    write_csv(files[1], csv_rows(rows))
    files += draw_sensitivity(stem, method, name, result, levels, data)
    return rows_to_text(text_rows(rows)), files
