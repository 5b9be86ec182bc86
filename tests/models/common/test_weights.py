"""Parameters from files of every kind: other suffixes, wrappers, prefixes, and timm's names."""

import errno
import logging
import os

import pytest
import segmentation_models_pytorch as smp
import timm

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from models.cam.plain_cam import PlainCAM
from models.common.hub import hub_downloads
from models.common.preprocessing import IMAGENET
from models.common.weights import download_in_words, load_encoder, names_file, plain_state
from models.sam.families import hub_errors
from models.segmentation import deeplabv3
from models.segmentation.networks import network_digest
from util.data.voc import CLASS_NAMES, class_table
from util.runtime import checkpoint
from util.runtime.errors import InputError


def encoder(name="resnet18", seed=0):
    torch.manual_seed(seed)
    return smp.encoders.get_encoder(name, weights=None, output_stride=16)


def assert_same(net, other):
    for name, value in other.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "bin", "pth.tar", "safetensors", "weights"])
@pytest.mark.parametrize("as_safetensors", [False, True])
def test_the_content_decides_what_a_file_is_and_not_its_suffix(tmp_path, suffix, as_safetensors):
    path = tmp_path / f"model.{suffix}"
    state = {name: value.contiguous() for name, value in encoder().state_dict().items()}
    (save_file if as_safetensors else torch.save)(state, path)
    assert names_file(str(path))
    assert_same(deeplabv3.build(3, "resnet18", str(path)).encoder, encoder())
    net = PlainCAM(3, "resnet18")
    net.load_encoder(str(path))
    assert_same(net.encoder, encoder())


def test_names_of_published_weights_are_not_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()  # a folder of that name changes nothing
    assert not any(map(names_file, ("imagenet", "noisy-student", "imagenet+5k", "none")))
    (tmp_path / "weights").touch()
    assert all(map(names_file, ("weights", "model.safetensors", "folder/weights")))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module._orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {f"backbone.{name}": value for name, value in state.items()} | {"head.weight": torch.zeros(2)},
        lambda state: {"state_dict": {f"model.encoder.{name}": value for name, value in state.items()}},
        lambda state: {f"module.encoder.{name}": value for name, value in state.items()} | {"fc.bias": torch.zeros(2)},
        lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
    ],
)
def test_wrappers_and_prefixes_are_taken_off(tmp_path, wrap):
    net = encoder(seed=1)
    load_encoder(net, wrap(encoder().state_dict()), "x.pth")
    assert_same(net, encoder())


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "efficientnet_lite0", "regnetx_002"]
)
def test_timm_names_its_parameters_otherwise(name):
    torch.manual_seed(0)
    source = timm.create_model(name)
    net = encoder(f"tu-{name}", seed=1)
    load_encoder(net, source.state_dict(), "timm.pth")
    theirs = sorted(value.double().sum().item() for value in source.state_dict().values() if value.ndim == 4)
    ours = [value.double().sum().item() for value in net.state_dict().values() if value.ndim == 4]
    assert ours and all(any(abs(value - other) < 1e-9 for other in theirs) for value in ours)


@pytest.mark.parametrize(
    "given, wanted", [("resnet34", "resnet18"), ("resnet18", "resnet34"), ("resnet18", "mobilenet_v2")]
)
def test_weights_of_another_encoder_are_refused_also_where_its_own_are_among_them(given, wanted):
    net = encoder(wanted)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError, match="x.pth: these weights belong to another network"):
        load_encoder(net, encoder(given).state_dict(), "x.pth")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_nests_and_wrappers_of_parameters():
    state = {"a.weight": torch.zeros(1), "b.bias": torch.ones(1)}
    assert plain_state(state, "x") == state
    assert plain_state({"network": {f"module.{name}": value for name, value in state.items()}}, "x") == state
    assert plain_state({"module.a": 1, "b": 2}, "x") == {"module.a": 1, "b": 2}  # not all of them: a name, no wrapper
    for around in (
        {"ema": state},
        {"checkpoint": {"state_dict": state}},
        {"params": state, "optimizer": {"state": {0: {}}}},
    ):
        assert plain_state(around, "x") == state
    assert plain_state({"n_averaged": 3, **{f"module.{name}": value for name, value in state.items()}}, "x") == state
    with pytest.raises(InputError, match="x: it holds several networks, under student, teacher; save the one"):
        plain_state({"student": state, "teacher": state}, "x")


# --- DeepLabV3+ of other trainings --------------------------------------------------------------------------------


def foreign(encoder_name="resnet18", classes=21):
    """DeepLabV3+ as whoever takes the library's defaults has it."""
    torch.manual_seed(2)
    return smp.DeepLabV3Plus(encoder_name, encoder_weights=None, classes=classes).eval()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model_state_dict": state, "epoch": 3, "best_iou": 0.7},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}, "loss": torch.zeros(1)},
        lambda state: {
            "ema": {**{f"net.{name}": value for name, value in state.items()}, "criterion.w": torch.ones(21)}
        },
    ],
)
def test_parameters_of_another_training_give_its_answers(tmp_path, wrap):
    net = foreign()
    torch.save(wrap(net.state_dict()), tmp_path / "best.pth")
    segmenter = deeplabv3.load_checkpoint(tmp_path / "best.pth", encoder="resnet18")
    assert segmenter.classes.names == CLASS_NAMES
    image = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(0)).float()
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        torch.testing.assert_close(segmenter.net(image), net((image / 255 - mean) / deviation), atol=1e-4, rtol=1e-4)


