"""Figures of scores: what the scripts write beside their tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from util.figures.charts import Difference, Strategy, draw_classes, draw_confusion, draw_strategies, draw_sweep
from util.figures.style import described


def draw_comparison(stem: Path, comparison: Mapping, data: str) -> list[Path]:
    """Draw the differences of all strategies to the input and to the baseline.

    Args:
        stem: path of the files without suffix.
        comparison: what `util.evaluation.comparison.compare_labels` gives.
        data: its name, for the title.
    """
    baseline, methods = comparison["baseline"], comparison["methods"]
    levels = {"the input": comparison["input"]["miou"]}
    if baseline:
        levels[baseline] = methods[baseline]["miou"]
    strategies = []
    for name, scores in methods.items():
        found = {"the input": comparison["difference"][name], baseline: comparison["pairs"][name].get(baseline)}
        differences = {other: Difference(part["miou"], *part["interval_95"]) for other, part in found.items() if part}
        group = comparison.get("groups", {}).get(name, "")  # files of earlier versions have none
        strategies.append(Strategy(name, group, scores["miou"], differences))
    return draw_strategies(stem, strategies, levels, _described(data, comparison["input"]))


def draw_sensitivity(
    stem: Path, method: str, parameter: str, result: Mapping, levels: Mapping[str, float], data: str
) -> list[Path]:
    """Draw the difference to the input at every value of a parameter.

    Args:
        stem: path of the files without suffix.
        result: what `util.evaluation.comparison.sensitivity` gives.
        levels: what does not depend on the parameter -> mIoU.
        data: what the scores are of, for the title.
    """
    points = [
        (point["value"], Difference(point["miou"] - result["input"], *point["interval_95_to_input"]))
        for point in result["points"]
    ]
    levels = {"input labels": result["input"], **levels}
    return draw_sweep(stem, f"{parameter} of {method}", points, result["default"], levels, data)


def draw_change(stem: Path, before: Mapping, after: Mapping, names: tuple[str, str], data: str) -> list[Path]:
    """Draw the IoU of each scored class before and after.

    Args:
        stem: path of the files without suffix.
        before, after: scores over the same images, see `util.evaluation.metrics.scores_of`.
        names: of the two.
        data: its name, for the title.
    """
    old, new = ({name: scores["per_class"][name]["iou"] for name in before["classes"]} for scores in (before, after))
    return draw_classes(stem, old, new, names, f"IoU of each class\n{_described(data, before)}")


def draw_scores(
    prefix: str,
    scores: Mapping,
    before: Mapping | None,
    classes: tuple[str, ...],
    names: tuple[str, str],
    data: str,
) -> list[Path]:
    """Draw the confusion matrix (``<prefix>confusion``) and, against other labels, the classes (``<prefix>classes``).

    Args:
        prefix: of the paths of the files.
        scores, before: see `util.evaluation.metrics.scores_of`; ``before`` over the same images, or None.
        classes: names of all classes.
        names: of ``before`` and of ``scores``.
        data: its name, for the titles.
    """
    title = f"{names[1]}: {described(data, scores['images'])}"
    files = draw_confusion(f"{prefix}confusion", scores, classes, title)
    if before is not None:
        files += draw_change(Path(f"{prefix}classes"), before, scores, names, data)
    return files


def _described(data: str, scores: Mapping) -> str:
    return described(data, scores["images"], len(scores["classes"]))
