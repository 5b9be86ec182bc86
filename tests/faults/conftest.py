import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cases import Place
from corpus import COUNTS
from harness import TABLE, Server, table_text

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_kills.py", "test_disk.py"]  # they watch folders by inotify


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Data and undisturbed results that the tests of this folder share."""
    # Workers import what a script imports; one thread each keeps results the same to the last bit.
    os.environ["OMP_NUM_THREADS"] = "1"
    server = Server()
    yield Place(tmp_path_factory.mktemp("faults"), server)
    server.close()


def pytest_terminal_summary(terminalreporter):
    if TABLE:
        terminalreporter.section("scripts that were stopped and started again")
        terminalreporter.write_line(table_text())
    if COUNTS["cases"]:
        terminalreporter.section("bad input")
        terminalreporter.write_line(", ".join(f"{count} {what}" for what, count in COUNTS.items()))
