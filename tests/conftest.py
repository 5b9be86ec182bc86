import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def voc12() -> Path:
    """A real piece of PASCAL VOC 2012, where there is one; tests that need it are skipped elsewhere."""
    folder = Path(os.environ.get("WSSS_SHARED", ROOT.parent / "shared")) / "voc12"
    if not folder.is_dir():
        pytest.skip("no PASCAL VOC data found: set WSSS_SHARED to a folder that holds voc12/")
    return folder


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
