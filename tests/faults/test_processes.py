"""Scripts that torchrun shares out over two processes.

They make what one process makes, leave no thread behind at their end, and do not outlive torchrun.
"""

import json
import os
import signal

import pytest
from cases import CASES
from harness import differences, results
from helpers import run_two

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# Runs a script and notes which threads there are at its end. Python aborts now and then where torch's are among them.
WITNESS = """
import atexit, json, os, runpy, sys
from pathlib import Path

def note():
    names = []
    for thread in os.listdir("/proc/self/task"):
        try:
            names.append(Path(f"/proc/self/task/{thread}/comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):  # it ended after it was listed
            pass
    Path(folder, os.environ["RANK"] + ".json").write_text(json.dumps(names))

folder, sys.argv = sys.argv[1], sys.argv[2:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
atexit.register(note)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.shared])
def test_two_processes(place, tmp_path, name):
    expected = place.reference(name).results
    done = run_two(CASES[name].script, *place.options(name), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]
    found = results(tmp_path / "out")
    assert found.keys() == expected.keys()
    if not CASES[name].trains:  # two processes train on twice the batch
        # Other images share a batch, so that CAMs are rounded otherwise; the label maps made of them stay.
        assert not [file for file in differences(found, expected) if not file.endswith(".npy")]


def test_no_thread_is_left_at_their_end(place, tmp_path):
    (tmp_path / "witness.py").write_text(WITNESS)
    launcher = [*TORCHRUN, tmp_path / "witness.py", tmp_path]
    run = place.start("train_deeplabv3", tmp_path / "out", launcher=launcher)
    assert run.wait() == 0, run.text[-3000:]
    for rank in range(2):
        threads = json.loads((tmp_path / f"{rank}.json").read_text())
        assert not [thread for thread in threads if "gloo" in thread or "tcpstore" in thread], threads


def test_they_end_with_a_launcher_that_was_killed(place, tmp_path):
    run = place.start("generate_sam_masks", tmp_path / "out", launcher=TORCHRUN, number=5)
    with run.standing() as stands:
        assert stands
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
