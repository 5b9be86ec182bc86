"""Convolutions of our own against torch's in float64."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from models.cam.plain_cam import PlainCAM
from models.common import convolution
from models.common.convolution import DilatedDepthwiseConv2d, Float32GradientConv2d
from models.segmentation import deeplabv3
from util.runtime.errors import InputError

CHANNELS = 16


def layer(kernel=3, dilation=1, stride=1, bias=False, groups=CHANNELS, out=CHANNELS):
    torch.manual_seed(0)
    return nn.Conv2d(CHANNELS, out, kernel, stride, dilation * (kernel // 2), dilation, groups, bias)


def outcome(net, size, dtype=torch.float32, amp=False):
    """Output and all gradients, in float64."""
    x = torch.randn(2, CHANNELS, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x.to(dtype, memory_format=torch.channels_last).requires_grad_()
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        out = net(x)
    wave = 1.5 + torch.arange(out.numel(), dtype=torch.float64).view_as(out).sin()
    (out.to(torch.float64) * wave).sum().backward()
    return [part.detach().double().clone() for part in (out, x.grad, *(p.grad for p in net.parameters()))]


def check(plain, size, amp):
    expected = outcome(plain.double(), size, torch.float64)
    ours = convolution.use_own_convolutions(nn.Sequential(plain.float()))
    assert isinstance(ours[0], (DilatedDepthwiseConv2d, Float32GradientConv2d))
    found = outcome(ours, size, amp=amp)
    for one, other in zip(found, expected, strict=True):
        bound = (0.02 if amp else 1e-5) * float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=0, atol=bound)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("size", [(13, 9), (32, 32), (40, 31), (6, 50)])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 2), (3, 6), (3, 20), (3, 60), (5, 2), (7, 3)])
def test_dilated(kernel, dilation, size, amp):
    check(layer(kernel, dilation, bias=kernel == 7), size, amp)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("size", [(13, 9), (32, 40)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 3)])
def test_strided(kernel, stride, size, amp):
    check(layer(kernel, stride=stride, bias=stride == 3), size, amp)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("size", [(13, 9), (32, 40)])
@pytest.mark.parametrize(("groups", "out"), [(4, 16), (16, 32)])
def test_dilated_in_groups(groups, out, size, amp):
    check(layer(dilation=2, groups=groups, out=out), size, amp)


def test_the_first_layer_of_a_network_needs_no_gradient_of_its_input():
    net = convolution.use_own_convolutions(nn.Sequential(layer(stride=2)))
    net(torch.randn(1, CHANNELS, 8, 8)).sum().backward()
    assert net[0].weight.grad is not None


def test_precision_of_both_is_kept():
    net = convolution.use_own_convolutions(nn.Sequential(layer(dilation=2), layer(stride=2)))
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.randn(1, CHANNELS, 8, 8))
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and all(p.grad.dtype == torch.float32 for p in net.parameters())


@pytest.mark.parametrize(
    "plain",
    [
        layer(),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4),
        nn.Conv2d(4, 4, 1, dilation=2, groups=4),
        nn.Conv2d(4, 8, 3, padding=1, stride=2),
    ],
)
def test_other_convolutions_stay_as_they_are(plain):
    assert type(convolution.use_own_convolutions(nn.Sequential(plain))[0]) is nn.Conv2d


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "efficientnet-b0", "timm-mobilenetv3_small_minimal_100"])
def test_encoders_compute_what_the_library_has_them_compute(encoder):
    torch.manual_seed(0)
    net = deeplabv3.build(3, encoder).eval()
    plain = smp.DeepLabV3Plus(encoder, encoder_weights=None, classes=3, decoder_atrous_rates=(6, 12, 18)).eval()
    plain.load_state_dict(net.state_dict())
    assert sum(isinstance(module, DilatedDepthwiseConv2d) for module in net.encoder.modules()) > 1
    assert sum(isinstance(module, DilatedDepthwiseConv2d) for module in net.decoder.modules()) == 3
    x = torch.randn(1, 3, 80, 112)
    with torch.inference_mode():
        expected = plain(x)
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_classifier_has_them_too():
    net = PlainCAM(5, "mobilenet_v2")
    assert {type(m) for m in net.modules()} >= {DilatedDepthwiseConv2d, Float32GradientConv2d}


@pytest.mark.parametrize(
    "plain",
    [
        nn.Conv2d(4, 4, (3, 1), padding=(2, 0), dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4),
    ],
)
def test_what_does_not_keep_its_size_takes_gradients_in_float32(plain):
    assert type(convolution.use_own_convolutions(nn.Sequential(plain))[0]) is Float32GradientConv2d


class Other(nn.Conv2d):
    """A convolution that may compute anything."""


@pytest.mark.parametrize("kind", [Other, nn.Conv2d])
def test_what_torch_gets_wrong_is_refused(kind):
    net = nn.Sequential(kind(4, 4, 3, padding=2 if kind is Other else "same", dilation=2, groups=4))
    assert type(convolution.use_own_convolutions(net)[0]) is kind
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    with pytest.raises(InputError, match=f"--amp bf16.*{kind.__name__}.*--amp off"):
        convolution.check_mixed_precision(net, cpu, torch.bfloat16)
    convolution.check_mixed_precision(net, cpu, None)
    convolution.check_mixed_precision(net, cuda, torch.bfloat16)
    convolution.check_mixed_precision(
        convolution.use_own_convolutions(nn.Sequential(layer(dilation=2))), cpu, torch.bfloat16
    )
