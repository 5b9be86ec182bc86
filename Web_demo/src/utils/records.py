"""What a ``run.json`` says of how its folder was made."""

from __future__ import annotations

from pathlib import Path

from util.runtime.commands import first_values
from util.runtime.errors import InputError
from util.runtime.files import read_json

RUN = "run.json"


def read_record(path: Path) -> dict:
    """The content of a ``run.json``; empty for one that is not ours, or that is written anew at this moment."""
    try:
        content = read_json(path)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def option(record: dict, *names: str) -> str | None:
    """The value of an option, by any of its names, in the command of a record."""
    command = record.get("command")
    given = first_values(map(str, command if isinstance(command, list) else []))
    return next((given[name] for name in names if name in given), None)


class Moved:
    """Finds what a record names after its folder was moved, by where one of its files was and is."""

    def __init__(self, recorded: str, actual: Path):
        before, after = Path(recorded), actual.absolute()
        while before.name and before.name == after.name:
            before, after = before.parent, after.parent
        self.before, self.after = before, after

    def __call__(self, path: object) -> Path | None:
        """The path as it is now; None where there is nothing."""
        if not isinstance(path, str) or not path:
            return None
        here = [Path(path)]
        if here[0].is_relative_to(self.before):  # so is a relative path to the folder that the command ran in
            here.insert(0, self.after / here[0].relative_to(self.before))
        return next((candidate for candidate in here if candidate.exists()), None)
