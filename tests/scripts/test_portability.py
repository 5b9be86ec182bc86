"""Windows and macOS, as far as they can be shown on Linux: what they do not have is taken away, and workers are spawned."""

import os
import subprocess
import sys

import pytest
import warm
from helpers import ROOT, run_script, write_set

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "run(main)" in path.read_text())


@pytest.fixture
def elsewhere():
    """Runs a script where none of that is there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/as_windows"), "AS_WINDOWS": "all"}

    def run(script, *arguments):
        command = [sys.executable, str(ROOT / script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(elsewhere, script):
    assert f"python {script}" in elsewhere(script, "--help").stdout


def test_a_merge_with_two_workers_makes_the_same_label_maps(elsewhere, tmp_path):
    write_set(tmp_path, count=20)
    arguments = [
        *("--mode", "merge", "--pseudo-path", tmp_path / "labels", "--sam-path", tmp_path / "masks"),
        *("--image-list", tmp_path / "list.txt", "--method", "max_iou_imp2"),
    ]
    elsewhere("main.py", *arguments, "--out", tmp_path / "spawned", "--workers", 2)
    assert run_script("main.py", *arguments, "--out", tmp_path / "alone", "--workers", 0).returncode == 0
    made = sorted((tmp_path / "spawned/max_iou_imp2").glob("*.png"))
    assert len(made) == 20
    assert all(path.read_bytes() == (tmp_path / "alone/max_iou_imp2" / path.name).read_bytes() for path in made)


@pytest.mark.slow
def test_a_tiny_quickstart(elsewhere, tmp_path):
    command = [
        "quickstart.py",
        "--out",
        tmp_path / "run",
        "--count",
        16,
        "--effort",
        0.02,
        "--workers",
        1,
        "--no-baseline",
    ]
    done = run_script(*command, prepare=warm.as_windows) if warm.CAN_FORK else elsewhere(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run/tables.txt").read_text() in done.stdout
