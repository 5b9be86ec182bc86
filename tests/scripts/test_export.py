"""export.py: the exported network is the checkpoint's, and what cannot be exported or opened is named."""

import contextlib
import errno
import json
import os
import re
import sys

import numpy as np
import pytest
import segmentation_models_pytorch as smp
from helpers import ROOT, call_script, run_script, tiny_network
from PIL import Image

import export
import predict
from util.data.labels import read_label

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from models.segmentation import export as exporting
from models.segmentation import networks
from models.segmentation.export import _open_to_others
from util.runtime.errors import InputError

NAMES = ["background", "cat", "dög"]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    def go(kind, out, checkpoint="net.pth"):
        options = ["--checkpoint", tmp_path / checkpoint, "--format", kind, "--out", tmp_path / out]
        return call_script(export, monkeypatch, capsys, *options)

    return go


def check_small_images():
    """One test checks and times the exported network at the sizes that people have; in the others that takes too long."""
    exporting.CHECKED_SIZES, exporting.TIMED_SIZE = ((1, 33, 47),), (1, 33, 47)


@pytest.fixture
def small_images(monkeypatch):
    for name in ("CHECKED_SIZES", "TIMED_SIZE"):
        monkeypatch.setattr(exporting, name, getattr(exporting, name))
    check_small_images()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a checkpoint and the ONNX file made of it."""
    folder = tmp_path_factory.mktemp("exported")
    tiny_network(folder / "net.pth", NAMES, working_size=64)
    options = ["--checkpoint", folder / "net.pth", "--format", "onnx", "--out", folder / "net.onnx"]
    done = run_script("export.py", *options, prepare=check_small_images)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{folder / 'net.pth'}: exporting") and "where rounding may explain" in done.stdout
    assert f"next: python predict.py --checkpoint {folder / 'net.onnx'} --images" in done.stdout
    return folder


@pytest.mark.slow
def test_onnx_has_the_logits_of_the_checkpoint(tmp_path, call):
    tiny_network(tmp_path / "net.pth", NAMES, "timm-mobilenetv3_small_minimal_100", working_size=80)
    done = call("onnx", "net.onnx")
    assert done.returncode == 0, done.stderr
    differences = re.findall(r"the same network: logits, up to \S+, differ by (\S+) at most", done.stdout)
    assert len(differences) == 3 and max(map(float, differences)) <= 1e-4
    assert re.search(r"onnxruntime: \S+ ms per image of 500x375, torch \S+ ms, \d+ threads?\n", done.stdout)
    ours, theirs = networks.open_network(tmp_path / "net.pth"), networks.open_network(tmp_path / "net.onnx")
    assert theirs.classes == ours.classes and theirs.long_side == 80
    assert (theirs.palette == ours.palette).all()
    for size in ((1, 3, 33, 47), (3, 3, 64, 16), (1, 3, 1, 1)):
        pixels = 255 * torch.rand(size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            torch.testing.assert_close(theirs.net(pixels), ours.net(pixels), atol=1e-4, rtol=0)
    session = ort.InferenceSession(tmp_path / "net.onnx")
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["wsss"])["classes"] == NAMES


@pytest.mark.slow
def test_predict_and_the_example_of_the_documentation_open_the_onnx_file(tmp_path, exported, monkeypatch, capsys):
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    photo = tmp_path / "photo.jpg"
    Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC).save(photo, quality=95)
    for kind in ("pth", "onnx"):
        options = ["--checkpoint", exported / f"net.{kind}", "--images", photo, "--out", tmp_path / kind]
        assert call_script(predict, monkeypatch, capsys, *options, "--device", "cpu").returncode == 0
    ours, theirs = (read_label(tmp_path / kind / "labels/photo.png", 3) for kind in ("pth", "onnx"))
    assert len(np.unique(ours)) > 1 and (ours == theirs).mean() > 0.999
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/own-data.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes((exported / "net.onnx").read_bytes())
    names: dict = {}
    exec(example, names)
    assert names["about"]["classes"] == NAMES
    assert names["label"].shape == ours.shape and (names["label"] == ours).mean() > 0.97


@pytest.mark.slow
def test_smp_loads_the_folder(tmp_path, call, small_images):
    tiny_network(tmp_path / "net.pth", NAMES, working_size=64)
    done = call("smp", "net")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "net/classes.json").read_text())
    assert content["classes"] == NAMES and content["config"]["working_size"] == 64
    pixels = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    mean, deviation = (torch.tensor(content[name])[:, None, None] for name in ("mean", "deviation"))
    with torch.inference_mode():
        found = smp.from_pretrained(tmp_path / "net").eval()((pixels - mean) / deviation)
        expected = networks.open_network(tmp_path / "net.pth").net(255 * pixels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    for given in ("net", "net/model.safetensors"):
        again = networks.open_network(tmp_path / given)
        assert again.classes.names == tuple(NAMES) and again.long_side == 64
        with torch.inference_mode():
            torch.testing.assert_close(again.net(255 * pixels), expected, atol=1e-4, rtol=0)
    before = networks.network_digest(tmp_path / "net")
    (tmp_path / "net/classes.json").write_text(json.dumps({**content, "classes": ["background", "cat", "dog"]}))
    assert networks.network_digest(tmp_path / "net") != before
    (tmp_path / "net/classes.json").write_text("[]")
    with pytest.raises(InputError, match=r"classes\.json: not that of a network"):
        networks.open_network(tmp_path / "net")


def test_a_network_of_another_training_is_exported_with_the_names_that_are_given(tmp_path, call, small_images, capsys):
    torch.manual_seed(0)
    torch.save(smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=21).state_dict(), tmp_path / "net.pth")
    names = ["background", *(f"thing {number}" for number in range(1, 21))]
    (tmp_path / "names.txt").write_text("\n".join(names))
    exporting.export(tmp_path / "net.pth", "smp", tmp_path / "guessed", "mobilenet_v2")
    assert "net.pth names no classes; the names are VOC's" in capsys.readouterr().err
    exporting.export(tmp_path / "net.pth", "smp", tmp_path / "named", "mobilenet_v2", tmp_path / "names.txt")
    assert json.loads((tmp_path / "named/classes.json").read_text())["classes"] == names
    tiny_network(tmp_path / "own.pth", NAMES)
    with pytest.raises(InputError, match="its encoder is mobilenet_v2, the command says resnet18"):
        exporting.export(tmp_path / "own.pth", "smp", tmp_path / "own", "resnet18")


def test_what_cannot_be_exported_is_named(tmp_path, call, monkeypatch):
    tiny_network(tmp_path / "net.pth", NAMES)
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    (tmp_path / "file").touch()
    for kind, out, checkpoint, message in (
        ("onnx", "net.bin", "net.pth", "ends in .onnx"),
        ("onnx", "net.onnx", "none.pth", "no checkpoint here"),
        ("smp", "net", "broken.pth", "broken.pth"),
        ("smp", "file/net", "net.pth", "cannot write"),
        ("onnx", "file/net.onnx", "net.pth", "cannot write"),
        ("gif", "net", "net.pth", "gif"),
    ):
        done = call(kind, out, checkpoint)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install onnx" in call("onnx", "net.onnx").stderr
    assert not list(tmp_path.glob("*.onnx"))


def test_a_network_that_came_out_differently_is_refused(tmp_path, call, monkeypatch, small_images):
    tiny_network(tmp_path / "net.pth", NAMES)
    run_network = networks.OnnxNetwork.forward
    monkeypatch.setattr(networks.OnnxNetwork, "forward", lambda self, pixels: run_network(self, pixels) + 0.1)
    done = call("onnx", "net.onnx")
    assert (
        done.returncode == 2
        and "differ by 0.1" in done.stderr
        and "another network" in done.stdout
        and not (tmp_path / "net.onnx").exists()
    )


def test_onnx_files_that_do_not_fit_are_refused(tmp_path, exported, monkeypatch):
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    model = onnx.load(exported / "net.onnx")
    for name, text in (
        ("bare", None),
        ("cut", "{"),
        ("empty", "{}"),
        ("odd", '{"classes":["a"],"palette":[[0,0,0]],"config":{}}'),
    ):
        del model.metadata_props[:]
        if text is not None:
            onnx.helper.set_model_props(model, {"wsss": text})
        onnx.save(model, tmp_path / f"{name}.onnx")
    for name, message in (
        ("none", "no such file"),
        ("broken", "not a readable ONNX file"),
        ("bare", "another project"),
        ("cut", "metadata is damaged"),
        ("empty", "metadata is damaged"),
        ("odd", "not that of a network"),
    ):
        with pytest.raises(InputError, match=message):
            networks.open_network(tmp_path / f"{name}.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="pip install onnxruntime"):
        networks.open_network(exported / "net.onnx")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EIO])
def test_mounts_whose_files_take_no_mode_can_be_written_to(tmp_path, monkeypatch, number):
    def chmod(path, mode, **more):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "chmod", chmod)
    with pytest.raises(OSError) if number == errno.EIO else contextlib.nullcontext():
        _open_to_others(tmp_path)
