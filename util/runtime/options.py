"""Command-line options that are generated from a dataclass, where their defaults are."""

from __future__ import annotations

import argparse
from dataclasses import field, fields
from typing import Any, TypeVar

from util.runtime.cli import Parser

T = TypeVar("T")


def option(default: Any, help: str, **settings: Any) -> Any:
    """A field of a dataclass that is an option as well.

    Args:
        default: False makes a switch of it.
        help: for ``--help``, which adds the default.
        settings: further arguments of ``add_argument``, such as ``type``.
    """
    return field(default=default, metadata={"help": help, "settings": settings})


def add_options(parser: Parser, group: str, dataclass: type) -> None:
    """Add the options of a dataclass to a group of a parser."""
    for item in fields(dataclass):
        if "help" not in item.metadata:
            continue
        settings = dict(item.metadata["settings"])
        if item.default is False:
            settings["action"] = "store_true"
        else:
            settings["default"] = item.default
        name = "--" + item.name.replace("_", "-")
        parser.group(group).add_argument(name, help=item.metadata["help"], **settings)


def from_args(dataclass: type[T], args: argparse.Namespace, **given: Any) -> T:
    """An instance of a dataclass from parsed options of the same names; ``given`` comes first."""
    found = {item.name: getattr(args, item.name) for item in fields(dataclass) if hasattr(args, item.name)}  # type: ignore[arg-type]
    return dataclass(**{**found, **given})
