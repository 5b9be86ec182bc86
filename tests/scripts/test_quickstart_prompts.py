"""quickstart.py with prompts that know the class: SAM 3 by tags needs neither classifier nor CAMs."""

import json
import shutil

import numpy as np
import pytest
from helpers import call_script, run_script
from tiny_sams import sam3_text, tiny

import quickstart
from models.segmentation.deeplabv3 import load_checkpoint
from pipeline.options import Settings
from pipeline.planning import make_plan
from util.data.cams import fit_cam, read_cam, write_cam
from util.data.ids import read_id_list
from util.data.labels import read_label
from util.data.synthetic import CLASSES, write_data_set
from util.runtime.errors import InputError

ENCODER = "--encoder timm-mobilenetv3_small_minimal_100 --encoder-weights none"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set in VOC's layout, and folders of tiny networks: SAM 3 with text, and SAM 2 without."""
    folder = tmp_path_factory.mktemp("quickstart_prompts")
    write_data_set(folder / "VOC", {"train": 6, "val": 3}, side=64)
    (folder / "tokenizer").mkdir()
    for name, (net, processor) in {"sam3": sam3_text(folder / "tokenizer"), "sam2": tiny("sam2")}.items():
        net.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.fixture
def plan_of(place, tmp_path, monkeypatch, capsys):
    """The commands of a dry run, by script, or the message that it ends with."""

    def dry_run(*options, voc=place / "VOC"):
        data = ("--voc", voc) if voc else ()
        return call_script(quickstart, monkeypatch, capsys, *data, "--out", tmp_path / "run", "--dry-run", *options)

    return dry_run


def commands(text, script):
    return [line.strip() for line in text.splitlines() if f"python {script}.py" in line]


def modes(text):
    return [line.split("--mode ")[1].split()[0] for line in commands(text, "main")]


def tags(place):
    return ("--sam-model", place / "sam3", "--prompt", "tags")


def test_tags_alone_plan_no_classifier_and_no_cams(place, plan_of):
    done = plan_of(*tags(place))
    assert done.returncode == 0, done.stderr
    assert "no classifier, and no CAM labels" in done.stdout
    for script in ("train_transcam", "generate_cams"):
        assert not commands(done.stdout, script)
    (masks,) = commands(done.stdout, "generate_sam_masks")
    voc = place / "VOC"
    assert f"--model {place}/sam3 --prompt tags --image-labels {voc}/cls_labels.npy" in masks
    merging = commands(done.stdout, "main")
    assert modes(done.stdout) == ["merge", "eval", "merge", "vis"]
    assert all("--method prompted" in line and "--pseudo-path" not in line for line in merging)
    assert len(commands(done.stdout, "train_deeplabv3")) == 1, "no network on CAM labels, since there are none"
    assert len(commands(done.stdout, "evaluate_enhanced")) == 1


def test_tags_alone_without_ground_truth_plan_no_scores(place, plan_of, tmp_path):
    shutil.copytree(place / "VOC", tmp_path / "VOC", ignore=shutil.ignore_patterns("SegmentationClassAug"))
    done = plan_of(*tags(place), voc=tmp_path / "VOC")
    assert done.returncode == 0, done.stderr
    assert modes(done.stdout) == ["merge", "vis"] and not commands(done.stdout, "evaluate_enhanced")


def test_drawn_images_start_from_published_weights_where_no_classifier_is_trained(place, plan_of):
    done = plan_of(*tags(place), voc=None)
    assert done.returncode == 0, done.stderr
    (training,) = commands(done.stdout, "train_deeplabv3")
    assert "--encoder-weights imagenet" in training and "data: get the images" in done.stdout


@pytest.mark.parametrize("prompt", [("cam",), ("grid", "cam"), ("cam", "tags")])
@pytest.mark.parametrize("method", ["grow", "prompted"])
def test_prompts_by_cams_go_by_cam_labels(place, plan_of, tmp_path, prompt, method):
    done = plan_of("--sam-model", place / "sam3", "--prompt", *prompt, "--method", method)
    assert done.returncode == 0, done.stderr
    (masks,) = commands(done.stdout, "generate_sam_masks")
    cams = tmp_path / "run/cams"
    assert f"--prompt {' '.join(prompt)} --cam-path {cams}/cams" in masks and commands(done.stdout, "generate_cams")
    assert all(f"--pseudo-path {cams}/labels" in line for line in commands(done.stdout, "main"))
    assert f"--labels {tmp_path}/run/merge/{method}" in commands(done.stdout, "train_deeplabv3")[1]


