"""Bad input of every kind to every script: a message that names file, finding and remedy; the exit code; the rest done.

Everything runs in this process, through the scripts' own ``main``, so that hundreds of cases take a minute. Each case
damages one thing in a small data set of three images (``good_1``, ``bad``, ``good_2``) and runs one command.
"""

import contextlib
import importlib
import io
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import corpus
import numpy as np
import pytest
from harness import HANGS

from util.data.cams import write_cam
from util.data.image_labels import write_image_labels
from util.data.labels import write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.data.synthetic import CLASSES, draw_picture
from util.runtime.cli import run

IDS = ("good_1", "bad", "good_2")
GOOD = ("good_1", "good_2")
TINY = ["--encoder", "timm-mobilenetv3_small_minimal_100", "--encoder-weights", "none"]
# What a remedy begins with.
REMEDY = re.compile(
    r"[;,:.)] ?(it may be cut short, )?(then |and |or |first )?(add|ask|check|choose|delete|download|drop|free|give|"
    r"leave|lower|make|mark|mend|name|pass|place|put|raise|remove|replace|run|save|scale|see|set|start|take|train|try|"
    r"turn|use|write|expected|the classes are|which VOC annotations never do)\b",
    re.IGNORECASE,
)


# --- the data and the commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """The data set before anything is damaged, with a trained network of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    tags = {}
    for number, image_id in enumerate(IDS):
        image, label = draw_picture(np.random.default_rng(number), 48, 64)
        corpus.put(folder / f"JPEGImages/{image_id}.jpg", corpus.encoded(image, "JPEG", quality=95))
        for name in ("labels", "gt"):
            write_label(folder / name / f"{image_id}.png", label, CLASSES.palette)
        tags[image_id] = tuple(int(value) for value in np.unique(label) if 0 < value < 255)
        values = tags[image_id]
        dense = np.stack([label == value for value in values])
        write_masks(folder / f"masks/{image_id}.json", Masks.from_dense(dense), image_id, f"{image_id}.jpg")
        write_cam(folder / "cams", image_id, {value: (label == value).astype(np.float32) for value in values})
        objects = "".join(f"<object><name>{CLASSES.names[value]}</name></object>" for value in values)
        corpus.put(folder / f"Annotations/{image_id}.xml", f"<annotation>{objects}</annotation>".encode())
    write_image_labels(folder / "tags.npy", tags, CLASSES)
    write_image_labels(folder / "tags.csv", tags, CLASSES)
    (folder / "list.txt").write_text("\n".join(IDS) + "\n")
    (folder / "names.txt").write_text("\n".join(CLASSES.names) + "\n")
    for script, out in (("train_transcam", "cam"), ("train_deeplabv3", "deeplab")):
        code, text = call(script, [*COMMANDS[script](folder), "--out", folder / "trained" / out])
        assert code == 0, text
        shutil.copy(folder / "trained" / out / "last.pth", folder / f"{out}.pth")
    shutil.rmtree(folder / "trained")
    return folder


def _common(place):
    return ["--list", place / "list.txt", "--class-names", place / "names.txt"]


def _merge(*more):
    def arguments(place):
        return [
            "--pseudo-path", place / "labels", "--sam-path", place / "masks", "--image-list", place / "list.txt",
            "--class-names", place / "names.txt", "--workers", 1, *more,
        ]  # fmt: skip

    return arguments


COMMANDS: dict[str, Callable[[Path], list]] = {
    "generate_sam_masks": lambda p: ["--model", "regions", "--images", p / "JPEGImages", "--list", p / "list.txt"],
    "main merge": _merge("--mode", "merge", "--method", "max_iou_imp2"),
    "main cams": lambda p: [*_merge("--mode", "merge", "--method", "cam_level")(p), "--cam-path", p / "cams"],
    "main tags": lambda p: [*COMMANDS["main cams"](p), "--image-labels", p / "tags.csv"],
    "main compare": lambda p: [
        *_merge("--mode", "compare", "--methods", "max_iou,max_iou_imp")(p), "--gt-dir", p / "gt"],
    "main all": lambda p: [
        *_merge("--mode", "all", "--method", "max_iou")(p), "--gt-dir", p / "gt", "--images-path", p / "JPEGImages",
        "--vis-random", 3],
    "evaluate_enhanced": lambda p: [*_common(p), "--pred", p / "labels", "--gt", p / "gt", "--workers", 1],
    "evaluate_enhanced network": lambda p: [
        *_common(p), "--checkpoint", p / "deeplab.pth", "--images", p / "JPEGImages", "--gt", p / "gt",
        "--workers", 0],
    "check_pseudo_label": lambda p: [
        *_common(p), "--labels", p / "labels", "--images", p / "JPEGImages", "--image-labels", p / "tags.npy",
        "--workers", 1],
    "generate_cams": lambda p: [
        *_common(p), "--images", p / "JPEGImages", "--image-labels", p / "tags.npy", "--checkpoint", p / "cam.pth",
        "--sizes", 32, "--workers", 0, "--no-flip"],
    "train_transcam": lambda p: [
        *_common(p), *TINY, "--method", "cam", "--images", p / "JPEGImages", "--image-labels", p / "tags.npy",
        "--epochs", 1, "--batch-size", 3, "--crop-size", 32, "--long-side", 40, 48, "--workers", 0],
    "train_deeplabv3": lambda p: [
        *_common(p), *TINY, "--images", p / "JPEGImages", "--labels", p / "labels", "--steps", 1, "--batch-size", 2,
        "--crop-size", 32, "--workers", 0],
}  # fmt: skip


