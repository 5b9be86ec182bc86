"""How long a person's networks are trained, and what is said about it before the start."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import ROOT, run_script
from PIL import Image

from pipeline import planning, recipes, steps
from pipeline.options import Settings
from pipeline.planning import make_plan
from pipeline.recipes import Extent
from pipeline.steps import Command
from util.data.labels import write_label
from util.data.synthetic import write_data_set
from util.runtime.errors import InputError


def value(options, name):
    """What follows an option; None without it."""
    words = [str(word) for word in options]
    return float(words[words.index(name) + 1]) if name in words else None


@pytest.mark.parametrize("images, steps", [(3, 400), (48, 400), (100, 750), (400, None)])
def test_few_images_get_enough_steps_and_many_the_defaults(images, steps):
    options = recipes.real(Settings(), Extent(images, 500))["deeplab"]
    assert value(options, "--steps") == steps and ("--freeze-norm" in options) == (steps is not None)


@pytest.mark.parametrize("images, epochs", [(10, 80), (48, 20), (10582, 20)])
def test_the_classifier_takes_a_hundred_steps_at_least(images, epochs):
    assert value(recipes.real(Settings(), Extent(images, 500))["cam"], "--epochs") == epochs


def test_quick_is_shorter_for_every_number_of_images():
    for images in (10, 48, 1000):
        slow, fast = (recipes.real(Settings(quick=quick), Extent(images, 500)) for quick in (False, True))
        assert value(fast["cam"], "--epochs") < value(slow["cam"], "--epochs")
        assert value(fast["deeplab"], "--steps") == 200 and value(fast["deeplab"], "--crop-size") == 256


def test_random_weights_start_from_the_classifiers_encoder_or_learn_their_norms(tmp_path):
    scratch = Settings(quick=True, encoder_weights="none", out=tmp_path)
    trained = tmp_path / "cam" / "last.pth"
    options = recipes.real(scratch, Extent(48, 500))
    assert "none" in options["cam"]
    assert options["deeplab"][:2] == ["--encoder-weights", trained] and "--freeze-norm" in options["deeplab"]
    options = recipes.real(replace(scratch, labels=tmp_path), Extent(48, 500))
    assert options["deeplab"][:2] == ["--encoder-weights", "none"] and "--freeze-norm" not in options["deeplab"]


@pytest.mark.parametrize("longest, long_side", [(500, None), (640, None), (1000, 500), (4000, 500)])
def test_large_images_are_trained_on_at_one_size(tmp_path, longest, long_side):
    Image.new("RGB", (20, longest)).save(tmp_path / "a.png")
    Image.new("RGB", (30, 10)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"broken")
    (tmp_path / "list.txt").write_text("a\nb\nc\n")
    extent = recipes.extent_of(tmp_path / "list.txt", tmp_path)
    assert extent == Extent(3, longest)
    assert value(recipes.real(Settings(), extent)["deeplab"], "--long-side") == long_side


@pytest.mark.parametrize("given", ["--epochs", "--epochs=3"])
def test_epochs_of_the_user_come_without_steps_of_ours(given):
    assert "--steps" not in recipes.real(Settings(extra={"deeplab": [given]}), Extent(48, 500))["deeplab"]
    assert "--steps" not in recipes.generated(Settings(extra={"deeplab": [given]}))["deeplab"]


def test_the_plan_says_how_long_it_takes_and_scores_the_classifier_on_held_out_images(tmp_path):
    write_data_set(tmp_path / "VOC", {"train": 60, "val": 3}, side=64)
    for path in (tmp_path / "VOC/SegmentationClassAug").iterdir():
        path.unlink()
    command = ("quickstart.py", "--voc", tmp_path / "VOC", "--out", tmp_path / "run", "--device", "cpu", "--dry-run")
    done = run_script(*command)
    assert done.returncode == 0, done.stderr
    assert "in all on this processor; --quick gives a first result in about" in done.stdout
    assert "masks: graph regions" in done.stdout
    assert "--refine par" in done.stdout and done.stdout.count("python train_deeplabv3.py") == 1
    assert f"--val-list {tmp_path}/VOC/ImageSets/Segmentation/val.txt" in done.stdout
    quick = run_script(*command, "--quick", "--baseline")
    assert quick.returncode == 0, quick.stderr
    large = run_script(*command, "--sam-model", "vit_h")
    assert "no time is known for this SAM without a GPU; vit_b would take about" in large.stdout
    assert "for all else on this processor" in large.stdout
    assert "--quick gives" not in quick.stdout and quick.stdout.count("python train_deeplabv3.py") == 2


@pytest.mark.parametrize("words", ["cam=--encoder-weights {}/none.pth", "deeplab=--encoder-weights none.pth"])
def test_weights_that_are_not_there_are_named_before_the_start(tmp_path, words):
    write_data_set(tmp_path / "VOC", {"train": 8, "val": 3}, side=64)
    done = run_script(
        "quickstart.py", "--voc", tmp_path / "VOC", "--out", tmp_path / "run", "--with", words.format(tmp_path)
    )
    assert done.returncode == 2 and "none.pth" in done.stderr and "no such file" in done.stderr
    assert "[1/" not in done.stdout


def test_a_folder_that_is_not_prepared_is_answered_with_the_command_that_prepares_it(tmp_path):
    (tmp_path / "my photos/cat").mkdir(parents=True)
    done = run_script("quickstart.py", "--voc", tmp_path / "my photos", "--out", tmp_path / "run")
    assert done.returncode == 2 and "prepare_folder.py --source" in done.stderr and "my photos" in done.stderr


def test_the_threshold_is_of_refined_plain_cams():
    assert value(recipes.real(Settings(), Extent(48, 500))["labels"], "--bg-threshold") == recipes.PLAIN_CAM_THRESHOLD
    other = Settings(extra={"cam": ["--method", "transcam"]})
    assert recipes.real(other, Extent(48, 500))["labels"] == ["--refine", "par"]


def test_a_stage_does_not_say_what_to_run_next_and_a_script_does(tmp_path, monkeypatch, capfd):
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom util.runtime.cli import print_next\nprint_next('a b.py', 1)\n"
    (tmp_path / "stage.py").write_text(code)
    subprocess.run([sys.executable, tmp_path / "stage.py"], check=True)
    assert "next: python 'a b.py' 1" in capfd.readouterr().out.replace('"', "'")
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    assert Command("stage.py", [], tmp_path).run() == 0
    assert "next:" not in capfd.readouterr().out


def test_ground_truth_of_other_classes_is_reported_before_the_start(tmp_path):
    write_data_set(tmp_path / "VOC", {"train": 8, "val": 3}, side=64)
    settings = Settings(voc=tmp_path / "VOC", out=tmp_path / "run", dry_run=True)
    truth = sorted((tmp_path / "VOC/SegmentationClassAug").glob("val_*.png"))
    for path in truth[1:]:
        write_label(path, np.full((64, 64), 13, np.uint8))
    assert make_plan(settings).val is not None, "one of three fits: the others are reported when they are scored"
    write_label(truth[0], np.full((64, 64), 12, np.uint8))
    with pytest.raises(
        InputError, match="does not fit the list or the classes: .*val_0000.png: label values 12 with 7 .*--class-names"
    ):
        make_plan(settings)


@pytest.mark.parametrize("real, asked, expected", [(False, None, 1), (False, 4, 4), (True, None, 8), (True, 2, 2)])
def test_generated_data_is_for_one_process_and_real_data_for_every_gpu(tmp_path, monkeypatch, real, asked, expected):
    monkeypatch.setattr(planning, "_gpu_count", lambda device: 8)
    write_data_set(tmp_path / "data", {"train": 4, "val": 2}, side=48)
    settings = Settings(voc=tmp_path / "data" if real else None, out=tmp_path / "run", processes=asked)
    assert make_plan(settings).processes == expected
