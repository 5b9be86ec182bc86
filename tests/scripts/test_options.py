"""One name per option: what means the same has the same name, words and default in every script."""

import argparse
import importlib
from collections import defaultdict

import pytest
from helpers import ROOT

from util.runtime.cli import COMMON, Parser

SCRIPTS = sorted({path.stem for path in ROOT.glob("*.py")} - {"processor"})

# (option, script) -> why its default differs.
OTHER_DEFAULTS = {
    ("amp", "predict"): "label maps are the same on every machine",
    ("amp", "evaluate_enhanced"): "scores are the same on every machine",
    ("batch-size", "generate_cams"): "whole images at several sizes, where training has crops",
    ("encoder", "predict"): "the checkpoint names it",
    ("encoder", "evaluate_enhanced"): "the checkpoint names it",
    ("encoder", "export"): "the checkpoint names it",
    ("encoder", "quickstart"): "the generated data has a smaller one",
    ("encoder-weights", "quickstart"): "on the generated data there are none",
    ("long-side", "train_deeplabv3"): "of the training images",
    ("long-side", "train_transcam"): "a range, for random sizes",
    ("mirror", "generate_sam_masks"): "one folder, of checkpoints",
}
# (option, script) -> what it means there, where that is not what it means elsewhere.
OTHER_WORDS = {
    ("long-side", "train_deeplabv3"): "the size of the training images",
    ("long-side", "train_transcam"): "the range of sizes of the training images",
    ("mirror", "generate_sam_masks"): "a folder of checkpoints, not of archives",
    ("download", "quickstart"): "a SAM checkpoint as well as archives",
}
# Options that are not common to all, and mean another thing in each script.
OF_A_SCRIPT = {"baseline", "method", "format", "epochs", "lr", "weight-decay", "prompt"}
NAMES_OF_SAM_WSSS = {
    **{"pseudo-path": "labels", "sam-path": "masks", "cam-path": "cams", "image-list": "list"},
    **{"gt-dir": "gt", "images-path": "images", "number-class": "num-classes"},
}


class _Parsed(Exception):
    """Carries the parser out of a script."""


@pytest.fixture(scope="module")
def options():
    """Name -> script -> the option there; and alias -> names that it stands for."""

    def stop(parser, *arguments, **named):
        raise _Parsed(parser)

    found, aliases = defaultdict(dict), defaultdict(set)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "parse_args", stop)
        for script in SCRIPTS:
            with pytest.raises(_Parsed) as caught:
                importlib.import_module(script).parse_args()
            for action in caught.value.args[0]._actions:
                name, *others = (text.removeprefix("--") for text in action.option_strings)
                found[name][script] = action
                for other in others:
                    aliases[other].add(name)
    return found, aliases


def core(name):
    """What every script's help of a common option says."""
    return COMMON[name].help.partition(" (default")[0]


def test_common_options_have_the_same_words_and_defaults(options):
    found, _ = options
    wrong = []
    for name in COMMON.keys() & found.keys():
        for script, action in found[name].items():
            expected = COMMON[name].settings.get(
                "default", False if isinstance(action, argparse._StoreTrueAction) else None
            )
            if (name, script) not in OTHER_DEFAULTS and action.default != expected:
                wrong.append(f"{script} --{name}: default {action.default!r}")
            if (name, script) not in OTHER_WORDS and core(name) not in action.help:
                wrong.append(f"{script} --{name}: {action.help!r} does not say {core(name)!r}")
    assert not wrong, "\n".join(wrong)


def test_other_options_that_scripts_share_are_the_same(options):
    found, _ = options
    for name, scripts in found.items():
        if name in COMMON or name in OF_A_SCRIPT:
            continue
        same = {(action.help, str(action.default)) for action in scripts.values()}
        assert len(same) == 1, f"--{name}: {[*scripts]}"


def test_the_exceptions_are_needed(options):
    found, _ = options
    for name, script in OTHER_DEFAULTS:
        assert found[name][script].default != COMMON[name].settings.get("default"), f"{script} --{name}"
    for name, script in OTHER_WORDS:
        assert core(name) not in found[name][script].help, f"{script} --{name}"
    assert all(len(found[name]) > 1 for name in OF_A_SCRIPT)


def test_an_alias_stands_for_one_option_and_is_no_other_options_name(options):
    found, aliases = options
    assert all(len(names) == 1 for names in aliases.values())
    # evaluate_enhanced.py's --pred may be called --labels, as label maps are everywhere.
    assert {alias for alias in aliases if alias in found} <= {"labels"}


def test_the_names_of_sam_wsss_work_in_main(options):
    found, aliases = options
    for theirs, ours in NAMES_OF_SAM_WSSS.items():
        assert f"--{theirs}" in found[ours]["main"].option_strings and aliases[theirs] == {ours}


def test_every_option_is_explained(options):
    found, _ = options
    for name, scripts in found.items():
        for script, action in scripts.items():
            text = action.help or ""
            assert len(text) > 3 and text not in ("see above",) and not text.startswith("("), (
                f"{script} --{name}: {text!r}"
            )


@pytest.mark.parametrize(
    "command, said",
    [
        (
            "predict --checkpoint c --images i --out o --long-side 500 --full-size",
            "argument --full-size: not allowed with argument --long-side",
        ),
        (
            "train_deeplabv3 --images i --labels l --list f --out o --val-every 5",
            "--val-every needs --val-list and --val-gt, the images to score",
        ),
        (
            "generate_cams --images i --list f --image-labels t --checkpoint c --out o --classes cat",
            "--classes is for --sweep alone",
        ),
        ("train_deeplabv3 --images i --labels l --list f --out o --crop-size 100000", "at most 4096"),
        ("prepare_folder --source s --out o --seed -1", "not a whole number of at least 0"),
    ],
)
def test_an_option_that_would_have_no_effect_or_cannot_work_is_refused(monkeypatch, capsys, command, said):
    script, *words = command.split()
    monkeypatch.setattr("sys.argv", [script, *words])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(script).parse_args()
    assert end.value.code == 2 and said in capsys.readouterr().err
