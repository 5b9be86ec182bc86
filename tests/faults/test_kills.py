"""Scripts that are killed at random moments and started again end with what an undisturbed run gives.

WSSS_KILLS=20 pytest tests/faults/test_kills.py      so many kills of every script; fewer without it

WSSS_SEED=N draws other moments. Half of them are moments of the clock, half are changes in the folder that is written:
between these lie the few microseconds in which a file is being put in place.
"""

import os
import random
import shutil
import signal
import time
import zlib

import pytest
from cases import CASES
from harness import HANGS, SIGNALS, TABLE, Count, Watch, differences, results

SEED = int(os.environ.get("WSSS_SEED", 0))
AS_MADE = {".png", ".jpg", ".npy"}  # results of one image: right, wherever a run was stopped


def kills_of(case) -> int:
    return int(os.environ.get("WSSS_KILLS", 0)) or (2 if case.network else 5)


@pytest.mark.parametrize("name", CASES)
def test_killed_and_started_again(place, tmp_path, name):
    case = CASES[name]
    reference = place.reference(case)
    assert not reference.in_place, f"written under the final name: {sorted(reference.in_place)}"
    rng = random.Random(SEED * 1_000_003 + zlib.crc32(name.encode()))
    count = TABLE.setdefault(name, Count())
    wanted = kills_of(case)
    signals = [SIGNALS[number % len(SIGNALS)] for number in range(wanted)]
    rng.shuffle(signals)

    problems, seen, fresh, cold = [], 0, 0, wanted // 5
    out = tmp_path / "out"
    if case.pipeline:  # its scripts are told where the others' results lie, and keep that
        out = reference.out
        shutil.rmtree(out)
    while signals:
        out.mkdir(exist_ok=True)
        number = signals[-1]
        killed, code, text, watch = kill(place, case, out, number, rng, seen, cold=len(signals) <= cold)
        count.runs += 1
        count.half_written += len(watch.in_place)
        problems += [f"{path}: written under its final name" for path in watch.in_place]
        if not killed:
            # It was done before its moment came; that is an undisturbed end after the kills so far.
            assert code == 0, f"ended with {code} by itself:\n{text[-3000:]}"
            wrong = differences(results(out), reference.results)
            count.mismatches += len(wrong)
            problems += [f"{file} differs after {count.faults}" for file in wrong]
            shutil.rmtree(out)
            seen, fresh = 0, fresh + 1
            assert fresh < 20 + 5 * wanted, "it ends before it can be killed"
            continue
        signals.pop()
        seen += watch.happenings
        count.fault(number.name)
        problems += messages_of(number, code, text, watch)
        problems += state_of(out, reference, count, number)
    if out.exists():
        code, text = place.run(case, out)
        count.runs += 1
        assert code == 0, f"started again after {wanted} kills, it ended with {code}:\n{text[-3000:]}"
        wrong = differences(results(out), reference.results)
        count.mismatches += len(wrong)
        problems += [f"{file} differs after {count.faults}" for file in wrong]
        left = [path.name for path in out.rglob(".*") if ".tmp" in path.name or path.name.startswith(".probe")]
        problems += [f"{file} was left behind" for file in left]
    assert not problems, "\n".join(problems)


def kill(place, case, out, number, rng, seen, cold):
    """Start it and send a signal at a random moment; (whether it came in time, exit code, output, what was seen)."""
    reference = place.reference(case)
    by_clock = cold or rng.random() < 0.5
    moment = rng.uniform(0, reference.seconds) if by_clock else rng.randint(1, max(1, reference.happenings - seen))
    with Watch(out) as watch:
        run = place.start(case, out, cold=cold)
        begun = time.monotonic()
        while run.poll() is None:
            passed = time.monotonic() - begun
            if (passed if by_clock else watch.happenings) >= moment:
                run.send(number)
                break
            assert passed < HANGS, f"hung:\n{run.text[-3000:]}"
            watch.look(0.002)
        code = run.wait()
        watch.look()
    return code in (130, -number) or (number == signal.SIGINT and code == 1), code, run.text, watch


def messages_of(number, code, text, watch):
    """A signal that can be caught ends in one plain sentence."""
    if number == signal.SIGKILL or (not watch.happenings and code != 130):
        return []  # before the script took over, it is Python that answers
    if code != 130 or "re-run the command to resume" not in text or "Traceback" in text:
        return [f"{number.name}: exit code {code} and\n{text[-3000:]}"]
    return []


def state_of(out, reference, count, number):
    """What a kill leaves: whole files, and those of single images are what they will be."""
    try:
        found = results(out)
    except AssertionError as error:
        count.half_written += 1
        return [f"after {number.name}: {error}"]
    return [
        f"after {number.name}: {file} is not what an undisturbed run makes"
        for file, value in found.items()
        if file.endswith(tuple(AS_MADE)) and value != reference.results.get(file)
    ]
