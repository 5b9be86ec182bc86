"""Every network forward on ``cuda:0`` with tensors that have no values: device and dtype of what comes out."""

import contextlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sam_reference import small_sam
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from models.cam.plain_cam import PlainCAM
from models.cam.transcam import TransCAM
from models.common import preprocessing
from models.common.preprocessing import IMAGENET
from models.sam import decoder, encoder
from models.sam.networks import PackageNetwork
from models.segmentation import deeplabv3, inference

GPU = torch.device("cuda", 0)
PRECISIONS = [torch.float32, torch.bfloat16, torch.float16]
pytestmark = pytest.mark.parametrize("precision", PRECISIONS, ids=str)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU without a driver that computes in every precision."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda values: values)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    for cached in (preprocessing._constants, encoder._distances):
        cached.cache_clear()
    yield FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
    for cached in (preprocessing._constants, encoder._distances):
        cached.cache_clear()


def moved(net, gpu):
    """The network with its parameters and buffers on the GPU, without values."""
    for module in net.eval().modules():
        for own, wrap in ((module._parameters, torch.nn.Parameter), (module._buffers, lambda value: value)):
            own.update(
                {
                    name: wrap(gpu.from_tensor(value.detach()).to(GPU))
                    for name, value in own.items()
                    if value is not None
                }
            )
    return net


@contextlib.contextmanager
def inference_on(gpu, precision):
    with gpu, torch.inference_mode(), torch.autocast("cuda", precision, enabled=precision != torch.float32):
        yield


def check(dtypes, **outputs):
    """Every output is on the GPU, with its dtype."""
    assert outputs.keys() == dtypes.keys()
    for name, value in outputs.items():
        assert isinstance(value, FakeTensor) and value.device == GPU, f"{name}: {value.device}"
        assert value.dtype == dtypes[name], f"{name}: {value.dtype}, not {dtypes[name]}"


@pytest.mark.parametrize("with_attention", [True, False])
def test_transcam(gpu, precision, with_attention):
    net = moved(TransCAM(5, "tiny"), gpu)
    with inference_on(gpu, precision):
        images = IMAGENET(torch.empty(2, 3, 64, 96, dtype=torch.uint8, device=GPU))
        found = net(images, with_attention=with_attention)
        cam = found.cam if with_attention else None
    given = {"conv_logits": found.conv_logits, "trans_logits": found.trans_logits, "conv_cam": found.conv_cam}
    dtypes = dict.fromkeys(given, precision)
    if with_attention:
        given |= {"attention": found.attention, "cam": cam}
        dtypes |= {"attention": torch.float32, "cam": torch.float32}
        assert cam.shape == (2, 4, 4, 6)
    check(dtypes, **given)


@pytest.mark.parametrize("encoder_name", ["mobilenet_v2", "resnet18"])
def test_plain_cam(gpu, precision, encoder_name):
    net = moved(PlainCAM(5, encoder_name), gpu)
    with inference_on(gpu, precision):
        images = IMAGENET(torch.empty(2, 3, 64, 96, dtype=torch.uint8, device=GPU))
        found = net(images)
        cam = found.cam
    check(
        {"logits": precision, "conv_cam": precision, "affinity": torch.float32, "cam": torch.float32},
        **{"logits": found.logits, "conv_cam": found.conv_cam, "affinity": found.affinity, "cam": cam},
    )


@pytest.mark.parametrize("encoder_name, stride", [("mobilenet_v2", 16), ("resnet18", 8), ("tu-convnext_atto", 16)])
def test_deeplab(gpu, precision, encoder_name, stride):
    net = moved(inference.PixelNetwork(deeplabv3.build(5, encoder_name, None, stride), IMAGENET), gpu)
    with inference_on(gpu, precision):
        logits = net(torch.empty(2, 3, 60, 90, device=GPU))
        best, chosen = inference._best([logits[:1], logits[1:]], slice(0, 30), (70, 80))
    check(
        {"logits": torch.float32, "best": torch.float32, "chosen": torch.int64},
        **{"logits": logits, "best": best, "chosen": chosen},
    )
    assert logits.shape == (2, 5, 60, 90) and chosen.shape == (30, 80)


@pytest.mark.parametrize("exact", [False, True])
def test_sam(gpu, precision, exact, monkeypatch):
    monkeypatch.setattr(decoder, "to_host", lambda values: [np.ones(values.shape, bool)])
    sam = moved(small_sam(), gpu)
    with inference_on(gpu, precision):
        network = PackageNetwork(sam, exact)
        embeddings = decoder.at_least_float32(network.encoder(torch.empty(2, 3, 128, 128, device=GPU)))
        side = network.image_side(embeddings[0])
        low = network.decode(side, torch.empty(7, 2, dtype=torch.float64, device=GPU), 0.5)
        full = network.upscale(low.logits, (60, 90))
        position = decoder.image_positions(network.sam)
        token = decoder.embed_points(network.sam, torch.empty(7, 2, dtype=torch.float64, device=GPU))
    found = {"embeddings": embeddings, "logits": low.logits, "predicted_iou": low.predicted_iou, "full": full}
    found |= {"position": position, "token": token}
    check({**dict.fromkeys(found, torch.float32), "point": torch.int64}, **found, point=low.point)
    assert low.logits.shape == (21, 32, 32) and full.shape == (21, 60, 90)
