"""Bad input of every kind to every script: a message that names file, finding and remedy; the exit code; the rest done.

Everything runs in this process, through the scripts' own ``main``, so that hundreds of cases take a minute. Each case
damages one thing in a small data set of three images (``good_1``, ``bad``, ``good_2``) and runs one command.
"""

import contextlib
import faulthandler
import importlib
import io
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import corpus
import numpy as np
import pytest

from util.data.cams import write_cam
from util.data.image_labels import write_image_labels
from util.data.labels import write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.data.synthetic import CLASSES, draw_picture
from util.runtime.cli import run

HANGS = 600  # seconds after which a command counts as hung, also on a busy machine
IDS = ("good_1", "bad", "good_2")
GOOD = ("good_1", "good_2")
# What a remedy begins with.
REMEDY = re.compile(
    r"[;,:.)] ?(it may be cut short, )?(then |and |or |first )?(add|ask|check|choose|delete|download|drop|free|give|"
    r"leave|lower|make|mark|name|pass|place|put|raise|remove|replace|run|save|scale|see|set|start|take|train|try|"
    r"turn|use|write|expected|the classes are|which VOC annotations never do)\b",
    re.IGNORECASE,
)


# --- the data and the commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """The data set before anything is damaged."""
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
    return folder


@pytest.fixture(scope="module")
def trained(sound) -> Path:
    """The data set with a trained network of each kind."""
    for script, out in (("train_transcam", "cam"), ("train_deeplabv3", "deeplab")):
        code, text = call(script, sound, "--out", sound.parent / out)
        assert code == 0, text
        shutil.copy(sound.parent / out / "last.pth", sound / f"{out}.pth")
    return sound


LISTED = "--list {p}/list.txt --class-names {p}/names.txt"
IMAGES = "--images {p}/JPEGImages"
MERGE = (
    "--pseudo-path {p}/labels --sam-path {p}/masks --image-list {p}/list.txt --class-names {p}/names.txt --gt-dir {p}/gt "
    "--images-path {p}/JPEGImages --workers 1"
)
TRAIN = (
    f"{LISTED} {IMAGES} --encoder timm-mobilenetv3_small_minimal_100 --encoder-weights none --crop-size 32 --workers 0"
)
COMMANDS = {
    "generate_sam_masks": f"{IMAGES} --list {{p}}/list.txt --model regions",
    "main merge": f"{MERGE} --mode merge --method max_iou_imp2",
    "main cams": f"{MERGE} --mode merge --method cam_level --cam-path {{p}}/cams",
    "main tags": f"{MERGE} --mode merge --method cam_level --cam-path {{p}}/cams --image-labels {{p}}/tags.csv",
    "main compare": f"{MERGE} --mode compare --methods max_iou,max_iou_imp",
    "main all": f"{MERGE} --mode all --method max_iou --vis-random 3",
    "evaluate_enhanced": f"{LISTED} --pred {{p}}/labels --gt {{p}}/gt --workers 1",
    "evaluate_enhanced network": f"{LISTED} {IMAGES} --checkpoint {{p}}/deeplab.pth --gt {{p}}/gt --workers 0",
    "check_pseudo_label": f"{LISTED} {IMAGES} --labels {{p}}/labels --image-labels {{p}}/tags.npy --workers 1",
    "generate_cams": f"{LISTED} {IMAGES} --image-labels {{p}}/tags.npy --checkpoint {{p}}/cam.pth --sizes 32 --workers 0 "
    "--no-flip",
    "train_transcam": f"{TRAIN} --method cam --image-labels {{p}}/tags.npy --epochs 1 --batch-size 3 --long-side 40 48",
    "train_deeplabv3": f"{TRAIN} --labels {{p}}/labels --steps 1 --batch-size 2",
}
# Exit code where no id of the list is found: the ids are named, and it is an error where nothing is left to sum up.
ALL_MISSING = {
    command: 1 if command in ("generate_sam_masks", "main merge", "main cams") else 2 for command in COMMANDS
}


