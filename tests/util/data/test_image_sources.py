"""Folders, files and patterns to ids; what has no place of its own is named."""

from pathlib import Path

import pytest

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
        (["shots/notes.txt"], ["notes"]),
    ],
)
def test_what_may_be_given(shots, given, ids):
    found = find_sources(given)
    assert list(found.files) == ids and not found.problems


def test_results_inside_the_folder_are_left_out(shots):
    assert list(find_sources([shots], leave_out=shots / "day").files) == ["a", "b"]


def test_two_images_of_one_id_are_named(shots):
    (shots / "b.png").touch()
    found = find_sources([shots])
    assert found.files["b"] == shots / "b.jpg" and list(found.problems) == [str(shots / "b.png")]
    assert "b.jpg" in found.problems[str(shots / "b.png")]


@pytest.mark.parametrize("given", ["nothing", "nothing/*.jpg", "empty"])
def test_nothing_to_find_is_an_input_error(shots, given):
    Path("empty").mkdir()
    with pytest.raises(InputError, match=given.replace("*", r"\*")):
        find_sources([given])
