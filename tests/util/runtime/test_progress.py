"""Progress in a log file: few lines, each whole."""

import io

import pytest

from util.runtime import progress
from util.runtime.progress import Progress


def lines(file):
    assert "\r" not in file.getvalue()
    return file.getvalue().splitlines()


def test_a_log_gets_the_first_and_the_last_state():
    file = io.StringIO()
    assert list(Progress(range(500), desc="merging", unit="image", file=file)) == list(range(500))
    first, last = lines(file)
    assert "0/500" in first and "500/500" in last and file.getvalue().endswith("\n")


def test_a_line_is_written_once_per_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    with Progress(total=6, file=file) as bar:
        for now[0] in (1.0, 59.9, 60.0, 61.0, 119.0, 120.0):
            bar.update()
            bar.refresh()
        assert [line.split("|")[-1].split()[0] for line in lines(file)] == ["0/6", "3/6", "6/6"]
    assert len(lines(file)) == 4, "and the last state at the end"


@pytest.mark.parametrize("options", [{"disable": True}, {"total": 0, "leave": False, "disable": True}, {"total": 0}])
def test_a_bar_that_is_off_writes_nothing(options):
    file = io.StringIO()
    with Progress(file=file, **options) as bar:
        bar.update()
    assert file.getvalue() == ""