def call(command: str, place: Path, *more) -> tuple[int, str]:
    """Run a command with further options: exit code, and all that was printed."""
    arguments = [*COMMANDS.get(command, "").format(p=place).split(), *more]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    module, before, text = importlib.import_module(command.split()[0]), sys.argv, io.StringIO()
    sys.argv = [f"{module.__name__}.py", *map(str, arguments)]
    faulthandler.dump_traceback_later(HANGS, exit=True)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), pytest.raises(SystemExit) as end:
            run(module.main)
    finally:
        faulthandler.cancel_dump_traceback_later()
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return end.value.code, text.getvalue().replace("\r", "\n")


# --- the cases ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One thing wrong, and what must come of it.

    Attributes:
        name: of the case.
        command: of `COMMANDS`.
        path: of what is damaged, in the data set.
        content: what is written there.
        finding: pattern of what the message must say about it; None: it is odd, but fine.
        code: exit code.
        more: further options.
    """

    name: str
    command: str
    path: str
    content: object
    finding: str | None
    code: int
    more: str = ""

    def __str__(self) -> str:
        return f"{self.command}: {self.path}: {self.name}"


def marked(command: str, *values, id: str | None = None):
    """Parameters of a test; networks take long."""
    takes_long = "network" in command or command.startswith(("train", "generate_cams"))
    return pytest.param(*values, id=id, marks=[pytest.mark.slow] if takes_long else [])


def damaged(command: str, path: str, *tables: dict, code: int = 1, more: str = "") -> list[Case]:
    return [
        Case(name, command, path, content, finding, code if finding else 0, more)
        for table in tables
        for name, (content, finding) in table.items()
    ]


def few(table: dict, command: str) -> dict:
    """Every fifth entry, others for every command: all readers share what reads the rest."""
    return dict(list(table.items())[list(COMMANDS).index(command) % 5 :: 5])


SIZES = corpus.LABELS_OF_ANOTHER_SIZE
CASES = [
    *damaged("generate_sam_masks", "JPEGImages/bad.jpg", corpus.IMAGES),
    *damaged("check_pseudo_label", "JPEGImages/bad.jpg", corpus.HEADS),
    *damaged("main merge", "labels/bad.png", corpus.LABELS, SIZES),
    *damaged("evaluate_enhanced", "gt/bad.png", corpus.LABELS, SIZES),
    *damaged("main merge", "masks/bad.json", corpus.MASKS, corpus.MASK_FOLDERS),
    *damaged("main cams", "cams/bad.npy", corpus.CAMS),
    *damaged("check_pseudo_label", "tags.npy", corpus.NPY, code=2),
    *damaged("main tags", "tags.csv", corpus.CSV, code=2),
    *damaged("main tags", "Annotations/bad.xml", corpus.XML, code=2, more="--image-labels {p}/Annotations"),
    *damaged("main merge", "list.txt", corpus.LISTS, code=2),
    *damaged("main merge", "names.txt", corpus.CLASS_NAMES, code=2),
    *(
        case
        for path, table, commands in (
            (
                "JPEGImages/bad.jpg",
                corpus.IMAGES,
                ("main all", "evaluate_enhanced network", "generate_cams", "train_transcam", "train_deeplabv3"),
            ),
            ("labels/bad.png", corpus.LABELS, ("check_pseudo_label", "evaluate_enhanced", "train_deeplabv3")),
            ("labels/bad.png", SIZES, ("check_pseudo_label", "evaluate_enhanced", "train_deeplabv3")),
            ("masks/bad.json", corpus.MASKS, ("main compare",)),
        )
        for command in commands
        for case in damaged(command, path, few(table, command))
    ),
    *damaged("generate_cams", "tags.npy", few(corpus.NPY, "generate_cams"), code=2),
    *(
        case
        for command in COMMANDS
        for path, table in (("list.txt", corpus.LISTS), ("names.txt", corpus.CLASS_NAMES))
        for case in damaged(command, path, few(table, command), code=2)
        if command != "main merge" and (command, path) != ("generate_sam_masks", "names.txt")
    ),
    *(
        case
        for command, code in ALL_MISSING.items()
        for case in damaged(command, "list.txt", few(corpus.STRANGE_IDS, command), code=code)
    ),
]
# Options that cannot be right: the command, options, and => what the message says if not the last option or its value.
WRONG_OPTIONS = """
generate_sam_masks: --images /nowhere => /nowhere.*nothing is there ; --images {p}/list.txt => a file is there
generate_sam_masks: --model vit_z ; --model vit_b --device warp ; --model vit_b --device cuda:99
generate_sam_masks: --model vit_b --precision int8 ; --points-per-side many ; --points-per-side -3
generate_sam_masks: --crop-overlap-ratio 2 ; --min-mask-region-area -1
generate_sam_masks: --pred-iou-thresh nan ; --preview -1 ; --unheard-of
generate_sam_masks: --model vit_b --mirror nowhere --checkpoint {p}/none.pth => --mirror
generate_sam_masks: --model vit_b --mirror nowhere => nowhere.*--mirror
main merge: --method magic => unknown; choose one of auto ; --method ../merge/max_iou => max_iou ; --mode dance ; --param ratio
main merge: --param nothing=1 => nothing.*no such parameter ; --sam-path /nowhere => should be the folder of SAM masks ; --pseudo-path /nowhere
main merge: --image-list nowhere.txt => no such file ; --sensitivity threshold => go with --mode compare
main merge: --mode vis => no label maps to draw; make them with --mode merge or all first ; --number-class 5
main merge: --number-class 300 ; --number-class -1 ; --workers some ; --workers -1
main merge: --methods grow => goes with --mode compare ; --baseline grow => has to be one of the compared
main compare: --method grow => write --methods grow ; --baseline grow => has to be one of the compared
main compare: --methods max_iou --param threshold=nan => 'nan' is not a float
main compare: --methods magic ; --methods , => strategy ; --gt-dir /nowhere ; --classes unicorn
main compare: --sensitivity nothing => no compared strategy lists values of it
main compare: --values nothing=1 => no chosen strategy has this parameter ; --values threshold=0.1,low => 'low' is not a float
main all: --images-path /nowhere ; --classes unicorn
main tags: --image-labels /nowhere.csv
main cams: --cam-path /nowhere
evaluate_enhanced: --classes unicorn ; --gt /nowhere ; --pred /nowhere ; --baseline /nowhere ; --num-classes 3
evaluate_enhanced network: --scales 0 ; --scales nan ; --images /nowhere ; --device warp
check_pseudo_label: --near-empty 7 ; --labels /nowhere ; --images /nowhere
generate_cams: --sizes 0 ; --sizes -64 ; --bg-threshold 7 ; --bg-threshold nan ; --batch-size 0 ; --images /nowhere
generate_cams: --sweep => --gt ; --device warp
train_transcam: --epochs 0 ; --batch-size 0 ; --crop-size 0 ; --long-side 48 40 => long-side ; --lr nan ; --jitter 9
train_transcam: --encoder unheard_of ; --encoder-weights {p}/none.pth => none.pth
train_transcam: --method transcam --weights {p}/none.pth => none.pth ; --images /nowhere
train_deeplabv3: --steps 0 ; --batch-size 0 ; --crop-size 33 ; --scale 2 1 ; --lr nan ; --ema 2
train_deeplabv3: --encoder unheard_of ; --output-stride 7 ; --images /nowhere ; --labels /nowhere
train_deeplabv3: --val-list {p}/list.txt => --val-gt
prepare_voc: --archives {p} => VOCtrainval_11-May-2012.tar|benchmark ; --archives /nowhere => /nowhere|download
quickstart: --only magic ; --skip magic ; --with nonsense => STAGE=OPTIONS ; --with magic=--x => magic
quickstart: --with cam=' => close what is quoted ; --count 2 => not a whole number of at least 8 ; --effort nan ; --effort 0 ; --processes 0
quickstart: --only score => run the stage deeplab first ; --only cam --skip cam => no stage is left ; --images . => --voc
quickstart: --tune-list x.txt => goes with --voc ; --prompt tags => give --sam-model ; --download => goes with --voc
quickstart: --voc . --archives a => give --download as well ; --voc {p} => no training list
quickstart: --voc /nowhere => should be the folder of the data set ; --class-names x => --voc ; --sam-path /nowhere
quickstart: --sam-checkpoint /nowhere.pth ; --sam-path /tmp --sam-checkpoint x => give one of them ; --method magic
"""


def wrong_options() -> Iterator[tuple[str, str, str]]:
    """(command, options, pattern of what the message says)."""
    for line in WRONG_OPTIONS.strip().splitlines():
        command, _, rest = line.partition(": ")
        for part in rest.split(" ; "):
            options, _, finding = part.partition(" => ")
            name, value = options.split()[-2:] if len(options.split()) > 1 else (options, options)
            yield command, options, finding or f"{name.lstrip('-')}|{value}"


@pytest.fixture
def place(request, sound, tmp_path, monkeypatch) -> Path:
    """A copy of the sound data; also the current folder, where a pickle's command would leave its mark."""
    if request.node.get_closest_marker("slow"):
        request.getfixturevalue("trained")
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