def call(command: str, arguments: list) -> tuple[int, str]:
    """Exit code, and all that was printed."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    module, before, text = importlib.import_module(command.split()[0]), sys.argv, io.StringIO()
    sys.argv = [f"{module.__name__}.py", *map(str, arguments)]
    signal.signal(signal.SIGALRM, hung)
    signal.alarm(HANGS)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), pytest.raises(SystemExit) as end:
            run(module.main)
    finally:
        signal.alarm(0)
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return end.value.code, text.getvalue().replace("\r", "\n")


def hung(number, frame):
    raise AssertionError(f"hung for {HANGS} s")


# --- the cases ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One thing wrong, and what must come of it.

    Attributes:
        name: of the case.
        command: of `COMMANDS`.
        path: of what is damaged, in the data set.
        content: what is written there; None leaves all as it is.
        finding: pattern of what the message must say about it; None: it is odd, but fine.
        code: exit code.
        more: further options, a function of the data set's folder.
    """

    name: str
    command: str
    path: str = ""
    content: object = None
    finding: str | None = ""
    code: int = 2
    more: Callable[[Path], list] = lambda place: []

    def __str__(self) -> str:
        return f"{self.command}: {self.name}"


def damaged(command: str, path: str, table: dict, code: int, more=lambda place: []) -> list[Case]:
    return [
        Case(f"{path}: {name}", command, path, content, finding, code if finding else 0, more)
        for name, (content, finding) in table.items()
    ]


ALL_MISSING = {
    "generate_sam_masks": 1, "main merge": 1, "main cams": 1, "check_pseudo_label": 2, "generate_cams": 2,
    "main compare": 2, "main all": 2, "evaluate_enhanced": 2, "evaluate_enhanced network": 2, "train_transcam": 2,
    "train_deeplabv3": 2, "main tags": 2,
}  # fmt: skip
CASES = [
    *damaged("generate_sam_masks", "JPEGImages/bad.jpg", corpus.PICTURES, 1),
    *damaged("generate_cams", "JPEGImages/bad.jpg", corpus.PICTURES, 1),
    *damaged("evaluate_enhanced network", "JPEGImages/bad.jpg", corpus.PICTURES, 1),
    *damaged("check_pseudo_label", "JPEGImages/bad.jpg", corpus.HEADS, 1),
    *damaged("main all", "JPEGImages/bad.jpg", corpus.PICTURES, 1),
    *damaged("train_transcam", "JPEGImages/bad.jpg", corpus.PICTURES, 1),
    *damaged("train_deeplabv3", "JPEGImages/bad.jpg", corpus.PICTURES, 1),
    *damaged("main merge", "labels/bad.png", corpus.LABELS, 1),
    *damaged("main merge", "labels/bad.png", corpus.LABELS_OF_ANOTHER_SIZE, 1),
    *damaged("evaluate_enhanced", "labels/bad.png", corpus.LABELS, 1),
    *damaged("evaluate_enhanced", "labels/bad.png", corpus.LABELS_OF_ANOTHER_SIZE, 1),
    *damaged("evaluate_enhanced", "gt/bad.png", corpus.LABELS, 1),
    *damaged("check_pseudo_label", "labels/bad.png", corpus.LABELS, 1),
    *damaged("check_pseudo_label", "labels/bad.png", corpus.LABELS_OF_ANOTHER_SIZE, 1),
    *damaged("train_deeplabv3", "labels/bad.png", corpus.LABELS, 1),
    *damaged("train_deeplabv3", "labels/bad.png", corpus.LABELS_OF_ANOTHER_SIZE, 1),
    *damaged("main merge", "masks/bad.json", corpus.MASKS, 1),
    *damaged("main compare", "masks/bad.json", dict(list(corpus.MASKS.items())[::6]), 1),
    *damaged("main cams", "cams/bad.npy", corpus.CAMS, 1),
    *damaged("generate_cams", "tags.npy", corpus.NPY, 2),
    *damaged("check_pseudo_label", "tags.npy", corpus.NPY, 2),
    *damaged("main tags", "tags.csv", corpus.CSV, 2),
    *damaged("main tags", "Annotations/bad.xml", corpus.XML, 2, lambda p: ["--image-labels", p / "Annotations"]),
    *(case for command in COMMANDS for case in damaged(command, "list.txt", corpus.LISTS, 2)),
    *(case for command in COMMANDS for case in damaged(command, "names.txt", corpus.CLASS_NAMES, 2)
      if command != "generate_sam_masks"),
    # Nobody of the list is there: told id by id, and an error where nothing is left to sum up.
    *(case for command, code in ALL_MISSING.items() for case in damaged(command, "list.txt", corpus.STRANGE_IDS, code)),
]  # fmt: skip