def test_given_labels_and_tags_are_merged_with_them(place, plan_of):
    labels = place / "VOC/SegmentationClassAug"
    done = plan_of(*tags(place), "--labels", labels, "--method", "prompted")
    assert done.returncode == 0, done.stderr
    assert all(f"--pseudo-path {labels}" in line for line in commands(done.stdout, "main"))


def test_a_model_without_checkpoint_is_used(plan_of):
    done = plan_of("--sam-model", "sam2.1-tiny")
    assert done.returncode == 0, done.stderr
    (masks,) = commands(done.stdout, "generate_sam_masks")
    assert "--model sam2.1-tiny" in masks and "regions" not in masks


@pytest.mark.parametrize(
    "options, said",
    [
        (["--sam-model", "SAM2", "--prompt", "tags"], "a sam2 takes no words; use --sam-model sam3"),
        (["--sam-model", "sam2.1-large", "--prompt", "cam", "tags"], "a sam2.1-large takes no words"),
        (["--sam-model", "vit_b", "--prompt", "tags"], "vit_b takes no words"),
        (["--sam-checkpoint", "sam_vit_b.pth", "--prompt", "tags"], "segment-anything takes no words"),
        (["--download", "--prompt", "tags"], "segment-anything takes no words"),
        (["--sam-model", "regions", "--prompt", "cam"], "--prompt asks a SAM"),
        (["--sam-model", "sam-xxl"], "--sam-model sam-xxl: neither a known name nor a folder"),
        (["--sam-model", "VOC"], "holds no config.json"),
        (["--sam-model", "sam3", "--prompt", "words"], "--prompt words: unknown; choose grid, cam, tags"),
        (["--sam-model", "sam3", "--prompt", "points", "nowhere"], "--prompt points nowhere: no such file"),
        (["--sam-model", "sam3", "--masks", "m"], "--sam-model makes masks, --masks takes made ones"),
        (["--sam-model", "sam3", "--sam-checkpoint", "c"], "leave it out with --sam-model sam3"),
        (["--sam-model", "sam3", "--prompt", "tags", "--method", "grow"], "--method grow needs pseudo labels"),
        (["--sam-model", "sam3", "--prompt", "tags", "--tune-list", "t"], "has neither to choose"),
        (["--sam-model", "sam3", "--prompt", "tags", "--only", "cam", "labels"], "no stage is left"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(place, plan_of, tmp_path, options, said):
    places = {"SAM2": place / "sam2", "VOC": place / "VOC"}
    done = plan_of(*(places.get(word, word) for word in options))
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_missing_tags_are_named(place, tmp_path):
    ignored = shutil.ignore_patterns("cls_labels.*", "Annotations")
    shutil.copytree(place / "VOC", tmp_path / "VOC", ignore=ignored)
    settings = Settings(voc=tmp_path / "VOC", sam_model=str(place / "sam3"), prompt=["tags"], dry_run=True)
    with pytest.raises(InputError, match="no image-level labels .*give --image-labels"):
        make_plan(settings)


def whole_run(place, voc, out):
    return run_script(
        *("quickstart.py", "--voc", voc, "--out", out, *tags(place), "--device", "cpu", "--workers", 0),
        *("--with", "masks=--score-thresh 0 --threads 1", "--with", "merge=--param score=0"),
        *("--with", f"deeplab={ENCODER} --steps 2 --crop-size 64 --batch-size 2"),
    )


@pytest.mark.slow
def test_from_images_and_tags_to_a_scored_network(place, tmp_path):
    voc, out = place / "VOC", tmp_path / "run"
    done = whole_run(place, voc, out)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["chosen"] == "prompted" and summary["chosen_how"] == "the one that needs no CAM labels"
    metrics = json.loads((out / "merge/prompted.metrics.json").read_text())
    assert list(summary["pseudo_labels"]) == ["prompted"] and summary["best_threshold"] is None
    assert summary["pseudo_labels"]["prompted"]["miou"] == metrics["miou"] and summary["pseudo_label_images"] == 6
    assert list(summary["segmentation"]) == ["enhanced"] and summary["segmentation_images"] == 3
    tables = (out / "tables.txt").read_text()
    assert "no classifier, and no CAM labels" in tables and f"{100 * metrics['miou']:.2f}" in tables
    assert load_checkpoint(out / "deeplab/enhanced/last.pth").classes.names == CLASSES.names
    ids = read_id_list(out / "lists/train.txt")
    assert len(ids) == 6 and any(read_label(out / f"merge/prompted/{image_id}.png").any() for image_id in ids)
    assert (out / "merge_example.png").stat().st_size > 1000
    assert not (out / "cam").exists() and not (out / "cams").exists()
    assert [path.name for path in (out / "deeplab").iterdir()] == ["enhanced"]


@pytest.mark.slow
def test_from_images_and_tags_without_ground_truth(place, tmp_path):
    """Shares of the classes take the place of scores."""
    voc, out = tmp_path / "VOC", tmp_path / "run"
    shutil.copytree(place / "VOC", voc, ignore=shutil.ignore_patterns("SegmentationClassAug"))
    done = whole_run(place, voc, out)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((out / "summary.json").read_text())
    classes = summary["changes"]["classes"]  # void included, which random masks dispute much of
    assert "void" in classes
    assert sum(row["share_after"] for row in classes.values()) == pytest.approx(1)
    assert summary["changes"]["changed_share"] == pytest.approx(1 - classes["background"]["share_after"])
    tables = (out / "tables.txt").read_text()
    assert "no ground truth" in tables and "not background" in tables and "then" not in tables
    assert load_checkpoint(out / "deeplab/enhanced/last.pth").classes.names == CLASSES.names
    assert (out / "merge_example.png").stat().st_size > 1000 and not (out / "scores").exists()


def cams_of(place, folder):
    """Soft CAMs of another repository for every training image, at a quarter of its size."""
    folder.mkdir()
    for image_id in read_id_list(place / "VOC/ImageSets/Segmentation/train.txt"):
        label = read_label(place / f"VOC/SegmentationClassAug/{image_id}.png")
        maps = {int(v) - 1: np.float32(label == v)[::4, ::4] for v in np.unique(label) if 0 < v < 255}
        np.save(folder / f"{image_id}.npy", maps)
    return folder


def test_given_soft_cams_take_the_classifiers_place(place, plan_of, tmp_path):
    cams = cams_of(place, tmp_path / "cams")
    done = plan_of("--cams", cams, "--no-choose")
    assert done.returncode == 0, done.stderr
    assert not commands(done.stdout, "train_transcam")
    assert all(f"--cams {cams}" in line for line in commands(done.stdout, "generate_cams"))
    made = f"--pseudo-path {tmp_path}/run/cams/labels"
    assert all(made in line and "run/cams/cams" in line for line in commands(done.stdout, "main"))
    done = plan_of("--cams", cams, "--sam-model", place / "sam2", "--prompt", "cam", "--no-choose")
    assert f"--prompt cam --cam-path {tmp_path}/run/cams/cams" in commands(done.stdout, "generate_sam_masks")[0]

    labels = place / "VOC/SegmentationClassAug"
    with_labels = ["--labels", labels, "--cams", cams, "--sam-model", place / "sam2", "--prompt", "cam"]
    done = plan_of(*with_labels)
    assert done.returncode == 2 and "--cams, or leave --labels out" in done.stderr
    for path in cams.iterdir():
        write_cam(cams, path.stem, fit_cam(read_cam(cams, path.stem), read_label(labels / f"{path.stem}.png").shape))
    done = plan_of(*with_labels)
    assert done.returncode == 0 and not commands(done.stdout, "generate_cams")
    assert f"--prompt cam --cam-path {cams}" in commands(done.stdout, "generate_sam_masks")[0]
    assert all(f"--cam-path {cams}" in line for line in commands(done.stdout, "main"))

    for path in cams.iterdir():
        np.save(path, {0: np.ones((9, 90), np.float32)})
    done = plan_of("--cams", cams)
    assert done.returncode == 2 and "the soft CAM of class 0 is 90x9 pixels, the image" in done.stderr


def test_options_of_the_merge_are_those_of_the_labels_that_are_trained_on(place, plan_of, tmp_path):
    """Also where these are of other images than the labels that are compared."""
    (tmp_path / "more.txt").write_text("train_0000\ntrain_0001\n")
    more = "merge=--methods grow --param neck=0.05 --sensitivity trim"
    listed = ["--label-list", tmp_path / "more.txt", "--no-choose", "--with", more]
    done = plan_of(*listed)
    assert done.returncode == 2 and "the strategy to train on is auto; give --method grow as well" in done.stderr
    done = plan_of(*listed, "--method", "grow")
    assert done.returncode == 0, done.stderr
    compared, merged = (line for line in commands(done.stdout, "main") if "--mode vis" not in line)
    assert "--mode compare" in compared and "--param neck=0.05 --sensitivity trim" in compared
    assert "--mode merge" in merged and "--param neck=0.05" in merged and "--sensitivity" not in merged
