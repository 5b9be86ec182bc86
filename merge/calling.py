"""How a strategy is called, and what is said of one that is wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from merge import StrategyError
from merge.merge_base import class_sizes
from util.runtime.errors import InputError, meant
from util.runtime.provenance import source_file


def call_strategy(strategy: Callable, method: str, arguments: tuple, parameters: dict, num_classes: int) -> np.ndarray:
    """Run a strategy on one image.

    Args:
        strategy, method: the function and its name.
        arguments: label, masks, tags and CAM, as `util.data.merge_inputs.Files.decode` gives them. The CAM becomes read-only:
            a comparison gives it to several strategies.
        parameters: keyword arguments.
        num_classes: with the background.

    Raises:
        StrategyError: if it fails, or gives anything but a label of the same size and of these classes.
    """
    label, masks, tags, cam = arguments
    for values in (cam or {}).values():
        values.setflags(write=False)
    try:
        # Column-major is the masks' own order; strategies run faster on it.
        result = strategy(cv2.transpose(label).T, masks, tags=tags, cam=cam and dict(cam), **parameters)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        where = _place(error, strategy)
        raise StrategyError(
            f"strategy {method} failed with {type(error).__name__}: {error}{_meant(error)} ({where}); fix the strategy"
        ) from error
    check_result(result, label, method, num_classes)
    return result


def _meant(error: BaseException) -> str:
    """What may help: ``; did you mean overlaps?`` of a misspelt name, as Python has it below a traceback."""
    known: list[str] = []
    if isinstance(error, AttributeError):
        known = dir(error.obj)
    elif isinstance(error, NameError) and (frames := list(traceback.walk_tb(error.__traceback__))):
        known = [*frames[-1][0].f_locals, *frames[-1][0].f_globals]
    elif isinstance(error, TypeError) and len(traceback.extract_tb(error.__traceback__)) == 1:
        return "; it is called as merge(label, masks, tags=..., cam=...), other parameters need a default"
    elif isinstance(error, ValueError) and "read-only" in str(error):
        return "; copy a soft CAM before you change it"
    name = getattr(error, "name", None)
    found = meant(name, known) if name else ""
    return f"; {found}" if found else ""


def _place(error: BaseException, strategy: Callable) -> str:
    """The innermost line of the strategy's own file on the way to the error; its first one where there is none."""
    file = source_file(strategy)
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"{file.name}, line {(own or [strategy.__code__.co_firstlineno])[-1]}"


def check_result(result: object, label: np.ndarray, method: str, num_classes: int) -> None:
    """Raise StrategyError if it gave something else than a label of the same size and of these classes."""
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8 or result.shape != label.shape:
        found = f"{result.dtype} of shape {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
        raise StrategyError(f"strategy {method} gave {found}; return uint8 of the label's shape {label.shape}")
    if (unknown := class_sizes(result)[0]).size and unknown[-1] >= num_classes:
        raise StrategyError(
            f"strategy {method} gave the value {unknown[-1]}; classes are 0 to {num_classes - 1}, and 255 is void"
        )
