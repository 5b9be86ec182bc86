"""quickstart.py from nothing to its tables, killed on the way, and on a folder in VOC's layout."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import ROOT, run_script

from models.segmentation.deeplabv3 import load_checkpoint
from pipeline import changes, downloads, estimate, steps
from pipeline.changes import change_of
from pipeline.held_out import largest_class
from pipeline.options import Settings, split_options
from pipeline.plan import Plan
from pipeline.report import without_quick
from pipeline.steps import Command
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.labels import read_label, write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.data.synthetic import CLASSES, write_data_set
from util.data.voc import VOID
from util.runtime.errors import InputError
from Web_demo.src.utils import options as demo_options
from Web_demo.src.utils.merges import find_merges

TINY = ("--count", 16, "--effort", 0.02, "--workers", 0)


def quickstart(out, *more):
    done = run_script("quickstart.py", "--out", out, *TINY, *more)
    return done.returncode, done.stderr + done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "run"
    # Six epochs are the fewest after which the CAMs of so few images show a class.
    code, text = quickstart(out, "--with", "cam=--epochs 6")
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
    checkpoint = f"{out}/deeplab/enhanced/last.pth"
    assert last == f"streamlit run Web_demo/src/app.py -- --checkpoint {checkpoint} --runs {out}"
    assert load_checkpoint(checkpoint).classes.names == CLASSES.names
    assert (out / "merge_example.png").stat().st_size > 1000 and (out / "curves.pdf").stat().st_size > 1000


@pytest.mark.slow
def test_the_ground_truth_serves_for_scores_alone(finished):
    out, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    assert summary["chosen"] == "auto" and summary["chosen_how"] == "the recommended one"
    assert json.loads((out / "cams/labels/run.json").read_text())["options"]["bg_threshold"] == 0.5
    sweep = json.loads((out / "cams/sweep.json").read_text())
    assert summary["best_threshold"] == {"threshold": sweep["best"], "miou": sweep["miou"]}
    assert f"{100 * sweep['miou']:.2f}" in (out / "tables.txt").read_text()
    for name in ("deeplab/enhanced", "deeplab/cam_labels"):
        command = json.loads((out / name / "run.json").read_text())["command"]
        assert "--val-gt" not in command and command[command.index("--list") + 1].endswith("lists/train.txt")
    lists = out / "data/ImageSets/Segmentation"
    assert read_id_list(out / "lists/train.txt") == read_id_list(lists / "train.txt")
    assert not set(read_id_list(lists / "train.txt")) & set(read_id_list(lists / "val.txt"))


@pytest.mark.slow
def test_what_a_changed_option_would_have_refused_at_the_end_is_refused_at_the_start(finished):
    out, _ = finished
    options = ("--out", out, *TINY, "--dry-run")
    same = run_script("quickstart.py", *options, "--with", "cam=--epochs 6")
    assert same.returncode == 0, same.stderr
    other = run_script("quickstart.py", *options, "--with", "cam=--epochs 6", "--method", "max_iou")
    assert other.returncode == 2 and f"{out}/deeplab/enhanced: trained with other options" in other.stderr
    assert "deeplab: --method auto, now max_iou" in other.stderr and "give --retrain" in other.stderr


@pytest.fixture
def start_standing(tmp_path):
    """Starts a quickstart that stands still before a change in a folder; see `harness.Run`."""
    harness = pytest.importorskip("harness", reason="scripts are stopped by FIFOs, which Windows does not have")

    def call(out, folder, number, *more):
        options = ["--out", out, *TINY, *more]
        return harness.Run.start("quickstart.py", options, tmp_path / "run.log", folder, number=number, cold=True)

    return call


def kill_all(pid):
    """End a quickstart and the script that it runs without a chance to tidy up."""
    children = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.split()
    parents = dict(zip(map(int, children[::2]), map(int, children[1::2])))
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_tables(finished, start_standing):
    out, _ = finished
    stages, made = ("labels", "masks"), ("cams", "masks")
    tables, summary = (out / "tables.txt").read_bytes(), (out / "summary.json").read_bytes()
    kept = {path: path.read_bytes() for name in made for path in (out / name).rglob("*") if is_result(path)}
    for name in made:
        shutil.rmtree(out / name)
    run = start_standing(out, out / "cams/cams", 9, "--only", *stages)
    with run.standing() as stands:
        assert stands, run.text
        kill_all(run.pid)
    assert run.wait() == -signal.SIGKILL
    code, text = quickstart(out, "--only", *stages)
    assert code == 0, text
    assert {path: path.read_bytes() for name in made for path in (out / name).rglob("*") if is_result(path)} == kept
    assert (out / "tables.txt").read_bytes() == tables and (out / "summary.json").read_bytes() == summary


def is_result(path):
    return path.name == "metrics.json" or (path.suffix in (".png", ".npy", ".json") and path.stem.startswith("train_"))


@pytest.mark.slow
def test_interrupted_it_passes_one_signal_on_and_says_so(start_standing, tmp_path):
    out = tmp_path / "run"
    run = start_standing(out, out / "cam", 20, "--only", "data", "cam", "--with", "cam=--epochs 1000 --save-minutes 0")
    with run.standing() as stands:
        assert stands, run.text
        run.send(signal.SIGTERM)
    assert run.wait() == 130
    assert run.text.count("re-run the command") == 1 and "Traceback" not in run.text
    assert (out / "cam/last.pth").exists(), "the step under way was saved"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_stage_that_refuses_stops_the_run_and_failed_images_do_not(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    (tmp_path / "stage.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    assert [Command("stage.py", [code], tmp_path, processes).run() for code in (0, 1)] == [0, 1]
    with pytest.raises(InputError, match="stage.py stopped"):
        Command("stage.py", [2], tmp_path, processes).run()


def test_a_crash_does_not_pass_for_failed_images(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    crash = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom util.runtime.cli import run\nrun(lambda: 1 / 0)\n"
    (tmp_path / "stage.py").write_text(crash)
    with pytest.raises(InputError, match="exit code 3"):
        Command("stage.py", [], tmp_path).run()


@pytest.mark.slow
def test_a_voc_folder_with_masks_and_labels_for_some_ids(tmp_path):
    """--cam-labels and --sam-path: the ids that have both are used, and the others reported; no CAM network is trained."""
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
    done = run_script("quickstart.py", *common, "--cam-labels", labels, "--sam-path", masks, "--only", "merge", "check")
    assert done.returncode == 0, done.stderr
    assert "6 of 8 ids" in done.stdout
    assert json.loads((out / "merge/compare.json").read_text())["input"]["miou"] == 1.0
    assert not (out / "cam").exists() and not (out / "masks").exists()


@pytest.mark.slow
def test_soft_cams_of_another_repository_become_labels_and_are_merged(tmp_path):
    """An image without CAMs is left out; images that are only trained on are merged alike."""
    voc, cams, out = tmp_path / "VOC", tmp_path / "my_cams", tmp_path / "run"
    write_data_set(voc, {"trainaug": 8, "val": 3}, side=64)
    lists = voc / "ImageSets/Segmentation"
    ids = read_id_list(lists / "trainaug.txt")
    (lists / "train.txt").write_text("\n".join(ids[:6]) + "\n")
    cams.mkdir()
    for image_id in ids[:-1]:
        label = read_label(voc / f"SegmentationClassAug/{image_id}.png")
        shown = [int(value) for value in np.unique(label) if 0 < value < VOID]
        np.save(cams / f"{image_id}.npy", {value - 1: np.float32(label == value)[::2, ::2] for value in shown})
    done = run_script(
        *("quickstart.py", "--voc", voc, "--out", out, "--cams", cams, "--workers", 0),
        *("--only", "labels", "masks", "merge", "--with", "merge=--methods grow --param trim=0.7", "--method", "grow"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{cams}: soft CAMs for 7 of 8 images; the others are left out from here on" in done.stdout
    assert "was made by other code" not in done.stderr, "the figures have the parameters of the merge"
    assert len(list((out / "masks").glob("trainaug_*.json"))) == 7
    assert not (out / "cam").exists() and json.loads((out / "merge/compare.json").read_text())["input"]["miou"] > 0.8
    assert {path.stem for path in (out / "merge/grow").glob("*.png")} == set(ids[:-1])
    assert json.loads((out / "merge/grow/run.json").read_text())["options"]["parameters"]["trim"] == 0.7


def small_voc(folder):
    """A data set in VOC's layout with labels and masks for every training image."""
    write_data_set(folder / "VOC", {"train": 10, "val": 3}, side=64)
    labels = folder / "labels"
    labels.mkdir()
    for path in (folder / "VOC/SegmentationClassAug").glob("train_*.png"):
        shutil.copy(path, labels)
    return folder / "VOC", labels


