"""generate_sam_masks.py as its users run it; SAM is a small network, put in the place of the checkpoint's."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything import sam_model_registry

from models.sam import load_sam
from util.errors import InputError
from util.masks import read_masks

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--points-per-side", "6", "--points-per-batch", "20", "--pred-iou-thresh", "0", "--threads", "1",
         "--stability-score-thresh", "0.02", "--stability-score-offset", "0.1", "--device", "cpu"]  # fmt: skip
DRIVER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from models import sam
from sam_reference import small_sam
sam.load_sam = lambda name, path: small_sam()
import generate_sam_masks
from util.cli import run
run(generate_sam_masks.main)
"""


@pytest.fixture
def driver(tmp_path) -> Path:
    (tmp_path / "weights.pth").write_bytes(b"stands for a checkpoint")
    path = tmp_path / "driver.py"
    path.write_text(DRIVER.format(root=str(ROOT), tests=str(ROOT / "tests")))
    return path


def command(driver: Path, out: Path, *more: str, processes: int = 1) -> list[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    folder = driver.parent
    return [*start, str(driver), "--model", "vit_b", "--checkpoint", str(folder / "weights.pth"),
            "--images", str(folder / "images"), "--out", str(out), *SMALL, *more]  # fmt: skip


def call(arguments: list[str]) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=environment)


def regions(folder: Path, *more: str) -> subprocess.CompletedProcess:
    script = [sys.executable, str(ROOT / "generate_sam_masks.py"), "--model", "regions"]
    return call([*script, "--images", str(folder / "images"), "--out", str(folder / "out"), "--device", "cpu", *more])


def write_pictures(folder: Path, count: int) -> None:
    folder.mkdir()
    for k in range(count):
        coarse = np.random.default_rng(k).integers(0, 256, (5, 6, 3), np.uint8)
        cv2.imwrite(str(folder / f"p{k}.png"), cv2.resize(coarse, (70 + 5 * k, 60), interpolation=cv2.INTER_CUBIC))


def results(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.glob("p*.json"))}


def test_one_process_two_and_a_killed_run_give_the_same_bytes(driver, tmp_path):
    write_pictures(tmp_path / "images", 8)
    done = call(command(driver, tmp_path / "one"))
    assert done.returncode == 0, done.stderr
    expected = results(tmp_path / "one")
    assert len(expected) == 8
    assert sum(len(json.loads(data)["annotations"]) for data in expected.values()) > 20

    done = call(command(driver, tmp_path / "two", processes=2))
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "two") == expected

    out = tmp_path / "killed"
    for enough in (1, 3):
        process = subprocess.Popen(command(driver, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        while len(results(out)) < enough and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        process.kill()
        process.wait()
    before = {file.name: file.stat().st_mtime_ns for file in out.glob("p*.json")}
    assert before
    done = call(command(driver, out))
    assert done.returncode == 0, done.stderr
    assert results(out) == expected
    ledger = [json.loads(line)["id"] for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert ledger == sorted(ledger) and len(ledger) == 8

    # A run with nothing to do writes nothing; another option makes everything again.
    before = {file.name: file.stat().st_mtime_ns for file in out.glob("p*.json")}
    assert call(command(driver, out, processes=2)).returncode == 0
    assert {file.name: file.stat().st_mtime_ns for file in out.glob("p*.json")} == before
    assert call(command(driver, out, "--points-per-side", "3")).returncode == 0
    assert all(file.stat().st_mtime_ns != before[file.name] for file in out.glob("p*.json"))


def test_bad_pictures_are_reported_and_the_rest_goes_on(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    colours = np.kron(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    good = Image.fromarray(colours)
    good.save(folder / "rgb.png")
    good.convert("L").save(folder / "grey.png")
    good.convert("RGBA").save(folder / "rgba.png")
    good.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    good.save(folder / "turned.jpg", exif=turned)
    good.resize((1, 1)).save(folder / "pixel.png")
    good.resize((6000, 4000)).save(folder / "huge.jpg")
    whole = (folder / "turned.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")

    done = regions(tmp_path, "--preview", "2")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cut: " in done.stderr and "text: " in done.stderr and "2 image(s) could not be done" in done.stderr
    written = {file.stem for file in (tmp_path / "out").glob("*.json")} - {"run"}
    assert written == {"rgb", "grey", "rgba", "cmyk", "deep", "turned", "pixel", "huge"}
    assert read_masks(tmp_path / "out", "turned").shape == (60, 40)
    assert read_masks(tmp_path / "out", "huge").shape == (4000, 6000)
    assert read_masks(tmp_path / "out", "pixel").shape == (1, 1)
    assert len(list((tmp_path / "out/preview").glob("*.png"))) == 2


def test_a_checkpoint_of_another_model_is_named(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(1280, 3, 16, 16)}, path)
    with pytest.raises(InputError, match="expected the checkpoint of a vit_b.*found a vit_h: use --model vit_h"):
        load_sam("vit_b", path)
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="found no SAM of the package"):
        load_sam("vit_b", path)
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="not a"):
        load_sam("vit_b", path)


def test_loads_a_published_state_dict(tmp_path):
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in sam_model_registry["vit_b"]().state_dict().items()}
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}  # a few kB on the disk
    state["mask_decoder.iou_token.weight"] = torch.full((1, 256), 0.5)
    torch.save(state, tmp_path / "weights.pth")
    sam = load_sam("vit_b", tmp_path / "weights.pth")
    assert not sam.training
    assert (sam.mask_decoder.iou_token.weight == 0.5).all() and (sam.image_encoder.pos_embed == 0).all()
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="mask_decoder.iou_token.weight"):
        load_sam("vit_b", tmp_path / "weights.pth")


def test_help_is_quick_and_honest():
    start = time.monotonic()
    done = call([sys.executable, str(ROOT / "generate_sam_masks.py"), "--help"])
    assert done.returncode == 0 and time.monotonic() - start < 10  # seconds; torch alone takes longer on a slow disk
    assert "is no SAM" in done.stdout and "--stability-score-thresh" in done.stdout
    assert call([sys.executable, str(ROOT / "generate_sam_masks.py"), "--images", "x", "--out", "y",
                 "--points_per_side", "0"]).returncode == 2  # fmt: skip
