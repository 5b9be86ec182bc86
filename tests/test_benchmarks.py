"""The benchmarks run, in their short form; their figures mean nothing on a busy machine."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from timing import take_turns


def run_benchmark(name, *options):
    command = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_table():
    text = run_benchmark("run.py", "--short", "--count", 3)
    rows = ["merging", "masks as .json", "masks as .json.gz", "reading masks, areas", "evaluation"]
    for row in [*rows, "mask generation", "training", "CAM inference"]:
        assert re.search(rf"^{row} .* \d+\.\d+", text, re.M), f"no ratio of {row} in\n{text}"
    scripts = {path.name for path in ROOT.glob("*.py")} - {"processor.py"}
    assert set(re.findall(r"^start +(\S+) --help", text, re.M)) == scripts


@pytest.mark.slow
def test_scale():
    text = run_benchmark("scale.py", "--images", 30, "--masks", 8, "--distinct", 4, "--side", 96, "--workers", 1)
    assert "all 30 enhanced labels are there" in text
    assert len(re.findall(r"ms per image +\d+ MiB at the peak", text)) == 3


@pytest.mark.slow
def test_transcam():
    trial = {"arch": "tiny", "crop-size": 64, "sizes": 32, "batch-size": 2, "rounds": 2, "amp": "off"}
    text = run_benchmark("transcam.py", *(part for name, value in trial.items() for part in (f"--{name}", value)))
    assert len(re.findall(r"^(training|inference), off +\d+\.\d+ images/s", text, re.M)) == 2


@pytest.mark.slow
def test_gpu_table_is_rehearsed_on_a_cpu():
    text = run_benchmark("gpu.py", "--short", "--device", "cpu", "--rounds", 1, "--workers", 1)
    rows = [
        "SAM vit_b fp32",
        "SAM vit_b bf16",
        "training resnet18",
        "waiting for data",
        "evaluation, flips",
        "CAM inference",
    ]
    for row in rows:
        assert re.search(rf"^{row} .* \d+\.\d+", text, re.M), f"no ratio of {row} in\n{text}"
    assert "the same masks" in text and "these figures say nothing" in text


def test_turns_are_taken_in_both_orders_after_a_warm_up():
    seen = []
    jobs = {name: lambda name=name: seen.append(name) for name in ("theirs", "ours")}
    times = take_turns(jobs, 2, warm_up=1)
    assert seen == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert {name: len(values) for name, values in times.items()} == {"theirs": 2, "ours": 2}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "Web_demo/requirements.txt"])
def test_every_dependency_has_a_lowest_and_a_highest_version(name):
    for line in (ROOT / name).read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line and not line.startswith("-r "):
            bounds = re.findall(r"(>=|<|==)\d", line)
            assert bounds == ["=="] or set(bounds) == {">=", "<"}, f"{name}: {line!r} leaves versions open"
