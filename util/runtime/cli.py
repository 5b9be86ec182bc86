"""Command-line habits that every script shares: option names and groups, errors, exit codes."""

from __future__ import annotations

import argparse
import builtins
import errno
import io
import json
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from util.runtime.commands import quoted
from util.runtime.errors import InputError, choose_from, disk_error, meant, missing_package
from util.runtime.processors import default_workers
from util.runtime.signals import ENDING, end_with_parent, is_importing

EXIT_FAILED_IMAGES, EXIT_ERROR, EXIT_CRASH, EXIT_INTERRUPTED = 1, 2, 3, 130
# In the environment of what the quickstart runs: a stage's options that quickstart.py calls otherwise, as JSON.
STAGE_VARIABLE = "QUICKSTART_STAGE"
PARSE_ONLY_VARIABLE = "QUICKSTART_PARSES"  # in the environment of a script that is only to look at its options
INTERRUPTED = "interrupted; re-run the command to resume"
_DISK = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "EEXIST", "ENOTDIR", "EISDIR")


def whole(minimum: int, maximum: float = math.inf) -> Callable[[str], int]:
    """An argparse type: a whole number from ``minimum`` to ``maximum``."""
    most = f" and at most {maximum}" if maximum < math.inf else ""

    def parse(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}{most}")
        return int(text)

    return parse


