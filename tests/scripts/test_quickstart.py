"""quickstart.py from nothing to its tables, killed on the way, and on a folder in VOC's layout."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from helpers import ROOT, run_script

import quickstart
from models.segmentation.deeplabv3 import load_checkpoint
from util.data.ids import read_id_list
from util.data.synthetic import CLASSES, write_data_set
from util.runtime.errors import InputError

TINY = ("--images", 16, "--effort", 0.02, "--workers", 0)


def start(out, *more):
    command = [sys.executable, str(ROOT / "quickstart.py"), "--out", str(out), *map(str, [*TINY, *more])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    text, _ = process.communicate(timeout=1500)
    return process.returncode, text


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "run"
    code, text = finish(start(out))
    assert code == 0, text
    return out, text


@pytest.mark.slow
def test_ends_with_both_tables_and_a_checkpoint_that_opens(finished):
    out, text = finished
    summary = json.loads((out / "summary.json").read_text())
    assert (out / "tables.txt").read_text() in text
    comparison = json.loads((out / "merge/compare.json").read_text())
    assert summary["pseudo_labels"]["CAM labels"]["miou"] == comparison["input"]["miou"]
    assert set(summary["pseudo_labels"]) == {"CAM labels", *comparison["methods"]}
    for name in ("cam_labels", "enhanced"):
        metrics = json.loads((out / f"scores/{name}/metrics.json").read_text())
        assert summary["segmentation"][name]["miou"] == metrics["miou"] and metrics["images"] == 5
    last = text.strip().splitlines()[-1]
    assert last == f"streamlit run Web_demo/src/app.py -- --checkpoint {out}/deeplab/enhanced/last.pth"
    assert load_checkpoint(last.split()[-1]).classes.names == CLASSES.names
    assert (out / "merge_example.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_ground_truth_serves_for_scores_alone(finished):
    out, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    assert summary["chosen"] == "grow" and summary["chosen_how"] == "the recommended one"
    assert json.loads((out / "cams/labels/run.json").read_text())["options"]["bg_threshold"] == 0.5
    sweep = json.loads((out / "cams/sweep.json").read_text())
    assert summary["best_threshold"] == {"threshold": sweep["best"], "miou": sweep["miou"]}
    assert f"{100 * sweep['miou']:.2f}" in (out / "tables.txt").read_text()
    for name in ("deeplab/enhanced", "deeplab/cam_labels"):
        options = json.loads((out / name / "run.json").read_text())["options"]
        assert options["val_gt"] is None and options["list"].endswith("lists/train.txt")
    lists = out / "data/ImageSets/Segmentation"
    assert read_id_list(out / "lists/train.txt") == read_id_list(lists / "train.txt")
    assert not set(read_id_list(lists / "train.txt")) & set(read_id_list(lists / "val.txt"))


def kill_all(process):
    """End a quickstart and the script that it runs without a chance to tidy up."""
    children = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.split()
    parents = dict(zip(map(int, children[::2]), map(int, children[1::2])))
    family = {process.pid}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    for pid in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "stages, made, moment",
    [
        (("labels", "masks"), ("cams", "masks"), "cams/cams/train_0004.npy"),
        (("deeplab", "score"), ("deeplab", "scores"), "deeplab/cam_labels/run.json"),
    ],
)
def test_killed_and_started_again_it_ends_with_the_same_tables(finished, stages, made, moment):
    out, _ = finished
    tables, summary = (out / "tables.txt").read_bytes(), (out / "summary.json").read_bytes()
    kept = {path: path.read_bytes() for folder in made for path in (out / folder).rglob("*") if is_result(path)}
    for folder in made:
        shutil.rmtree(out / folder)
    process = start(out, "--only", *stages)
    end = time.monotonic() + 400
    while not (out / moment).exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    kill_all(process)
    code, text = finish(start(out, "--only", *stages))
    assert code == 0, text
    assert {path: path.read_bytes() for folder in made for path in (out / folder).rglob("*") if is_result(path)} == kept
    assert (out / "tables.txt").read_bytes() == tables and (out / "summary.json").read_bytes() == summary


def is_result(path):
    return path.name == "metrics.json" or (path.suffix in (".png", ".npy", ".json") and path.stem.startswith("train_"))


@pytest.mark.slow
def test_interrupted_it_passes_one_signal_on_and_says_so(tmp_path):
    process = start(tmp_path / "run", "--only", "data", "cam", "--with", "cam=--epochs 1000")
    end = time.monotonic() + 400
    while not (tmp_path / "run/cam/run.json").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    process.terminate()
    code, text = finish(process)
    assert code == 130 and "re-run the command" in text and "Traceback" not in text
    assert (tmp_path / "run/cam/last.pth").exists(), "the step under way was saved"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--only", "score"], "run the stage deeplab first"),
        (["--only", "cam", "--skip", "cam"], "no stage is left"),
        (["--with", "nonsense"], "STAGE=OPTIONS"),
        (["--tune-list", "x.txt"], "goes with --voc"),
        (["--voc", "nowhere"], "should be the folder of the data set"),
        (["--sam-path", "a", "--sam-checkpoint", "b"], "give one of them"),
        (["--images", "2"], "--images starts at 8"),
    ],
)
def test_what_cannot_run_is_said_at_once(tmp_path, arguments, said):
    done = run_script("quickstart.py", "--out", tmp_path / "run", *arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stage_that_refuses_stops_the_run_and_failed_images_do_not(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(quickstart, "ROOT", tmp_path)
    (tmp_path / "stage.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    plan = SimpleNamespace(processes=processes, failed=False)
    quickstart.run_script(plan, "stage.py", 1, network=True, out=tmp_path)
    assert plan.failed
    with pytest.raises(InputError, match="stage.py stopped"):
        quickstart.run_script(plan, "stage.py", 2, network=True, out=tmp_path)


def test_a_crash_does_not_pass_for_failed_images(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "ROOT", tmp_path)
    crash = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom util.runtime.cli import run\nrun(lambda: 1 / 0)\n"
    (tmp_path / "stage.py").write_text(crash)
    with pytest.raises(InputError, match="exit code 3"):
        quickstart.run_script(SimpleNamespace(processes=1, failed=False), "stage.py", out=tmp_path)


@pytest.mark.slow
def test_a_voc_folder_with_masks_and_labels_for_some_ids(tmp_path):
    """--cam-labels and --sam-path: the ids that have both are used, and the others told; no CAM network is trained."""
    voc, out = tmp_path / "VOC", tmp_path / "run"
    write_data_set(voc, {"trainaug": 8, "val": 3}, side=64)
    lists = voc / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("\n".join(read_id_list(lists / "trainaug.txt")[:6]) + "\n")
    labels, masks = tmp_path / "labels", tmp_path / "masks"
    labels.mkdir()
    for image_id in read_id_list(lists / "train.txt"):
        shutil.copy(voc / f"SegmentationClassAug/{image_id}.png", labels)
    common = ("--voc", voc, "--out", out, "--workers", 0)
    done = run_script("generate_sam_masks.py", "--model", "regions", "--images", voc / "JPEGImages", "--out", masks)
    assert done.returncode == 0, done.stderr
    done = run_script(
        "quickstart.py", *common, "--cam-labels", labels, "--sam-path", masks, "--only", "compare", "check"
    )
    assert done.returncode == 0, done.stderr
    assert "6 of 8 ids" in done.stdout
    assert json.loads((out / "merge/compare.json").read_text())["input"]["miou"] == 1.0
    assert not (out / "cam").exists() and not (out / "masks").exists()
