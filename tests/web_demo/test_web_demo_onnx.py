"""The demo opens what export.py writes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_network
from web_demo_data import APP, drawn, encoded

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
testing = pytest.importorskip("streamlit.testing.v1")

from models.segmentation import export as exporting
from models.segmentation.networks import OnnxNetwork, open_network
from util.data.images import decode_image


@pytest.mark.slow
def test_an_image_is_segmented_by_an_onnx_file(tmp_path, monkeypatch):
    tiny_network(tmp_path / "net.pth", ["background", "cat", "dog"], working_size=64)
    for name, value in (("CHECKED_SIZES", ((1, 33, 47),)), ("TIMED_SIZE", (1, 33, 47))):
        monkeypatch.setattr(exporting, name, value)
    exporting.export(tmp_path / "net.pth", "onnx", tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(APP), "--checkpoint", str(tmp_path / "net.onnx")])
    app = testing.AppTest.from_file(str(APP), default_timeout=600).run()
    data = encoded(drawn())
    app.file_uploader[0].set_value([("a.jpg", data, "image/jpeg")]).run()
    assert not app.exception and not app.error
    network = open_network(tmp_path / "net.onnx")
    assert isinstance(network.net, OnnxNetwork)
    label = network.segment(decode_image(data, Path("a.jpg"))).label
    shown = " ".join(str(element.value) for kind in ("markdown", "caption", "info") for element in app.get(kind))
    assert "net.onnx" in shown or any("net.onnx" in str(box.value) for box in app.selectbox)
    for value in np.unique(label):
        assert network.classes.names[value] in shown