# Options that cannot be right: command, options, what the message says.
WRONG_OPTIONS = [
    ("generate_sam_masks", "--images /nowhere", "/nowhere.*nothing is there"),
    ("generate_sam_masks", "--images {place}/list.txt", "a file is there"),
    ("generate_sam_masks", "--model vit_z", "vit_z"),
    ("generate_sam_masks", "--model vit_b --device warp", "warp"),
    ("generate_sam_masks", "--model vit_b --device cuda:99", "cuda:99"),
    ("generate_sam_masks", "--model vit_b --precision int8", "int8"),
    ("generate_sam_masks", "--points-per-side many", "many"),
    ("generate_sam_masks", "--points-per-side -3", "from 1 on"),
    ("generate_sam_masks", "--crop-overlap-ratio 2", "0..1"),
    ("generate_sam_masks", "--min-mask-region-area -1", "from 0 on"),
    ("generate_sam_masks", "--pred-iou-thresh nan", "finite"),
    ("generate_sam_masks", "--preview -1", "--preview"),
    ("generate_sam_masks", "--unheard-of", "--unheard-of"),
    ("generate_sam_masks", "--model vit_b --mirror nowhere --checkpoint {place}/none.pth", "--mirror"),
    ("generate_sam_masks", "--model vit_b --mirror nowhere", "nowhere.*--mirror"),
    ("main merge", "--method magic", "magic"),
    ("main merge", "--method ../merge/max_iou", "max_iou"),
    ("main merge", "--mode dance", "dance"),
    ("main merge", "--param ratio", "ratio"),
    ("main merge", "--param nothing=1", "nothing"),
    ("main merge", "--sam-path /nowhere", "/nowhere"),
    ("main merge", "--pseudo-path /nowhere", "/nowhere"),
    ("main merge", "--number-class 5", "5"),
    ("main merge", "--number-class 1000", "1000"),
    ("main merge", "--number-class -1", "-1"),
    ("main merge", "--workers some", "some"),
    ("main merge", "--workers -1", "--workers"),
    ("main compare", "--methods magic", "magic"),
    ("main compare", "--methods ,", "strategy"),
    ("main compare", "--gt-dir /nowhere", "/nowhere"),
    ("main compare", "--classes unicorn", "unicorn"),
    ("main compare", "--sensitivity nothing", "nothing"),
    ("main all", "--images-path /nowhere", "/nowhere"),
    ("main tags", "--image-labels /nowhere.csv", "/nowhere.csv"),
    ("main cams", "--cam-path /nowhere", "/nowhere"),
    ("evaluate_enhanced", "--classes unicorn", "unicorn"),
    ("evaluate_enhanced", "--gt /nowhere", "/nowhere"),
    ("evaluate_enhanced", "--pred /nowhere", "/nowhere"),
    ("evaluate_enhanced", "--baseline /nowhere", "/nowhere"),
    ("evaluate_enhanced", "--num-classes 3", "3"),
    ("evaluate_enhanced network", "--scales 0", "scale"),
    ("evaluate_enhanced network", "--scales nan", "scale"),
    ("evaluate_enhanced network", "--images /nowhere", "/nowhere"),
    ("evaluate_enhanced network", "--device warp", "warp"),
    ("check_pseudo_label", "--near-empty 7", "near-empty"),
    ("check_pseudo_label", "--labels /nowhere", "/nowhere"),
    ("check_pseudo_label", "--images /nowhere", "/nowhere"),
    ("generate_cams", "--sizes 0", "size"),
    ("generate_cams", "--sizes -64", "size"),
    ("generate_cams", "--bg-threshold 7", "bg-threshold"),
    ("generate_cams", "--bg-threshold nan", "bg-threshold"),
    ("generate_cams", "--batch-size 0", "batch-size"),
    ("generate_cams", "--images /nowhere", "/nowhere"),
    ("generate_cams", "--sweep", "--gt"),
    ("generate_cams", "--device warp", "warp"),
    ("train_transcam", "--epochs 0", "epochs"),
    ("train_transcam", "--batch-size 0", "batch-size"),
    ("train_transcam", "--crop-size 0", "crop-size"),
    ("train_transcam", "--long-side 48 40", "long-side"),
    ("train_transcam", "--lr nan", "lr"),
    ("train_transcam", "--lr -1", "lr"),
    ("train_transcam", "--jitter 9", "jitter"),
    ("train_transcam", "--encoder unheard_of", "unheard_of"),
    ("train_transcam", "--encoder-weights {place}/none.pth", "none.pth"),
    ("train_transcam", "--method transcam --weights {place}/none.pth", "none.pth"),
    ("train_transcam", "--images /nowhere", "/nowhere"),
    ("train_deeplabv3", "--steps 0", "steps"),
    ("train_deeplabv3", "--batch-size 0", "batch-size"),
    ("train_deeplabv3", "--crop-size 33", "crop-size"),
    ("train_deeplabv3", "--scale 2 1", "scale"),
    ("train_deeplabv3", "--lr nan", "lr"),
    ("train_deeplabv3", "--ema 2", "ema"),
    ("train_deeplabv3", "--encoder unheard_of", "unheard_of"),
    ("train_deeplabv3", "--output-stride 7", "7"),
    ("train_deeplabv3", "--images /nowhere", "/nowhere"),
    ("train_deeplabv3", "--labels /nowhere", "/nowhere"),
    ("train_deeplabv3", "--val-list {place}/list.txt", "--val-gt"),
    ("prepare_voc", "", "VOCtrainval_11-May-2012.tar|benchmark"),
    ("prepare_voc", "--archives /nowhere", "/nowhere|download"),
    ("quickstart", "--only magic", "magic"),
    ("quickstart", "--skip magic", "magic"),
    ("quickstart", "--with nonsense", "nonsense"),
    ("quickstart", "--with magic=--x", "magic"),
    ("quickstart", "--with cam='", "close what is quoted"),
    ("quickstart", "--images 0", "--images"),
    ("quickstart", "--effort nan", "--effort"),
    ("quickstart", "--effort 0", "--effort"),
    ("quickstart", "--processes 0", "--processes"),
    ("quickstart", "--voc /nowhere", "/nowhere"),
    ("quickstart", "--voc {place}", "no ground truth"),
    ("quickstart", "--class-names x", "--voc"),
    ("quickstart", "--sam-path /nowhere", "/nowhere"),
    ("quickstart", "--sam-checkpoint /nowhere.pth", "/nowhere.pth"),
    ("quickstart", "--sam-path /tmp --sam-checkpoint x", "give one of them"),
    ("quickstart", "--method magic", "magic"),
]