def real(low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number in [low, high]; with ``above`` in (low, high]."""
    least = f" {'above' if above else 'of at least'} {low:g}" if low > -math.inf else ""
    wanted = least + (f"{' and' if least else ' of'} at most {high:g}" if high < math.inf else "")

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value > high or value < low or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number{wanted}")
        return value

    return parse


@dataclass(frozen=True)
class Option:
    """An option that means the same in every script.

    Attributes:
        group: title of its group in the help.
        help: what it is; the default is added to it.
        settings: further arguments of ``add_argument``.
        aliases: other names, without the hyphens in front.
        choice: options of the same choice exclude each other.
    """

    group: str
    help: str
    settings: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    choice: str = ""


INPUT, CLASSES, HELD_OUT, NETWORK = "input", "classes", "held-out images", "network"
OUTPUT, RUNNING = "output", "running"
GROUPS = (INPUT, CLASSES, HELD_OUT, NETWORK, OUTPUT, RUNNING)  # in the order of the help
_FOLDER, _FILE = {"type": Path, "metavar": "DIR"}, {"type": Path, "metavar": "FILE"}

COMMON = {
    "images": Option(INPUT, "folder of images", _FOLDER),
    "labels": Option(INPUT, "folder of label maps, <id>.png", _FOLDER),
    "masks": Option(INPUT, "folder of masks: <id>.json, <id>.json.gz, or folders <id>/*.png", _FOLDER),
    "cams": Option(INPUT, "folder of soft CAMs, <id>.npy", _FOLDER),
    "gt": Option(INPUT, "folder of ground-truth label maps, <id>.png", _FOLDER),
    "list": Option(INPUT, "id list, one image id per line", _FILE),
    "image-labels": Option(INPUT, "image-level labels: cls_labels.npy, a CSV, or VOC's Annotations", _FILE),
    "archives": Option(INPUT, "folder of the archives (default: OUT/archives)", _FOLDER),
    "download": Option(INPUT, "download the archives that are missing", {"action": "store_true"}),
    "mirror": Option(
        INPUT,
        "folder of the archives, tried before the known ones",
        {"action": "append", "default": [], "metavar": "URL"},
    ),
    "partial": Option(INPUT, "take archives with fewer files than the published ones", {"action": "store_true"}),
    "checkpoint": Option(INPUT, "trained network", _FILE),
    "num-classes": Option(
        CLASSES,
        "number of classes, background included, 2 to 254 (default: as the class names say)",
        {"type": int, "metavar": "N"},
    ),
    "class-names": Option(
        CLASSES, "one class per line, background first (default: class_names.txt beside the data, then VOC's 21)", _FILE
    ),
    "classes": Option(CLASSES, "take the means over these classes only", {"metavar": "NAME,..."}),
    "val-list": Option(HELD_OUT, "ids of held-out images", _FILE),
    "val-images": Option(HELD_OUT, "folder of held-out images (default: --images)", _FOLDER),
    "val-gt": Option(HELD_OUT, "folder of their ground truth", _FOLDER),
    "encoder": Option(
        NETWORK,
        "encoder of segmentation-models-pytorch, or of timm as tu-NAME",
        {"default": "timm-tf_efficientnet_lite2", "metavar": "NAME"},
    ),
    "encoder-weights": Option(
        NETWORK,
        "a file, the name of published weights to download, or none",
        {"default": "imagenet", "metavar": "FILE|NAME|none"},
    ),
    "batch-size": Option(
        NETWORK, "images per step and process, at least 1", {"type": whole(1), "default": 8, "metavar": "N"}
    ),
    "crop-size": Option(
        NETWORK,
        "side of the training crop in pixels, 32 to 4096",
        {"type": whole(32, 4096), "default": 512, "metavar": "PX"},
    ),
    "jitter": Option(
        NETWORK, "strength of the colour jitter, 0 to 1", {"type": real(0, 1), "default": 0.3, "metavar": "X"}
    ),
    "scales": Option(
        NETWORK,
        "sizes that probabilities are averaged over, as factors (0.05 to 8) of the size that the network was trained at",
        {"type": real(0.05, 8), "nargs": "+", "default": [1.0], "metavar": "S"},
    ),
    "flip": Option(NETWORK, "average over the mirrored image too", {"action": "store_true"}),
    "long-side": Option(
        NETWORK,
        "pixels that the long side of an image has in the network, up to 32768 (default: as the network was trained)",
        {"type": whole(1, 1 << 15), "metavar": "PX"},
        choice="size",
    ),
    "full-size": Option(
        NETWORK,
        "run the network at each image's own size",
        {"action": "store_const", "dest": "long_side", "const": 0},
        choice="size",
    ),
    "out": Option(OUTPUT, "folder for the results", _FOLDER),
    "data-name": Option(
        OUTPUT,
        "name of the data in the titles of figures (default: the folder of the list and its name)",
        {"metavar": "TEXT"},
    ),
    "overwrite": Option(
        OUTPUT, "compute everything again; otherwise up-to-date results are reused", {"action": "store_true"}
    ),
    "retrain": Option(
        OUTPUT,
        "train a network in OUT again where options, labels or code have changed; otherwise that is refused",
        {"action": "store_true"},
    ),
    "save-minutes": Option(
        OUTPUT, "minutes between two saves of the state", {"type": real(0), "default": 10.0, "metavar": "M"}
    ),
    "device": Option(RUNNING, "auto (a GPU if there is one), cpu, cuda or cuda:N", {"default": "auto", "metavar": "D"}),
    "workers": Option(
        RUNNING,
        "worker processes; 0: none besides this one (default: one per processor, on Windows and macOS at most 8)",
        {"type": whole(0), "default": default_workers(), "metavar": "N"},
    ),
    "amp": Option(
        RUNNING,
        "precision of the network: auto is bf16 or fp16 on a GPU and float32 on a CPU; off is fp32",
        {"choices": ("auto", "off", "fp32", "bf16", "fp16"), "default": "auto"},
        aliases=("precision",),
    ),
    "seed": Option(RUNNING, "seed of everything random", {"type": whole(0, 2**32 - 1), "default": 0, "metavar": "N"}),
}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The description as written; behind each option its default, where that is worth showing, or that it is required."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if action.required:
            return f"{text} (required)"
        hidden = default is None or isinstance(default, bool) or default in ("", argparse.SUPPRESS)
        if hidden or default in ([], ()) or "(default" in text or not action.option_strings:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})"


class Parser(argparse.ArgumentParser):
    """argparse with grouped options, hyphens in its help, and underscores accepted (``--image_list`` as ``--image-list``).

    The description is the script's docstring, as written; ``unknown`` is what to do about an unknown option.
    """

    def __init__(self, description: str | None = None, unknown: str = "--help lists all", **options: Any):
        # The usage would name each option once, by the first of its names, which may not be that of the examples.
        settings = {"usage": "%(prog)s [options]", "formatter_class": _Formatter, "allow_abbrev": False, **options}
        super().__init__(description=description, **settings)
        self._unknown = unknown
        self._titled: dict[str, argparse._ArgumentGroup] = {}
        self._choices: dict[str, argparse._ArgumentGroup] = {}

    def group(self, title: str) -> argparse._ArgumentGroup:
        """The group of options of that title; it is made at first use."""
        if title not in self._titled:
            self._titled[title] = self.add_argument_group(title)
        return self._titled[title]

    def add_common(self, *names: str, required: Sequence[str] = (), **changes: Any) -> None:
        """Add options that mean the same everywhere, each to its group.

        Args:
            names: keys of `COMMON`.
            required: those that must be given.
            changes: name (with underscores) -> arguments of ``add_argument`` that differ here. ``aliases`` adds
                names, ``group`` chooses another group.
        """
        for name in names:
            option = COMMON[name]
            settings = {"help": option.help, **option.settings, **changes.get(name.replace("-", "_"), {})}
            aliases = [*option.aliases, *settings.pop("aliases", ())]
            if name in required:
                settings["required"] = True
            group = self.group(settings.pop("group", option.group))
            if option.choice and option.choice not in self._choices:
                self._choices[option.choice] = group.add_mutually_exclusive_group()
            group = self._choices.get(option.choice, group)
            group.add_argument(f"--{name}", *(f"--{alias}" for alias in aliases), **settings)

    def format_help(self) -> str:
        """The help, with the shared groups behind a script's own ones in one order everywhere."""
        order = {self._titled[title]: place for place, title in enumerate(GROUPS) if title in self._titled}
        self._action_groups.sort(key=lambda group: order.get(group, -1))
        return super().format_help()

    def parse_args(self, args=None, namespace=None):
        """As argparse's; where the quickstart asks, the process ends here if the options can be read."""
        words = [self._hyphens(arg) for arg in (sys.argv[1:] if args is None else args)]
        for word in words:  # "my images\" is handed over like this by Windows, with all that comes after it
            if sys.platform == "win32" and word.count('"') % 2 and re.search(r'" --?[a-z]', word):
                self.error(f"{word!r} is one word; leave out the backslash before a closing quotation mark")
        self._check_names(words)
        parsed = super().parse_args(words, namespace)
        if PARSE_ONLY_VARIABLE in os.environ:
            sys.exit(0)
        return parsed

    def error(self, message: str) -> NoReturn:
        """End with the message in one line; argparse has the usage above it, where options are too many to be read."""
        self.exit(EXIT_ERROR, f"error: {as_typed(message)}\n")

    def _check_names(self, words: Sequence[str]) -> None:
        """End with the first unknown option; argparse asks for required ones first, which may be the mistyped one."""
        known = [name for action in self._actions for name in action.option_strings]
        for word in words[: words.index("--")] if "--" in words else words:
            name = word.partition("=")[0]
            if re.match(r"--?[A-Za-z]", name) and " " not in word and name not in known:
                self.error(f"{name} is not an option; {meant(name, known, 0.7) or self._unknown}")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"{value!r} is unknown; {choose_from(value, list(action.choices))}")

    @staticmethod
    def _hyphens(arg: str) -> str:
        if not arg.startswith("--"):
            return arg
        name, equals, value = arg.partition("=")
        return name.replace("_", "-") + equals + value


