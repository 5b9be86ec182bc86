"""What a training leaves in its folder, and how often it waits for the disk."""

import os
from argparse import Namespace

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.utils.data import Dataset

from models.common import run
from models.common.recipe import Recipe
from models.common.training import Trainer
from util.runtime import checkpoint
from util.runtime.distributed import Dist
from util.runtime.errors import InputError

ALONE = Dist(0, 1, 0, torch.device("cpu"))
OPTIONS = {"steps": 30}


class Images(Dataset):
    ids = ["a", "b"]

    def __len__(self):
        return 2

    def __getitem__(self, item):
        return item[0], torch.full((3, 4, 4), 128, dtype=torch.uint8)


class Task:
    """Scores are given."""

    metric = "score"

    def __init__(self, scores):
        self.scores = iter(scores)

    def parameter_groups(self, net):
        return [{"params": list(net.parameters()), "lr": 0.1}]

    def train_mode(self, net):
        net.train()

    def normalization(self, images):
        return images.float()

    def forward(self, net, images):
        return net(images)

    def loss(self, output):
        return output.square().sum(), torch.tensor(float(len(output)))

    def measure(self, net):
        return {"score": next(self.scores)}

    def content(self, net, score):
        return {"schema": checkpoint.SCHEMA, "model": net.state_dict(), "score": score}

    def show(self, net, entry, writer):
        pass


def train(out, scores, monkeypatch, save_seconds=3600.0, overwrite=False, **changes):
    """The trainer of two epochs of 15 steps, and at which steps it waited for the disk."""
    waited, trainers = [], []

    def make_trainer(resumed):
        recipe = Recipe(**{"steps": 30, "batch_size": 1, "lr": 1e-4, "measure_every": 15, **changes})
        trainers.append(Trainer(nn.Conv2d(3, 1, 1), Task(scores), Images(), recipe, ALONE, workers=0))
        return trainers[0]

    fsync = os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: (fsync(file), waited.extend(t.progress.step for t in trainers)))
        patch.setattr(run, "_draw_history", lambda args, trainer: None)
        args = Namespace(out=out, overwrite=overwrite, retrain=False, seed=0, list=None, val_list=None)
        run.train_into(args, ALONE, OPTIONS, make_trainer, save_seconds)
    return trainers[0], waited


def score_of(path):
    return checkpoint.load(path)["score"]["score"]


@pytest.mark.parametrize("scores, best", [([0.1, 0.2], 0.2), ([0.2, 0.1], 0.2)])
def test_an_epoch_waits_for_the_disk_once_also_if_it_was_the_best(tmp_path, monkeypatch, scores, best):
    _, waited = train(tmp_path, scores, monkeypatch)
    assert waited == [15, 30]
    assert score_of(tmp_path / "last.pth") == scores[-1] and score_of(tmp_path / "best.pth") == best
    assert "training" not in checkpoint.load(tmp_path / "best.pth")
    assert not (tmp_path / "best.pth").samefile(tmp_path / "last.pth")


def test_the_best_checkpoint_of_an_earlier_network_does_not_outlive_it(tmp_path, monkeypatch):
    train(tmp_path, [0.2, 0.1], monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Task, "loss", lambda task, output: (output.sum() * float("nan"), torch.tensor(1.0)))
        with pytest.raises(InputError, match="not a number at step 1"):
            train(tmp_path, [], monkeypatch, overwrite=True)
    assert score_of(tmp_path / "best.pth") == 0.2, "nothing was saved, and both checkpoints stay"
    train(tmp_path, [None], monkeypatch, overwrite=True, measure_every=0, steps=1)
    assert (tmp_path / "last.pth").exists() and not (tmp_path / "best.pth").exists()


def test_no_step_is_saved_twice(tmp_path, monkeypatch):
    assert train(tmp_path, [0.1, 0.2], monkeypatch, save_seconds=0.0)[1] == [10, 15, 20, 30]


def test_a_run_that_was_killed_between_its_two_checkpoints_makes_the_second_again(tmp_path, monkeypatch, capsys):
    save = checkpoint.save

    def killed(path, state, **options):
        if path.name == "best.pth" and state["score"]["step"] == 30:
            raise KeyboardInterrupt
        save(path, state, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, [0.1, 0.2], monkeypatch)
    assert score_of(tmp_path / "last.pth") == 0.2 and score_of(tmp_path / "best.pth") == 0.1
    assert train(tmp_path, [], monkeypatch)[0].progress.step == 30
    assert score_of(tmp_path / "best.pth") == 0.2 and "best.pth: made again" in capsys.readouterr().out
    before = (tmp_path / "best.pth").stat().st_mtime_ns
    train(tmp_path, [], monkeypatch)
    assert (tmp_path / "best.pth").stat().st_mtime_ns == before, "a whole file of the same step stays"


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_best_checkpoint_that_a_power_failure_took_is_made_again(tmp_path, monkeypatch, damage):
    train(tmp_path, [0.1, 0.2], monkeypatch)
    expected = checkpoint.load(tmp_path / "best.pth")
    damage(tmp_path / "best.pth")
    train(tmp_path, [], monkeypatch)
    found = checkpoint.load(tmp_path / "best.pth")
    assert found.keys() == expected.keys() and found["score"] == expected["score"]
    assert all(torch.equal(value, expected["model"][name]) for name, value in found["model"].items())


def test_a_damaged_best_checkpoint_of_an_earlier_step_is_refused(tmp_path, monkeypatch):
    train(tmp_path, [0.2, 0.1], monkeypatch)
    (tmp_path / "best.pth").write_bytes(b"")
    with pytest.raises(InputError, match="best.pth: damaged"):
        train(tmp_path, [], monkeypatch)
