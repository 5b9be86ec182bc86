"""The rules of the house that a test can keep: sizes, imports that point one way, no torch where none is needed."""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from helpers import ROOT

from util.runtime.provenance import project_imports

LINES_OF_A_FILE, LINES_OF_A_FUNCTION, IMPORTS_INSIDE_FUNCTIONS = 400, 60, 2
SCRIPTS = sorted({path.stem for path in ROOT.glob("*.py")} - {"processor"})
BELOW_SCRIPTS = {"util", "merge", "models", "processor", "pipeline"}
# Room -> the rooms that it may import from, itself included.
ALLOWED = {
    "util": {"util"},
    "merge": {"util", "merge"},
    "models": {"util", "models"},
    "processor": BELOW_SCRIPTS - {"pipeline"},
    "pipeline": BELOW_SCRIPTS,
    "Web_demo": {*BELOW_SCRIPTS, "Web_demo"},
    **{script: {*BELOW_SCRIPTS, script} for script in SCRIPTS},
}
PRODUCT = sorted(path for room in ALLOWED for path in [*ROOT.glob(f"{room}.py"), *(ROOT / room).rglob("*.py")])
NO_TORCH = [path for room in ("merge", "util/data", "util/evaluation") for path in sorted((ROOT / room).glob("*.py"))]
FUNCTIONS, IMPORTS = (ast.FunctionDef, ast.AsyncFunctionDef), (ast.Import, ast.ImportFrom)


def check(paths: Iterable[Path], breaches: Callable[[Path], list[str]]) -> None:
    assert not {path.relative_to(ROOT).as_posix(): broken for path in paths if (broken := breaches(path))}


def nodes(path: Path, kinds: tuple) -> Iterator:
    return (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds))


def imported_rooms(path: Path) -> set[str]:
    """First parts of the names of all modules that a file imports."""
    names = set()
    for node in nodes(path, IMPORTS):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_files_are_short():
    def breaches(path):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        return [f"{lines} lines"] if lines > LINES_OF_A_FILE else []

    check(PRODUCT, breaches)


def test_functions_are_short():
    def breaches(path):
        lengths = {node.name: node.end_lineno - node.lineno + 1 for node in nodes(path, FUNCTIONS)}
        return [f"{name}: {lines} lines" for name, lines in lengths.items() if lines > LINES_OF_A_FUNCTION]

    check(PRODUCT, breaches)


def test_scripts_import_at_the_top_and_once_more():
    def breaches(path):
        inside = {
            node.lineno
            for function in nodes(path, FUNCTIONS)
            for node in ast.walk(function)
            if isinstance(node, IMPORTS)
        }
        return [f"{len(inside)} imports inside functions"] if len(inside) > IMPORTS_INSIDE_FUNCTIONS else []

    check([ROOT / f"{script}.py" for script in SCRIPTS], breaches)


def test_imports_point_one_way():
    def breaches(path):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        return sorted((imported_rooms(path) & ALLOWED.keys()) - ALLOWED[room])

    check(PRODUCT, breaches)


def test_labels_masks_metrics_and_strategies_need_no_torch():
    def breaches(path):
        return [file.name for file in project_imports(path) if imported_rooms(file) & {"torch", "torchvision"}]

    check(NO_TORCH, breaches)


def test_the_formatter_decides():
    everything = [*PRODUCT, *(path for room in ("tests", "benchmarks") for path in sorted((ROOT / room).rglob("*.py")))]

    def breaches(path):
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        return [f"line {number}" for number, line in lines if "# fmt" + ": " in line]

    check(everything, breaches)
