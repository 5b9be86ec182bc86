"""Takes away, on Linux and macOS, what Windows does not have; Python imports it at its start where PYTHONPATH says so.

`pytest --as-windows` puts this folder there for the tests and all that they start.
"""

import importlib.machinery
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings

MODULES = ["fcntl", "grp", "termios"]
FUNCTIONS = ("register_at_fork", "killpg", "fork", "forkpty", "sched_getaffinity", "setpgid", "getpgid", "setsid")


class TorchOfLinux(importlib.machinery.PathFinder):
    """torch asks for the system where we ask for the function: while it is imported, it gets the function back."""

    at_fork = os.register_at_fork

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "torch":
            return None
        spec = super().find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_torch(module):
            os.register_at_fork = cls.at_fork
            try:
                load(module)
            finally:
                del os.register_at_fork

        spec.loader.exec_module = load_torch
        return spec


start = subprocess.Popen.__init__


def start_without_fork(self, *arguments, preexec_fn=None, start_new_session=False, **options):
    if preexec_fn is not None or start_new_session:
        raise ValueError("preexec_fn and start_new_session are not supported on Windows platforms")
    start(self, *arguments, **options)


def hide():
    # Libraries that the tests use, but no script, ask for the system where we ask for the module.
    if os.environ.get("AS_WINDOWS") == "all":
        MODULES.append("resource")
        del signal.SIGKILL
    for name in MODULES:
        sys.modules[name] = None
    for name in FUNCTIONS:
        delattr(os, name)
    multiprocessing.set_start_method("spawn")
    multiprocessing.get_all_start_methods = lambda: ["spawn"]
    sys.meta_path.insert(0, TorchOfLinux)
    subprocess.Popen.__init__ = start_without_fork
    warnings.filterwarnings("ignore", "only soft file lock")  # Windows has locks of its own


hide()