@pytest.mark.parametrize("case", [marked(case.command, case, id=str(case)) for case in CASES])
def test_damaged_file(case, place):
    target = place / case.path
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    corpus.put(target, case.content)
    out = place.parent / "out"
    code, text = call(case.command, place, *case.more.format(p=place).split(), "--out", out)
    text = judge(text, code, case.code)
    if case.finding is None:
        return
    found = [line for line in text.splitlines() if names(line, target, case)]
    assert found, f"no line names {target}:\n{text}"
    assert any(re.search(case.finding, line) and REMEDY.search(line) for line in found), "\n".join(found)
    if case.code == 1 and not case.path.endswith(".txt"):
        made = RESULTS[case.command]
        for image_id in GOOD:
            assert (out / made.format(image_id)).is_file(), text
        assert "{}" not in made or not (out / made.format("bad")).exists()


def names(line: str, target: Path, case: Case) -> bool:
    """Whether a line names the damaged file; a missing one by its folder and id."""
    if case.content in [content for content, _ in corpus.STRANGE_IDS.values()]:
        return True  # the lines name the ids
    if case.content in [content for content, _ in corpus.LABELS_OF_ANOTHER_SIZE.values()]:
        return bool(re.search(rf"/{target.stem}\.(png|json|jpg)", line))  # either of two is wrong
    return str(target) in line or (str(target.parent) in line and target.stem in line)


