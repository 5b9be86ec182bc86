"""Strategies' parameters, from the command line to keyword arguments."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable

from util.runtime.errors import InputError

RESERVED = ("label", "masks", "tags", "cam")
KINDS = (bool, int, float, str)


def parameters_of(strategy: Callable) -> dict:
    """A strategy's parameters and their defaults; an argument without one is left out, and calling the strategy then fails."""
    return {
        name: float(parameter.default) if _is_float(parameter) else parameter.default
        for name, parameter in inspect.signature(strategy).parameters.items()
        if name not in RESERVED
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is not parameter.empty
    }


def _is_float(parameter: inspect.Parameter) -> bool:
    """Whether it is a number that may have decimals, though its default has none: ``share: float = 1``."""
    return parameter.annotation in ("float", float) and type(parameter.default) is int


def check_loaded(strategies: Iterable[Callable]) -> None:
    """Raise InputError for the stand-in of a strategy that cannot be loaded, see `merge.load`: its parameters are not known."""
    for strategy in strategies:
        if problem := getattr(strategy, "problem", None):
            raise InputError(problem)


def addressee(text: str) -> str:
    """The strategy that a ``--param`` text is for: ``s2c`` of ``s2c.keep=True``; empty where it names none."""
    method, dot, _ = text.partition("=")[0].partition(".")
    return method.strip() if dot else ""


def resolve_parameters(name: str, strategy: Callable, given: list[str]) -> dict:
    """Defaults, changed by ``NAME=VALUE`` texts of the command line; those for another `addressee` are left out.

    Raises:
        InputError: for an unknown name or a value of another type than the default's.
    """
    given = [text for text in given if addressee(text) in ("", name)]
    if given:
        check_loaded([strategy])
    parameters = parameters_of(strategy)
    for text in given:
        key, equals, value = text.partition("=")
        key = key.rpartition(".")[2].strip().replace("-", "_")
        if not equals or key not in parameters:
            known = ", ".join(f"{k}={v}" for k, v in parameters.items()) or "none"
            raise InputError(f"--param {text}: {name} has no such parameter; write NAME=VALUE, it has: {known}")
        parameters[key] = _parse(value.strip(), parameters[key], text)
    return parameters


def search_space(strategies: dict[str, Callable], given: list[str]) -> dict[str, dict[str, tuple]]:
    """Which values of which parameters are worth trying.

    A strategy's file lists them in ``SEARCH``, parameter -> values; ``NAME=V,V,...`` texts of the command line put their
    own in place, for every strategy that has the parameter.

    Returns:
        strategy -> parameter -> values.

    Raises:
        InputError: for a parameter that no strategy has, or a value of another type than the default's.
    """
    spaces = {name: dict(getattr(sys.modules[s.__module__], "SEARCH", {})) for name, s in strategies.items()}
    for text in given:
        key, equals, values = text.partition("=")
        key = key.strip().replace("-", "_")
        having = [name for name, strategy in strategies.items() if key in parameters_of(strategy)]
        if not equals or not having:
            check_loaded(strategies.values())
            raise InputError(f"--values {text}: no chosen strategy has this parameter; write NAME=V,V,...")
        for name in having:
            default = parameters_of(strategies[name])[key]
            spaces[name][key] = tuple(_parse(value.strip(), default, text) for value in values.split(","))
    return spaces


def _parse(value: str, default, text: str):
    kind = type(default)
    if kind not in KINDS:
        raise InputError(
            f"{text}: the default is {default!r}; a parameter that can be set is a bool, int, float or str, with a default of that type"
        )
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        found = kind(value)
        if kind is float and not math.isfinite(found):
            raise ValueError
        return found
    except (ValueError, KeyError):
        raise InputError(f"{text}: {value!r} is not a {kind.__name__}; the default is {default}") from None
