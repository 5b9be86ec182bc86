"""The choices of a run: noted in OUT/choice.json, printed, and shown with its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline import choice
from pipeline.plan import Plan, needs
from util.runtime.files import read_json


def choose_labels(plan: Plan, swept: Mapping[str, Mapping[str, Any]]) -> None:
    """Choose refinement and threshold; see `choice.best_labels`."""
    found = choice.record(plan.out, "labels", plan.tune_key, choice.best_labels(swept))
    print(f"chosen on {plan.tune}: {labels_text(found)}", flush=True)


def choose_strategy(plan: Plan) -> None:
    """Choose the strategy, or note what the user's gains, and warn where that may be nothing."""
    comparison = read_json(needs(plan.out / "merge_tune" / "compare.json", "merge", "a comparison"))
    found = choice.best_strategy(comparison, plan.settings.method)
    choice.record(plan.out, "strategy", plan.strategy_key(), found)
    print(f"chosen on {plan.tune}: {strategy_text(found)}")
    if said := choice.warning(found, str(plan.tune)):
        print(f"warning: {said}", flush=True)


def labels_text(found: Mapping[str, Any]) -> str:
    """The chosen CAM labels, and what was behind them."""
    options = f"--refine {found['refine']} " if found["refine"] else ""
    others = [
        f"{name} at {tried['threshold']:.2f}: {100 * tried['miou']:.2f}"
        for name, tried in found["tried"].items()
        if name != found["refine"]
    ]
    behind = f"; {', '.join(others)}" if others else ""
    return f"CAM labels with {options}--bg-threshold {found['threshold']:.2f} (mIoU {100 * found['miou']:.2f}{behind})"


def strategy_text(found: Mapping[str, Any]) -> str:
    """The strategy that is trained on, and its gain."""
    low, high = (100 * bound for bound in found["interval_95"])
    change = f"mIoU {100 * found['miou']:.2f}, {100 * found['gain']:+.2f} (95 % interval {low:+.2f} .. {high:+.2f})"
    if found["asked"]:
        return f"{found['name']}, as asked: {change}"
    if found["name"] == choice.INPUT:
        return f"the CAM labels (mIoU {100 * found['input']:.2f}); the best of {found['tried']} strategies, {found['best']}: {change}"
    return f"{found['name']}, the best of {found['tried']} strategies: {change}"


def choice_of(plan: Plan) -> dict[str, Any] | None:
    """What ``summary.json`` holds of the choice: rule, list, what was chosen, and the warning or None."""
    if plan.tune is None:
        return None
    strategy, labels = plan.chosen_strategy(), plan.chosen_labels()
    assert strategy is not None
    return {
        "rule": choice.RULE,
        "list": str(plan.tune),
        "labels": labels and {name: value for name, value in labels.items() if name != "key"},
        "strategy": {name: value for name, value in strategy.items() if name != "key"},
        "warning": choice.warning(strategy, str(plan.tune)),
    }


def choice_table(found: Mapping[str, Any]) -> str:
    """The choice for a terminal."""
    lines = [f"Chosen on {found['list']}, whose images are not in the tables"]
    if found["labels"]:
        lines.append(labels_text(found["labels"]))
    lines.append(f"trained on: {strategy_text(found['strategy'])}")
    lines.append(f"rule: {found['rule']}")
    if found["warning"]:
        lines.append(f"warning: {found['warning']}")
    return "\n".join(lines)
