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
    "ours": ("grow", "cam_level", "prompted"),
    "published": ("max_iou", "max_iou_imp", "max_iou_imp2", "fma_wsss", "s2c", "sam4udass", "seco"),
    "yours": ("merge_customize",),
}

RECOMMENDED = "grow"  # where no strategy is chosen


def load(name: str) -> Callable:
    """The strategy of a file; in the place of a broken one, a function that raises InputError naming the line."""
    try:
        return import_module(f"merge.{name}").merge
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = error.lineno if isinstance(error, SyntaxError) else frame.lineno
        file = error.filename if isinstance(error, SyntaxError) else frame.filename
        problem = (
            f"strategy {name} cannot be loaded: {type(error).__name__}: {error} ({Path(file or name).name}, "
            f"line {line}); fix the strategy"
        )

    def broken(*arguments: object, **named: object) -> None:
        raise InputError(problem)

    return broken


STRATEGIES: dict[str, Callable] = {name: load(name) for names in GROUPS.values() for name in names}
