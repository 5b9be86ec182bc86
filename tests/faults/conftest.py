import os
import sys

import pytest

# Scripts are forked, stopped by FIFOs, and give up rights; --as-windows takes fork away.
if not sys.platform.startswith("linux") or not hasattr(os, "fork"):
    collect_ignore_glob = ["test_kills.py", "test_disk.py", "test_processes.py"]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Data and undisturbed results that the tests of this folder share."""
    # One thread each keeps results the same to the last bit.
    os.environ["OMP_NUM_THREADS"] = "1"
    from cases import Place

    return Place(tmp_path_factory.mktemp("faults"))
