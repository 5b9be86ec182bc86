import os
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
AS_WINDOWS = ROOT / "tests" / "as_windows"


def pytest_addoption(parser):
    parser.addoption(
        "--as-windows",
        action="store_true",
        help="hide what Windows does not have (fcntl, fork, process groups, ...) and spawn worker processes",
    )


def pytest_configure(config):
    if config.option.as_windows and hasattr(os, "fork"):  # in the workers of xdist it is done
        os.environ["PYTHONPATH"] = os.pathsep.join([str(AS_WINDOWS), *filter(None, [os.environ.get("PYTHONPATH")])])
        runpy.run_path(str(AS_WINDOWS / "sitecustomize.py"))


@pytest.fixture(scope="session")
def voc12() -> Path:
    """A real piece of PASCAL VOC 2012, where there is one; tests that need it are skipped elsewhere."""
    folder = Path(os.environ.get("WSSS_SHARED", ROOT.parent / "shared")) / "voc12"
    if not folder.is_dir():
        pytest.skip("no PASCAL VOC data found: set WSSS_SHARED to a folder that holds voc12/")
    return folder


@pytest.fixture
def one_thread():
    """torch computes with one thread within the test, and afterwards as before, whatever the test sets."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and os.environ.get("WSSS_TEST_DEVICE") != "cpu":
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
