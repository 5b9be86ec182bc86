"""Refinement of soft CAMs and label maps from them: what is read ahead and written behind is the same as in one thread."""

import threading
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from models.cam import generate
from models.cam.classifier import load_classifier
from util.data.cams import read_cam, write_cam
from util.data.voc import class_table
from util.runtime.distributed import Dist
from util.runtime.errors import InputError

IDS = [f"p{number}" for number in range(6)]
CLASSES = class_table(("background", "red", "blue"))
ALONE = Dist(0, 1, 0, torch.device("cpu"))


@pytest.fixture
def args(tmp_path):
    """Six images with soft CAMs, the last of which knows no class."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    (tmp_path / "out").mkdir()
    for image_id in IDS:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "images" / f"{image_id}.png")
        cam = {} if image_id == IDS[-1] else {1: rng.random((40, 50), np.float32), 2: rng.random((40, 50), np.float32)}
        write_cam(tmp_path / "out", image_id, cam)
    return Namespace(
        images=tmp_path / "images", list=tmp_path / "list.txt", out=tmp_path / "out", bg_threshold=0.5, overwrite=False
    )


def refined(args):
    return generate.refine_cams(args, ALONE, IDS, args.out, args.out / "par")


def labelled(args):
    return generate.make_labels(args, ALONE, IDS, args.out, CLASSES)


def watched(monkeypatch, *names):
    """Whether each of these functions of the stage ran in the main thread, in the order of the calls."""
    seen = {name: [] for name in names}
    for name in names:
        work = getattr(generate, name)

        def call(*arguments, name=name, work=work):
            seen[name].append(threading.current_thread() is threading.main_thread())
            return work(*arguments)

        monkeypatch.setattr(generate, name, call)
    return seen


@pytest.mark.parametrize("stage, names", [(refined, ["read_image", "write_cam"]), (labelled, ["write_label"])])
def test_the_main_thread_neither_reads_nor_writes(args, monkeypatch, stage, names):
    seen = watched(monkeypatch, "read_bytes", "read_cam", *names)
    assert stage(args) == 0
    assert all(calls and not any(calls) for calls in seen.values()), seen


def test_what_is_read_ahead_belongs_to_its_image(args):
    assert refined(args) == 0
    for image_id in IDS:
        before, after = read_cam(args.out, image_id), read_cam(args.out / "par", image_id)
        assert before.keys() == after.keys()
        for value in before:
            image = torch.from_numpy(np.asarray(Image.open(args.images / f"{image_id}.png")).copy())
            maps = torch.from_numpy(np.stack(list(before.values())))
            expected = generate.inference.stretch(generate.refine.refine_maps(image, maps)).numpy()
            assert np.array_equal(after[value], expected[value - 1])


@pytest.mark.parametrize("stage, suffix", [(refined, "par/{}.npy"), (labelled, "labels/{}.png")])
def test_what_cannot_be_read_is_reported_and_the_others_are_made(args, capsys, stage, suffix):
    (args.out / "p1.npy").write_bytes(b"no array")
    (args.images / "p3.png").unlink()
    assert stage(args) == 1
    errors = capsys.readouterr().err
    assert "p1: " in errors and "p3: " in errors and "2 images could not be done" in errors
    assert {image_id for image_id in IDS if (args.out / suffix.format(image_id)).exists()} == {*IDS} - {"p1", "p3"}


@pytest.mark.parametrize("stage, name", [(refined, "write_cam"), (labelled, "write_label")])
def test_a_full_disk_ends_the_run_and_is_no_fault_of_an_image(args, monkeypatch, capsys, stage, name):
    def full(*arguments):
        raise InputError("the disk is full")

    monkeypatch.setattr(generate, name, full)
    with pytest.raises(InputError, match="disk is full"):
        stage(args)
    assert "full" not in capsys.readouterr().err


def test_an_interrupt_leaves_whole_files_and_the_rest_is_made_later(args, monkeypatch):
    work, made = generate.refine.refine_maps, []

    def interrupted(*arguments):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(None)
        return work(*arguments)

    monkeypatch.setattr(generate.refine, "refine_maps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        refined(args)
    monkeypatch.setattr(generate.refine, "refine_maps", work)
    kept = {path.name: path.stat().st_mtime_ns for path in (args.out / "par").glob("*.npy")}
    assert len(kept) <= 3
    made = []
    monkeypatch.setattr(
        generate, "write_cam", lambda *given, write=write_cam: (made.append(given[1]), write(*given))[1]
    )
    assert refined(args) == 0 and {*made} >= {image_id for image_id in IDS if f"{image_id}.npy" not in kept}
    assert len(list((args.out / "par").glob("*.npy"))) == len(IDS)
    assert [path.name for path in (args.out / "par").glob(".*")] == [".lock"]


def test_what_is_left_of_refinement_is_shared_out(args):
    """A process whose own images are done takes some of another's."""
    everything = [(image_id, "a key") for image_id in IDS]

    class SecondOfTwo(Dist):
        def gather(self, value):
            return [everything, value] if isinstance(value, list) else [value]

    second = SecondOfTwo(1, 2, 0, torch.device("cpu"))
    assert refined(args) == 0  # all is done
    for path in (args.out / "par").glob("*.npy"):
        path.touch()
    assert generate.refine_cams(args, second, IDS, args.out, args.out / "par") == 0
    entries = (args.out / "par" / "ledger.1.jsonl").read_text()
    assert sum(f'"{image_id}", "key": "a key"' in entries for image_id in IDS) == 3


def test_a_network_of_another_kind_is_not_a_classifier(tmp_path):
    torch.save({"kind": "deeplabv3plus", "config": {}, "model": {}, "classes": ["a", "b"]}, tmp_path / "last.pth")
    with pytest.raises(
        InputError, match="last.pth: not a classifier, but a deeplabv3plus network; give one that train_tra"
    ):
        load_classifier(tmp_path / "last.pth")


def test_a_sweep_of_nothing_does_not_blame_the_ground_truth(args, capsys):
    """As after --cams of another size, where every image has failed before."""
    for image_id in IDS:
        (args.out / f"{image_id}.npy").unlink()
    args.gt, args.classes = args.images, None
    with pytest.raises(
        InputError, match=r"none of the 6 images of .*list.txt could be used for the sweep; the messages above say why"
    ):
        generate.sweep(args, IDS, args.out, CLASSES)
    assert "p0: " in capsys.readouterr().err
