"""Windows and macOS, as far as they can be shown on Linux: what they do not have is taken away, and workers are spawned."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT, write_set

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "run(main)" in path.read_text())
SITE = """
import multiprocessing, os, signal, subprocess, sys, warnings
for name in ("fcntl", "resource", "grp", "termios"):
    sys.modules[name] = None
at_fork = os.register_at_fork
for name in ("register_at_fork", "killpg", "fork", "sched_getaffinity"):
    delattr(os, name)
del signal.SIGKILL
multiprocessing.set_start_method("spawn")
warnings.filterwarnings("ignore", "only soft file lock")  # Windows has locks of its own

class TorchOfLinux:
    # torch asks for the system where we ask for the function, so the torch of Linux gets it back.

    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.register_at_fork = at_fork

sys.meta_path.insert(0, TorchOfLinux())
start = subprocess.Popen.__init__

def start_without_fork(self, *arguments, preexec_fn=None, start_new_session=False, **options):
    if preexec_fn is not None or start_new_session:
        raise ValueError("preexec_fn and start_new_session are not supported on Windows platforms")
    start(self, *arguments, **options)

subprocess.Popen.__init__ = start_without_fork
"""


@pytest.fixture
def elsewhere(tmp_path):
    """Runs a script where none of that is there."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

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
    command = [sys.executable, ROOT / "main.py", *arguments, "--out", tmp_path / "alone", "--workers", "0"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=600)
    made = sorted((tmp_path / "spawned/max_iou_imp2").glob("*.png"))
    assert len(made) == 20
    assert all(path.read_bytes() == (tmp_path / "alone/max_iou_imp2" / path.name).read_bytes() for path in made)


@pytest.mark.slow
def test_a_tiny_quickstart(elsewhere, tmp_path):
    done = elsewhere("quickstart.py", "--out", tmp_path / "run", "--count", 16, "--effort", 0.02, "--workers", 2)
    assert (tmp_path / "run/tables.txt").read_text() in done.stdout
