"""Runs scripts in processes of their own, forked from one that has imported torch already.

A run then costs what it does, not the imports. Where nothing can be forked (Windows), there are no such runs.
"""

import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 600  # seconds, after which a script hangs
FORK = getattr(os, "fork", None)  # kept from `as_windows`
CAN_FORK = sys.platform.startswith("linux") and FORK is not None  # macOS's libraries do not survive a fork
if CAN_FORK:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        [
            "torch.utils.tensorboard",
            "segmentation_models_pytorch",
            "skimage.segmentation",
            "cv2",
            "torchvision",
            "pytest",
        ]
    )


def start(
    script: Path, arguments: list, outputs: tuple[Path, Path], prepare: Callable[[], None] | None = None, cwd=None
):
    """Start a script with this process's environment: a `multiprocessing.Process`, with a session of its own.

    Args:
        outputs: files of standard output and of standard error; may be the same.
        prepare: called in the new process before the script; has to be picklable.
        cwd: its current folder; by default this process's.
    """
    words, folder = list(map(str, arguments)), str(cwd or os.getcwd())
    process = server.Process(target=_become, args=(script, words, outputs, dict(os.environ), folder, prepare))
    process.start()
    return process


def finish(script: Path, arguments: list, prepare=None, cwd=None) -> subprocess.CompletedProcess:
    """Start a script, and wait for its end."""
    return _finish_all(script, arguments, [prepare], cwd)


def finish_two(script: Path, arguments: list) -> subprocess.CompletedProcess:
    """Two processes that share a script's work, as torchrun starts them: the worse exit code, the first's output."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's agent has one
    return _finish_all(script, arguments, [partial(_be_rank, rank, 2, store.port) for rank in range(2)])


def _be_rank(rank: int, count: int, port: int) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    names |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
    os.environ |= {name: str(value) for name, value in names.items()}


def _finish_all(script: Path, arguments: list, prepares: list, cwd=None) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as folder:
        outputs = [(Path(folder, f"out{number}"), Path(folder, f"err{number}")) for number in range(len(prepares))]
        processes = [start(script, arguments, *more, cwd) for more in zip(outputs, prepares)]
        end = time.monotonic() + TIMEOUT
        for process in processes:
            process.join(max(0, end - time.monotonic()))
        hung = [process for process in processes if process.exitcode is None]
        for process in hung:
            os.killpg(process.pid, signal.SIGKILL)
        texts = [[path.read_text(encoding="utf-8") if path.exists() else "" for path in pair] for pair in outputs]
    if hung:
        raise subprocess.TimeoutExpired([script, *arguments], TIMEOUT, *texts[0])
    code = max((process.exitcode for process in processes), key=abs)
    return subprocess.CompletedProcess([script, *arguments], code, texts[0][0], "".join(err for _, err in texts))


def _become(script, arguments, outputs, environment, folder, prepare):
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        multiprocessing.set_start_method(None, force=True)  # not the server's, which this process has inherited
        null = os.open(os.devnull, os.O_RDONLY)
        files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) for path in outputs]
        for source, target in zip((null, *files), range(3)):
            os.dup2(source, target)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        if prepare:
            prepare()
        code = run(script, arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run(script: Path, arguments: list[str]) -> int:
    """Run a script as this process's main program: its exit code."""
    others = [path for path in sys.path if path not in ("", str(ROOT)) and not path.startswith(str(ROOT / "tests"))]
    sys.path[:] = [str(Path(script).parent), *others]
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def fork_stages() -> None:
    """To prepare a quickstart: its stages are forked, too."""
    from pipeline import steps

    start_anew = steps._run_child

    def run_child(command, typed):
        if not command[1].endswith(".py"):
            return start_anew(command, typed)
        sys.stdout.flush()
        child = FORK()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            os.environ[steps.STAGE_VARIABLE] = json.dumps(typed)
            os._exit(run(command[1], command[2:]))
        finally:
            os._exit(1)

    steps._run_child = run_child


def as_windows() -> None:
    """To prepare a script: what Windows does not have is taken away, from its workers as well.

    The stages of a quickstart are forked nevertheless, which saves them the imports.
    """
    os.environ |= {"PYTHONPATH": str(ROOT / "tests/as_windows"), "AS_WINDOWS": "all"}
    runpy.run_path(str(ROOT / "tests/as_windows/sitecustomize.py"))
    fork_stages()  # whose modules are imported without what is gone
