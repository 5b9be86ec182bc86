"""quickstart.py --download from an empty disk to its tables, where all that is published comes from a server of this machine.

What is published is replaced: small archives, a tiny SAM, their sizes, sums and addresses.
"""

import hashlib
import http.server
import json
import re
import threading
from functools import partial

import pytest
import torch
import warm
from helpers import run_script
from scripts.test_prepare_voc import sbd_files, voc_files, write_archive
from segment_anything.build_sam import _build_sam

from models.sam import checkpoints
from pipeline import downloads
from util.data import voc_archives, voc_layout


def publish(url, archives, sam, size):
    """In a quickstart and its stages, which are forked: what is published is on a server of this machine, and small."""
    for archive in (voc_archives.VOC, voc_archives.SBD):  # changed in place: other modules have imported them already
        values = zip(("size", "md5", "folders"), (*archives[archive.file], (url,)))
        for name, value in values:
            object.__setattr__(archive, name, value)
    voc_layout.COUNTS = {"JPEGImages": 7, "Annotations": 7, "SegmentationClass": 4}
    voc_layout.LIST_COUNTS = {"train": 2, "val": 2, "trainval": 4, "trainaug": 4}
    downloads.PREPARED_BYTES = downloads.CAM_BYTES = downloads.RESULT_BYTES = 1_000_000
    downloads.SAM_FILES = {"vit_b": (sam, size)}
    checkpoints.OFFICIAL_URL = url
    checkpoints.VARIANTS["vit_b"] = checkpoints.Variant(sam, 32)
    checkpoints.sam_model_registry["vit_b"] = lambda: _build_sam(32, 1, 2, [0])
    warm.fork_stages()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and notes what was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path.lstrip("/"))
        super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def published(tmp_path, monkeypatch):
    """What prepares a process to take the server's files for the published ones; and the server."""
    folder = tmp_path / "server"
    write_archive(folder / "VOCtrainval_11-May-2012.tar", voc_files(), "w")
    write_archive(folder / "benchmark.tgz", sbd_files(), "w:gz")
    torch.manual_seed(0)
    torch.save(_build_sam(32, 1, 2, [0]).state_dict(), folder / "sam")
    sam = (folder / "sam").rename(
        folder / f"sam_vit_b_{hashlib.md5((folder / 'sam').read_bytes()).hexdigest()[:6]}.pth"
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    archives = {
        name: (len(data), hashlib.md5(data).hexdigest())
        for name in ("VOCtrainval_11-May-2012.tar", "benchmark.tgz")
        for data in [(folder / name).read_bytes()]
    }
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield partial(publish, url, archives, sam.name, sam.stat().st_size), server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_from_an_empty_disk_to_the_final_miou(published, tmp_path):
    prepare, server = published
    network = "--encoder timm-mobilenetv3_small_minimal_100 --encoder-weights none --crop-size 32 --batch-size 2"
    command = [
        *(
            "quickstart.py",
            "--voc",
            tmp_path / "VOC2012",
            "--download",
            "--sam-model",
            "vit_b",
            "--out",
            tmp_path / "run",
        ),
        *("--workers", 0, "--with", f"cam={network} --epochs 1 --long-side 32 32", "--with", "labels=--sizes 32"),
        *("--with", "masks=--points-per-side 2", "--with", f"deeplab={network} --steps 2"),
    ]
    done = run_script(*command, prepare=prepare)
    assert done.returncode == 0, done.stdout + done.stderr
    plan, rest = done.stdout.split("[1/8] data")
    for said in (
        "This run downloads",
        "PASCAL VOC 2012",
        "SBD",
        "SAM's checkpoint, vit_b",
        "and writes",
        "disk in all",
    ):
        assert said in plan
    assert "encoder" not in plan, "nothing is downloaded for random weights"
    files = ["VOCtrainval_11-May-2012.tar", "benchmark.tgz", next((tmp_path / "server").glob("sam_*")).name]
    assert server.asked == files
    tables = json.loads((tmp_path / "run/summary.json").read_text())
    assert tables["segmentation"]["enhanced"]["miou"] >= 0
    assert re.search(r"^auto +\d+\.\d\d", rest, re.M)
    again = run_script(*command, prepare=prepare)
    assert again.returncode == 0, again.stderr
    assert server.asked == files, "what is there is not asked for again"
    assert "SBD" not in again.stdout.split("[1/8]")[0]
