"""generate_sam_masks.py with prompts and other families, from folders of tiny networks as save_pretrained writes them."""

import functools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, call_script, run_script, run_two
from PIL import Image
from tiny_sams import random_image, sam3_text, tiny

import generate_sam_masks
from models.sam import families
from util.data.cams import write_cam
from util.data.mask_files import read_masks
from util.runtime.errors import InputError
from util.runtime.ledger import Stage

IDS = ("a", "b", "c")
NAMES = ("background", "cat", "dog")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images, CAMs, tags, class names, and folders of tiny networks."""
    folder = tmp_path_factory.mktemp("prompts")
    for number, image_id in enumerate(IDS):
        image = random_image(60, 80, number)
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / "images" / f"{image_id}.png")
        values = np.linspace(0, 1, 60 * 80, dtype=np.float32).reshape(60, 80)
        write_cam(folder / "cams", image_id, {1: values, 2: values[::-1].copy()})
    (folder / "class_names.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "tags.csv").write_text("a,cat\nb,cat,dog\nc\n")
    for kind in ("sam2", "sam_hq"):
        net, processor = tiny(kind)
        net.save_pretrained(folder / kind)
        processor.save_pretrained(folder / kind)
    (folder / "tokenizer").mkdir()
    net, processor = sam3_text(folder / "tokenizer")
    net.save_pretrained(folder / "sam3")
    processor.save_pretrained(folder / "sam3")
    return folder


def arguments(place, out, model, *more):
    return [
        "--model",
        place / model,
        "--images",
        place / "images",
        "--image-labels",
        place / "tags.csv",
        "--out",
        place / out,
        "--device",
        "cpu",
        "--threads",
        "1",
        *more,
    ]


def masks_in(place, out):
    return {path.name: path.read_bytes() for path in sorted((place / out).glob("*.json")) if path.name != "run.json"}


PROMPTS = {
    "cam": ("sam2", ["--prompt", "cam", "--cam-path", "cams"]),
    "tags": ("sam3", ["--prompt", "tags", "--score-thresh", "0"]),
    "both": (
        "sam_hq",
        [
            "--prompt",
            "grid",
            "cam",
            "--cam-path",
            "cams",
            "--points-per-side",
            "4",
            "--pred-iou-thresh",
            "-1",
            "--stability-score-thresh",
            "0",
        ],
    ),
}


@pytest.fixture
def call(monkeypatch, capsys, one_thread):
    """The script in this process, which has loaded torch and transformers already."""
    return functools.partial(call_script, generate_sam_masks, monkeypatch, capsys)


def prompted(place, out, kind):
    model, options = PROMPTS[kind]
    return arguments(place, out, model, *(place / word if word == "cams" else word for word in options))


@pytest.mark.parametrize("kind", PROMPTS)
def test_masks_know_their_class_and_a_second_run_does_nothing(place, call, kind):
    command = prompted(place, f"out_{kind}", kind)
    done = call(*command)
    assert done.returncode == 0, done.stderr
    found = {image_id: read_masks(place / f"out_{kind}", image_id) for image_id in IDS}
    named = {image_id: set(masks.categories) - {None} for image_id, masks in found.items()}
    assert named["a"] <= {"cat"} and named["b"] <= {"cat", "dog"} and named["c"] == set()
    assert any(named.values())
    if kind == "both":
        assert all(None in masks.categories for masks in found.values())
    before = masks_in(place, f"out_{kind}")
    again = call(*command)
    assert again.returncode == 0 and masks_in(place, f"out_{kind}") == before


def die_at_the_second():
    """The second image is written, and not noted."""
    record, seen = Stage.record, []

    def dies(*parts):
        seen.append(parts)
        return os.kill(os.getpid(), signal.SIGKILL) if len(seen) == 2 else record(*parts)

    Stage.record = dies


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cam", "tags"])
def test_two_processes_and_a_killed_run_give_the_same_bytes(place, call, kind):
    alone = call(*prompted(place, f"one_{kind}", kind))
    assert alone.returncode == 0, alone.stderr
    two = run_two("generate_sam_masks.py", *prompted(place, f"two_{kind}", kind))
    assert two.returncode == 0, two.stderr
    assert masks_in(place, f"two_{kind}") == masks_in(place, f"one_{kind}") != {}
    killed = prompted(place, f"killed_{kind}", kind)
    done = run_script("generate_sam_masks.py", *killed, prepare=die_at_the_second)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert set(masks_in(place, f"killed_{kind}")) == {"a.json", "b.json"}
    resumed = call(*killed)
    assert resumed.returncode == 0 and masks_in(place, f"killed_{kind}") == masks_in(place, f"one_{kind}")


def test_changed_cams_and_tags_are_asked_again(place, call):
    command = prompted(place, "out_changed", "cam")
    assert call(*command).returncode == 0
    before = masks_in(place, "out_changed")
    write_cam(place / "cams", "a", {1: np.full((60, 80), 0.7, np.float32)})
    assert call(*command).returncode == 0
    after = masks_in(place, "out_changed")
    assert after["a.json"] != before["a.json"] and after["b.json"] == before["b.json"]


def test_prompts_of_a_file(place, call):
    rows = {"a": [{"point": [20, 30], "category": "dog"}], "b": [], "c": [{"point": [1, 2]}]}
    (place / "points.json").write_text(json.dumps(rows))
    done = call(*arguments(place, "out_file", "sam2", "--prompt", "points", place / "points.json"))
    assert done.returncode == 0, done.stderr
    assert read_masks(place / "out_file", "a").categories in (("dog",), ())
    assert len(read_masks(place / "out_file", "b")) == 0


def test_a_missing_id_and_a_point_outside_are_reported_and_the_rest_goes_on(place, call):
    (place / "outside.csv").write_text("id,x,y,class\na,20,30,dog\nb,200,30,dog\n")
    done = call(*arguments(place, "out_outside", "sam2", "--prompt", "points", place / "outside.csv"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "b: a point at 200, 30 is outside of the image of 80x60 pixels" in done.stderr
    assert "c: the file of prompts does not name it" in done.stderr and (place / "out_outside" / "a.json").is_file()


def test_a_missing_cam_and_a_missing_tag_are_reported_and_the_rest_goes_on(place, call, tmp_path):
    write_cam(tmp_path, "a", {1: np.full((60, 80), 0.5, np.float32)})
    write_cam(tmp_path, "b", {1: np.full((30, 80), 0.5, np.float32)})
    (tmp_path / "tags.csv").write_text("a,cat\nb,cat\n")
    command = arguments(place, "out_missing", "sam2", "--prompt", "cam", "--cam-path", tmp_path)
    command[command.index(place / "tags.csv")] = tmp_path / "tags.csv"
    done = call(*command)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "b: " in done.stderr and "80x30" in done.stderr and "the image 80x60" in done.stderr
    assert "c: " in done.stderr and (place / "out_missing" / "a.json").is_file()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--prompt", "tags"], "a sam2 takes no words; use --model sam3"),
        (["--prompt", "cam"], "--cam-path is missing"),
        (["--prompt", "points"], "the file of points is missing"),
        (["--prompt", "faces"], "--prompt faces: unknown"),
        (["--prompt", "grid", "grid"], "goes once"),
        (["--exact"], "go with vit_h"),
        (["--checkpoint", "sam_vit_b.pth"], "files of this model are not read; leave --model out"),
    ],
)
def test_wrong_prompts_are_refused(place, call, more, message):
    done = call(*arguments(place, "out_wrong", "sam2", *more))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (place / "out_wrong").exists()


def test_synonyms_of_unknown_classes_are_named(place, call, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"horse": ["pony"]}))
    done = call(*prompted(place, "out_s", "tags"), "--synonyms", tmp_path / "s.json")
    assert done.returncode == 2 and "class 'horse' is unknown" in done.stderr


# --- the hub ------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_a_sam_is_named(tmp_path):
    with pytest.raises(InputError, match="no config.json"):
        families.model_source(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="holds a bert, not a SAM"):
        families.model_type(str(tmp_path))
    with pytest.raises(InputError, match="neither a known name nor a folder"):
        families.model_source("sam-xxl")


class Response:
    """The little of a response that the hub's errors look at."""

    status_code, headers, url, text = 401, {}, "https://hub", ""
    request = None


