"""Scripts that are killed at any moment and started again end with what an undisturbed run gives.

WSSS_KILLS=20 pytest -m slow tests/faults/test_kills.py      so many kills of every script; 2 to 4 without it

WSSS_SEED=N draws other moments: before a change in the folder that is written, such as the one that puts a file in place,
and in the first of the kills of two scripts before an import.
"""

import os
import random
import shutil
import signal
import zlib

import pytest
from cases import CASES
from harness import SIGNALS, differences, results

KILLS, SEED = int(os.environ.get("WSSS_KILLS", 0)), int(os.environ.get("WSSS_SEED", 0))
AS_MADE = (".png", ".jpg", ".npy", ".gz")  # results of one image: right, wherever a run was stopped
SOME_IMPORTS, COLD = 300, ("main all", "train_deeplabv3")  # scripts that are also killed while they are imported


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_killed_and_started_again(place, tmp_path, name):
    reference = place.reference(name)
    rng = random.Random(SEED * 1_000_003 + zlib.crc32(name.encode()))
    out = tmp_path / "out"
    left = reference.changes
    for count in range(KILLS or CASES[name].kills):
        number, cold = rng.choice(SIGNALS), count == 0 and name in COLD
        out.mkdir(exist_ok=True)
        moment = (
            {"kind": "import", "number": rng.randint(1, SOME_IMPORTS)} if cold else {"number": rng.randint(1, left)}
        )
        run = place.start(name, out, cold=cold, **moment)
        with run.standing() as stands:
            if stands:
                run.send(number)
        code = run.wait()
        if not stands:  # less was left to do
            assert code == 0, f"ended with {code}:\n{run.text[-3000:]}"
            assert not differences(results(out), reference.results)
            shutil.rmtree(out)
            left = reference.changes
            continue
        ends_plainly(number, code, run.text, begun=any(out.iterdir()))
        left = max(1, left - run.log.stat().st_size)
        wrong = [
            file
            for file, value in results(out).items()
            if file.endswith(AS_MADE) and value != reference.results.get(file)
        ]
        assert not wrong, f"not what an undisturbed run makes, after {number.name}: {wrong}"
    out.mkdir(exist_ok=True)
    code, text = place.run(name, out)
    assert code == 0, f"started again, it ended with {code}:\n{text[-3000:]}"
    assert not differences(results(out), reference.results)
    assert not [path for path in out.rglob(".*") if ".tmp" in path.name or path.name.startswith(".probe")]


def ends_plainly(number, code, text, begun):
    """A signal that can be caught ends in one plain sentence."""
    if number == signal.SIGKILL:
        assert code == -number
    elif begun:
        assert code == 130 and "re-run the command to resume" in text and "Traceback" not in text, (
            f"{code}:\n{text[-3000:]}"
        )
    else:  # before the script took over, it is Python that answers
        assert code in (130, -number, 1), f"{code}:\n{text[-3000:]}"
