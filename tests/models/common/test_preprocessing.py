"""Normalisation: each encoder has its own, and a checkpoint carries it."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.cam.classifier import classifier_content, load_classifier
from models.cam.plain_cam import PlainCAM
from models.common.preprocessing import IMAGENET, Normalization, encoder_normalization, normalization_of
from models.segmentation import deeplabv3
from util.data.voc import class_table
from util.runtime import checkpoint
from util.runtime.errors import InputError

HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TABLE = class_table(["background", "cat", "dog"])


def test_normalisation_by_hand():
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    image[1] = 255
    expected = torch.tensor([-0.485 / 0.229, (1 - 0.456) / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(IMAGENET(image)[:, 1, 1], expected)
    torch.testing.assert_close(HALF(image[None])[0, :, 0, 0], torch.tensor([-1.0, 1.0, -1.0]))
    assert IMAGENET.padding == (124, 116, 104) and HALF.padding == (128, 128, 128)


@pytest.mark.parametrize(
    "encoder, weights, expected",
    [
        ("mobilenet_v2", None, IMAGENET),
        ("resnet101", None, IMAGENET),
        ("tu-resnet18", None, IMAGENET),
        ("timm-tf_efficientnet_lite2", None, HALF),
        ("tu-tf_efficientnet_lite2", None, HALF),
        ("timm-mobilenetv3_small_minimal_100", None, HALF),
        ("timm-efficientnet-b0", "advprop", HALF),
        ("inceptionv4", None, HALF),
    ],
)
def test_encoders_have_the_normalisation_of_their_published_weights(encoder, weights, expected):
    assert encoder_normalization(encoder, weights) == expected


@pytest.mark.parametrize(
    "encoder, file, expected",
    [
        ("tu-tf_efficientnet_lite2", "tf_efficientnet_lite2_imagenet.pth", HALF),
        ("timm-tf_efficientnet_lite2", "tf_efficientnet_lite2_imagenet.pth", HALF),
        ("mobilenet_v2", "mobilenet_v2_imagenet.pth", IMAGENET),
    ],
)
def test_real_weights_load_with_their_normalisation(voc12, encoder, file, expected):
    path = str(Path(voc12).parent / "weights" / file)
    assert normalization_of(deeplabv3.build(3, encoder, path)) == expected
    net = PlainCAM(3, encoder)
    net.load_encoder(path)
    assert normalization_of(net) == expected


def test_checkpoints_carry_it_and_old_ones_mean_imagenet(tmp_path):
    torch.manual_seed(0)
    net = PlainCAM(3, "timm-mobilenetv3_small_minimal_100")
    assert normalization_of(net) == HALF
    content = classifier_content(net, TABLE)
    checkpoint.save(tmp_path / "new.pth", content)
    assert normalization_of(load_classifier(tmp_path / "new.pth")[0]) == HALF

    # What this project wrote before: no schema, kind and normalisation, and the palette under another name.
    old = {"config": content["config"], "classes": content["classes"], "colors": content["palette"]}
    checkpoint.save(tmp_path / "old.pth", {**old, "model": content["model"], "options": {}, "trainer": {}})
    loaded, table = load_classifier(tmp_path / "old.pth")
    assert normalization_of(loaded) == IMAGENET and table == TABLE
    assert torch.equal(loaded.classifier.weight, net.classifier.weight)

    # As the weights of an encoder they bring the normalisation that it was trained with.
    for name, expected in (("new", HALF), ("old", IMAGENET)):
        trained = deeplabv3.build(3, "timm-mobilenetv3_small_minimal_100", str(tmp_path / f"{name}.pth"))
        assert normalization_of(trained) == expected


def test_old_segmentation_checkpoints_load_and_normalise_as_they_did(tmp_path):
    torch.manual_seed(0)
    net = deeplabv3.build(3, "timm-mobilenetv3_small_minimal_100")
    content = deeplabv3.checkpoint_content(
        net.state_dict(), {"encoder": "timm-mobilenetv3_small_minimal_100", "output_stride": 16}, TABLE, None, HALF
    )
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    expected = {}
    for normalization in (HALF, IMAGENET):
        with torch.inference_mode():
            pixels = normalization(torch.from_numpy(image).permute(2, 0, 1)[None])
            expected[normalization] = net.eval()(pixels)[0].softmax(0).numpy()
    checkpoint.save(tmp_path / "new.pth", content)
    np.testing.assert_allclose(
        deeplabv3.load_checkpoint(tmp_path / "new.pth").predict(image), expected[HALF], atol=1e-5
    )
    old = {name: content[name] for name in ("kind", "classes", "palette", "score", "model")}
    config = {**content["config"], "lr": 0.005, "steps": 10, "data_digest": "x"}
    checkpoint.save(tmp_path / "last.pth", {**old, "config": config, "training": {}})
    segmenter = deeplabv3.load_checkpoint(tmp_path / "last.pth")
    np.testing.assert_allclose(segmenter.predict(image), expected[IMAGENET], atol=1e-5)
    with pytest.raises(InputError, match="format 1, now 2.*cannot be resumed"):
        checkpoint.load_to_resume(tmp_path / "last.pth", {}, overwrite=False)


def test_a_normalisation_that_cannot_be_one_is_refused():
    for wrong in (None, {}, {"mean": [0.5] * 2, "deviation": [1] * 3}, {"mean": [0] * 3, "deviation": [0] * 3}):
        with pytest.raises(InputError, match="c.pth: its normalization"):
            Normalization.from_content({"normalization": wrong}, "c.pth")