@pytest.mark.parametrize(
    "name, error, message",
    [
        ("sam3", "GatedRepoError", "gated.*https://huggingface.co/facebook/sam3.*hf auth login.*sam2.1-large"),
        ("someone/sam", "RepositoryNotFoundError", "the hub has no someone/sam"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_way_out(name, error, message):
    from huggingface_hub import errors

    with pytest.raises(InputError, match=message), families.hub_errors(name):
        try:
            raise getattr(errors, error)("401 Client Error", response=Response())
        except Exception as cause:
            raise OSError("cannot load the model") from cause


class Hub:
    """A local server in the place of the hub: refuses, never answers, or breaks off."""

    def __init__(self, behaviour):
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer()

            do_GET = do_HEAD

            def answer(self):
                if behaviour == "refuses":
                    self.send_response(401)
                    self.send_header("X-Error-Code", "GatedRepo")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    if behaviour == "is slow":
                        over.wait()
                    self.close_connection = True
                    self.connection.close()

            def log_message(self, *arguments):
                pass

        self.over = over = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "behaviour, message", [("refuses", "gated"), *((b, "cannot be loaded") for b in ("breaks off", "is slow"))]
)
def test_a_hub_that_refuses_is_slow_or_breaks_off(place, tmp_path, behaviour, message):
    import re

    hub = Hub(behaviour)
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    # The client waits for half a minute in all between its attempts.
    briefly = (
        "import runpy, time; time.sleep = lambda _: None; runpy.run_path('generate_sam_masks.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", briefly, *map(str, arguments(place, "out_hub", "sam2"))]
    command[command.index("--model") + 1] = "sam3" if behaviour == "refuses" else "sam2.1-tiny"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)
    hub.over.set()
    hub.server.shutdown()
    assert done.returncode == 2 and re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr and "Retrying in" not in done.stderr
    assert done.stderr.count("the hub does not answer") <= 1
