"""Checkpoints: what is saved is loaded, what is damaged or dangerous is refused, a full disk loses nothing."""

import argparse
import contextlib
import errno
import io
import os
import re
import sys
import types
import zipfile
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from util.runtime import checkpoint
from util.runtime.errors import InputError

torch = pytest.importorskip("torch")


def test_round_trip(tmp_path):
    state = {"model": {"w": torch.arange(6.0).view(2, 3)}, "step": 3, "names": ["a", "b"], "score": None}
    checkpoint.save(tmp_path / "deep" / "a.pth", state)
    loaded = checkpoint.load(tmp_path / "deep" / "a.pth")
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert {k: loaded[k] for k in ("step", "names", "score")} == {"step": 3, "names": ["a", "b"], "score": None}
    assert os.listdir(tmp_path / "deep") == ["a.pth"]


@pytest.mark.parametrize("number, is_saved", [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_be_waited_for(tmp_path, monkeypatch, number, is_saved):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with contextlib.nullcontext() if is_saved else pytest.raises(InputError):
        checkpoint.save(tmp_path / "a.pth", {"step": 3})
    assert (tmp_path / "a.pth").exists() == is_saved


def test_code_is_refused(tmp_path):
    torch.save({"call": os.system}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="could run code"):
        checkpoint.load(tmp_path / "evil.pth")


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_damaged_file_is_refused(tmp_path, kept):
    checkpoint.save(tmp_path / "a.pth", {"w": torch.ones(100)})
    data = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(data[:kept])
    with pytest.raises(InputError, match="a.pth"):
        checkpoint.load(tmp_path / "a.pth")


@pytest.mark.parametrize("asked", ["mydata/deeplab/last.pth", "mydata-quick/deeplab/best.pth"])
def test_a_similar_file_is_named_where_one_is_missing(tmp_path, asked):
    made = tmp_path / "my[runs]" / "mydata-quick" / "deeplab" / "last.pth"
    checkpoint.save(made, {"step": 1})
    with pytest.raises(InputError, match=re.escape(f"no checkpoint here; check the path (did you mean {made}?) or")):
        checkpoint.load(tmp_path / "my[runs]" / asked)


def test_missing_file_and_other_content_are_named(tmp_path):
    with pytest.raises(InputError, match="none.pth: no checkpoint here; check the path or train first"):
        checkpoint.load(tmp_path / "none.pth")
    with pytest.raises(InputError, match="found a folder"):
        checkpoint.load(tmp_path)
    torch.save(torch.ones(2), tmp_path / "tensor.pth")
    with pytest.raises(InputError, match="a folder that holds tensor.pth; give the file"):
        checkpoint.load(tmp_path)
    with pytest.raises(InputError, match="holds a Tensor"):
        checkpoint.load(tmp_path / "tensor.pth")


class _FullDisk:
    """A file that takes ``room`` bytes and then says that the disk is full, as the kernel does."""

    def __init__(self, room, name, mode):
        self.file, self.room = open(name, mode), room  # noqa: SIM115

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()


@pytest.mark.parametrize("room", [0, 5000, 40000])
def test_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch, room):
    path = tmp_path / "last.pth"
    checkpoint.save(path, {"w": torch.ones(20000), "step": 1})
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint, "open", partial(_FullDisk, room), raising=False)
    with pytest.raises(InputError, match="No space left.*free space there or fix the disk"):
        checkpoint.save(path, {"w": torch.zeros(20000), "step": 2})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["last.pth"], "a partial file was left behind"


class Unknown:
    """A class of somebody else's training."""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value, name", [(Unknown(), re.escape(f"{__name__}.Unknown")), (os.system, r"posix\.system|nt\.system")]
)
def test_a_refusal_names_what_it_does_not_build(tmp_path, value, name, zipped):
    torch.save(
        {"state_dict": {"w": torch.zeros(2)}, "x": value}, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(InputError, match=f"could run code .it holds ({name}).*torch.save") as error:
        checkpoint.load(tmp_path / "c.pth")
    assert "\x1b" not in str(error.value)


def test_options_paths_and_numbers_beside_the_parameters_are_read(tmp_path):
    beside = {
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "best": np.float64(0.7),
        "epoch": np.int64(3),
        "curve": np.arange(3.0),
        "config": SimpleNamespace(lr=0.1),
        "when": (datetime(2024, 1, 2), timedelta(hours=2)),
    }
    torch.save({"state_dict": {"w": torch.ones(2)}, **beside}, tmp_path / "c.pth")
    found = checkpoint.load(tmp_path / "c.pth")
    assert found["args"] == beside["args"] and found["best"] == 0.7 and found["epoch"] == 3
    assert found["config"].lr == 0.1 and found["when"] == beside["when"]
    assert found["curve"].tolist() == [0, 1, 2] and found["state_dict"]["w"].tolist() == [1, 1]


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<!DOCTYPE html>\n<html>", "not a checkpoint, but a page of a web server"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "a file of Keras"),
        (zipped("pytorch_model.bin"), "a ZIP archive that holds pytorch_model.bin"),
        (zipped("m/data.pkl", "m/constants.pkl"), "a TorchScript archive, which holds code"),
        (b'\x08\x00\x00\x00\x00\x00\x00\x00{"a": 1}garbage', "not a readable safetensors file"),
    ],
)
def test_what_failed_downloads_leave_is_named(tmp_path, content, message):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=f"model.safetensors: .*{message}.*again"):
        checkpoint.load(tmp_path / "model.safetensors")


def test_what_a_training_was_started_with_is_named_in_words(tmp_path):
    before = {"steps": 60, "crop_size": 304, "code_digest": "6e", "data_digest": "01"}
    checkpoint.save(tmp_path / "last.pth", {"schema": checkpoint.SCHEMA, "options": before})
    assert checkpoint.load_to_resume(tmp_path / "last.pth", before, overwrite=False) is not None
    now = {**before, "steps": 120, "code_digest": "80", "data_digest": "02"}
    with pytest.raises(InputError, match=r"\(steps: 60, now 120; other images, labels or ids; the code was changed\)"):
        checkpoint.load_to_resume(tmp_path / "last.pth", now, overwrite=False)
    assert checkpoint.load_to_resume(tmp_path / "last.pth", now, overwrite=False, retrain=True) is None
    assert checkpoint.load_to_resume(tmp_path / "last.pth", before, overwrite=False, retrain=True) is not None


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize("name", ["PosixPath", "WindowsPath"])
def test_paths_of_another_system_beside_the_parameters_are_no_obstacle(tmp_path, module, name):
    """As in the options that a training on Windows saves, opened on Linux, and the other way round."""

    class Path:
        def __reduce__(self):
            return Path, ("runs", "a")

    Path.__module__, Path.__qualname__, Path.__name__ = module, name, name
    stand_in = types.ModuleType(module)
    setattr(stand_in, name, Path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module, stand_in)
        torch.save({"state_dict": {"a": torch.ones(2)}, "args": {"out": Path()}}, tmp_path / "other.pth")
    assert torch.equal(checkpoint.load(tmp_path / "other.pth")["state_dict"]["a"], torch.ones(2))
