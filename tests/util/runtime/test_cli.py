"""What scripts share: how they end, their help, their options."""

import argparse
import errno
import os
import subprocess
import sys

import pytest
from helpers import PYTHONPATH, ROOT

from util.runtime import cli
from util.runtime.commands import by_option, first_values, quoted
from util.runtime.errors import InputError

SWALLOWED = """
import signal
from util.runtime.cli import run

def main():
    try:
        signal.raise_signal(signal.{name})
        while True:
            pass
    except BaseException:  # as some packages do while they are imported
        pass
    raise RecursionError("what was left half-way")

run(main)
"""


def end_of(code: str, **variables: str) -> subprocess.CompletedProcess:
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have it ignored
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, **variables}
    return subprocess.run(
        [sys.executable, "-c", start + code],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        timeout=600,
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_a_library_swallows_is_still_one(name):
    done = end_of(SWALLOWED.format(name=name))
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted; re-run the command to resume")


def test_what_is_unforeseen_keeps_its_traceback():
    done = end_of("from util.runtime.cli import run\ndef main():\n    raise RecursionError('why')\nrun(main)\n")
    assert done.returncode == 3 and "RecursionError: why" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["prepare_folder.py", "--source", "x", "--out", "y"],
        ["generate_sam_masks.py", "--images", "x", "--out", "y"],
        ["quickstart.py"],
    ],
)
def test_a_package_that_is_not_installed_is_named_with_the_remedy(command):
    done = subprocess.run([sys.executable, "-S", *command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        "is not installed for this Python; run" in done.stderr and "-m pip install -r requirements.txt" in done.stderr
    )


def test_a_notebooks_run_which_would_keep_code_that_is_edited_later_is_refused():
    code = "import builtins, sys\nfrom util.runtime.cli import run\nbuiltins.__IPYTHON__ = True\n"
    done = end_of(f"{code}sys.argv = ['main.py', '--out', 'my runs']\nrun(lambda: print('ran'))\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"type this instead:\n!{quoted([sys.executable, 'main.py', '--out', 'my runs'])}\n")


def test_output_in_an_encoding_without_a_letter_shows_the_letters_number():
    code = "from util.runtime.cli import run\ndef main():\n    print('H\\xfcndin', '\\u72ac')\nrun(main)\n"
    done = end_of(code, PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stdout.split()[1]) == (0, "\\u72ac"), done.stderr


SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "run(main)" in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_gives_an_example_and_grouped_options_and_imports_nothing_heavy(script):
    """--help stays under half a second because of what it does not import; time itself depends on the machine."""
    code = (
        f"import runpy, sys\nsys.argv = [{script!r}, '--help']\n"
        f"try:\n    runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'matplotlib', 'scipy', 'skimage', 'timm'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.splitlines()[-1] == "[]", done.stderr
    assert f"python {script}" in done.stdout
    groups = [done.stdout.find(f"\n{title}:") for title in ("output", "running")]
    assert groups[0] > 0 and (groups[1] > groups[0] or script == "export.py"), "export.py runs nothing for long"


def parser_with(*names, **changes):
    parser = cli.Parser("What it does.\n\n    python it.py")
    parser.add_common(*names, **changes)
    return parser


def test_underscores_and_aliases_are_the_same_option():
    parser = parser_with("num-classes", "amp", "labels", labels={"aliases": ("pseudo-path",)})
    args = parser.parse_args(["--num_classes", "4", "--precision", "fp32", "--pseudo_path", "a_b"])
    assert (args.num_classes, args.amp, str(args.labels)) == (4, "fp32", "a_b")


def test_the_usage_prefers_no_name_of_an_option_and_the_help_says_which_is_required():
    text = parser_with("labels", "out", required=("labels",), labels={"aliases": ("pseudo-path",)}).format_help()
    assert text.startswith("usage: ") and text.splitlines()[0].endswith(" [options]")
    text = " ".join(text.split())
    assert "--labels DIR, --pseudo-path DIR folder of label maps, <id>.png (required)" in text
    assert text.count("(required)") == 1


def test_defaults_are_shown_once_and_only_where_there_is_one():
    text = parser_with("seed", "out", "class-names", "overwrite", out={"default": "50%"}).format_help()
    text = " ".join(text.split())
    assert "seed of everything random (default: 0)" in text and "folder for the results (default: 50%)" in text
    assert text.count("default") == 3, "two added here, and one that the option writes itself"


@pytest.mark.parametrize(
    "words, said",
    [
        (["--sed", "1"], "--sed is not an option; did you mean --seed?"),
        (["--out", "a", "--sed=1"], "--sed is not an option; did you mean --seed?"),
        (["-sed", "1"], "-sed is not an option; did you mean --seed?"),
        (["--xyz"], "--xyz is not an option; --help lists all"),
        ([], "the following arguments are required: --out"),
        (["--out", "a", "--amp", "of"], "argument --amp/--precision: 'of' is unknown; did you mean off?"),
        (
            ["--out", "a", "--amp", "x"],
            "argument --amp/--precision: 'x' is unknown; choose one of auto, off, fp32, bf16, fp16",
        ),
    ],
)
def test_a_mistake_is_one_line_with_what_may_be_meant(capsys, words, said):
    """An unknown option comes before one that is missing: they may be the same."""
    with pytest.raises(SystemExit) as end:
        parser_with("out", "seed", "amp", required=("out",)).parse_args(words)
    assert (end.value.code, capsys.readouterr().err) == (2, f"error: {said}\n")


def test_values_that_begin_with_a_hyphen_are_not_taken_for_options():
    parser = parser_with("num-classes")
    parser.add_argument("--with", action="append")
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args(["--num-classes", "-3", "--with", "--a b", "--", "--xyz"])
    assert (args.num_classes, getattr(args, "with"), args.rest) == (-3, ["--a b"], ["--xyz"])


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (cli.whole(1), "3", 3),
        (cli.whole(-2), "-2", -2),
        (cli.whole(1), "0", "of at least 1"),
        (cli.whole(0), "-1", "of at least 0"),
        (cli.whole(0), "1.5", "not a whole number"),
        (cli.real(0, 1), "1", 1.0),
        (cli.real(0, 1), "1.1", "of at least 0 and at most 1"),
        (cli.real(0, above=True), "0", "above 0"),
        (cli.real(0), "nan", "not a number"),
        (cli.real(0), "inf", "not a number"),
        (cli.real(0), "two", "not a number"),
        (cli.real(), "nan", "'nan' is not a number$"),
        (cli.real(high=1), "2", "not a number of at most 1"),
    ],
)
def test_numbers_are_checked_while_the_command_is_read(kind, text, value):
    if isinstance(value, str):
        with pytest.raises(argparse.ArgumentTypeError, match=value):
            kind(text)
    else:
        assert kind(text) == value


def test_messages_name_options_as_they_were_typed(monkeypatch, capsys):
    def refuse():
        raise InputError("--model nonsense: unknown; --model-name and x--model stay, --mirror URL too (--model)")

    monkeypatch.setenv(cli.STAGE_VARIABLE, '{"--model": "--sam-model"}')
    with pytest.raises(SystemExit):
        cli.run(refuse)
    said = capsys.readouterr().err
    assert "--sam-model nonsense: unknown; --model-name and x--model stay, --mirror URL too (--sam-model)" in said
    monkeypatch.delenv(cli.STAGE_VARIABLE)
    assert cli.as_typed("--model x") == "--model x"


def test_a_backslash_before_a_quotation_mark_is_explained_on_windows(monkeypatch, capsys):
    parser = cli.Parser()
    parser.add_common("images", "out", required=("images", "out"))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit):
        parser.parse_args(["--images", '.\\my images" --out mydata'])
    assert "leave out the backslash before a closing quotation mark" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=errno.errorcode.get)
def test_a_disk_that_takes_no_more_is_not_an_error_of_the_program(capsys, number):
    def full():
        raise OSError(number, os.strerror(number), "compare.json")

    assert cli._code_of(full, []) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: compare.json: cannot write") and "Traceback" not in said


def test_a_command_line_is_taken_apart_by_option():
    words = ["main.py", "--list", "a.txt", "--gt_dir=gt", "--flip", "--scales", "0.5", "1", "--list", "b.txt"]
    apart = [
        ("--list", ["a.txt"]),
        ("--gt-dir", ["gt"]),
        ("--flip", []),
        ("--scales", ["0.5", "1"]),
        ("--list", ["b.txt"]),
    ]
    assert by_option(words) == apart
    assert first_values(words) == {"--list": "b.txt", "--gt-dir": "gt", "--scales": "0.5"}


def test_a_command_for_windows_survives_both_of_its_shells():
    words = ["--voc", r"C:\R&D\data", "a b", "--methods", "grow,auto", "plain", r"C:\x"]
    assert quoted(words, windows=True) == r'--voc "C:\R&D\data" "a b" --methods "grow,auto" plain C:\x'
    assert quoted(["C:\\R&D\\", "next"], windows=True) == r'"C:\R&D\\" next'
