"""What quickstart.py refuses before anything runs."""

import contextlib
import re

import numpy as np
import pytest
from helpers import ROOT, run_script

from pipeline import runner, stale
from pipeline.options import parse
from pipeline.planning import make_plan
from pipeline.stages import stages_to_run
from util.data.ids import read_id_list
from util.data.labels import write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.data.synthetic import write_data_set
from util.runtime.errors import InputError
from util.runtime.files import write_json
from util.runtime.provenance import code_digest


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ["--batch-size", "4"],
            "--batch-size is not an option; an option of a stage's script goes into --with, for instance",
        ),
        (["--only", "score"], "run the stage deeplab first"),
        (["--only", "cam", "--skip", "cam"], "no stage is left"),
        (["--with", "nonsense"], "STAGE=OPTIONS"),
        (["--tune-list", "x.txt"], "goes with --voc"),
        (["--voc", "nowhere"], "should be the folder of the data set"),
        (["--sam-path", "a", "--sam-checkpoint", "b"], "give one of them"),
        (["--count", "2"], "is not a whole number of at least 8"),
        (["--images", "."], "--images goes with --voc"),
        (["--prompt", "tags"], "give --sam-model"),
        (["--download"], "--download goes with --voc"),
        (["--voc", ".", "--archives", "a"], "give --download as well"),
    ],
)
def test_what_cannot_run_is_said_at_once(tmp_path, arguments, said):
    done = run_script("quickstart.py", "--out", tmp_path / "run", *arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--encoder", "resnet1"], "similar names: resnet18"),
        (["--encoder", "tu-resnet1"], "similar names: tu-resnet"),
        (["--encoder-weights", "imagnet"], "neither a file nor published weights"),
        (["--with", "deeplab=--encoder-weights nowhere/a"], "nowhere/a.: no such file"),
        (["--with", "cam=--encoder resnet1"], "not an encoder"),
        (["--with", "cam=--val-list=nowhere.txt"], "no such file or folder"),
        (["--with", "merge=--param grow.trim=0"], "trained on, without its name; main.py"),
        (["--with", "merge=--methods auto,gro"], "no strategy gro; did you mean grow\\?"),
        (
            ["--with", "deeplab=--epoch 3"],
            r"--epoch is not an option; did you mean --epochs\? \(see python train_deeplabv3.py --help",
        ),
        (["--only", "score"], "run the stage deeplab first"),
        (["--voc", "VOC", "--image-labels", "nowhere.csv"], "nowhere.csv: no such file"),
        (["--voc", "VOC", "--gt", "nowhere"], "should be the folder of ground truth"),
        (
            ["--voc", "VOC", "--class-names", "names.txt"],
            "names.txt names background, cat, dog, but .* names background",
        ),
        (
            ["--voc", "VOC", "--train-list", "list.txt"],
            "no image-level label for 1 of the 2 ids of list.txt, the first: no",
        ),
        (
            ["--voc", "VOC", "--image-labels", "same.csv"],
            "each of its 4 images shows striped, so there is nothing that a",
        ),
        (
            ["--voc", "VOC", "--gt", "VOC/Void"],
            r"VOC.Void: no pixel of a foreground class in the 4 .*only 0 .* and 255",
        ),
        (["--voc", "VOC", "--masks", "VOC/Empty"], "VOC/Empty: no masks for any of the 4 ids of"),
        (["--voc", "VOC", "--masks", "VOC/Small"], "Small/.*: masks of 3x2 pixels, but the label is"),
        (
            ["--voc", "VOC", "--cam-labels", "VOC/SegmentationClassAug", "--with", "cam=--epochs 1"],
            'cam=...": its result is',
        ),
        (["--voc", "VOC", "--cam-labels", "VOC/Small"], r"Small/.*\.png: .*3x2"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(tmp_path, monkeypatch, arguments, said):
    write_data_set(tmp_path / "VOC", {"train": 4, "val": 2}, side=64)
    (tmp_path / "VOC/Empty").mkdir()
    for image_id in read_id_list(tmp_path / "VOC/ImageSets/Segmentation/train.txt"):
        write_label(tmp_path / "VOC/Small" / f"{image_id}.png", np.ones((2, 3), np.uint8))
        write_label(tmp_path / "VOC/Void" / f"{image_id}.png", np.array([[0, 255]], np.uint8))
        write_masks(tmp_path / "VOC/Small" / f"{image_id}.json", Masks.from_dense(np.ones((1, 2, 3))), image_id, "")
    (tmp_path / "names.txt").write_text("background\ncat\ndog\n")
    (tmp_path / "list.txt").write_text("train_0000\nnowhere\n")
    (tmp_path / "same.csv").write_text(
        "id,label\n" + "".join(f"{file.stem},striped\n" for file in (tmp_path / "VOC/JPEGImages").iterdir())
    )
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    for more in (["--dry-run"], []):
        with pytest.raises(InputError, match=said):
            runner.run(parse(None, [*arguments, *more]))
    assert set(tmp_path.iterdir()) == before


def test_label_maps_of_other_names_are_no_ground_truth_and_that_is_said(tmp_path, monkeypatch, capsys):
    write_data_set(tmp_path / "VOC", {"train": 4, "val": 2}, side=64)
    for file in (tmp_path / "VOC/SegmentationClassAug").iterdir():
        file.rename(file.with_name(f"{file.stem}_mask.png"))
    monkeypatch.chdir(tmp_path)
    assert runner.run(parse(None, ["--voc", "VOC", "--dry-run"])) == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert re.search(
        r"no ground truth for any image of the lists \(6 files in VOC.*_mask.png, but no train_\w+.png\)", said
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "ImageNet weights of the encoder timm-tf_efficientnet_lite2 +0.02 GB"),
        (["--encoder", "resnet50", "--sam-model", "vit_b"], "vit_b +0.38 GB .*\n.* encoder resnet50 +0.10 GB"),
        (["--encoder-weights", "mine.pth"], None),
        (["--skip", "cam", "labels", "deeplab", "score"], None),
    ],
)
def test_weights_that_a_run_downloads_are_announced(tmp_path, monkeypatch, capsys, arguments, said):
    write_data_set(tmp_path / "VOC", {"train": 4, "val": 2}, side=64)
    labels = str(tmp_path / "VOC/SegmentationClassAug")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "mine.pth").touch()
    skipping = ["--labels", labels] if "--skip" in arguments else []
    assert runner.run(parse(None, ["--voc", "VOC", "--dry-run", *arguments, *skipping])) == 0
    found = capsys.readouterr().out
    assert re.search(said, found) if said else "This run downloads" not in found


