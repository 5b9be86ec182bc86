"""The benchmarks run, in their short form; what they print is no measure on a busy machine."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT


def run_benchmark(name, *options):
    command = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_table():
    text = run_benchmark("run.py", "--short", "--count", 3)
    rows = ["merging", "masks as .json", "masks as .json.gz", "reading masks, areas", "evaluation",
            "mask generation", "training", "CAM inference"]  # fmt: skip
    for row in rows:
        assert re.search(rf"^{row} .* \d+\.\d+", text, re.M), f"no ratio of {row} in\n{text}"
    scripts = {path.name for path in ROOT.glob("*.py")} - {"processor.py"}
    assert set(re.findall(r"^start +(\S+) --help", text, re.M)) == scripts
    assert len(re.findall(r"^\d[\d,]* .* MiB", text, re.M)) == 6, "two sizes each of images, masks and classes"


@pytest.mark.slow
def test_scale():
    text = run_benchmark("scale.py", "--images", 30, "--masks", 8, "--distinct", 4, "--side", 96, "--workers", 1)
    assert "all 30 enhanced labels are there" in text
    assert len(re.findall(r"ms an image +\d+ MiB at the peak", text)) == 3


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "Web_demo/requirements.txt"])
def test_every_dependency_has_a_lowest_and_a_highest_version(name):
    for line in (ROOT / name).read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line and not line.startswith("-r "):
            bounds = re.findall(r"(>=|<|==)\d", line)
            assert bounds == ["=="] or set(bounds) == {">=", "<"}, f"{name}: {line!r} leaves versions open"


@pytest.mark.slow
def test_the_whole_proof_tells_which_parts_passed():
    text = run_benchmark("prove.py", "--short", "--only", "scale")
    assert re.search(r"^part +minutes +outcome\nscale +\d+\.\d +passed$", text, re.M), text
