"""Merge strategies: pseudo label + masks -> enhanced label. A new one is one file, and one name in the table here.

A strategy's file that cannot be imported does not stop the others: asked for, it says what is wrong with it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from util.runtime.errors import InputError

# Group -> strategies; each is the function `merge` of the file of its name.
GROUPS = {
    "ours": ("auto", "grow", "contrast", "cam_level", "prompted"),
    "published": ("max_iou", "max_iou_imp", "max_iou_imp2", "fma_wsss", "s2c", "sam4udass", "seco"),
    "yours": ("merge_customize",),
}

RECOMMENDED = "auto"  # where no strategy is chosen
BASELINE = "max_iou_imp2"  # that comparisons report differences to


class StrategyError(InputError):
    """A strategy's own code is wrong: it cannot be loaded, fails, or gives what is not a label."""


def load(name: str) -> Callable:
    """The strategy of a file; in the place of a broken one, a function that raises StrategyError naming the line."""
    try:
        return import_module(f"merge.{name}").merge
    except Exception as error:
        said = error.msg if isinstance(error, SyntaxError) else error
        problem = f"strategy {name} cannot be loaded: {type(error).__name__}: {said} ({_line(name, error)}); fix it"

    def broken(*arguments: object, **named: object) -> None:
        raise StrategyError(problem)

    broken.problem = problem  # type: ignore[attr-defined]
    return broken


def _line(name: str, error: Exception) -> str:
    """File and line of an error: those of the strategy's own file where it was on the way to the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).name == f"{name}.py"]
    return f"{name}.py, line {own[-1].lineno}" if own else f"{name}.py"


def group_of(name: str) -> str:
    """The group of a strategy: ours, published, or yours."""
    return next((group for group, names in GROUPS.items() if name in names), "yours")


STRATEGIES: dict[str, Callable] = {name: load(name) for names in GROUPS.values() for name in names}
