"""Mixed precision: what the option's value stands for, and a word where it costs time instead of saving it."""

import pytest

torch = pytest.importorskip("torch")

from models.common import precision
from util.runtime.distributed import Dist


def processor(rank=0):
    return Dist(rank, 2, rank, torch.device("cpu"))


def test_auto_is_off_on_a_processor():
    assert precision.choose_precision("--amp", "auto", processor()) == "off"


@pytest.mark.parametrize("name", ["off", "fp32", "bf16", "fp16"])
@pytest.mark.parametrize("there", [True, False])
def test_emulated_precision_is_reported_once(monkeypatch, capsys, name, there):
    for kernel in ("_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported"):
        monkeypatch.setattr(torch.ops.mkldnn, kernel, lambda: there)
    for rank in range(2):
        assert precision.choose_precision("--amp", name, processor(rank)) == name
    reported = capsys.readouterr().err
    assert reported.count(f"--amp {name}: ") == (0 if there or name in ("off", "fp32") else 1)
    assert precision.has_kernels(precision.DTYPES[name], torch.device("cuda"))


def test_a_torch_without_mkldnn_has_no_kernels_for_it(monkeypatch):
    """As on Macs with Apple's processors."""
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not precision.has_kernels(torch.bfloat16, torch.device("cpu")) and precision.has_kernels(
        None, torch.device("cpu")
    )
