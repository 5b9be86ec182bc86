"""Command lines: quoted for a shell, and taken apart by their options."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable


def quoted(words: Iterable[object], windows: bool = os.name == "nt") -> str:
    """A command line that can be pasted into this system's shell."""
    texts = [str(word) for word in words]
    return " ".join(map(_quoted_on_windows, texts)) if windows else shlex.join(texts)


def _quoted_on_windows(word: str) -> str:
    """A word as programs of Windows read it, with quotation marks where cmd or PowerShell would take it apart."""
    text = subprocess.list2cmdline([word])
    if text != word or not re.search(r"[&|<>^();,'`{}$@%]", word):
        return text
    backslashes = len(word) - len(word.rstrip("\\"))  # before a quotation mark they count twice
    return f'"{word}{backslashes * chr(92)}"'


def by_option(words: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The options of a command line in their order, each with its values; what is before the first is left out.

    ``--name=value`` counts as ``--name value``, and an underscore in a name as a hyphen.
    """
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            found.append((name.replace("_", "-"), [value] if equals else []))
        elif found:
            found[-1][1].append(word)
    return found


def first_values(words: Iterable[str]) -> dict[str, str]:
    """Option -> its first value, of those that have one; of an option that is given twice the last counts."""
    return {name: values[0] for name, values in by_option(words) if values}
