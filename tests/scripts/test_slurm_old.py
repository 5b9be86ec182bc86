"""The script of docs/slurm.md, run as it is: two "nodes" of this machine, small data, and a stand-in for Slurm."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from helpers import ROOT, run_script
from tiny_sams import tiny

from util.data.ids import read_id_list
from util.data.synthetic import write_data_set

ENCODER = ["--encoder", "timm-mobilenetv3_small_minimal_100", "--encoder-weights", "none"]
# What makes each stage small; of an option that is there twice the last one counts.
SMALL = {
    "train_transcam.py": [*ENCODER, "--epochs", "1", "--crop-size", "64", "--long-side", "48", "64"],
    "generate_cams.py": ["--sizes", "64", "--bg-threshold", "0.3"],
    "generate_sam_masks.py": ["--model", "sam", "--points-per-side", "2"],
    "train_deeplabv3.py": [*ENCODER, "--epochs", "1", "--crop-size", "64"],
}
# Starts the command on every "node", as srun does with one task on each.
SRUN = f"""#!{sys.executable}
import multiprocessing, os, sys
from torch.distributed.run import main
_, launcher, *words = sys.argv
script = next(word for word in words if word.endswith(".py"))
small = {SMALL!r}.get(script, [])
words = [os.path.join({str(ROOT)!r}, word) if word == script else word for word in words]
options = ["--workers", "0"] if "--workers" in words else []
if "train" in script:
    options += ["--batch-size", "2"]
node = multiprocessing.get_context("fork").Process  # torch is imported once
nodes = [node(target=main, args=([*words, *small, *options],)) for _ in range(int(os.environ["SLURM_NNODES"]))]
for node in nodes:
    node.start()
for node in nodes:
    node.join()
sys.exit(max(abs(node.exitcode) for node in nodes) if launcher == "torchrun" else 9)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Slurm's scripts are for bash")
def test_the_script_of_the_page_runs_every_stage_on_two_nodes(tmp_path):
    write_data_set(tmp_path / "VOC2012", {"trainaug": 6, "val": 3}, side=64)
    shutil.copytree(tmp_path / "VOC2012/JPEGImages", tmp_path / "new_images")
    for part in tiny("sam"):
        part.save_pretrained(tmp_path / "sam")
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/sh\necho localhost\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    page = (ROOT / "docs/slurm.md").read_text(encoding="utf-8")
    script = re.search(r"^```bash\n(#!/bin/bash\n.*?)^```", page, re.M | re.S)[1]
    script = script.replace(":29500", f":{free_port()}").replace("OMP_NUM_THREADS=8", "OMP_NUM_THREADS=1")
    job = {"NNODES": 2, "GPUS_ON_NODE": 1, "CPUS_PER_TASK": 1, "JOB_ID": 7, "JOB_NODELIST": "node[1-2]"}
    environment = {**os.environ, **{f"SLURM_{name}": str(value) for name, value in job.items()}}
    environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ids = read_id_list(tmp_path / "VOC2012/ImageSets/Segmentation/trainaug.txt")
    for folder, suffix in (("cams/labels", "png"), ("sam_masks", "json"), ("merge/auto", "png")):
        assert {path.stem for path in (tmp_path / "runs" / folder).glob(f"train*.{suffix}")} == set(ids), folder
    assert len(list((tmp_path / "predictions/labels").glob("*.png"))) == 9
    assert json.loads((tmp_path / "runs/val/metrics.json").read_text())["images"] == 3
    alone = run_script(
        *("main.py", "--mode", "merge", "--method", "auto", "--pseudo-path", "runs/cams/labels"),
        *("--sam-path", "runs/sam_masks", "--cam-path", "runs/cams/cams", "--image-labels", "VOC2012/cls_labels.npy"),
        *("--image-list", "VOC2012/ImageSets/Segmentation/trainaug.txt", "--workers", 0, "--out", "alone"),
        cwd=tmp_path,
    )
    assert alone.returncode == 0, alone.stderr
    for name in ids:
        both = [(tmp_path / folder / f"auto/{name}.png").read_bytes() for folder in ("runs/merge", "alone")]
        assert both[0] == both[1]