def print_next(*words: object) -> None:
    """Print the command to run next, to be pasted; not in a stage of the quickstart, which runs the next one itself."""
    if STAGE_VARIABLE not in os.environ:
        print(f"next: {quoted(['python', *words])}", flush=True)


def as_typed(message: str, names: Mapping[str, str] | None = None) -> str:
    """A message with its options under the names that the person typed.

    Args:
        names: option -> as typed; default: those of the quickstart, in one of its stages.
    """
    known = json.loads(os.environ.get(STAGE_VARIABLE, "{}")) if names is None else names
    return re.sub(r"(?<![\w-])--[a-z][a-z-]*", lambda match: known.get(match[0], match[0]), message)


def written(files: Sequence[Path]) -> str:
    """``written: runs/merge/compare.csv, compare.pdf``: where the files of one folder are."""
    return f"written: {', '.join([str(files[0]), *(file.name for file in files[1:])])}"


def class_indices(names: str | None, classes) -> list[int] | None:
    """Indices of ``--classes cat,dog,...``; None stays None."""
    if names is None:
        return None
    return sorted({classes.index(name.strip()) for name in names.split(",") if name.strip()})


def say_interrupted() -> None:
    """Say so, once: not in a stage of the quickstart, nor in each of torchrun's processes."""
    if STAGE_VARIABLE not in os.environ and os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"\n{INTERRUPTED}", file=sys.stderr, flush=True)