@pytest.fixture
def place(sound, tmp_path, monkeypatch) -> Path:
    """A copy of the sound data; also the current folder, where a pickle's command would leave its mark."""
    # Links, for time: what is damaged is first taken away.
    shutil.copytree(sound, tmp_path / "data", copy_function=os.link)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def judge(text: str, code: int, expected: int) -> str:
    """What was printed, in one line, once it is known to hold no traceback."""
    assert "Traceback" not in text, text
    assert code == expected, f"exit code {code}, not {expected}:\n{text}"
    assert not Path("executed").exists(), "a pickle ran a command"
    return text


@pytest.mark.parametrize("case", CASES, ids=str)
def test_damaged_file(case, place):
    target = place / case.path
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    corpus.put(target, case.content)
    out = place.parent / "out"
    code, text = call(case.command, [*COMMANDS[case.command](place), *case.more(place), "--out", out])
    text = judge(text, code, case.code)
    if case.finding is None:
        return
    told = [line for line in text.splitlines() if names(line, target, case)]
    assert told, f"no line names {target}:\n{text}"
    assert any(re.search(case.finding, line) and REMEDY.search(line) for line in told), "\n".join(told)
    if case.code == 1 and not case.path.endswith(".txt"):
        for path in RESULTS[case.command]:
            assert (out / path).is_file(), f"{path} was not made:\n{text}"
        for path, image_id in LEFT_OUT.get(case.command, []):
            assert not (out / path).exists(), f"{path} was made of {image_id}"


