"""One run per output folder: who holds the lock, who lets go of it, and what a killed run leaves behind."""

import errno
import os
import subprocess
import sys
import time

import filelock
import pytest
from helpers import PYTHONPATH

from util.runtime.errors import InputError
from util.runtime.files import atomic_write
from util.runtime.locking import lock_folder

TRY = """
import sys
from pathlib import Path
from util.runtime.errors import InputError
from util.runtime.locking import lock_folder
try:
    lock_folder(Path(sys.argv[1])).close()
except InputError as error:
    sys.exit(f"{error}")
"""
# Holds the lock, starts a worker that only sleeps, and waits to be killed.
HOLD = """
import multiprocessing, sys, time
from pathlib import Path
from util.runtime.locking import lock_folder
if __name__ == "__main__":
    lock = lock_folder(Path(sys.argv[1]))
    worker = multiprocessing.get_context(sys.argv[2]).Process(target=time.sleep, args=(600,))
    worker.start()
    print(worker.pid, flush=True)
    time.sleep(600)
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": PYTHONPATH}


def another_process(folder):
    """The message to another process that wants the lock; empty when it gets it."""
    command = [sys.executable, "-c", TRY, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=600).stderr


def test_folders_of_a_run_that_is_refused_before_it_wrote_anything_go_again(tmp_path):
    for written in ("nothing", "a result"):
        with pytest.raises(InputError, match="wrong"), lock_folder(tmp_path / "runs/new/out"):
            if written == "a result":
                (tmp_path / "runs/new/out/result").touch()
            raise InputError("wrong")
        assert (tmp_path / "runs").exists() == (written == "a result")
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="wrong"), lock_folder(tmp_path / "mine"):
        raise InputError("wrong")
    assert (tmp_path / "mine").is_dir(), "was there before"


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path):
    lock = lock_folder(tmp_path)
    with pytest.raises(InputError, match="another run is writing here.*choose another --out"):
        lock_folder(tmp_path)
    assert "another run is writing here" in another_process(tmp_path)
    lock.close()
    lock.close()
    assert another_process(tmp_path) == ""
    with lock_folder(tmp_path):
        assert "another run" in another_process(tmp_path)
    assert another_process(tmp_path) == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_a_worker_that_outlives_a_killed_run_does_not_keep_the_lock(tmp_path):
    (tmp_path / "hold.py").write_text(HOLD)
    command = [sys.executable, tmp_path / "hold.py", tmp_path, "fork"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    worker = int(run.stdout.readline())
    try:
        assert "another run" in another_process(tmp_path)
        run.kill()
        run.wait()
        os.kill(worker, 0)  # it is still there
        assert another_process(tmp_path) == ""
    finally:
        os.kill(worker, 9)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_about_and_used(tmp_path, monkeypatch, capsys, number):
    def refuse(self, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with lock_folder(tmp_path):
        pass
    assert "has no locks" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path, monkeypatch):
    def refuse(self, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(InputError, match="cannot write"):
        lock_folder(tmp_path)


def leave_half_done(target, age=0.0):
    """What a writer that is killed leaves behind."""
    with atomic_write(target) as temporary:
        temporary.touch()
    os.rename(target, temporary)  # under the very name that the writer had chosen
    os.utime(temporary, (time.time() - age,) * 2)
    return temporary


def test_what_a_killed_run_left_half_done_is_removed(tmp_path):
    left = [leave_half_done(tmp_path / "a.png"), leave_half_done(tmp_path / "deep/b.json"), tmp_path / ".probe1234abcd"]
    left[-1].touch()
    kept = [tmp_path / "a.tmp.png", tmp_path / ".hidden", tmp_path / "deep/.notes.tmp"]
    for path in kept:
        path.touch()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/.lock").touch()
    kept.append(leave_half_done(tmp_path / "own/c.png"))
    lock_folder(tmp_path).close()
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)


def test_under_torchrun_only_what_is_too_old_for_this_run_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    young, old = leave_half_done(tmp_path / "young.png"), leave_half_done(tmp_path / "old.png", age=3600)
    lock_folder(tmp_path).close()
    assert young.exists() and not old.exists()
