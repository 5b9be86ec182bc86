"""Command-line habits that every script shares: option names, errors, exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from util.runtime.errors import InputError, disk_error
from util.runtime.parallel import default_workers
from util.runtime.signals import end_with_parent

EXIT_FAILED_IMAGES, EXIT_ERROR, EXIT_CRASH, EXIT_INTERRUPTED = 1, 2, 3, 130
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def _count(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


_COMMON = {
    "images": dict(type=Path, metavar="DIR", help="folder of pictures"),
    "labels": dict(type=Path, metavar="DIR", help="folder of label maps"),
    "gt": dict(type=Path, metavar="DIR", help="folder of ground-truth label maps"),
    "list": dict(type=Path, metavar="FILE", help="id list, one image id a line"),
    "out": dict(type=Path, metavar="DIR", help="folder for the results"),
    "num-classes": dict(type=int, metavar="N", help="number of classes, background included (default: 21)"),
    "class-names": dict(type=Path, metavar="FILE", help="one class a line, background first (default: VOC's 21)"),
    "image-labels": dict(
        type=Path, metavar="FILE", help="image-level labels: cls_labels.npy, a CSV, or VOC's Annotations"
    ),
    "device": dict(default="auto", metavar="D", help="auto, cpu, cuda or cuda:N (default: auto)"),
    "workers": dict(
        type=_count, default=default_workers(), metavar="N", help="worker processes (default: %(default)s)"
    ),
    "overwrite": dict(action="store_true", help="make everything again, also what is up to date"),
    "seed": dict(type=int, default=0, metavar="N", help="seed of everything random (default: 0)"),
    "classes": dict(metavar="NAME,...", help="take the means over these classes only"),
}


class Parser(argparse.ArgumentParser):
    """argparse with hyphens in its help that accepts underscores too (``--image_list`` for ``--image-list``).

    The description is the script's docstring, as written.
    """

    def __init__(self, description: str | None = None, **options):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def add_common(self, *names: str, required: tuple[str, ...] = (), **changes: dict) -> None:
        """Add options that mean the same everywhere.

        Args:
            names: of the options, without the hyphens in front.
            required: those that must be given.
            changes: option (underscores) -> argparse arguments that differ here.
        """
        for name in names:
            settings = {**_COMMON[name], **changes.get(name.replace("-", "_"), {})}
            self.add_argument(f"--{name}", required=name in required, **settings)

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args([self._hyphens(arg) for arg in args], namespace)

    @staticmethod
    def _hyphens(arg: str) -> str:
        if not arg.startswith("--"):
            return arg
        name, equals, value = arg.partition("=")
        return name.replace("_", "-") + equals + value


def class_indices(names: str | None, classes) -> list[int] | None:
    """Indices of ``--classes cat,dog,...``; None stays None."""
    if names is None:
        return None
    return sorted({classes.index(name.strip()) for name in names.split(",") if name.strip()})


_INTERRUPTED = "\ninterrupted; run the same command again to resume"


def _is_importing(frame: FrameType | None) -> bool:
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib."):
        frame = frame.f_back
    return frame is not None


def run(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and exit with its code.

    0: all is well; 1: some images failed, the others are done; 2: the command or its input is wrong;
    3: anything unforeseen, which must not pass for 1; 130: interrupted. No traceback for anything that the user can mend.
    """
    interrupts = []

    def interrupt(number, frame):
        if _is_importing(frame):
            # Compiled modules end the process where an exception meets their start. Nothing is half done in an import.
            print(_INTERRUPTED, file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(EXIT_INTERRUPTED)
        interrupts.append(number)
        raise KeyboardInterrupt

    # Were torchrun killed, its processes could wait half an hour for each other.
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the shell has it ignored
        signal.signal(signal.SIGINT, interrupt)
    try:
        code = main() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_ERROR
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = EXIT_ERROR
    except Exception as error:
        # Reading turns what fails into InputError, so this is the disk that the results go to.
        if isinstance(error, OSError) and error.errno in _DISK:
            print(f"error: {disk_error(error, error.filename or 'the results')}", file=sys.stderr)
            code = EXIT_ERROR
        elif interrupts:  # a library swallowed it, and broke on what was left half-way
            print(_INTERRUPTED, file=sys.stderr)
            code = EXIT_INTERRUPTED
        else:
            traceback.print_exc()
            code = EXIT_CRASH
    # All is said and written; an interrupt now would only break off the way out.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
