"""The merge stage from the command line: results, resume, staleness, faults and bad input."""

import csv
import json
import shutil
import subprocess

import numpy as np
import pytest
from helpers import ROOT, call_script, random_label, random_masks, run_script, run_two, write_set

import main
from merge import RECOMMENDED, STRATEGIES
from merge.auto import RULES
from util.data.cams import write_cam
from util.data.labels import read_label, write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks


@pytest.fixture
def data(tmp_path):
    write_set(tmp_path)
    return tmp_path


def command(data, *more, out="out"):
    inputs = ["--pseudo_path", data / "labels", "--sam-path", data / "masks", "--gt-dir", data / "gt"]
    return [*inputs, "--image-list", data / "list.txt", "--out", data / out, "--workers", "1", *more]


def results(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*.png"))}


def test_all_writes_labels_scores_and_figures(data):
    done = run_script("main.py", *command(data, "--mode", "all", "--vis-worst", "2"))
    assert done.returncode == 0, done.stderr
    assert "6 made, 0 up to date, 0 failed" in done.stdout and "mIoU" in done.stdout
    out = data / "out"
    assert len(results(out / "auto")) == 6
    assert len(list((out / "vis" / "auto").glob("*.png"))) == len(list((out / "vis" / "auto").glob("*.pdf"))) == 2
    assert (out / "vis" / "auto.pdf").is_file() and (out / "auto.classes.pdf").is_file()
    assert f"written: {out}/auto.confusion.pdf, auto.confusion.png, auto.classes.pdf, auto.classes.png" in done.stdout
    metrics = json.loads((out / "auto.metrics.json").read_text())
    assert metrics["images"] == 6 and 0 < metrics["miou"] < 1
    rows = (out / "auto.per_image.csv").read_text().splitlines()
    assert len(rows) == 7
    run = json.loads((out / "auto" / "run.json").read_text())
    assert run["options"]["parameters"]["rule"] in RULES and "numpy" in run["versions"]


def test_the_help_names_the_strategy_that_is_the_default(monkeypatch, capsys):
    done = call_script(main, monkeypatch, capsys, "--help")
    assert f"(default: {RECOMMENDED})" in " ".join(done.stdout.split())


def test_compare_ranks_every_strategy(data):
    done = run_script("main.py", *command(data, "--mode", "compare"))
    assert done.returncode == 0, done.stderr
    comparison = json.loads((data / "out" / "compare.json").read_text())
    assert set(comparison["methods"]) == set(comparison["difference"]) == set(STRATEGIES)
    for name, change in comparison["difference"].items():
        expected = comparison["methods"][name]["miou"] - comparison["input"]["miou"]
        assert change["miou"] == pytest.approx(expected)
        low, high = change["interval_95"]
        assert low <= high
    assert (data / "out" / "compare.pdf").is_file() and (data / "out" / "compare.png").stat().st_size > 1000
    with open(data / "out" / "compare.csv") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    low, high = comparison["difference"]["grow"]["interval_95"]
    assert float(rows["grow"]["95 % interval, low"]) == pytest.approx(100 * low, abs=0.005)
    assert float(rows["grow"]["95 % interval, high"]) == pytest.approx(100 * high, abs=0.005)
    assert rows["input"]["95 % interval, low"] == ""
    assert "void: share of the pixels labelled void" in done.stdout and "partial: pixels of the class" in done.stdout


def test_compare_reports_pairs_classes_and_the_baseline(data):
    done = run_script("main.py", *command(data, "--mode", "compare", "--baseline", "max_iou"))
    assert done.returncode == 0, done.stderr
    comparison = json.loads((data / "out" / "compare.json").read_text())
    for one in STRATEGIES:
        for other in set(STRATEGIES) - {one}:
            pair, back = comparison["pairs"][one][other], comparison["pairs"][other][one]
            assert pair["miou"] == pytest.approx(-back["miou"])
            assert pair["interval_95"] == pytest.approx([-bound for bound in back["interval_95"][::-1]])
    assert "to max_iou" in done.stdout and "partial input" in done.stdout
    rows = (data / "out" / "compare_classes.csv").read_text().splitlines()
    assert len(rows) == 1 + len(comparison["input"]["per_class"])


def test_each_compared_strategy_can_have_parameters_of_its_own(data, monkeypatch, capsys):
    asked = command(data, "--mode", "compare", "--methods", "max_iou,grow", "--param")
    done = call_script(main, monkeypatch, capsys, *asked, "grow.quality=0.1")
    assert done.returncode == 0, done.stderr
    made = {name: json.loads((data / "out" / name / "run.json").read_text()) for name in ("max_iou", "grow")}
    parameters = {name: record["options"]["parameters"] for name, record in made.items()}
    assert parameters["grow"]["quality"] == 0.1 and "quality" not in parameters["max_iou"]
    assert "write METHOD.quality=0.1" in call_script(main, monkeypatch, capsys, *asked, "quality=0.1").stderr
    assert (
        "s2c.keep=True: for a strategy that is not used here"
        in call_script(main, monkeypatch, capsys, *asked, "s2c.keep=True").stderr
    )


def test_split_half_reports_each_half_with_the_choice_of_the_other(data):
    done = run_script(
        "main.py",
        *command(data, "--mode", "compare", "--methods", "max_iou,grow", "--split-half", "3"),
        *("--values", "threshold=0.2,0.9", "--values", "quality=0.1,0.9", "--values", "trim=0,0.9"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((data / "out" / "split_half.json").read_text())
    assert sorted(result["halves"]["A"] + result["halves"]["B"]) == [f"img_{i:02}" for i in range(6)]
    assert result["chosen"]["max_iou"]["settings"] == 2 and result["chosen"]["grow"]["settings"] == 12
    for half in "AB":
        assert result["chosen"]["max_iou"][half]["parameters"]["threshold"] in (0.2, 0.9)
    assert (data / "out" / "split_half.csv").is_file() and (data / "out" / "split_half.png").is_file()
    assert "chosen on" in done.stdout


@pytest.mark.slow
def test_sensitivity_scores_as_a_merge_with_that_value_does(data):
    sweep = command(data, "--mode", "compare", "--methods", "max_iou_imp2", "--sensitivity", "threshold")
    done = run_script("main.py", *sweep, "--values", "threshold=0.1,0.9")
    assert done.returncode == 0, done.stderr
    result = json.loads((data / "out" / "sensitivity_max_iou_imp2_threshold.json").read_text())
    assert [point["value"] for point in result["points"]] == [0.1, 0.5, 0.9]
    assert result["points"][1]["interval_95"] == [0, 0]
    run_script("main.py", *command(data, "--mode", "merge", "--method", "max_iou_imp2", "--param", "threshold=0.9"))
    run_script("main.py", *command(data, "--mode", "eval", "--method", "max_iou_imp2"))
    metrics = json.loads((data / "out" / "max_iou_imp2.metrics.json").read_text())
    assert metrics["miou"] == pytest.approx(result["points"][2]["miou"])
    assert (data / "out" / "sensitivity_max_iou_imp2_threshold.png").stat().st_size > 1000
    assert f"written: {data / 'out'}/sensitivity_max_iou_imp2_threshold.json, " in done.stdout


def test_a_broken_image_does_not_stop_the_sweep(data):
    cut(data, "labels/img_02.png")
    done = run_script("main.py", *command(data, "--mode", "compare", "--methods", "max_iou", "--split-half", "0"))
    assert done.returncode == 1 and "img_02.png: not a readable label map" in done.stderr
    result = json.loads((data / "out" / "split_half.json").read_text())
    assert len(result["halves"]["A"] + result["halves"]["B"]) == 5


def test_what_is_up_to_date_is_kept_and_a_changed_option_is_not(data):
    merge = command(data, "--mode", "merge", "--method", "max_iou")
    run_script("main.py", *merge)
    before = {p.name: p.stat().st_mtime_ns for p in (data / "out" / "max_iou").glob("*.png")}
    again = run_script("main.py", *merge)
    assert "0 made, 6 up to date" in again.stdout
    assert before == {p.name: p.stat().st_mtime_ns for p in (data / "out" / "max_iou").glob("*.png")}
    assert "6 made" in run_script("main.py", *merge, "--param", "threshold=0.9").stdout
    assert "6 made" in run_script("main.py", *merge).stdout


def test_a_changed_input_or_a_damaged_output_is_made_again(data):
    merge = command(data, "--mode", "merge")
    run_script("main.py", *merge)
    clean = results(data / "out" / "auto")
    (data / "out" / "auto" / "img_03.png").write_bytes(b"damaged")
    assert "1 made, 5 up to date" in run_script("main.py", *merge).stdout
    assert results(data / "out" / "auto") == clean
    rng = np.random.default_rng(99)
    write_masks(data / "masks" / "img_01.json", random_masks(rng), "img_01", "img_01.jpg")
    write_label(data / "labels" / "img_02.png", random_label(rng))
    assert "2 made, 4 up to date" in run_script("main.py", *merge).stdout


def test_an_edited_strategy_is_run_again_and_no_other(data, tmp_path):
    project = tmp_path / "project"
    for folder in ("merge", "pipeline", "util"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("main.py", "processor.py"):
        shutil.copy(ROOT / file, project)

    def merge(method):
        return run_script(project / "main.py", *command(data, "--mode", "merge", "--method", method)).stdout

    assert "6 made" in merge("merge_customize") and "6 made" in merge("max_iou")
    before = results(data / "out" / "merge_customize")
    strategy = project / "merge" / "merge_customize.py"
    text = strategy.read_text()
    assert "purity: float = 0.5" in text
    strategy.write_text(text.replace("purity: float = 0.5", "purity: float = 0.95"))
    assert "6 made" in merge("merge_customize") and "0 made, 6 up to date" in merge("max_iou")
    assert results(data / "out" / "merge_customize") != before
    strategy.write_text(text + "\n# a remark\n")
    assert "6 made" in merge("merge_customize")
    assert results(data / "out" / "merge_customize") == before


def test_auto_decides_once_for_all_images_and_again_when_they_change(data):
    def merge(method):
        done = run_script("main.py", *command(data, "--mode", "merge", "--method", method))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rule():
        return json.loads((data / "out" / "auto" / "run.json").read_text())["options"]["parameters"]["rule"]

    text = merge("auto")
    assert "auto chooses max_iou_imp2: " in text and "6 made" in text and rule() == "max_iou_imp2"
    merge("max_iou_imp2")
    assert results(data / "out" / "auto") == results(data / "out" / "max_iou_imp2")
    assert "0 made, 6 up to date" in merge("auto")
    for path in sorted((data / "masks").glob("*.json")):  # poor masks that agree with the labels
        label = read_label(data / "labels" / f"{path.stem}.png")
        masks = Masks.from_dense((label > 0)[None], [0.8], [0.8])
        write_masks(path, masks, path.stem, f"{path.stem}.jpg")
    text = merge("auto")
    assert "auto chooses grow: " in text and "6 made" in text and rule() == "grow"
    merge("grow")
    assert results(data / "out" / "auto") == results(data / "out" / "grow")


def test_worker_processes_give_the_same_bytes(tmp_path):
    write_set(tmp_path, count=20)
    run_script("main.py", *command(tmp_path, "--mode", "merge", out="one"))
    run_script("main.py", *command(tmp_path, "--mode", "merge", "--workers", "3", out="many"))
    one, many = (results(tmp_path / name / "auto") for name in ("one", "many"))
    assert len(one) == 20 and one == many


def cut(data, name):
    path = data / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def misspelt_attribute(label, masks, *, tags=None, cam=None):
    return masks.overlap(label)


def misspelt_name(label, masks, *, tags=None, cam=None):
    return lable  # noqa: F821


def another_shape(label, masks, *, tags=None, cam=None):
    return label[1:]


def wrong_call(label, masks, *, tags=None, cam=None):
    return np.concatenate([])


def without_tags(label, masks):
    return label


def without_default(label, masks, *, tags=None, cam=None, share):
    return label


def of_no_class(label, masks, *, tags=None, cam=None):
    return np.full_like(label, 77)


def leaving(label, masks, *, tags=None, cam=None):
    raise SystemExit(0)


def changing_its_cam(label, masks, *, tags=None, cam=None):
    cam[next(iter(cam))] *= 0.5
    return label


@pytest.mark.parametrize(
    "strategy, said",
    [
        (misspelt_attribute, "did you mean overlaps? (test_main.py, line"),
        (misspelt_name, "did you mean label? (test_main.py, line"),
        (another_shape, "gave uint8 of shape (39, 52); return uint8 of the label's shape (40, 52)"),
        (wrong_call, "need at least one array to concatenate (test_main.py, line"),
        (
            without_tags,
            "it is called as merge(label, masks, tags=..., cam=...), other parameters need a default (test_main.py",
        ),
        (without_default, "'share'; it is called as merge(label, masks"),
        (of_no_class, "gave the value 77; classes are 0 to 20, and 255 is void"),
        (leaving, "failed with SystemExit: 0 (test_main.py, line"),
        (changing_its_cam, "read-only; copy a soft CAM before you change it (test_main.py, line"),
    ],
)
def test_a_strategy_with_a_mistake_stops_the_run_with_its_line(data, monkeypatch, capsys, strategy, said):
    """No other image can be right before the strategy is changed, and then all are made again."""
    monkeypatch.setitem(STRATEGIES, "merge_customize", strategy)
    for image_id in (data / "list.txt").read_text().split():
        write_cam(data / "cams", image_id, {value: np.ones((40, 52), np.float32) for value in range(1, 21)})
    asked = command(data, "--mode", "all", "--method", "merge_customize", "--workers", 0, "--cam-path", data / "cams")
    done = call_script(main, monkeypatch, capsys, *asked)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert "error: img_00: " in done.stderr and done.stderr.count("strategy merge_customize") == 1


def test_a_second_run_into_the_same_folder_is_refused(data):
    from util.runtime.locking import lock_folder

    (data / "out" / "auto").mkdir(parents=True)
    with lock_folder(data / "out" / "auto"):
        done = run_script("main.py", *command(data, "--mode", "merge"))
    assert done.returncode == 2 and "another run is writing here" in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small tmpfs needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_the_run_and_it_resumes(small_disk, tmp_path):
    write_set(tmp_path, count=60)
    merge = command(tmp_path, "--mode", "merge")
    merge[merge.index("--out") + 1] = small_disk
    done = run_script("main.py", *merge)
    assert done.returncode == 2 and "free space there or fix the disk" in done.stderr and "Traceback" not in done.stderr
    written = list((small_disk / "auto").glob("*.png"))
    assert written and all(read_label(path).shape == (40, 52) for path in written)
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    done = run_script("main.py", *merge)
    assert done.returncode == 0 and "60 made" not in done.stdout
    run_script("main.py", *command(tmp_path, "--mode", "merge", out="whole"))
    assert results(small_disk / "auto") == results(tmp_path / "whole" / "auto")


def test_an_unwritable_folder_is_named(small_disk, tmp_path):
    write_set(tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    merge = command(tmp_path, "--mode", "merge")
    merge[merge.index("--out") + 1] = small_disk / "out"
    done = run_script("main.py", *merge)
    assert done.returncode == 2 and "cannot write here" in done.stderr and "Traceback" not in done.stderr


def test_a_broken_strategy_file_stops_no_other(data, tmp_path):
    project = tmp_path / "project"
    for folder in ("merge", "pipeline", "util"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("main.py", "processor.py"):
        shutil.copy(ROOT / file, project)
    (project / "merge" / "merge_customize.py").write_text("def merge(label, masks:\n    return label\n")
    asked = command(data, "--mode", "compare", "--methods", "max_iou,merge_customize")
    done = run_script(project / "main.py", *asked)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "merge_customize cannot be loaded" in done.stderr and done.stderr.count("merge_customize.py, line 1") == 1
    assert "merge_customize: no label map, see above; it is left out" in done.stdout
    assert "max_iou" in json.loads((data / "out" / "compare.json").read_text())["methods"]


def usual(label, masks, tags=None, cam=None, share: float = 1, low=None, sizes=(1, 2)):
    """Its signature as one writes it elsewhere, and it changes nothing."""
    assert type(share) is float
    return label


def test_parameters_as_one_writes_them(data, monkeypatch, capsys):
    monkeypatch.setitem(STRATEGIES, "merge_customize", usual)
    asked = command(data, "--mode", "merge", "--method", "merge_customize", "--workers", 0, "--param")
    done = call_script(main, monkeypatch, capsys, *asked, "share=0.5")
    assert done.returncode == 0 and "6 made, 0 up to date, 0 failed; none differs from its pseudo label" in done.stdout
    for given in ("low=1", "sizes=3,4"):
        done = call_script(main, monkeypatch, capsys, *asked, given)
        assert done.returncode == 2 and f"{given}: the default is " in done.stderr


def test_a_strategy_that_cannot_be_loaded_has_no_parameters_to_miss(data, monkeypatch, capsys):
    def broken(*arguments, **named):
        raise AssertionError

    broken.problem = "strategy merge_customize cannot be loaded: here"
    monkeypatch.setitem(STRATEGIES, "merge_customize", broken)
    merge = ["--mode", "merge", "--method", "merge_customize", "--param", "purity=0.6"]
    compare = ["--mode", "compare", "--methods", "merge_customize"]
    for asked in (merge, [*compare, "--sensitivity", "purity"], [*compare, "--values", "purity=1,2"]):
        done = call_script(main, monkeypatch, capsys, *command(data, *asked))
        assert done.returncode == 2 and broken.problem in done.stderr


def test_label_maps_and_figures_of_other_code_are_not_taken_for_those_of_now(data, monkeypatch, capsys):
    def run(mode, *more):
        asked = command(data, "--mode", mode, "--method", "max_iou", "--workers", 0, *more)
        return call_script(main, monkeypatch, capsys, *asked)

    assert "other code" not in run("all", "--vis-sample", "img_00", "img_01").stderr
    assert "other code" not in run("eval").stderr
    assert "max_iou was made by other code, parameters" in run("eval", "--param", "threshold=0.9").stderr
    run("all", "--param", "threshold=0.9", "--vis-sample", "img_02")
    assert {path.stem for path in (data / "out/vis/max_iou").iterdir()} == {"img_02"}
    assert "other code" in run("vis", "--vis-sample", "img_03").stderr
    assert {path.stem for path in (data / "out/vis/max_iou").iterdir()} == {"img_02", "img_03"}


def test_label_maps_of_before_do_not_stand_for_a_strategy_that_fails_now(data, monkeypatch, capsys):
    def broken(label, masks, *, tags=None, cam=None):
        return label[:0].reshape(3)

    asked = command(data, "--mode", "compare", "--methods", "max_iou,merge_customize", "--workers", 0)
    done = call_script(main, monkeypatch, capsys, *asked)
    assert done.returncode == 0 and len(results(data / "out" / "merge_customize")) == 6
    monkeypatch.setitem(STRATEGIES, "merge_customize", broken)
    done = call_script(main, monkeypatch, capsys, *asked)
    assert done.returncode == 1 and "test_main.py, line" in done.stderr and "cannot reshape" in done.stderr
    assert list(json.loads((data / "out" / "compare.json").read_text())["methods"]) == ["max_iou"]
    assert not results(data / "out" / "merge_customize")


def test_prompted_masks_need_no_label(data):
    for path in (data / "masks").glob("*.json"):
        content = json.loads(path.read_text())
        content["annotations"][0] |= {"category": "cat", "score": 0.9}
        path.write_text(json.dumps(content))
    asked = [arg for arg in command(data, "--mode", "all", "--method", "prompted")]
    place = asked.index("--pseudo_path") if "--pseudo_path" in asked else asked.index("--pseudo-path")
    del asked[place : place + 2]
    done = run_script("main.py", *asked)
    assert done.returncode == 0, done.stderr
    assert set(np.unique(read_label(data / "out" / "prompted" / "img_00.png"))) == {0, 8}
    asked[asked.index("prompted")] = "grow"
    refused = run_script("main.py", *asked)
    assert refused.returncode == 2 and "--pseudo-path is missing" in refused.stderr


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(data):
    two = run_two("main.py", *command(data, "--mode", "all", out="two"))
    assert two.returncode == 0, two.stderr
    one = run_script("main.py", *command(data, "--mode", "all", out="one"))
    assert results(data / "two/auto") == results(data / "one/auto") != {}
    parts, whole = (done.stdout.replace(f"{data}/one", f"{data}/two").split("auto chooses ")[1:] for done in (two, one))
    assert "6 made" in two.stdout and parts == whole != []
    again = run_script("main.py", *command(data, "--mode", "merge", out="two"))
    assert "0 made, 6 up to date" in again.stdout


def test_labels_that_are_masks_of_0_and_255_are_refused(data):
    for path in (data / "labels").glob("*.png"):
        write_label(path, np.where(read_label(path) > 0, 255, 0).astype(np.uint8))
    for mode in ("merge", "eval"):
        done = run_script("main.py", *command(data, "--mode", mode))
        assert done.returncode == 2 and "255 marks the object, save it as the number of its class" in done.stderr