def names(line: str, target: Path, case: Case) -> bool:
    """Whether a line names the damaged file; a missing one by its folder and id."""
    if case.content in [content for content, _ in corpus.STRANGE_IDS.values()]:
        return True  # the lines name the ids
    if case.content in [content for content, _ in corpus.LABELS_OF_ANOTHER_SIZE.values()]:
        return bool(re.search(rf"/{target.stem}\.(png|json|jpg)", line))  # either of two is wrong
    return str(target) in line or (str(target.parent) in line and target.stem in line)


# What must be there although one image is bad, and what must not.
RESULTS = {
    "train_transcam": ["last.pth"],
    "train_deeplabv3": ["last.pth"],
    "generate_sam_masks": [f"{image_id}.json" for image_id in GOOD],
    "main merge": [f"max_iou_imp2/{image_id}.png" for image_id in GOOD],
    "main cams": [f"cam_level/{image_id}.png" for image_id in GOOD],
    "main compare": ["compare.json", *(f"max_iou_imp/{image_id}.png" for image_id in GOOD)],
    "main all": ["max_iou.metrics.json", *(f"vis/max_iou/{image_id}.png" for image_id in GOOD)],
    "evaluate_enhanced": ["metrics.json", "per_image.csv"],
    "evaluate_enhanced network": ["metrics.json", *(f"predictions/labels/{image_id}.png" for image_id in GOOD)],
    "check_pseudo_label": ["check.json"],
    "generate_cams": [f"labels/{image_id}.png" for image_id in GOOD],
}
LEFT_OUT = {
    "generate_sam_masks": [("bad.json", "bad")],
    "main merge": [("max_iou_imp2/bad.png", "bad")],
    "main cams": [("cam_level/bad.png", "bad")],
    "generate_cams": [("labels/bad.png", "bad")],
}


@pytest.mark.parametrize("name, content, finding", [(n, c, f) for n, (c, f) in corpus.MASK_FOLDERS.items()])
def test_damaged_folder_of_masks(name, content, finding, place):
    (place / "masks/bad.json").unlink()
    for file, data in content.items():
        corpus.put(place / "masks/bad" / file, data)
    code, text = call("main merge", [*COMMANDS["main merge"](place), "--out", place.parent / "out"])
    text = judge(text, code, 1)
    told = [line for line in text.splitlines() if str(place / "masks/bad") in line]
    assert any(re.search(finding, line) and REMEDY.search(line) for line in told), text


@pytest.mark.parametrize("name", list(corpus.checkpoints()))
@pytest.mark.parametrize(
    "command, file, options",
    [
        ("generate_sam_masks", "sam.pth", ["--model", "vit_b", "--checkpoint", "{file}", "--device", "cpu"]),
        ("generate_cams", "cam.pth", []),
        ("evaluate_enhanced network", "deeplab.pth", []),
        ("train_transcam", "weights.pth", ["--encoder-weights", "{file}"]),
        ("train_transcam", "conformer.pth", ["--method", "transcam", "--arch", "tiny", "--weights", "{file}"]),
        ("train_deeplabv3", "encoder.pth", ["--encoder-weights", "{file}"]),
    ],
)
def test_damaged_checkpoint(command, file, options, name, place):
    content, finding = corpus.checkpoints()[name]
    (place / file).unlink(missing_ok=True)
    corpus.put(place / file, content)
    options = [option.format(file=place / file) for option in options]
    code, text = call(command, [*COMMANDS[command](place), *options, "--out", place.parent / "out"])
    text = judge(text, code, 2)
    told = [line for line in text.splitlines() if file in line]
    assert any(re.search(finding, line) and REMEDY.search(line) for line in told), text


@pytest.mark.parametrize("command, options, finding", WRONG_OPTIONS)
def test_wrong_option(command, options, finding, place):
    options = options.format(place=place).split()
    begin = {**COMMANDS, "prepare_voc": lambda p: ["--archives", p], "quickstart": lambda p: []}[command]
    code, text = call(command, [*begin(place), *options, "--out", place.parent / "out"])
    text = judge(text, code, 2)
    error = text[text.index("error: ") :]
    assert re.search(finding, error), text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_the_place_of_the_results_folder(command, place):
    (place.parent / "out").write_text("in the way")
    code, text = call(command, [*COMMANDS[command](place), "--out", place.parent / "out"])
    text = judge(text, code, 2)
    assert str(place.parent / "out") in text and REMEDY.search(text)


def test_there_are_enough_cases():
    checkpoints = 6 * len(corpus.checkpoints())
    assert len(CASES) + len(corpus.MASK_FOLDERS) + checkpoints + len(WRONG_OPTIONS) + len(COMMANDS) > 400