def run(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and exit with its code.

    0: all is well; 1: some images failed, the others are done; 2: the command or its input is wrong;
    3: anything unforeseen, which must not pass for 1; 130: interrupted. No traceback for anything that the user can fix.
    """
    if hasattr(builtins, "__IPYTHON__"):  # it lives on, and keeps the modules that it has imported
        command = quoted([sys.executable, *sys.argv])
        remedy = f"type this instead:\n!{command}"
        print(f"error: IPython would keep the code from before an edit; {remedy}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    interrupts: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if is_importing(frame):
            # Compiled modules end the process where an exception meets their start. Nothing is half done in an import.
            say_interrupted()
            sys.stdout.flush()
            os._exit(EXIT_INTERRUPTED)
        interrupts.append(number)
        raise KeyboardInterrupt

    # A terminal or a log in an older encoding (Windows' cp1252) cannot show every class name; that must not end a run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # Were torchrun killed, its processes could wait half an hour for each other.
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent("SIGKILL")
    for number in ENDING:
        # SIGINT not where the shell has it ignored.
        if number != signal.SIGINT or signal.getsignal(number) is signal.default_int_handler:
            signal.signal(number, interrupt)
    code = _code_of(main, interrupts)
    # All is said and written; an interrupt now would only break off the way out.
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    if code and _is_joined():  # leaving the others at the end of Python could wait for them, too
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _is_joined() -> bool:
    """Whether this process is still in its group, which it does not leave where it fails among GPUs; see `Dist`."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()


def _code_of(main: Callable[[], int | None], interrupts: list[int]) -> int:
    """Run ``main``, print what went wrong, and give the exit code."""
    try:
        return main() or 0
    except InputError as error:
        print(f"error: {as_typed(str(error))}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        say_interrupted()
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_ERROR
    except Exception as error:
        # Reading turns what fails into InputError, so this is the disk that the results go to.
        if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in _DISK:
            print(f"error: {disk_error(error, error.filename or 'the results')}", file=sys.stderr)
            return EXIT_ERROR
        if isinstance(error, ModuleNotFoundError) and (package := missing_package(error)):
            command = quoted([sys.executable, "-m", "pip", "install", "-r", "requirements.txt"])
            print(f"error: the package {package} is not installed for this Python; run {command}", file=sys.stderr)
            return EXIT_ERROR
        if interrupts:  # a library swallowed it, and broke on what was left half-way
            say_interrupted()
            return EXIT_INTERRUPTED
        traceback.print_exc()
        return EXIT_CRASH
