"""Disks that are full or read-only, rights that are taken away, damaged results, a second run: one sentence, then resume.

Every test ends with the script started again, and compares with what an undisturbed run gives.
WSSS_SEED=N draws other places.
"""

import os
import random
import shutil
import subprocess
import zlib

import pytest
from cases import CASES, COUNT
from harness import differences, result_files, results

SEED = int(os.environ.get("WSSS_SEED", 0))
PAGE = 4096
pytestmark = pytest.mark.slow


@pytest.fixture
def rng(request) -> random.Random:
    return random.Random(SEED * 1_000_003 + zlib.crc32(request.node.name.encode()))


def ends_plainly(code: int, text: str, words: str) -> None:
    """The script ended by itself, and said in plain words why."""
    assert code == 2 and "Traceback" not in text, f"exit code {code}:\n{text[-3000:]}"
    assert "error: " in text and words in text, text[-3000:]


def ends_as_undisturbed(place, name, out, *more) -> None:
    """Start it again: all is done, and the same as if nothing had been in the way."""
    code, text = place.run(name, out, *more)
    assert code == 0, f"started again, it ended with {code}:\n{text[-3000:]}"
    assert not differences(results(out), place.reference(name).results)


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


@pytest.mark.parametrize("name", CASES)
def test_read_only_then_full_disk(place, small_disk, name, rng):
    disk, remount = small_disk
    out = disk / "out"
    remount("ro")
    ends_plainly(*place.run(name, out), "Read-only file system")
    remount("rw")

    pages = sum(-(-path.stat().st_size // PAGE) for path in place.reference(name).out.rglob("*") if path.is_file())
    for left in (0, rng.randrange(1, max(2, pages * 2 // 3))):
        with open(disk / "filler", "wb") as file:
            for _ in range(os.statvfs(disk).f_bavail - left):
                file.write(bytes(PAGE))
        code, text = place.run(name, out)
        (disk / "filler").unlink()
        results(out)  # no file is incomplete
        if left == 0 or code != 0:
            ends_plainly(code, text, "No space left on device")
    ends_as_undisturbed(place, name, out)


@pytest.mark.parametrize("name", CASES)
def test_write_permission_taken_away(place, tmp_path, name, rng):
    out = tmp_path / "out"
    out.mkdir()
    run = place.start(name, out, obey=True, number=rng.randint(1, place.reference(name).changes // 2))
    with run.standing() as stands:
        assert stands
        set_modes(out, 0o555)
    code = run.wait()
    set_modes(out, 0o755)
    results(out)  # no file is incomplete
    ends_plainly(code, run.text, "Permission denied")
    ends_as_undisturbed(place, name, out)


def set_modes(folder, mode: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(mode)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.reads])
def test_read_permission_taken_away(place, tmp_path, name, rng):
    out, (folder, suffix) = tmp_path / "out", CASES[name].reads
    names = place.reference(name).results
    locked = place.data / folder / f"train_{rng.randrange(COUNT):04}{suffix}"
    locked.chmod(0)
    try:
        code, text = place.run(name, out, obey=True)
    finally:
        locked.chmod(0o644)
    assert code == 1 and "Traceback" not in text, f"exit code {code}:\n{text[-3000:]}"
    assert locked.name in text and "Permission denied" in text, text[-3000:]
    others = {file for file in names if "train_" in file and locked.stem not in file}
    assert others <= set(results(out)), "the other images are done"
    ends_as_undisturbed(place, name, out, *(["--overwrite"] if CASES[name].trains else []))


@pytest.mark.parametrize("name", CASES)
def test_damaged_result(place, tmp_path, name, rng):
    out = tmp_path / "out"
    shutil.copytree(place.reference(name).out, out)
    last = max((path for path in result_files(place.reference(name).out) if path.name != "run.json"), key=age)
    last = out / last.relative_to(place.reference(name).out)
    damage(last, rng)
    for journal in out.rglob("ledger.jsonl"):
        journal.write_bytes(journal.read_bytes()[:-10])
    if last.suffix == ".pth":
        ends_plainly(*place.run(name, out), f"{last}: damaged")
        ends_as_undisturbed(place, name, out, "--overwrite")
    else:
        ends_as_undisturbed(place, name, out)


def age(path) -> tuple:
    return path.stat().st_mtime_ns, path.name


def damage(path, rng: random.Random) -> None:
    """Cut a file short, or change a byte somewhere."""
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    if rng.random() < 0.5:
        del data[place:]
    else:
        data[place] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("name", CASES)
def test_second_run_into_the_same_folder(place, tmp_path, name):
    out = tmp_path / "out"
    first = place.start(name, out, number=place.reference(name).changes * 3 // 4)
    with first.standing() as stands:
        assert stands
        ends_plainly(*place.run(name, out), "another run is writing here")
    assert first.wait() == 0, first.text[-3000:]
    assert not differences(results(out), place.reference(name).results)
