"""predict.py: the same label maps as evaluate_enhanced.py, every format, tags, resuming, processes and bad input."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import call_script, run_script, tiny_network
from PIL import Image
from pycocotools import mask as coco_mask
from segmentation_models_pytorch import DeepLabV3Plus

import evaluate_enhanced
import predict as predict_script
from util.data.cams import read_cam
from util.data.labels import read_label
from util.data.voc import VOID, palette
from util.runtime.files import file_digest
from util.vis import seen_color

torch = pytest.importorskip("torch")

NAMES = ["background", "cat", "dog"]


@pytest.fixture
def shots(tmp_path):
    """A network of three classes (working size 64) and a folder with five images of other sizes, two in a subfolder."""
    tiny_network(tmp_path / "net.pth", NAMES, working_size=64)
    generator = np.random.default_rng(0)
    for number in range(5):
        path = tmp_path / "shots" / ("day" if number > 2 else "") / f"s{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((60 + 9 * number, 50), Image.Resampling.BICUBIC).save(path)
    return tmp_path


@pytest.fixture
def predict(shots, monkeypatch, capsys):
    """Runs predict.py in this process, as the command line would."""

    def call(out="out", *more, images="shots", checkpoint="net.pth"):
        return call_script(predict_script, monkeypatch, capsys, *arguments(shots, out, images, checkpoint), *more)

    return call


def arguments(folder, out, images="shots", checkpoint="net.pth"):
    return ["--checkpoint", folder / checkpoint, "--images", folder / images, "--out", folder / out, "--device", "cpu"]


def digests(folder):
    """Name -> digest of every result; records of the run left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {str(path.relative_to(folder)): file_digest(path) for path in files if path.name != "run.json"}


def test_probabilities_are_soft_cams_of_the_same_label_maps(shots, predict):
    shown = {"s0": ["cat"], "s1": ["dog"], "s2": ["cat", "dog"], "day/s3": ["cat"], "day/s4": ["dog"]}
    (shots / "tags.csv").write_text("".join(f"{image_id},{','.join(names)}\n" for image_id, names in shown.items()))
    tags = ["--image-labels", shots / "tags.csv"]
    for out, more in (("all", []), ("tagged", [*tags, "--flip"])):
        assert predict(f"plain_{out}", "--confidence", *more).returncode == 0
        assert predict(out, "--confidence", "--probabilities", *more).returncode == 0
        for image_id, names in shown.items():
            label = read_label(shots / out / f"labels/{image_id}.png")
            assert (label != read_label(shots / f"plain_{out}/labels/{image_id}.png")).mean() < 0.01  # ties by rounding
            maps = read_cam(shots / out / "probabilities" / Path(image_id).parent, Path(image_id).name)
            assert maps and all(map.shape == label.shape for map in maps.values())
            confidence = np.asarray(Image.open(shots / out / f"confidence/{image_id}.png")) / 255
            for value, map in maps.items():
                assert map[label == value] == pytest.approx(confidence[label == value], abs=0.004)
            assert out == "all" or set(maps) == {NAMES.index(name) for name in names}


def colors_of(path):
    with Image.open(path) as image:
        return {color for _, color in image.convert("RGB").getcolors(1 << 20)}


def test_the_colours_of_overlays_have_a_legend(shots, predict):
    done = predict()
    assert done.returncode == 0 and f"colours: {shots / 'out' / 'legend.png'}" in done.stdout
    shown = {seen_color(color) for color in palette()[[1, 2, VOID]]}
    assert shown & colors_of(shots / "out" / "legend.png") == {seen_color(color) for color in palette()[1:3]}
    assert predict("unsure", "--min-confidence", "0.999").returncode == 0
    assert shown <= colors_of(shots / "unsure" / "legend.png"), "and void, where there is some"
    table = next(line for line in done.stdout.splitlines() if line.startswith("class"))
    assert table.split() == ["class", "images", "area,", "%"]
    assert predict("plain", "--format", "label-map").returncode == 0
    assert not (shots / "plain" / "legend.png").exists()


def test_only_listed_images_are_segmented_and_missing_ones_are_named(shots, predict):
    listed = sorted(path.stem for path in (shots / "shots").iterdir() if path.suffix == ".png")[:1]
    (shots / "list.txt").write_text("".join(f"{image_id}\n" for image_id in (*listed, "nowhere")))
    done = predict("out", "--list", shots / "list.txt")
    assert done.returncode == 1 and "list.txt, nowhere: not among the images" in done.stderr
    assert [path.stem for path in (shots / "out/labels").rglob("*.png")] == listed
    (shots / "list.txt").write_text("nowhere\n")
    done = predict("none", "--list", shots / "list.txt")
    assert done.returncode == 2 and "none of its 1 ids is among the images" in done.stderr


