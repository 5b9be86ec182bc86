"""What a stage does, step by step: a script of this project, run as a user would, or a function."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from pipeline.plan import Argument
from util.runtime.cli import EXIT_FAILED_IMAGES, EXIT_INTERRUPTED, STAGE_VARIABLE
from util.runtime.commands import by_option, quoted
from util.runtime.errors import InputError
from util.runtime.locking import lock_folder
from util.runtime.signals import end_with_parent

ROOT = Path(__file__).resolve().parent.parent

# Script -> options that quickstart.py calls otherwise; messages name them as they were typed.
TYPED = {
    "generate_sam_masks.py": {"--model": "--sam-model", "--checkpoint": "--sam-checkpoint"},
    "main.py": {"--pseudo-path": "--labels", "--sam-path": "--masks", "--gt-dir": "--gt", "--images-path": "--images"},
}

# Options that a shortened command leaves out: their values are the same in all stages, or results do not depend on them.
ALIKE = {
    *("--images", "--images-path", "--image-labels", "--class-names", "--cam-path", "--data-name"),
    *("--device", "--workers", "--seed", "--save-minutes"),
}
LISTED = 4  # values of an option, above which their number is shown

# torchrun, but for its exit code, which is 1 for every failure: here 1 still means that some images failed.
TORCHRUN = """
import sys
import traceback
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main
try:
    main(sys.argv[1:])
except ChildFailedError as error:
    sys.exit(1 if {failure.exitcode for failure in error.failures.values()} == {1} else 2)
except Exception:
    traceback.print_exc()
    sys.exit(2)
"""


@dataclass(frozen=True)
class Action:
    """A function of this project that a stage calls; ``shown`` says what it does."""

    shown: str
    call: Callable[[], object]

    def run(self) -> int:
        """Call it; the exit code is always 0."""
        self.call()
        return 0


@dataclass(frozen=True)
class Command:
    """A script, its arguments but for ``--out``, and the folder that it writes to.

    Attributes:
        processes: of torchrun; 1 runs the script without it.
    """

    script: str
    arguments: list[Argument]
    out: Path
    processes: int = 1

    @property
    def shown(self) -> str:
        """As one would type it."""
        launcher = "python" if self.processes == 1 else f"torchrun --standalone --nproc-per-node {self.processes}"
        return f"{launcher} {quoted([self.script, *self._words()])}"

    @property
    def brief(self) -> str:
        """Without long lists and without what is alike in all stages."""
        launcher = self.shown.partition(self.script)[0] + self.script
        words = ["", *takewhile(lambda word: not word.startswith("--"), self._words())]
        left_out = False
        for option, values in by_option(self._words()):
            if len(values) > LISTED:
                values = [f"<{len(values)} {'files' if {'/', os.sep} & {*values[0]} else 'values'}>"]
            elif option in ALIKE:
                left_out = True
                continue
            words += [option, *(value if value.startswith("<") else quoted([value]) for value in values)]
        return launcher + " ".join(words) + (" ..." if left_out else "")

    def _words(self) -> list[str]:
        return [*map(str, self.arguments), "--out", str(self.out)]

    def run(self) -> int:
        """Run it, and give its exit code: 0, or 1 if some images failed.

        Raises:
            InputError: if it refuses its input.
            KeyboardInterrupt: if it, or this process, was interrupted.
        """
        command = [sys.executable]
        if self.processes > 1:
            command += ["-c", TORCHRUN, "--standalone", "--nproc-per-node", str(self.processes)]
        print(f"$ {self.brief}", flush=True)
        wait_for_lock(self.out)
        code = _run_child([*command, str(ROOT / self.script), *self._words()], TYPED.get(self.script, {}))
        if code in (EXIT_INTERRUPTED, -signal.SIGINT):
            raise KeyboardInterrupt
        if code not in (0, EXIT_FAILED_IMAGES):
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise InputError(f"{self.script} stopped with {how}, see above; fix it and re-run the command to resume")
        return code


Step = Command | Action


def _run_child(command: list[str], typed: Mapping[str, str]) -> int:
    """Run a command in a process group of its own, and give its exit code; ``typed`` is for its messages, see `as_typed`.

    Ctrl-C so reaches this process alone, which passes on one signal: a network in training is saved. The second signal
    stops the child at once.
    """
    options: dict[str, Any] = {"env": {**os.environ, STAGE_VARIABLE: json.dumps(typed)}}
    if hasattr(os, "killpg"):
        options |= {"start_new_session": True, "preexec_fn": partial(end_with_parent, "SIGTERM")}
    elif hasattr(subprocess, "CREATE_NEW_PROCESS_GROUP"):
        options |= {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    child = subprocess.Popen(command, **options)
    try:
        return _wait_for(child)
    except BaseException:
        try:
            child.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        except OSError:  # on Windows, without a console
            child.terminate()
        try:
            _wait_for(child)
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()
            child.wait()
            raise
        raise


def _wait_for(child: subprocess.Popen) -> int:
    """The exit code of a process. Ctrl-C does not interrupt a wait on Windows: it is handled between short ones."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(0.3 if os.name == "nt" else None)


def wait_for_lock(out: Path) -> None:
    """Wait until no process of a run that was killed writes to a folder any more.

    Raises:
        InputError: if one still does after two minutes.
    """
    if not out.is_dir():
        return
    end = time.monotonic() + 120
    while True:
        try:
            lock_folder(out).close()
            return
        except InputError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
