"""Writing files: whole or not at all, also where other programs and file systems are in the way."""

import errno
import os
import stat

import pytest

from util.runtime import files
from util.runtime.errors import InputError, disk_error


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    files.write_bytes(tmp_path / "a.txt", b"old")
    with pytest.raises(RuntimeError), files.atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt", reason="permissions of Unix")
def test_results_have_the_permissions_of_other_files(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "a.txt", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_file_that_another_program_has_open_for_a_moment_is_replaced(tmp_path, monkeypatch):
    """As on Windows, where a virus scanner opens each new file."""
    replace, left = os.replace, [PermissionError(errno.EACCES, "in use")] * 2

    def busy(source, target):
        if left:
            raise left.pop()
        replace(source, target)

    monkeypatch.setattr(files, "_PAUSES", (0, 0))
    monkeypatch.setattr(os, "replace", busy)
    files.write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    left += [PermissionError(errno.EACCES, "in use")] * 3
    with pytest.raises(PermissionError) as caught:
        files.write_bytes(tmp_path / "a.txt", b"newer")
    assert "a.txt: cannot write" in str(disk_error(caught.value, caught.value.filename))
    assert "close it in other programs" in str(disk_error(caught.value, caught.value.filename))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_path_that_is_too_long_for_windows_says_so(tmp_path, monkeypatch):
    def missing(*arguments):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(files, "ON_WINDOWS", True)
    monkeypatch.setattr(os, "open", missing)
    with pytest.raises(InputError, match="longer than paths can be on Windows; choose a shorter --out"):
        files.write_bytes(tmp_path / ("a" * 250), b"")
    with pytest.raises(FileNotFoundError):
        files.write_bytes(tmp_path / "a", b"")


@pytest.mark.parametrize("name", ["C:secret", "2024-05-01T10:30:00", "what?", "nul", "COM1.x", "a\tb"])
def test_names_that_windows_has_not_are_no_ids_there(monkeypatch, name):
    assert files.check_id(name) == name
    monkeypatch.setattr(files, "ON_WINDOWS", True)
    with pytest.raises(InputError, match="cannot be the name of a file on Windows"):
        files.check_id(name)
    assert files.check_id("console") == "console" and files.check_id("2007_000032") == "2007_000032"
