"""quickstart.py --download from an empty disk to its tables, where all that is published comes from a server of this machine.

What is published is replaced in every process: small archives, a tiny SAM, their sizes, sums and addresses.
"""

import hashlib
import http.server
import json
import os
import re
import threading
from functools import partial

import pytest
from helpers import run_script
from scripts.test_prepare_voc import sbd_files, voc_files, write_archive

torch = pytest.importorskip("torch")

SITE = """
import importlib.abc, importlib.util, json, os, sys
from dataclasses import replace

known = json.loads(os.environ["PUBLISHED"])

def archives(module):
    for name in ("VOC", "SBD"):
        archive = getattr(module, name)
        size, md5 = known["archives"][archive.file]
        setattr(module, name, replace(archive, size=size, md5=md5, folders=(known["url"],)))

def counts(module):
    module.COUNTS = {"JPEGImages": 7, "Annotations": 7, "SegmentationClass": 4}
    module.LIST_COUNTS = {"train": 2, "val": 2, "trainval": 4, "trainaug": 4}

def disk(module):
    module.PREPARED_BYTES = module.CAM_BYTES = module.RESULT_BYTES = 1_000_000
    module.SAM_FILES = {"vit_b": (known["sam"], known["size"])}

def checkpoints(module):
    from segment_anything.build_sam import _build_sam
    module.OFFICIAL_URL = known["url"]
    module.VARIANTS["vit_b"] = module.Variant(known["sam"], 32)
    module.sam_model_registry["vit_b"] = lambda: _build_sam(32, 1, 2, [0])

PATCHES = {
    "util.data.voc_archives": archives, "util.data.voc_layout": counts,
    "pipeline.downloads": disk, "models.sam.checkpoints": checkpoints,
}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            PATCHES[name](module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and notes what was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path.lstrip("/"))
        super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def published(tmp_path):
    """The environment of processes that take the server's files for the published ones; and the server."""
    from segment_anything.build_sam import _build_sam

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
    known = {"url": url, "archives": archives, "sam": sam.name, "size": sam.stat().st_size}
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    more = {"PUBLISHED": json.dumps(known), "PYTHONPATH": str(tmp_path / "site"), "TORCH_HOME": str(tmp_path / "torch")}
    yield {**os.environ, **more}, server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_from_an_empty_disk_to_the_final_miou(published, tmp_path):
    environment, server = published
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
    done = run_script(*command, env=environment)
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
    again = run_script(*command, env=environment)
    assert again.returncode == 0, again.stderr
    assert server.asked == files, "what is there is not asked for again"
    assert "SBD" not in again.stdout.split("[1/8]")[0]
