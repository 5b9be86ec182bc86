"""What of earlier runs a plan says is kept, and what is left out of the estimate."""

import re

import pytest
from helpers import ROOT

from pipeline import choice, estimate, runner, stale
from pipeline.kept import kept_shares
from pipeline.options import parse
from pipeline.planning import make_plan
from pipeline.stages import stages_to_run
from util.data.ids import read_id_list
from util.data.synthetic import write_data_set
from util.runtime.files import write_json
from util.runtime.provenance import code_digest

STAGES = ("cam", "labels", "masks", "merge", "deeplab", "score")


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A run whose results are there; gives its plan again, with further options."""
    write_data_set(tmp_path / "VOC", {"train": 4, "val": 2}, side=64)
    monkeypatch.chdir(tmp_path)

    def plan_of(*arguments):
        return make_plan(parse(None, ["--voc", "VOC", "--out", "run", "--device", "cpu", *arguments]))

    plan = plan_of()
    for result in stale.results_of(plan):
        options = {"steps": 4}
        if result.is_network:
            options["code_digest"] = code_digest([ROOT / stale.CODE[result.stage]])
            write_json(result.folder / "history.json", [{"step": 4}])
        write_json(
            result.folder / "run.json", {"command": list(map(str, result.command.arguments)), "options": options}
        )
        (result.folder / "last.pth").touch()
        for image_id in read_id_list(plan.train):
            (result.folder / f"{image_id}{'.json' if result.stage == 'masks' else '.png'}").touch()
    for name in plan.trainings():
        write_json(plan.out / "scores" / name / "metrics.json", {})
    return plan_of


def shares(plan):
    found = kept_shares(plan, stages_to_run(plan))
    return [found.get(stage, 0) for stage in STAGES]


@pytest.mark.parametrize(
    "changed, expected",
    [
        ([], [1, 1, 1, 1, 1, 1]),
        (["--overwrite"], [0, 0, 0, 0, 0, 0]),
        (["--retrain", "--with", "cam=--epochs 3"], [0, 0, 1, 0, 0, 0]),
        (["--retrain", "--with", "masks=--levels 9"], [1, 1, 0, 0, 0.5, 0]),
        (["--retrain", "--method", "grow"], [1, 1, 1, 0, 0.5, 0]),
    ],
)
def test_results_of_the_same_options_are_kept_and_what_is_made_of_others_is_not(finished, changed, expected):
    assert shares(finished(*changed)) == expected


@pytest.mark.parametrize("mode", ["--dry-run", "--seed=0"])
def test_where_a_choice_is_still_to_make_what_rests_on_it_is_not_kept(finished, mode):
    tune = ("--tune-list", "VOC/ImageSets/Segmentation/val.txt")
    finished(*tune)  # writes the lists
    plan = finished(*tune, mode)
    assert shares(plan) == [1, 1, 1, 0, 0.5, 0], "the network on the CAM labels needs no strategy"
    choice.record(plan.out, "labels", plan.tune_key, {"refine": "par", "threshold": 0.5})
    choice.record(plan.out, "strategy", plan.strategy_key(), {"name": "auto"})
    assert shares(plan) == [1, 1, 1, 1, 1, 1]
    choice.record(plan.out, "strategy", plan.strategy_key(), {"name": choice.INPUT})
    assert shares(plan)[-2:] == [1, 1], "one network, on the CAM labels"


def test_a_stage_that_was_interrupted_is_kept_in_part(finished, tmp_path):
    (tmp_path / "run/masks/train_0001.json").unlink()
    write_json(tmp_path / "run/deeplab/enhanced/history.json", [{"step": 2}])
    assert shares(finished()) == [1, 1, 0.75, 1, 0.75, 0]


def test_of_the_merge_the_scored_images_count(finished, tmp_path):
    (tmp_path / "run/merge/auto/train_0003.png").unlink()
    (tmp_path / "scored.txt").write_text("train_0000\ntrain_0001\n")
    assert shares(finished()) == [1, 1, 1, 0.75, 1, 1]
    assert shares(finished("--label-list", "scored.txt")) == [1, 1, 1, 1, 1, 1]


def test_a_plan_names_what_is_kept_and_estimates_the_rest(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "CORE_SECONDS", {"cam": 60, "masks": 600, "deeplab": 6000})
    monkeypatch.setattr(estimate, "processors", lambda: 1)
    (tmp_path / "run/masks/train_0001.json").unlink()
    dry = parse(None, ["--voc", "VOC", "--out", "run", "--device", "cpu", "--dry-run"])
    assert runner.run(dry) == 0
    said = capsys.readouterr().out
    assert "kept, made with the same options before: cam, labels, merge, deeplab, score\n" in said
    assert "about 10 minutes in all" in said and "This run downloads" not in said
    assert re.search(r"cam: .*\(kept\)\n  keeps run/cam\n", said)
    assert re.search(r"masks: .*\(75 % kept, about 10 minutes; .*\)\n  makes run/masks\n", said)
    assert "merge_tune" not in said and "  makes run/merge" not in said, "what is not made is not named"


def test_every_parameter_of_a_strategy_counts():
    one, other = (stale._options(["--param", f"trim={value}", "--param", "quality=1"]) for value in (0, 1))
    assert one != other
