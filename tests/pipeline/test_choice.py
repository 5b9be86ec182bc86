"""What ground truth chooses: the rule, lists that are chosen on and lists that are scored, and choices that are out of date."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from helpers import run_script

from pipeline import choice
from pipeline.options import Settings
from pipeline.planning import make_plan
from util.data.ids import read_id_list
from util.data.synthetic import write_data_set
from util.runtime.errors import InputError

IDS = [f"img_{number}" for number in range(30)]


def test_halves_are_those_of_the_sha_256_of_the_id():
    first, second = choice.halves(IDS)
    assert len(first) == len(second) == 15 and sorted(first + second) == sorted(IDS)
    bound = min(hashlib.sha256(image_id.encode()).hexdigest() for image_id in second)
    assert all(hashlib.sha256(image_id.encode()).hexdigest() < bound for image_id in first)
    assert choice.halves(reversed(IDS)) == (first, second)


def test_no_image_is_both_chosen_on_and_scored():
    tune, left = choice.separate(IDS[:20], {"label": IDS[:20], "val": IDS[20:]})
    assert tune == choice.halves(IDS[:20])[0] or set(tune) == set(choice.halves(IDS[:20])[0])
    assert set(left["label"]) == set(choice.halves(IDS[:20])[1]) and left["val"] == IDS[20:]
    tune, left = choice.separate(IDS[:5], {"label": IDS[:20], "val": IDS[4:10]})
    assert tune == IDS[:5] and left == {"label": IDS[5:20], "val": IDS[5:10]}
    tune, left = choice.separate(IDS, {"label": IDS[:10], "val": IDS[:10]})
    assert not set(tune) & {*left["label"], *left["val"]} and left["label"] and left["val"]


def test_refinement_and_threshold_are_those_of_the_highest_miou():
    swept = {"par": {"best": 0.6, "miou": 0.5}, "none": {"best": 0.3, "miou": 0.52}}
    assert choice.best_labels(swept)["refine"] == "none" and choice.best_labels(swept)["threshold"] == 0.3
    swept["none"]["miou"] = 0.5
    assert choice.best_labels(swept)["refine"] == "par", "the default, of equals"


def comparison(gains, interval=(0.01, 0.03)):
    return {
        "input": {"miou": 0.5},
        "methods": {name: {"miou": 0.5 + gain} for name, gain in gains.items()},
        "difference": {name: {"miou": gain, "interval_95": list(interval)} for name, gain in gains.items()},
    }


def test_the_strategy_of_the_highest_miou_is_chosen_without_a_warning_when_its_gain_is_sure():
    found = choice.best_strategy(comparison({"a": 0.01, "b": 0.02}))
    assert found["name"] == "b" and found["gain"] == pytest.approx(0.02) and choice.warning(found, "l.txt") is None


def test_an_interval_that_holds_0_is_warned_about():
    found = choice.best_strategy(comparison({"a": 0.01}, (-0.01, 0.03)))
    assert found["name"] == "a" and "-1.00 .. +3.00 holds 0" in choice.warning(found, "l.txt")


@pytest.mark.parametrize("gain", [-0.02, 0.0])
def test_the_labels_as_they_are_are_chosen_where_no_strategy_is_above_them(gain):
    found = choice.best_strategy(comparison({"a": gain, "b": gain - 0.1}, (-0.04, 0.0)))
    assert found["name"] == choice.INPUT and found["best"] == "a"
    assert "trained on the CAM labels" in choice.warning(found, "l.txt")


def test_the_users_strategy_is_kept_and_its_loss_said():
    found = choice.best_strategy(comparison({"a": -0.02}), "a")
    assert found["name"] == "a" and "a loses 2.00 points" in choice.warning(found, "l.txt")
    with pytest.raises(InputError, match="--method b"):
        choice.best_strategy(comparison({"a": -0.02}), "b")


def test_a_choice_made_with_other_options_is_refused(tmp_path):
    with pytest.raises(InputError, match="run the stage merge first"):
        choice.recorded(tmp_path, "strategy", "k", "merge")
    choice.record(tmp_path, "strategy", "k", {"name": "a"})
    choice.record(tmp_path, "labels", "l", {"refine": "par"})
    assert choice.recorded(tmp_path, "strategy", "k", "merge")["name"] == "a"
    assert json.loads((tmp_path / choice.FILE).read_text())["rule"] == choice.RULE
    with pytest.raises(InputError, match="run the stage merge again"):
        choice.recorded(tmp_path, "strategy", "other", "merge")


def test_a_path_counts_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choice.key_of(Path("a"), 1) == choice.key_of(tmp_path / "b/../a", 1) != choice.key_of(Path("b"), 1)


@pytest.fixture
def voc(tmp_path):
    write_data_set(tmp_path / "VOC", {"train": 24, "val": 22}, side=64)
    return tmp_path / "VOC"


def plan_of(voc, **options):
    return make_plan(Settings(voc=voc, out=voc.parent / "run", device="cpu", **options))


def ids_of(path):
    return set(read_id_list(path))


def test_half_of_the_training_list_is_chosen_on_and_val_is_left_alone(voc, capsys):
    plan = plan_of(voc)
    lists = voc / "ImageSets/Segmentation"
    assert plan.val == lists / "val.txt" and plan.train == lists / "train.txt"
    assert ids_of(plan.tune) == set(choice.halves(ids_of(lists / "train.txt"))[0])
    assert ids_of(plan.tune) | ids_of(plan.label) == ids_of(lists / "train.txt")
    assert not ids_of(plan.tune) & ids_of(plan.label)
    said = capsys.readouterr().out
    assert "settings are chosen on 12 images" in said and "SHA-256" in said and "the other 12 of 24" in said


def test_without_ground_truth_for_training_half_of_val_is_chosen_on(voc):
    for path in (voc / "SegmentationClassAug").glob("train_*"):
        path.unlink()
    plan = plan_of(voc)
    assert plan.label is None and ids_of(plan.tune) | ids_of(plan.val) == ids_of(voc / "ImageSets/Segmentation/val.txt")
    assert len(ids_of(plan.tune)) == len(ids_of(plan.val)) == 11


def test_a_named_list_is_chosen_on_as_a_whole(voc):
    named = voc / "named.txt"
    named.write_text("train_0000\ntrain_0001\n")
    plan = plan_of(voc, tune_list=named)
    assert plan.tune == named and ids_of(plan.label) == ids_of(plan.train) - {"train_0000", "train_0001"}


def test_nothing_is_chosen_where_it_must_not(voc, capsys):
    assert plan_of(voc, choose=False).tune is None
    shutil.copytree(voc / "SegmentationClassAug", voc / "labels")
    assert plan_of(voc, method="grow", labels=voc / "labels").tune is None
    assert plan_of(voc, method="grow").tune is not None, "the threshold is open"
    for path in list((voc / "SegmentationClassAug").glob("*_*[02468].png")):
        path.unlink()
    capsys.readouterr()
    assert plan_of(voc).tune is None
    printed = capsys.readouterr().out
    assert "no list has 20 images" in printed
    assert f"{voc / 'ImageSets/Segmentation/val.txt'}: 11 images with ground truth; a score of so few" in printed
    shutil.rmtree(voc / "SegmentationClassAug")
    plan = plan_of(voc)
    assert plan.tune is None and plan.chosen() == "auto"
    assert "--refine" in plan.extra("labels") and "par" in plan.extra("labels")


@pytest.mark.slow
def test_labels_that_no_strategy_raises_are_trained_on_as_they_are_and_a_stale_choice_is_not(voc):
    """Ground truth in the place of CAM labels, which every strategy can only spoil."""
    out, labels = voc.parent / "run", voc.parent / "labels"
    shutil.copytree(voc / "SegmentationClassAug", labels)
    common = ("quickstart.py", "--voc", voc, "--out", out, "--labels", labels, "--workers", 0, "--skip", "score")
    network = "deeplab=--encoder timm-mobilenetv3_small_minimal_100 --encoder-weights none --steps 1 --crop-size 64"
    done = run_script(*common, "--with", f"{network} --batch-size 2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: no strategy is above the CAM labels" in done.stdout
    trained = json.loads((out / "deeplab/enhanced/run.json").read_text())["command"]
    assert str(labels) in trained and not (out / "deeplab/cam_labels").exists()
    assert json.loads((out / choice.FILE).read_text())["strategy"]["name"] == choice.INPUT
    done = run_script(*common, "--only", "check")
    assert done.returncode == 0, done.stderr
    named = voc / "named.txt"
    named.write_text("train_0000\ntrain_0001\n")
    done = run_script(*common, "--only", "check", "--tune-list", named)
    assert done.returncode == 2 and "run the stage merge again" in done.stderr
