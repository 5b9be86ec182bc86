"""Folders, files and patterns to ids; what has no place of its own is named."""

import errno
import os
import unicodedata
from pathlib import Path

import pytest

from util.data import image_sources
from util.data.image_sources import find_sources
from util.runtime.errors import InputError


@pytest.fixture
def shots(tmp_path, monkeypatch):
    for name in ("b.jpg", "a.PNG", "notes.txt", "day/one.webp", "day/deep/two.tif", ".hidden/x.png", "day/.y.png"):
        path = tmp_path / "shots" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shots"


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        (["shots"], ["a", "b", "day/deep/two", "day/one"]),
        (["shots/b.jpg", "shots/day"], ["b", "deep/two", "one"]),
        (["shots/*"], ["a", "b"]),
        (["shots/*/*.webp"], ["day/one"]),
        (["shots/**/*.*"], ["a", "b", "day/deep/two", "day/one"]),
        (["shots", "shots/b.jpg"], ["a", "b", "day/deep/two", "day/one"]),
    ],
)
def test_what_may_be_given(shots, given, ids):
    found = find_sources(given)
    assert list(found.files) == ids and not found.problems


@pytest.mark.parametrize("out", [".", "day"])
def test_earlier_results_inside_the_folder_are_left_out(shots, out):
    (shots / out / "ledger.jsonl").touch()
    for name in ("labels/b.png", "overlays/b.jpg", "legend.png", "new/c.jpg"):
        (shots / out / name).parent.mkdir(exist_ok=True)
        (shots / out / name).touch()
    assert [Path(image_id).name for image_id in find_sources([shots]).files] == (
        ["a", "b", "two", "one", "c"] if out == "." else ["a", "b", "two", "c", "one"]
    )


def test_a_folder_that_cannot_be_listed_is_not_left_out_in_silence(shots, monkeypatch):
    listed = os.scandir

    def scandir(folder):
        if str(folder).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match="deep: this folder cannot be listed .Permission denied"):
        find_sources(["shots"])


def test_links_to_folders_are_followed_once(shots):
    (shots / "link").symlink_to(shots / "day", target_is_directory=True)
    (shots / "day" / "around").symlink_to(shots, target_is_directory=True)
    assert {Path(image_id).name for image_id in find_sources([shots]).files} == {"a", "b", "one", "two"}


def test_a_converted_image_stands_for_its_heic(shots):
    for name in ("b.HEIC", "c.heic"):
        (shots / name).touch()
    found = find_sources([shots])
    assert found.files["b"] == shots / "b.jpg" and found.files["c"] == shots / "c.heic" and not found.problems


def test_names_in_the_form_of_macos_have_the_ids_of_lists(shots):
    (shots / unicodedata.normalize("NFD", "Kühe.jpg")).touch()
    assert unicodedata.normalize("NFC", "Kühe") in find_sources([shots]).files


def test_two_images_of_one_id_are_named(shots):
    (shots / "b.png").touch()
    found = find_sources([shots])
    assert found.files["b"] == shots / "b.jpg" and list(found.problems) == [str(shots / "b.png")]
    assert "b.jpg" in found.problems[str(shots / "b.png")]


@pytest.mark.parametrize("given", ["nothing", "nothing/*.jpg", "empty", "shots/notes.txt", "https://a.org/b.jpg"])
def test_nothing_to_find_is_an_input_error(shots, given):
    Path("empty").mkdir()
    with pytest.raises(InputError, match=given.replace("*", r"\*")):
        find_sources([given])


@pytest.mark.parametrize("ignores_case", [False, True])
def test_names_that_differ_in_case_are_one_where_files_are(shots, monkeypatch, ignores_case):
    monkeypatch.setattr(image_sources, "IGNORES_CASE", ignores_case)
    (shots / "day" / "B.jpg").touch()
    found = find_sources([shots, shots / "day"])
    assert ("B" in found.files) is not ignores_case and "b" in found.files
    said = {
        str(
            shots / "day" / "B.jpg"
        ): f"has the id 'b', as {shots / 'b.jpg'} has; rename one, or give its folder another --out"
    }
    assert found.problems == (said if ignores_case else {})
