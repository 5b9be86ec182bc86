"""The ledger that resume rests on: what counts as done, and what never does."""

import errno
import json
import os

import pytest

from util.runtime import provenance
from util.runtime.errors import InputError
from util.runtime.ledger import Stage


def fill(out, ids=("a", "b"), options=None, **more):
    """Make what is missing of a small stage; returns the ids that were made."""
    made = []
    with Stage(out, options or {"size": 3}, **more) as stage:
        for image_id in ids:
            key = stage.key(image_id)
            if not stage.is_current(image_id, key):
                (out / f"{image_id}.png").write_text(f"result of {image_id}")
                stage.record(image_id, key, [out / f"{image_id}.png"])
                made.append(image_id)
        assert stage.finish() == 0
    return made


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_done_is_not_made_again(tmp_path):
    assert fill(tmp_path) == ["a", "b"]
    assert fill(tmp_path) == []
    assert fill(tmp_path, ids=("c", "b", "a")) == ["c"]
    assert [entry["id"] for entry in entries(tmp_path / "ledger.jsonl")] == ["a", "b", "c"]


@pytest.mark.parametrize("options, overwrite", [({"size": 4}, False), ({"size": 3}, True)])
def test_changed_options_and_overwrite_make_everything_again(tmp_path, options, overwrite):
    fill(tmp_path)
    assert fill(tmp_path, options=options, overwrite=overwrite) == ["a", "b"]


def test_a_failed_image_leaves_nothing_of_an_earlier_run(tmp_path):
    fill(tmp_path)
    with Stage(tmp_path, {"size": 3}) as stage:
        stage.fail("b", "cannot be read")
        assert stage.finish() == 1
    assert [path.name for path in tmp_path.glob("*.png")] == ["a.png"]
    assert [entry["id"] for entry in entries(tmp_path / "ledger.jsonl")] == ["a"]


def test_overwriting_deletes_what_an_earlier_run_wrote_beyond(tmp_path):
    for name, more in (("a.json", {}), ("a.png", {"overwrite": True})):
        with Stage(tmp_path, {"size": 3}, **more) as stage:
            (tmp_path / name).write_text("result")
            stage.record("a", stage.key("a"), [tmp_path / name])
            stage.finish()
    assert (tmp_path / "a.png").exists() and not (tmp_path / "a.json").exists()


def test_changed_code_makes_everything_again(tmp_path):
    code = tmp_path / "strategy.py"
    code.write_text("A = 1\n")
    out = tmp_path / "out"
    assert fill(out, code=[code]) == ["a", "b"] and fill(out, code=[code]) == []
    code.write_text("A = 2\n")
    provenance.project_imports.cache_clear()
    assert fill(out, code=[code]) == ["a", "b"]


@pytest.mark.parametrize("damage", [lambda path: path.write_text("cut"), lambda path: path.unlink()])
def test_a_damaged_or_missing_result_is_made_again(tmp_path, damage):
    fill(tmp_path)
    damage(tmp_path / "b.png")
    assert fill(tmp_path) == ["b"]


def test_keys_depend_on_every_part_and_on_where_it_ends(tmp_path):
    stage = Stage(tmp_path, {})
    keys = {stage.key(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), (b"abc", b""))}
    assert len(keys) == 4 and stage.key("abc") == stage.key(b"abc")


def test_a_run_that_was_killed_loses_only_the_image_under_way(tmp_path):
    with Stage(tmp_path, {"size": 3}) as stage:
        for image_id in "ab":
            (tmp_path / f"{image_id}.png").write_text(f"result of {image_id}")
            stage.record(image_id, stage.key(image_id), [tmp_path / f"{image_id}.png"])
    # finish() was never reached, and the last line was written in part.
    whole = (tmp_path / "ledger.jsonl").read_bytes()
    (tmp_path / "ledger.jsonl").write_bytes(whole[:-20])
    assert fill(tmp_path) == ["b"]
    assert fill(tmp_path) == []


@pytest.mark.parametrize("line", ['{"id": "a"}', "[]", "null", '{"id": "a", "key": 3, "files": {}}', "\xff\xfe{"])
def test_lines_of_another_kind_are_passed_over(tmp_path, line):
    fill(tmp_path)
    with open(tmp_path / "ledger.jsonl", "ab") as ledger:
        ledger.write(line.encode("latin-1") + b"\n")
    assert fill(tmp_path) == []


