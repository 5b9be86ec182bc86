"""Every command of the README and of docs/ parses, every link leads to a file, and STYLE's words are kept."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from util.runtime.cli import COMMON

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LAUNCHERS = {"python", "torchrun", "srun", "streamlit"}


def commands():
    """``(page, words)`` of every command line in the pages' code blocks, with line breaks joined and ``&&`` taken apart."""
    for page in PAGES:
        for block in re.findall(r"^```(?:bash|sh)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                for command in line.split("&&"):
                    if words := shlex.split(command, comments=True):
                        yield page.name, words


def id_of(command):
    return f"{command[0]}: {' '.join(command[1])[:60]}"


SCRIPTS = [command for command in commands() if command[1][0] in LAUNCHERS]


def test_the_pages_hold_commands():
    assert len(SCRIPTS) >= 20


@pytest.mark.parametrize("command", SCRIPTS, ids=id_of)
def test_command_parses(command, monkeypatch):
    _, words = command
    place = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
    if place is None:  # python -m venv and the like
        assert words[1] == "-m"
        return
    script, arguments = words[place], words[place + 1 :]
    assert (ROOT / script).is_file(), f"{script} does not exist"
    if script.startswith("benchmarks"):
        known = (ROOT / script).read_text(encoding="utf-8")
        options = [word for word in arguments if word.startswith("--")]
        assert all(f'"{word}"' in known or word[2:] in COMMON for word in options), "an option that is not there"
        return
    if script.startswith("Web_demo"):
        parse = importlib.import_module("Web_demo.src.utils.options").parser().parse_args
        ours = (
            arguments.index("--") if "--" in arguments else len(arguments)
        )  # before them: Streamlit's, with a value each
        assert all(word.startswith("--server.") for word in arguments[:ours:2]), "an option that needs -- before it"
        arguments = arguments[ours + 1 :]
    else:
        parse = importlib.import_module(script.removesuffix(".py").replace("/", ".")).parse_args
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.chdir(ROOT)
    parse(arguments) if script.startswith("Web_demo") else parse()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            place = page.parent / target if target else page
            assert place.exists(), f"{page.name} links to {target}"
            assert not heading or heading in headings(place), f"{page.name} links to {target}#{heading}"


def headings(page):
    """As GitHub names them in links."""
    titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    for name in re.findall(
        r"`((?:util|models|merge|tests|benchmarks|pipeline)/[\w/]+\.py)`", page.read_text(encoding="utf-8")
    ):
        assert (ROOT / name).is_file() or name in ("merge/my_idea.py",), f"{page.name} names {name}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


@pytest.mark.parametrize("page", ["README.md", "docs/own-data.md"])
def test_git_ignores_the_results_of_the_commands_that_are_shown(page):
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for out in re.findall(r"--out ([\w./-]+)", (ROOT / page).read_text(encoding="utf-8")):
        first = Path(out).parts[0]
        assert f"{first}/" in ignored or f"*{Path(first).suffix}" in ignored, f"{page} writes to {out}"
