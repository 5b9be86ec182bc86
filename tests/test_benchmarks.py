"""The benchmarks run, in their short form; their figures mean nothing on a busy machine."""

import re
import sys

import numpy as np
import pytest
from helpers import ROOT, call_script, run_script, write_set

from util.data.labels import read_label, write_label
from util.data.mask_files import read_masks
from util.data.voc import VOID

sys.path.insert(0, str(ROOT / "benchmarks"))
import networks
from timing import take_turns


def run_benchmark(name, *options):
    done = run_script(f"benchmarks/{name}", *options)
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


@pytest.mark.slow
def test_simulated_masks_and_what_is_measured_on_them(tmp_path):
    write_set(tmp_path)
    files = ["--gt", tmp_path / "gt", "--list", tmp_path / "list.txt"]
    made, contents = {}, {}
    for preset, out in (("sam", "again"), *((name, name) for name in ("sam", "objects", "objects-background"))):
        given = ["--regions", tmp_path / "masks", "--preset", preset, "--out", tmp_path / out]
        assert "6 images, " in run_benchmark("mask_simulator.py", *given, *files)
        contents[out] = [path.read_bytes() for path in sorted((tmp_path / out).iterdir())]
        assert len(contents[out]) == 6
        if out == "again":
            continue
        made[preset] = [read_masks(tmp_path / preset, f"img_{n:02}") for n in range(6)]
        for masks in made[preset]:
            assert ((masks.predicted_iou >= 0.88) & (masks.predicted_iou <= 1)).all()
            assert ((masks.stability_score >= 0.95) & (masks.stability_score <= 1)).all()
    assert contents["sam"] == contents["again"]
    for n, masks in enumerate(made["objects"]):
        truth = read_label(tmp_path / "gt" / f"img_{n:02}.png")
        assert not (masks.union() & (truth == 0)).any()  # its borders are exact, and nothing else has a mask
    assert all(len(more) >= len(masks) for more, masks in zip(made["objects-background"], made["objects"]))

    labels = ["--labels", f"own={tmp_path / 'labels'}", "--masks", f"first={tmp_path / 'masks'}"]
    asked = [*labels, "--unscored", "first", *files, "--workers", 1, "--out", tmp_path / "regimes"]
    text = run_benchmark("regimes.py", *asked)
    assert re.search(r"^own-first +\d+\.\d\d", text, re.M) and re.search(r"^own-first-unscored +\d", text, re.M)
    label = tmp_path / "regimes" / "own-first" / "grow" / "img_00.png"
    written = label.stat().st_mtime_ns
    assert run_benchmark("regimes.py", *asked) == text and label.stat().st_mtime_ns == written
    write_label(tmp_path / "labels" / "img_00.png", read_label(tmp_path / "gt" / "img_00.png"))
    assert run_benchmark("regimes.py", *asked) != text and label.stat().st_mtime_ns != written

    names = [
        "name",
        *(f"{when}_{what}" for when in ("pseudo", "enhanced") for what in ("mIoU", "mprecision", "mrecall")),
    ]
    rows = [",".join(names), *(f"img_{n:02},0.5,0.6,0.7,0.6,0.7,0.8" for n in range(6))]
    (tmp_path / "published.csv").write_text("\n".join(rows))
    given = ["--published", tmp_path / "published.csv", "--labels", tmp_path / "labels", "--masks", tmp_path / "masks"]
    text = run_benchmark("mask_calibration.py", *given, *files, "--workers", 1)
    assert len(re.findall(r"^Meta's SAM +0\.600 0\.700 0\.800 +0\.000 0\.000 0\.000 +\+0\.100 0\.000", text, re.M)) == 2


@pytest.mark.slow
def test_predict():
    text = run_benchmark("predict.py", "--count", 2, "--rounds", 1, "--large", 2, "--megapixels", 0.3)
    alike = r"ms per image, plain loop \S+ ms: \d\.\d\d of it; (?:100\.000|99\.9\d+) % of the pixels"
    assert len(re.findall(alike, text)) == 2, text
    assert len(re.findall(r"^0.3 megapixels, .* s per image beyond decoding .* MiB at the peak$", text, re.M)) == 2
    agreement = r"mean \d\.\d{3}, \d of 2 images at least 0\.95"
    line = rf"^IoU with the label map of the small version: {agreement}; control {agreement}$"
    assert re.search(line, text, re.M), text


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "Web_demo/requirements.txt"])
def test_every_dependency_has_a_lowest_and_a_highest_version(name):
    for line in (ROOT / name).read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line and not line.startswith("-r "):
            bounds = re.findall(r"(>=|<|==)\d", line)
            assert bounds == ["=="] or set(bounds) == {">=", "<"}, f"{name}: {line!r} leaves versions open"


def test_networks_are_trained_once_and_compared_with_the_first_labels(tmp_path, monkeypatch, capsys):
    """The training itself is left out: each network stands for the labels that it would have learned from."""
    ids = write_set(tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"weights")
    made = []

    def make(network):
        made.append(network.name)
        for image_id in ids:
            label = read_label(network.args.labels[network.labels] / f"{image_id}.png")
            folder = network.args.out / network.name / "val" / "predictions" / "labels"
            write_label(folder / f"{image_id}.png", np.where(label == VOID, 0, label))

    monkeypatch.setattr(networks.Network, "make", make)

    def table(*options):
        given = ["--labels", f"cam={tmp_path / 'labels'}", f"truth={tmp_path / 'gt'}", "--ceiling", "truth"]
        given += ["--encoders", f"small={tmp_path / 'weights.pth'}", "--seeds", 0, 1, "--images", tmp_path]
        given += ["--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--val-list", tmp_path / "list.txt"]
        done = call_script(
            networks, monkeypatch, capsys, *given, "--scores", tmp_path / "scores", "--out", tmp_path / "runs", *options
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    text = table()
    names = [f"small-{labels}-{seed}" for seed in (0, 1) for labels in ("cam", "truth")]
    assert sorted(made) == sorted(names)
    truth = next(line.split() for line in text.splitlines() if line.startswith("truth"))
    assert truth[1:6] == ["100.00", "100.00", "100.00", "0.00", "100.00"] and truth[-2:] == ["100.0", "%"]
    assert float(truth[7]) > 0, "the lower bound of the difference to the first labels"
    assert table() == text and len(made) == 4
    write_label(tmp_path / "labels" / f"{ids[0]}.png", read_label(tmp_path / "gt" / f"{ids[0]}.png") % 255)
    table()
    assert sorted(made[4:]) == ["small-cam-0", "small-cam-1"]
    assert "same precision" not in table("--steps", 9, "--amp", "off") and len(made) == 10
    (tmp_path / "scores/small-cam-0.json").unlink()
    assert "not all were trained in the same precision" in table("--steps", 9, "--amp", "bf16")
