"""Disks that are full or read-only, rights that are taken away, damaged results, a second run: one sentence, then resume.

Every test ends with the script started again, and compares with what an undisturbed run gives.
WSSS_SEED=N draws other places.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
import zlib

import pytest
from cases import CASES
from harness import HANGS, TABLE, Count, Watch, differences, final_files, results

SEED = int(os.environ.get("WSSS_SEED", 0))
PAGE = 4096
STAGES = [name for name, case in CASES.items() if not case.pipeline]


def rng_of(name: str, what: str) -> random.Random:
    return random.Random(SEED * 1_000_003 + zlib.crc32(f"{name} {what}".encode()))


def plain_end(code: int, text: str, *words: str) -> None:
    """The script ended by itself, and said in plain words why."""
    assert code == 2 and "Traceback" not in text, f"exit code {code}:\n{text[-3000:]}"
    assert "error: " in text and any(word in text for word in words), text[-3000:]


def ends_as_undisturbed(place, case, out, *more) -> None:
    """Start it again: all is done, and the same as if nothing had been in the way."""
    count = TABLE.setdefault(case.name, Count())
    code, text = place.run(case, out, *more)
    count.runs += 1
    assert code == 0, f"started again, it ended with {code}:\n{text[-3000:]}"
    wrong = differences(results(out), place.reference(case).results)
    count.mismatches += len(wrong)
    assert not wrong, f"differ from an undisturbed run: {wrong}"


def whole(out, name: str) -> None:
    """No file is incomplete."""
    try:
        results(out)
    except AssertionError:
        TABLE[name].half_written += 1
        raise


@pytest.fixture
def small_disk(tmp_path):
    """(folder on a disk of its own, function that remounts it with options)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting is refused here ({mounted.stderr.strip()}); run as root")
    yield disk, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("name", STAGES)
def test_read_only_then_full_disk(place, small_disk, name):
    case, (disk, remount) = CASES[name], small_disk
    reference, rng = place.reference(case), rng_of(name, "disk")
    count = TABLE.setdefault(name, Count())
    out = disk / "out"

    remount("ro")
    code, text = place.run(case, out)
    count.runs += 1
    count.fault("read-only")
    plain_end(code, text, "Read-only file system")
    remount("rw")

    pages = sum(-(-path.stat().st_size // PAGE) for path in reference.out.rglob("*") if path.is_file())
    for number in (0, rng.randrange(1, max(2, pages * 2 // 3))):
        fill(disk, leave=number)
        code, text = place.run(case, out)
        count.runs += 1
        (disk / "filler").unlink()
        whole(out, name)
        if number == 0 or code != 0:
            count.fault("full")
            plain_end(code, text, "No space left on device")
    ends_as_undisturbed(place, case, out)


def fill(disk, leave: int) -> None:
    """Fill a disk but for some pages."""
    free = os.statvfs(disk)
    with open(disk / "filler", "wb") as file:
        for _ in range(free.f_bavail - leave):
            file.write(bytes(PAGE))


@pytest.mark.parametrize("name", STAGES)
def test_write_permission_taken_away(place, tmp_path, name):
    case, out = CASES[name], tmp_path / "out"
    reference, rng = place.reference(case), rng_of(name, "permission")
    count = TABLE.setdefault(name, Count())
    moment = rng.randint(1, max(1, reference.happenings // 2))
    while True:
        out.mkdir()
        with Watch(out) as watch:
            run = place.start(case, out, obey=True)
            begun = time.monotonic()
            while run.poll() is None and watch.happenings < moment and time.monotonic() - begun < HANGS:
                watch.look(0.002)
            set_modes(out, 0o555)
            code, text = run.wait(), run.text
        count.runs += 1
        set_modes(out, 0o755)
        whole(out, name)
        if code != 0 or moment == 0:
            break
        # It had written all by then; a little earlier.
        shutil.rmtree(out)
        moment //= 2
    count.fault("no write")
    plain_end(code, text, "Permission denied")
    ends_as_undisturbed(place, case, out)


def set_modes(folder, mode: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir():
                path.chmod(mode)


@pytest.mark.parametrize("name", [name for name in STAGES if CASES[name].reads])
def test_read_permission_taken_away(place, tmp_path, name):
    case, out = CASES[name], tmp_path / "out"
    place.reference(case)
    count = TABLE.setdefault(name, Count())
    folder, suffix = case.reads
    locked = place.data / folder / f"train_{rng_of(name, 'read').randrange(16):04}{suffix}"
    locked.chmod(0)
    try:
        code, text = place.run(case, out, obey=True)
    finally:
        locked.chmod(0o644)
    count.runs += 1
    count.fault("no read")
    assert code == 1 and "Traceback" not in text, f"exit code {code}:\n{text[-3000:]}"
    assert locked.name in text and "Permission denied" in text, text[-3000:]
    others = {file for file in place.reference(case).results if "train_" in file and locked.stem not in file}
    assert others <= set(results(out)), "the other images are done"
    ends_as_undisturbed(place, case, out, *(["--overwrite"] if case.trains else []))


@pytest.mark.parametrize("name", STAGES)
def test_damaged_result(place, tmp_path, name):
    case, out = CASES[name], tmp_path / "out"
    shutil.copytree(place.reference(case).out, out, copy_function=shutil.copy2)
    count, rng = TABLE.setdefault(name, Count()), rng_of(name, "damage")
    last = final_files(out)[-1]
    damage(last, rng)
    for journal in out.rglob("ledger.jsonl"):
        journal.write_bytes(journal.read_bytes()[:-10])
    count.fault("damaged")
    if last.suffix == ".pth":
        code, text = place.run(case, out)
        count.runs += 1
        plain_end(code, text, f"{last}: damaged")
        ends_as_undisturbed(place, case, out, "--overwrite")
    else:
        ends_as_undisturbed(place, case, out)


def damage(path, rng: random.Random) -> None:
    """Cut a file short, or change a byte somewhere."""
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    if rng.random() < 0.5:
        del data[place:]
    else:
        data[place] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("name", STAGES)
def test_second_run_into_the_same_folder(place, tmp_path, name):
    case, out = CASES[name], tmp_path / "out"
    reference, count = place.reference(case), TABLE.setdefault(name, Count())
    first = place.start(case, out)
    begun = time.monotonic()
    while not (out / ".lock").exists() and first.poll() is None and time.monotonic() - begun < HANGS:
        time.sleep(0.001)
    time.sleep(0.02)  # from the lock file to the lock
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        code, text = place.run(case, out)
        plain_end(code, text, "another run is writing here")
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert first.wait() == 0, first.text[-3000:]
    count.runs += 2
    count.fault("second run")
    wrong = differences(results(out), reference.results)
    count.mismatches += len(wrong)
    assert not wrong, f"differ from an undisturbed run: {wrong}"