# What must be there although one image is bad; what has its name in place of {} must not.
RESULTS = {
    "train_transcam": "last.pth",
    "train_deeplabv3": "last.pth",
    "generate_sam_masks": "{}.json",
    "main merge": "max_iou_imp2/{}.png",
    "main cams": "cam_level/{}.png",
    "main compare": "compare.json",
    "main all": "max_iou.metrics.json",
    "evaluate_enhanced": "metrics.json",
    "evaluate_enhanced network": "metrics.json",
    "check_pseudo_label": "check.json",
    "generate_cams": "labels/{}.png",
}


CHECKPOINTS = [
    ("generate_sam_masks", "sam.pth", "--model vit_b --checkpoint {file} --device cpu"),
    ("generate_cams", "cam.pth", ""),
    ("evaluate_enhanced network", "deeplab.pth", ""),
    ("train_transcam", "weights.pth", "--encoder-weights {file}"),
    ("train_transcam", "conformer.pth", "--method transcam --arch tiny --weights {file}"),
    ("train_deeplabv3", "encoder.pth", "--encoder-weights {file}"),
]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(corpus.checkpoints())))
def test_damaged_checkpoint(number, place):
    name, (content, finding) = list(corpus.checkpoints().items())[number]
    for command, file, options in CHECKPOINTS[number % 2 :: 2]:
        (place / file).unlink(missing_ok=True)
        corpus.put(place / file, content)
        code, text = call(command, place, *options.format(file=place / file).split(), "--out", place.parent / "out")
        text = judge(text, code, 2)
        found = [line for line in text.splitlines() if file in line]
        assert any(re.search(finding, line) and REMEDY.search(line) for line in found), f"{name}: {text}"
        shutil.rmtree(place / file) if (place / file).is_dir() else (place / file).unlink(missing_ok=True)


@pytest.mark.parametrize("command, options, finding", [marked(case[0], *case) for case in wrong_options()])
def test_wrong_option(command, options, finding, place):
    code, text = call(command, place, *options.format(p=place).split(), "--out", place.parent / "out")
    text = judge(text, code, 2)
    assert re.search(finding, text[text.index("error: ") :]), text


@pytest.mark.parametrize("command", [marked(command, command) for command in COMMANDS])
def test_a_file_in_the_place_of_the_results_folder(command, place):
    (place.parent / "out").write_text("in the way")
    code, text = call(command, place, "--out", place.parent / "out")
    text = judge(text, code, 2)
    assert str(place.parent / "out") in text and REMEDY.search(text)
