"""generate_sam_masks.py as its users run it; SAM is a small network, put in the place of the checkpoint's."""

import dataclasses
import functools
import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import call_script
from PIL import Image
from sam_reference import small_sam
from segment_anything import sam_model_registry

import generate_sam_masks
from models.sam import checkpoints as sam
from models.sam.checkpoints import load_sam
from models.sam.generator import Options
from util.data.mask_files import read_masks
from util.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--points-per-side",
    "6",
    "--points-per-batch",
    "20",
    "--pred-iou-thresh",
    "0",
    "--threads",
    "1",
    "--stability-score-thresh",
    "0.02",
    "--stability-score-offset",
    "0.1",
    "--device",
    "cpu",
]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder for one test, with something in the place of the checkpoint."""
    (tmp_path / "weights.pth").write_bytes(b"stands for a checkpoint")
    return tmp_path


@pytest.fixture
def here(monkeypatch, capsys, one_thread):
    """The script in this process, which has loaded torch already."""
    monkeypatch.setattr(sam, "load_sam", lambda path, name: ("vit_b", small_sam()))
    return functools.partial(call_script, generate_sam_masks, monkeypatch, capsys)


def options(folder: Path, out: str, *more: str) -> list[str]:
    return [
        "--model",
        "vit_b",
        "--checkpoint",
        str(folder / "weights.pth"),
        "--images",
        str(folder / "images"),
        "--out",
        str(folder / out),
        *SMALL,
        *more,
    ]


def write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    for k in range(count):
        coarse = np.random.default_rng(k).integers(0, 256, (5, 6, 3), np.uint8)
        cv2.imwrite(str(folder / f"p{k}.png"), cv2.resize(coarse, (70 + 5 * k, 60), interpolation=cv2.INTER_CUBIC))


def results(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.glob("p*.json"))}


def times(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in out.glob("p*.json")}


def test_a_second_run_does_only_what_is_missing_or_stale(folder, here):
    write_images(folder / "images", 3)
    assert here(*options(folder, "out")).returncode == 0
    out = folder / "out"
    before = times(out)
    assert here(*options(folder, "out")).returncode == 0 and times(out) == before
    (out / "p1.json").write_bytes(b"damaged")
    assert here(*options(folder, "out")).returncode == 0
    assert {name for name, when in times(out).items() if when != before[name]} == {"p1.json"}
    before = times(out)
    (folder / "images/p2.png").write_bytes((folder / "images/p0.png").read_bytes())
    assert here(*options(folder, "out")).returncode == 0
    assert {name for name, when in times(out).items() if when != before[name]} == {"p2.json"}
    before = times(out)
    assert here(*options(folder, "out", "--points-per-side", "3")).returncode == 0
    assert all(when != before[name] for name, when in times(out).items())
    before = times(out)
    assert here(*options(folder, "out", "--points-per-side", "3", "--overwrite")).returncode == 0
    assert all(when != before[name] for name, when in times(out).items())


def test_compressed_masks_are_converted_and_never_computed_again(folder, here, monkeypatch):
    write_images(folder / "images", 3)
    out = folder / "out"
    assert here(*options(folder, "out")).returncode == 0
    plain = results(out)
    read = [read_masks(out, f"p{k}").counts() for k in range(3)]
    monkeypatch.setattr("models.sam.generator.MaskGenerator.generate", lambda self, images: [1 / 0 for _ in images])
    # Killed after the conversion, before it was noted: both forms are there.
    (out / "p1.json.gz").write_bytes(gzip.compress(b"left by a run that was killed"))
    assert here(*options(folder, "out", "--gzip")).returncode == 0
    assert sorted(file.name for file in out.glob("p*")) == ["p0.json.gz", "p1.json.gz", "p2.json.gz"]
    assert [gzip.decompress((out / f"p{k}.json.gz").read_bytes()) for k in range(3)] == list(plain.values())
    assert [read_masks(out, f"p{k}").counts() for k in range(3)] == read
    before = {file: file.stat().st_mtime_ns for file in out.glob("p*")}
    assert here(*options(folder, "out", "--gzip")).returncode == 0
    assert {file: file.stat().st_mtime_ns for file in out.glob("p*")} == before
    assert here(*options(folder, "out")).returncode == 0
    assert results(out) == plain and not list(out.glob("*.gz"))


def test_new_masks_take_the_place_of_the_other_form(folder, here):
    write_images(folder / "images", 2)
    out = folder / "out"
    assert here(*options(folder, "out")).returncode == 0
    assert here(*options(folder, "out", "--gzip", "--points-per-side", "3", "--preview", "1")).returncode == 0
    assert sorted(file.name for file in out.glob("p*.*")) == ["p0.json.gz", "p1.json.gz"]
    assert (out / "preview/p0.png").is_file()


# Another value of each option of the generator.
CHANGES = {
    "points-per-side": "5",
    "points-per-batch": "7",
    "pred-iou-thresh": "1.5",
    "stability-score-thresh": "0.4",
    "stability-score-offset": "0.3",
    "box-nms-thresh": "0.3",
    "crop-n-layers": "1",
    "crop-nms-thresh": "0.2",
    "crop-overlap-ratio": "0.1",
    "crop-n-points-downscale-factor": "2",
    "min-mask-region-area": "30",
}


@pytest.mark.slow
def test_every_option_of_the_generator_is_on_the_command_line_and_does_something(folder, here):
    assert set(CHANGES) == {each.name.replace("_", "-") for each in dataclasses.fields(Options)}
    assert {name.replace("-", "_") for name in CHANGES} == {field.name for field in dataclasses.fields(Options)}
    write_images(folder / "images", 0)
    coarse = np.random.default_rng(3).integers(0, 256, (5, 6, 3), np.uint8)
    cv2.imwrite(str(folder / "images/p0.png"), cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC))
    base = ["--points-per-side", "8", "--crop-n-layers", "1", "--box-nms-thresh", "0.9", "--crop-nms-thresh", "0.9"]
    assert here(*options(folder, "base", *base)).returncode == 0
    plain = results(folder / "base")["p0.json"]
    for name, value in CHANGES.items():
        value = "0" if name == "crop-n-layers" else value
        assert here(*options(folder, name, *base, f"--{name}", value)).returncode == 0
        result = results(folder / name)["p0.json"]
        if name == "points-per-batch":  # speed and rounding only
            assert len(json.loads(result)["annotations"]) == len(json.loads(plain)["annotations"]) > 0
        else:
            assert result != plain, name
        recorded = json.loads((folder / name / "run.json").read_text())["options"]
        assert recorded[name.replace("-", "_")] == float(value)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["--points-per-side", "0"], "at least 1"),
        (["--pred-iou-thresh", "nan"], "not a number"),
        (["--stability-score-offset", "inf"], "not a number"),
        (["--crop-overlap-ratio", "1"], "0 to 1"),
        (["--crop-n-layers", "-1"], "at least 0"),
        (["--crop-n-layers", "3", "--crop-n-points-downscale-factor", "2"], "no points"),
        (["--encode-batch", "0"], "--encode-batch"),
        (["--threads", "0"], "--threads"),
        (["--preview", "-1"], "--preview"),
        (["--model", "vit_x"], "vit_x"),
        (["--model", "regions"], "no weights"),
    ],
)
def test_wrong_options_are_refused(folder, here, wrong, message):
    done = here(*options(folder, "out", *wrong))
    assert done.returncode == 2 and message in done.stderr
    assert not (folder / "out").exists()


@pytest.mark.slow
def test_preview_draws_the_first_images(folder, here):
    write_images(folder / "images", 3)
    assert here(*options(folder, "out", "--preview", "2")).returncode == 0
    drawn = sorted((folder / "out/preview").iterdir())
    assert [file.name for file in drawn] == ["p0.png", "p1.png"]
    for file in drawn:
        panels = cv2.imread(str(file))
        assert len(np.unique(panels.reshape(-1, 3), axis=0)) > 100


def test_bf16_and_exact_are_other_results_in_the_ledger(folder, here):
    write_images(folder / "images", 1)
    assert here(*options(folder, "out")).returncode == 0
    plain = results(folder / "out")["p0.json"]
    assert here(*options(folder, "out", "--precision", "bf16")).returncode == 0
    half = results(folder / "out")["p0.json"]
    assert half != plain
    assert here(*options(folder, "out", "--exact")).returncode == 0
    assert results(folder / "out")["p0.json"] != half


@pytest.mark.slow
@pytest.mark.parametrize("model", ["regions", "vit_b"])
def test_bad_images_are_reported_and_the_rest_goes_on(folder, here, model):
    images = folder / "images"
    images.mkdir()
    colours = np.kron(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    good = Image.fromarray(colours)
    good.save(images / "rgb.png")
    good.convert("L").save(images / "grey.png")
    good.convert("1").save(images / "bits.png")
    good.convert("P").save(images / "palette.png", transparency=3)
    good.convert("LA").save(images / "grey_alpha.png")
    good.convert("RGBA").save(images / "rgba.png")
    good.convert("CMYK").save(images / "cmyk.jpg")
    Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(images / "deep.png")
    cv2.imwrite(str(images / "deep_colours.png"), colours.astype(np.uint16) * 257)
    Image.fromarray(np.full((30, 40), np.nan, np.float32)).save(images / "floats.tif")
    turned = Image.Exif()
    turned[0x0112] = 6
    good.save(images / "turned.jpg", exif=turned)
    good.resize((1, 1)).save(images / "pixel.png")
    large = (4000, 6000) if model == "regions" else (800, 1200)
    good.resize(large[::-1], Image.Resampling.NEAREST).save(images / "huge.jpg")
    Image.new("1", (20000, 20000)).save(images / "bomb.png")
    whole = (images / "turned.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    whole = (images / "rgb.png").read_bytes()
    (images / "cut_png.png").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    (images / "damaged.png").write_bytes(damaged)
    (images / "text.png").write_text("no image")
    (images / "empty.jpg").write_bytes(b"")
    (images / "folder.png").mkdir()
    (images / "gone.png").symlink_to(images / "nowhere.png")

    where = ["--images", str(images), "--out", str(folder / "out"), "--device", "cpu", "--preview", "2"]
    weights = (
        [] if model == "regions" else ["--checkpoint", str(folder / "weights.pth"), *SMALL, "--points-per-side", "2"]
    )
    done = here("--model", model, *weights, *where)
    printed, errors = done.stdout, done.stderr
    assert done.returncode == 1
    bad = ["bomb", "cut", "cut_png", "damaged", "empty", "floats", "folder", "gone", "text"]
    assert [name for name in bad if f"{name}: {images}" not in errors] == [], errors
    assert f"{len(bad)} images could not be done" in errors and "too large" in errors
    fine = {
        "bits",
        "cmyk",
        "deep",
        "deep_colours",
        "grey",
        "grey_alpha",
        "huge",
        "palette",
        "pixel",
        "rgb",
        "rgba",
        "turned",
    }
    out = folder / "out"
    assert {file.stem for file in out.glob("*.json")} - {"run"} == fine
    for name, size in (("turned", (60, 40)), ("huge", large), ("pixel", (1, 1)), ("deep", (40, 60))):
        assert read_masks(out, name).shape == size
    assert sorted(file.name for file in (out / "preview").iterdir()) == ["bits.png", "cmyk.png"]
    total = len(fine) + len(bad)
    assert f"{out}: masks of {len(fine)} of {total} images; 2 of them drawn in {out / 'preview'}" in printed


def test_a_checkpoint_of_another_model_is_named(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(1280, 3, 16, 16)}, path)
    with pytest.raises(InputError, match="expected the checkpoint of a vit_b.*found a vit_h: use --model vit_h"):
        load_sam(path, "vit_b")
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="found no SAM. Give a file of SAM"):
        load_sam(path, "vit_b")
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="not a"):
        load_sam(path, "vit_b")


def test_loads_a_published_state_dict(tmp_path):
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in sam_model_registry["vit_b"]().state_dict().items()}
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}  # a few kB on the disk
    state["mask_decoder.iou_token.weight"] = torch.full((1, 256), 0.5)
    torch.save(state, tmp_path / "weights.pth")
    name, sam = load_sam(tmp_path / "weights.pth")
    assert name == "vit_b" and not sam.training
    assert (sam.mask_decoder.iou_token.weight == 0.5).all() and (sam.image_encoder.pos_embed == 0).all()
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="mask_decoder.iou_token.weight"):
        load_sam(tmp_path / "weights.pth")