def test_what_a_checkpoint_does_not_say_is_asked_or_given(shots, predict):
    """Parameters alone name neither encoder nor classes: VOC's names are a guess, and said to be one."""
    torch.manual_seed(0)
    torch.save(DeepLabV3Plus("resnet18", encoder_weights=None, classes=21).state_dict(), shots / "bare.pth")
    given = {"checkpoint": "bare.pth", "images": "shots/s0.png"}
    done = predict("guessed", "--encoder", "resnet18", **given)
    assert done.returncode == 0 and "bare.pth names no classes; the names are VOC's: if" in done.stderr
    (shots / "names.txt").write_text("\n".join(["background", *(f"organ {k}" for k in range(20))]))
    for out in ("named", "guessed"):  # where the other names would be kept
        done = predict(out, "--encoder", "resnet18", "--class-names", shots / "names.txt", **given)
        assert done.returncode == 0 and "warning" not in done.stderr and "organ" in done.stdout
        assert "organ" in (shots / out / "summary.csv").read_text()
    done = predict("b", "--class-names", shots / "names.txt")
    assert (
        done.returncode == 2
        and "trained on background, cat, dog; the command asks for background, organ 0" in done.stderr
    )
    done = predict("b", "--encoder", "resnet18")
    assert done.returncode == 2 and "its encoder is mobilenet_v2, the command says resnet18; leave" in done.stderr


@pytest.mark.slow
def test_label_maps_are_those_of_evaluation(shots, predict, monkeypatch, capsys):
    ids = ["s0", "s1", "s2"]
    (shots / "list.txt").write_text("\n".join(ids))
    assert predict("plain").returncode == 0
    (shots / "gt").mkdir()
    for image_id in ids:
        (shots / "gt" / f"{image_id}.png").write_bytes((shots / "plain/labels" / f"{image_id}.png").read_bytes())
    for name, options in (("plain", []), ("rich", ["--scales", 0.75, 1.5, "--flip"]), ("full", ["--full-size"])):
        assert predict(name, *options).returncode == 0
        done = call_script(
            evaluate_enhanced,
            monkeypatch,
            capsys,
            "--checkpoint",
            shots / "net.pth",
            "--images",
            shots / "shots",
            "--gt",
            shots / "gt",
            "--list",
            shots / "list.txt",
            "--out",
            shots / f"eval_{name}",
            "--workers",
            1,
            "--device",
            "cpu",
            *options,
        )
        assert done.returncode == 0, done.stderr
        for image_id in ids:
            mine = read_label(shots / name / "labels" / f"{image_id}.png", 3)
            theirs = read_label(shots / f"eval_{name}/predictions/labels" / f"{image_id}.png", 3)
            assert (mine == theirs).all() and len(np.unique(mine)) > 1
    assert digests(shots / "plain") != digests(shots / "full")