def test_results_of_a_data_set_go_to_a_folder_of_its_name():
    outs = {
        ("quickstart",): [],
        ("runs", "pets"): ["--voc", "data/pets/"],
        ("runs", "pets-quick"): ["--voc", "data/pets", "--quick"],
    }
    for parts, arguments in outs.items():
        assert parse(None, arguments).out.parts == parts
    assert parse(None, ["--voc", "pets", "--out", "mine"]).out.parts == ("mine",)


@pytest.mark.parametrize(
    "changed, said",
    [
        ([], None),
        (["--workers", "1", "--only", "data", "masks"], None),
        (
            ["--method", "grow"],
            "{out}/deeplab/enhanced: .*deeplab: --method auto, now grow.*--skip deeplab score to make labels",
        ),
        (["--with", "masks=--levels 9"], "{out}/deeplab/enhanced: .*masks: --levels not given, now 9"),
        (["--with", "labels=--refine par"], "{out}/deeplab/cam_labels, {out}/deeplab/enhanced: .*labels: --refine"),
        (
            ["--effort", "0.5"],
            "{out}/cam, {out}/deeplab/cam_labels, .*cam: --epochs 15, now 8; deeplab: --steps 400, now 200",
        ),
        (["--method", "grow", "--retrain"], None),
        (["--method", "grow", "--overwrite"], None),
        (["--method", "grow", "--skip", "deeplab"], None),
    ],
)
def test_networks_that_would_be_trained_otherwise_are_named_with_what_has_changed(tmp_path, changed, said):
    def plan_of(*arguments):
        return make_plan(parse(None, ["--out", str(tmp_path), "--device", "cpu", *arguments]))

    for result in stale.results_of(plan_of()):
        options = {"code_digest": code_digest([ROOT / stale.CODE[result.stage]])} if result.is_network else {}
        command = [result.command.script, *map(str, result.command.arguments), "--out", "elsewhere"]
        write_json(result.folder / "run.json", {"command": command, "options": options})
        (result.folder / "last.pth").touch()
    plan = plan_of(*changed)
    expected = pytest.raises(InputError, match=said.format(out=tmp_path)) if said else contextlib.nullcontext()
    with expected:
        stale.check_networks(plan, stages_to_run(plan))