@pytest.mark.slow
def test_without_ground_truth_it_ends_with_a_network_and_shows_what_changed(tmp_path):
    """No --skip is needed, nothing is scored, and the network is there."""
    voc, labels = small_voc(tmp_path)
    shutil.rmtree(voc / "SegmentationClassAug")
    out = tmp_path / "run"
    encoder = "--encoder timm-mobilenetv3_small_minimal_100 --encoder-weights none"
    done = run_script(
        *("quickstart.py", "--voc", voc, "--out", out, "--labels", labels, "--workers", 0),
        *("--method", "max_iou_imp2", "--with", f"deeplab={encoder} --steps 2 --crop-size 64 --batch-size 2"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no ground truth, so nothing is scored" in done.stdout and "agreement with the masks: " in done.stdout
    assert [path.name for path in (out / "deeplab").iterdir()] == ["enhanced"]
    assert load_checkpoint(out / "deeplab/enhanced/last.pth").classes.names == CLASSES.names
    assert not (out / "scores").exists()
    assert len(list((out / "held_out/labels").glob("*.png"))) == 3 and (out / "held_out.png").stat().st_size > 1000
    assert f"held-out images           {out / 'held_out.png'}" in done.stdout
    assert f"one file each             {out / 'merge/vis/max_iou_imp2'}\n" in done.stdout
    assert "This was --quick" not in done.stdout
    line = re.search(r"DeepLabV3\+ on 3 held-out images: in (\d) of them", (out / "tables.txt").read_text())
    largest = {
        image_id: largest_class(out / "held_out/labels", image_id) for image_id in ("val_0000", "val_0001", "val_0002")
    }
    tags = read_image_labels(voc / "cls_labels.npy", CLASSES)
    assert int(line[1]) == sum(value in tags[image_id] for image_id, value in largest.items())
    demo = shlex.split(done.stdout.strip().splitlines()[-1])
    assert demo[:4] == ["streamlit", "run", "Web_demo/src/app.py", "--"]
    options = demo_options.parse(demo[4:])
    (merge,) = find_merges(options.runs).values()
    assert (
        merge["pseudo_path"] == labels and merge["images_path"] == voc / "JPEGImages" and options.checkpoint.is_file()
    )
    changes = json.loads((out / "summary.json").read_text())["changes"]
    lines = (out / "changes.csv").read_text().splitlines()
    assert changes["images"] == 10 and len(lines) == 11
    shares = [float(line.split(",")[1]) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True) and max(shares) > 0
    assert changes["changed_share"] == pytest.approx(sum(shares) / 10, abs=1e-6)
    assert sum(row["share_after"] for row in changes["classes"].values()) == pytest.approx(1)
    assert changes["most_changed"][0][0] == lines[1].split(",")[0]
    assert (out / "merge_example.png").read_bytes() == (out / "merge/vis/max_iou_imp2.png").read_bytes()
    plan = run_script(
        "quickstart.py", "--voc", voc, "--out", tmp_path / "other", "--labels", labels, "--dry-run"
    ).stdout
    assert f"--data-name '{voc.name} train, most changed'" in plan
    assert "--vis-sample '<the most changed images>'" in plan and "merge_tune" not in plan


def test_the_share_that_changed_is_that_of_the_pixels(tmp_path):
    for folder, value in (("before", 1), ("after", 2)):
        label = np.zeros((4, 5), np.uint8)
        label[0, :3] = value
        write_label(tmp_path / folder / "a.png", label)
    dense = np.zeros((2, 4, 5), bool)
    dense[0, 0], dense[1, 2:] = True, True  # the class has 3 of the first mask's 5 pixels, and none of the second's
    masks = tmp_path / "masks"
    write_masks(masks / "a.json", Masks.from_dense(dense), "a", "a.jpg")
    change = change_of(tmp_path / "before", tmp_path / "after", masks, "a")
    assert change.agreed_before == change.agreed_after == (3, 5)
    assert change.share == 3 / 20
    assert change.before[[0, 1, 2]].tolist() == [17, 3, 0] and change.after[[0, 1, 2]].tolist() == [17, 0, 3]
    assert change_of(tmp_path / "before", tmp_path / "after", masks, "missing") is None


@pytest.mark.slow
def test_only_what_has_ground_truth_is_scored(tmp_path):
    voc, labels = small_voc(tmp_path)
    for number in range(4):
        (voc / f"SegmentationClassAug/train_{number:04}.png").unlink()
    done = run_script("quickstart.py", "--voc", voc, "--out", tmp_path / "run", "--labels", labels, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "6 of 10 ids have ground truth" in done.stdout
    assert "--mode compare" in done.stdout
    shutil.rmtree(voc / "SegmentationClassAug")
    done = run_script("quickstart.py", "--voc", voc, "--out", tmp_path / "run", "--val-list", voc / "list", "--dry-run")
    assert done.returncode == 2 and "no such file" in done.stderr
    val = voc / "ImageSets/Segmentation/val.txt"
    done = run_script("quickstart.py", "--voc", voc, "--out", tmp_path / "run", "--val-list", val, "--dry-run")
    assert done.returncode == 2 and "none of its 3 ids has ground truth" in done.stderr


def test_a_command_is_shown_without_what_is_alike_and_in_full_in_a_plan(tmp_path):
    files = [f"photos/{number}.jpg" for number in range(12)]
    words = ["--checkpoint", "a b.pth", "--images", *files, "--device", "cpu", "--scales", 0.5, 1, "--flip"]
    step = Command("predict.py", words, tmp_path)
    assert step.brief == (
        f"python predict.py --checkpoint 'a b.pth' --images <12 files> --scales 0.5 1 --flip --out {tmp_path} ..."
    )
    assert shlex.split(step.shown) == ["python", "predict.py", *map(str, words), "--out", str(tmp_path)]
    assert Command("stage.py", [1], tmp_path, processes=2).brief.endswith(f"2 stage.py 1 --out {tmp_path}")


@pytest.mark.parametrize(
    "arguments, command",
    [
        (["--voc", "pets", "--quick"], "python quickstart.py --voc pets"),
        (["--quick", "--out", "runs/a/", "--voc", "pets"], "python quickstart.py --out runs/a-full --voc pets"),
        (["--out=a", "--quick"], "python quickstart.py --out=a-full"),
    ],
)
def test_after_quick_comes_the_real_run_in_another_folder(arguments, command):
    assert " ".join(without_quick(arguments)) == command


def test_the_change_table_says_which_number_is_before_and_what_agreement_is_good(tmp_path):
    row = {"share_before": 0.125, "share_after": 0.25, "images_before": 2, "images_after": 3}
    found = {"classes": {"cat": row}, "changed_share": 0.125, "agreement": {"before": 0.9, "after": 0.95}}
    text = "\n".join(changes._changed_lines(found, "auto"))
    assert text.startswith("CAM labels -> auto ") and "12.50 -> 25.00" in text and "2 -> 3" in text
    assert "90.00 % -> 95.00 %; at 100 %" in text


def test_a_dry_run_prints_the_commands_and_writes_nothing(tmp_path):
    done = run_script("quickstart.py", "--out", tmp_path / "run", "--dry-run", "--no-baseline")
    assert done.returncode == 0, done.stderr
    for script in ("train_transcam", "generate_cams", "generate_sam_masks", "main", "check_pseudo_label"):
        assert f"python {script}.py --" in done.stdout
    assert done.stdout.count("python train_deeplabv3.py") == 1, "one network with --no-baseline"
    titles = [line for line in done.stdout.splitlines() if "--data-name" in line]
    assert titles and all("--data-name 'generated images " in line for line in titles), "and not the folder's name"
    assert not (tmp_path / "run").exists()


def test_any_sam_and_its_prompts_reach_the_mask_stage(tmp_path):
    done = run_script(
        "quickstart.py", "--out", tmp_path / "run", "--dry-run", "--sam-model", "sam3", "--prompt", "cam", "tags"
    )
    assert done.returncode == 0, done.stderr
    masks = next(line for line in done.stdout.splitlines() if "generate_sam_masks.py" in line)
    out = tmp_path / "run"
    assert (
        f"--model sam3 --prompt cam tags --cam-path {out}/cams/cams --image-labels {out}/data/cls_labels.npy" in masks
    )


def test_what_will_be_downloaded_is_said_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    command = ("quickstart.py", "--voc", tmp_path / "VOC", "--out", tmp_path / "run", "--download", "--dry-run")
    done = run_script(*command)
    if done.returncode:  # a disk without that much room is refused
        assert "GB are free on this disk" in done.stderr
    else:
        assert "python prepare_voc.py --download" in done.stdout and "--model vit_h" in done.stdout
    for said in ("PASCAL VOC 2012", "2.00 GB", "SBD", "1.42 GB", "SAM's checkpoint", "2.56 GB", "disk in all"):
        assert said in done.stdout
    assert not (tmp_path / "VOC").exists() and not (tmp_path / "run").exists()


def test_a_disk_without_room_is_refused_before_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000_000))
    with pytest.raises(InputError, match="5.0 GB are free.*another disk"):
        downloads.announce(Settings(voc=tmp_path / "VOC", out=tmp_path / "run", download=True))


@pytest.mark.parametrize(
    "windows, text, parts",
    [
        (True, r"--weights C:\nets\new.pth --epochs 3", ["--weights", r"C:\nets\new.pth", "--epochs", "3"]),
        (True, r'--weights "C:\my nets\new.pth"', ["--weights", r"C:\my nets\new.pth"]),
        (False, r"--weights my\ nets/new.pth", ["--weights", "my nets/new.pth"]),
    ],
)
def test_options_with_backslashes(windows, text, parts):
    assert split_options(text, windows) == parts


def test_long_stages_are_estimated_and_short_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "processors", lambda: 2)
    (tmp_path / "train.txt").write_text("".join(f"{number:04}\n" for number in range(1000)))
    settings = Settings(voc=tmp_path, baseline=False, extra={"deeplab": ["--steps", "6000", "--batch-size", "16"]})
    plan = Plan(settings, *[tmp_path] * 3, None, tmp_path / "train.txt", None, None, None, {}, *[tmp_path] * 3)
    assert [estimate.rough_time(plan, stage) for stage in ("cam", "deeplab", "merge")] == [
        "60 minutes",
        "12 hours",
        "",
    ]
    plan.gpus = 1
    assert estimate.rough_time(plan, "cam") == "", "not known of a GPU"