def test_every_format_says_the_same(shots, predict):
    done = predict("out", "--format", "overlay", "coco-json", "labelme", "--confidence", "--min-confidence", 0.5)
    assert done.returncode == 0, done.stderr
    assert "long side of 64 pixels (the size that it was trained at)" in done.stdout
    out = shots / "out"
    coco = json.loads((out / "annotations.json").read_text())
    assert coco["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 255, "name": "void"}]
    rows = list(csv.DictReader((out / "summary.csv").open()))
    for image in coco["images"]:
        source = (out / image["file_name"]).resolve()
        assert source.is_file() and Image.open(source).size == (image["width"], image["height"])
        image_id = source.relative_to(shots / "shots").with_suffix("").as_posix()
        label = read_label(out / "labels" / f"{image_id}.png", 3)
        confidence = np.asarray(Image.open(out / "confidence" / f"{image_id}.png"))
        assert ((confidence < 127.5) == (label == 255)).all()
        again = np.zeros_like(label)
        for annotation in coco["annotations"]:
            if annotation["image_id"] == image["id"]:
                again[coco_mask.decode(annotation["segmentation"]) > 0] = annotation["category_id"]
        assert (again == label).all()
        labelme = json.loads((out / "labelme" / f"{image_id}.json").read_text())
        assert (out / "labelme" / image_id).parent.joinpath(labelme["imagePath"]).resolve() == source
        assert {shape["label"] for shape in labelme["shapes"]} <= {"cat", "dog", "__ignore__"}
        mine = [row for row in rows if row["image"] == image_id]
        assert abs(sum(float(row["share"]) for row in mine) - 1) < 1e-5
        for row in mine:
            where = label == (255 if row["class"] == "void" else NAMES.index(row["class"]))
            assert float(row["share"]) == pytest.approx(where.mean(), abs=1e-6)
            assert float(row["confidence"]) == pytest.approx(confidence[where].mean() / 255, abs=1e-3)
    assert "void" in {row["class"] for row in rows}
    assert Image.open(out / "overlays/day/s3.jpg").size == (87, 50)


def test_what_other_options_left_is_deleted(shots, predict):
    assert predict("out", "--format", "label-map", "overlay", "coco-json").returncode == 0
    assert (shots / "out/annotations.json").is_file() and (shots / "out/overlays/s0.jpg").is_file()
    assert predict("out", "--format", "label-map", "--min-confidence", 0.9).returncode == 0
    assert not (shots / "out/annotations.json").exists() and not (shots / "out/overlays/s0.jpg").exists()
    assert (shots / "out/labels/s0.png").is_file()


def test_results_beside_the_images_are_not_taken_for_images(shots, predict):
    for _ in range(2):
        done = predict("shots", "--format", "label-map", "overlay", images="shots")
        assert done.returncode == 0 and "5 of 5 images segmented" in done.stdout


def test_tags_restrict_the_classes(shots, predict):
    (shots / "tags.csv").write_text("s0,dog\nday/s3,cat\ns4\n")
    done = predict("out", "--image-labels", shots / "tags.csv")
    assert done.returncode == 1 and "s1: no image-level label" in done.stderr
    found = {name: set(np.unique(read_label(shots / f"out/labels/{name}.png"))) for name in ("s0", "day/s3", "day/s4")}
    assert found["s0"] <= {0, 2} and found["day/s3"] <= {0, 1} and found["day/s4"] == {0}


def test_a_tag_without_a_folder_is_not_that_of_two_images(shots, predict):
    (shots / "shots/night").mkdir()
    (shots / "shots/night/s3.png").write_bytes((shots / "shots/day/s3.png").read_bytes())
    (shots / "tags.csv").write_text("s0,dog\ns1,dog\ns3,cat\nday/s4,cat\n")
    done = predict("out", "--image-labels", shots / "tags.csv")
    assert done.returncode == 1 and done.stderr.count("s3: no image-level label") == 2


def test_bad_images_are_named_and_the_rest_goes_on(shots, predict):
    (shots / "shots/day/s3.png").write_bytes(b"no image")
    (shots / "shots/s0.jpg").write_bytes((shots / "shots/s1.png").read_bytes())
    done = predict()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "day/s3" in done.stderr and "s0.jpg" in done.stderr and "4 of 6 images" in done.stdout
    assert sorted(path.stem for path in (shots / "out/labels").rglob("*.png")) == ["s0", "s1", "s2", "s4"]
    (shots / "shots/s0.png").unlink()
    (shots / "shots/day/s3.png").unlink()
    assert predict().returncode == 0, "what was wrong is right now"
    assert len(list(csv.reader((shots / "out/summary.csv").open()))) > 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": "none.pth"}, "no checkpoint here"),
        ({"images": "nowhere"}, "no such file or folder"),
        ({"more": ["--scales", "0"]}, "scales"),
        ({"more": ["--min-confidence", "2"]}, "min-confidence"),
        ({"more": ["--format", "gif"]}, "gif"),
        ({"more": ["--image-labels", "no.csv"]}, "no.csv"),
        ({"more": ["--device", "cuda:77"]}, "cuda:77"),
    ],
)
def test_bad_commands_are_input_errors(predict, change, message):
    done = predict("out", *change.pop("more", []), **change)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in other units elsewhere")
def test_an_image_of_100_megapixels_takes_less_than_4_gigabytes(shots):
    import resource

    coarse = Image.open(shots / "shots/s0.png").resize((10_000, 10_000), Image.Resampling.BICUBIC)
    coarse.save(shots / "large.jpg")
    del coarse
    done = run_script("predict.py", *arguments(shots, "out", "large.jpg"), "--long-side", 1000, cold=True)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 << 20  # kibibytes, of the largest child
    assert Image.open(shots / "out/labels/large.png").size == (10_000, 10_000)