def test_the_ancestor_projects_checkpoint_opens_with_its_encoder(tmp_path):
    torch.save(foreign("resnet101").state_dict(), tmp_path / "deeplab.pth")
    segmenter = deeplabv3.load_checkpoint(tmp_path / "deeplab.pth", encoder="resnet101")
    assert len(segmenter.classes) == 21 and segmenter.config["encoder"] == "resnet101"
    with pytest.raises(InputError, match="do not name its encoder; give it, such as --encoder resnet101"):
        deeplabv3.load_checkpoint(tmp_path / "deeplab.pth")
    with pytest.raises(InputError, match="belong to another network"):
        deeplabv3.load_checkpoint(tmp_path / "deeplab.pth", encoder="resnet18")
    with pytest.raises(InputError, match="it has 21 classes, the command names 2"):
        deeplabv3.load_checkpoint(tmp_path / "deeplab.pth", encoder="resnet101", classes=class_table(["a", "b"]))


def test_a_network_is_built_as_the_librarys_file_beside_it_says(tmp_path, capsys):
    torch.manual_seed(0)
    net = smp.DeepLabV3Plus("resnet18", encoder_weights=None, encoder_output_stride=8, classes=21).eval()
    net.save_pretrained(tmp_path)
    segmenter = deeplabv3.load_checkpoint(tmp_path / "model.safetensors")
    image = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(0)).float()
    with torch.inference_mode():
        torch.testing.assert_close(segmenter.net(image), net(IMAGENET(image)), atol=1e-4, rtol=1e-4)
    assert "assumed" not in capsys.readouterr().err
    with_it = network_digest(tmp_path / "model.safetensors")
    (tmp_path / "config.json").unlink()
    assert network_digest(tmp_path / "model.safetensors") != with_it
    deeplabv3.load_checkpoint(tmp_path / "model.safetensors", encoder="resnet18")
    assert "output stride 16 and atrous rates 12, 24, 36 are assumed" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"_model_class": "Unet"}')
    with pytest.raises(InputError, match="config.json: about a network Unet"):
        deeplabv3.load_checkpoint(tmp_path / "model.safetensors", encoder="resnet18")


def test_networks_of_other_projects_are_named(tmp_path):
    whole = "torchvision or MMSegmentation; score its label maps with"
    for names, said in (
        (("classifier.4.weight", "backbone.conv1.weight"), whole),
        (("decode_head.conv_seg.weight", "backbone.conv1.weight"), whole),
        (("classifier.1.weight", "features.0.weight"), "such as an encoder's"),
        (("base.aspp.c0.weight", "base.layer1.conv1.conv.weight"), "of another network are scored with .* --pred"),
    ):
        checkpoint.save(tmp_path / "x.pth", {"state_dict": {name: torch.zeros(21, 8, 1, 1) for name in names}})
        with pytest.raises(InputError, match=said):
            deeplabv3.load_checkpoint(tmp_path / "x.pth", encoder="resnet18")


def test_a_network_of_one_output_is_refused(tmp_path):
    torch.save(foreign(classes=1).state_dict(), tmp_path / "binary.pth")
    with pytest.raises(InputError, match="binary.pth: it has one output.*train one with 2 classes"):
        deeplabv3.load_checkpoint(tmp_path / "binary.pth", encoder="resnet18")


def test_other_content_is_not_taken_for_a_segmentation_network(tmp_path):
    for content in (encoder().state_dict(), {}, {"a": 1}, {"segmentation_head.0.weight": torch.zeros(())}):
        checkpoint.save(tmp_path / "x.pth", content)
        with pytest.raises(InputError, match="x.pth: no checkpoint of DeepLabV3"):
            deeplabv3.load_checkpoint(tmp_path / "x.pth", encoder="resnet18")


class OtherNetworkError(Exception):
    """Not an OSError, as those of the packages that the hub's client stands on."""


OtherNetworkError.__module__ = "httpx"


@pytest.mark.parametrize("error", [FileNotFoundError("cannot find it on the Hub"), OtherNetworkError("broke off")])
@pytest.mark.parametrize(
    "build", [lambda: PlainCAM(3, "resnet18", "imagenet"), lambda: deeplabv3.build(3, "resnet18", "imagenet")]
)
def test_a_failed_download_of_weights_says_so(monkeypatch, build, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(smp.encoders, "get_encoder", fail)
    monkeypatch.setattr("segmentation_models_pytorch.decoders.deeplabv3.model.get_encoder", fail)
    with pytest.raises(InputError, match=f"could not be downloaded .{error}.*--encoder-weights FILE"):
        build()


@pytest.mark.parametrize(
    "encoder, hint", [("mobilenetv2", "similar names: mobilenet_v2"), ("%", "such are mobilenet_v2, resnet50")]
)
def test_an_unknown_encoder_is_named_with_those_that_are_like_it(encoder, hint):
    for build in (PlainCAM, deeplabv3.build):
        with pytest.raises(InputError, match=f"--encoder {encoder}: not an encoder of .*; {hint}"):
            build(3, encoder=encoder)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize(
    "download", [lambda: download_in_words("resnet18", "imagenet"), lambda: hub_errors("sam2.1-tiny")]
)
def test_a_cache_that_cannot_be_written_is_not_taken_for_the_network(download, number):
    with pytest.raises(InputError, match="^/.cache: .*set HF_HOME"), download():
        raise OSError(number, os.strerror(number), "/.cache")


def test_attempts_of_a_download_are_one_line(capsys):
    logger = logging.getLogger("huggingface_hub.utils._http")
    with hub_downloads():
        for seconds in (1, 2, 4):
            logger.warning("'[Errno -2]' thrown while requesting HEAD https://hub/config.json")
            logger.warning(f"Retrying in {seconds}s [Retry 1/5].")
    assert capsys.readouterr().err == "the hub does not answer; trying again for up to a minute\n"
    assert not logger.filters