def test_a_moved_folder_is_still_done(tmp_path):
    fill(tmp_path / "here/out", ids=("a",))
    os.rename(tmp_path / "here", tmp_path / "there")
    assert fill(tmp_path / "there/out", ids=("a",)) == []


def test_names_in_the_ledger_are_the_same_on_every_system(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.png").touch()
    with Stage(tmp_path, {}) as stage:
        stage.record("a", "key", [tmp_path / "deep" / "a.png"])
    assert list(entries(tmp_path / "ledger.jsonl")[0]["files"]) == ["deep/a.png"]


def test_failures_are_reported_and_the_others_stay_done(tmp_path, capsys):
    with Stage(tmp_path, {}) as stage:
        (tmp_path / "a.png").touch()
        stage.record("a", stage.key("a"), [tmp_path / "a.png"])
        stage.fail("b", "not an image")
        assert stage.finish() == 1
    said = capsys.readouterr().err
    assert "b: not an image" in said and "1 image could not be done" in said and "re-run" in said
    assert "The others are finished" in said
    assert [entry["id"] for entry in entries(tmp_path / "ledger.jsonl")] == ["a"]


def test_there_are_no_others_where_all_failed(tmp_path, capsys):
    with Stage(tmp_path, {}) as stage:
        stage.fail("a", "not an image")
        stage.fail("b", "not an image")
        assert stage.finish() == 1
    said = capsys.readouterr().err
    assert "2 images could not be done, the first: a. Fix them and re-run the command." in said


def test_processes_of_one_run_have_ledgers_of_their_own_and_read_all(tmp_path):
    for rank in (0, 1):
        with Stage(tmp_path, {}, rank=rank) as stage:
            (tmp_path / f"{rank}.png").touch()
            stage.record(str(rank), stage.key(str(rank)), [tmp_path / f"{rank}.png"])
            stage.finish()
    assert sorted(path.name for path in tmp_path.glob("ledger*")) == ["ledger.1.jsonl", "ledger.jsonl"]
    with Stage(tmp_path, {}) as stage:
        assert all(stage.is_current(name, stage.key(name)) for name in "01")


class Together:
    """Two processes of a run, one after the other: what the first gave is there when the second gathers."""

    def __init__(self):
        self.given = []

    def gather(self, value):
        self.given.append(value)
        return [value] if isinstance(value, int) else self.given[:]


def test_after_a_changed_option_no_process_undoes_the_work_of_another(tmp_path):
    """The main process read the entries of the run before, also those of images that are not its own."""
    fill(tmp_path, ids=("a", "b"))
    together = Together()
    stages = {rank: Stage(tmp_path, {"size": 4}, rank=rank) for rank in (1, 0)}
    for stage in stages.values():
        stage.__enter__()
    for stage, image_id in zip(stages.values(), "ba", strict=True):
        stage.record(image_id, stage.key(image_id), [tmp_path / f"{image_id}.png"])
        assert stage.finish_together(together) == 0
        together.given = [entries for entries in together.given if not isinstance(entries, int)]
        stage.__exit__()
    assert fill(tmp_path, ids=("a", "b"), options={"size": 4}) == []


def test_run_json_says_how_it_was_made(tmp_path):
    with Stage(tmp_path, {"size": 3}, made_from={"images": "JPEGImages"}) as stage:
        pass
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["options"] == {"size": 3} and written["made_from"] == {"images": "JPEGImages"}
    assert written["fingerprint"] == stage.fingerprint and "python" in written["versions"]


def test_a_second_stage_in_the_folder_is_refused(tmp_path):
    with Stage(tmp_path, {}), pytest.raises(InputError, match="another run"), Stage(tmp_path, {}):
        pass
    assert fill(tmp_path) == ["a", "b"]


class FullDisk:
    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        pass


def test_a_full_disk_stops_the_run(tmp_path):
    with Stage(tmp_path, {}) as stage:
        stage._ledger.close()
        stage._ledger = FullDisk()
        with pytest.raises(InputError, match="No space left"):
            stage.note({"id": "a", "key": "k", "files": {}})
