"""Scripts that torchrun shares out over two processes.

They make what one process makes, leave no thread behind at their end, and do not outlive torchrun.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cases import CASES
from harness import HANGS, ROOT, differences, results

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# Runs a script and tells which threads there are at its end. Python aborts now and then where torch's are among them.
WITNESS = """
import atexit, json, os, runpy, sys
from pathlib import Path

def note():
    names = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")]
    Path(folder, os.environ["RANK"] + ".json").write_text(json.dumps(names))

folder, sys.argv = sys.argv[1], sys.argv[2:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
atexit.register(note)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.shared])
def test_two_processes(place, tmp_path, name):
    case = CASES[name]
    expected = place.reference(case).results
    witness = tmp_path / "witness.py"
    witness.write_text(WITNESS)
    command = [*TORCHRUN, witness, tmp_path, ROOT / case.script, *case.arguments(place), "--out", tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in range(2):
        threads = json.loads((tmp_path / f"{rank}.json").read_text())
        assert not [thread for thread in threads if "gloo" in thread or "tcpstore" in thread], threads
    found = results(tmp_path / "out")
    assert found.keys() == expected.keys()
    if not case.trains:  # two processes train on twice the batch
        different = differences(found, expected)
        # Other pictures share a batch, so that CAMs are rounded otherwise; the label maps made of them stay.
        assert not [file for file in different if not file.endswith(".npy")]


def test_they_end_with_a_launcher_that_was_killed(place, tmp_path):
    case = CASES["generate_sam_masks"]
    command = [*TORCHRUN, ROOT / case.script, *case.arguments(place), "--out", tmp_path / "out"]
    launcher = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    end = time.monotonic() + HANGS
    while len(scripts := [pid for pid in children(launcher.pid) if imports_torch(pid)]) < 2:
        assert launcher.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    launcher.kill()
    launcher.wait()
    while any(map(is_alive, scripts)):
        assert time.monotonic() < end, "its processes wait for each other"
        time.sleep(0.05)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def imports_torch(pid):
    """Whether a process that the launcher started has begun with its own work."""
    return str(ROOT) in Path(f"/proc/{pid}/cmdline").read_text() and "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
