"""What a result depends on: the source that made it, the versions it ran with, and ``run.json``.

A result is current only while the digest of its code stays the same, so an edited strategy or network is run again.
"""

from __future__ import annotations

import ast
import inspect
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from util.runtime.errors import InputError
from util.runtime.files import digest, file_digest, read_bytes, write_json

ROOT = Path(__file__).resolve().parents[2]
Code = Callable | ModuleType | str | os.PathLike  # whatever source a result depends on
PACKAGES = (
    *("numpy", "opencv-python-headless", "pillow", "torch", "torchvision", "segment-anything", "timm"),
    *("segmentation-models-pytorch", "scikit-image"),
)


@cache
def project_imports(path: Path) -> frozenset[Path]:
    """The project's files that a Python file imports, itself included, all the way down.

    Only written imports count, so a strategy depends on what it uses and not on the other strategies. An import of
    ``package.module`` runs the ``__init__.py`` of every package on the way, so these count as well; the ``__init__.py`` of
    a package that the importing file is in itself counts only where a name is taken from it.
    """
    found: set[Path] = set()
    waiting = [path.resolve()]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        waiting += _imported(current)
    return frozenset(found)


@cache
def _imported(file: Path) -> tuple[Path, ...]:
    """The project's files that a file itself imports."""
    try:
        tree = ast.parse(read_bytes(file))
    except SyntaxError as error:
        raise InputError(f"{file}, line {error.lineno}: not valid Python ({error.msg}); fix it") from None
    found: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found += _files_of(alias.name.split("."), file)
        elif isinstance(node, ast.ImportFrom):
            package = _absolute(node, file)
            for alias in node.names:
                found += _files_of([*package, alias.name], file)
    return tuple(found)


def _absolute(node: ast.ImportFrom, file: Path) -> list[str]:
    """The dotted name that ``from NAME import ...`` takes from, as a list; relative ones are resolved."""
    name = node.module.split(".") if node.module else []
    if not node.level:
        return name
    try:
        return [*file.parents[node.level - 1].relative_to(ROOT).parts, *name]
    except (ValueError, IndexError):  # outside the project
        return []


def _files_of(name: list[str], importer: Path) -> Iterator[Path]:
    """The project's files that importing a dotted name runs; the name may end in something inside a module."""
    folder = ROOT
    for part in name:
        module, init = folder / f"{part}.py", folder / part / "__init__.py"
        folder = folder / part
        if module.is_file():
            yield module
            return
        if init.is_file():
            if folder not in importer.parents:
                yield init
        elif not folder.is_dir():  # a name inside the package's own __init__.py
            if folder.parent != ROOT and (init := folder.parent / "__init__.py").is_file():
                yield init
            return
    if (init := folder / "__init__.py").is_file():  # the package itself
        yield init


def code_digest(code: Iterable[Code]) -> str:
    """Digest of the source of the given code and of the project's files that it imports."""
    every = sorted(set().union(*(project_imports(source_file(part)) for part in code)))
    return digest(*(part for file in every for part in (file.name, read_bytes(file))))


def source_file(code: Code) -> Path:
    """The file that a function, class or module is written in; a path stays a path."""
    if isinstance(code, str | os.PathLike):
        return Path(code).resolve()
    file = inspect.getsourcefile(inspect.unwrap(code) if callable(code) else code)
    if file is None:
        raise TypeError(f"{code!r} has no source file")
    return Path(file).resolve()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results can depend on, where installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_run_json(path: str | os.PathLike, options: dict, made_from: dict | None = None, **more) -> None:
    """Write ``run.json``: the command, its resolved options, versions, what it was made from, and the time."""
    write_json(
        path,
        {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "options": options,
            "made_from": made_from or {},
            "versions": versions(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **more,
        },
    )


def source_of(paths: dict[str, Path | None]) -> dict:
    """What a result was made from, for run.json: folders by name, files with their digest."""
    return {
        name: {"file": path, "digest": file_digest(path)} if Path(path).is_file() else path
        for name, path in paths.items()
        if path is not None
    }
