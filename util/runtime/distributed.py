"""One process or many: what ``torchrun`` sets up, and the same calls without it."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from util.runtime.errors import InputError, counted
from util.runtime.memory import keep_freed_memory
from util.runtime.processors import processors

if TYPE_CHECKING:
    import torch

TIMEOUT = timedelta(minutes=30)  # how long one process waits for another before the run ends with an error
K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Dist:
    """This process among those of a run.

    Attributes:
        rank: number of this process, 0 is the one that writes and prints.
        world: how many processes there are; 1 without ``torchrun``.
        local_rank: number of this process on its machine.
        device: where its tensors live.
    """

    rank: int
    world: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.rank == 0

    def shard(self, items: list) -> list:
        """This process's part of a list: every ``world``-th item, so parts differ by at most one in length."""
        return items[self.rank :: self.world]

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            import torch

            devices = [self.device.index] if self.device.type == "cuda" else None  # else NCCL guesses, and may hang
            torch.distributed.barrier(device_ids=devices)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """One process per machine does what follows first, a download for instance; the others then find it done."""
        if self.local_rank:
            self.barrier()
        try:
            yield
        finally:  # also if it failed: the others then say so as well, instead of waiting
            if not self.local_rank:
                self.barrier()

    def gather(self, value: T) -> list[T]:
        """Every process's ``value`` (picklable), in the order of ranks, in every process."""
        if self.world == 1:
            return [value]
        import torch

        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def share(self, left: Mapping[K, T]) -> dict[K, T]:
        """This process's part of what all of them found to be left to do.

        Shares of the whole list would leave a resumed run with one process at work and the others waiting for it.

        Args:
            left: what this process found; both are picklable, and no two processes find the same.
        """
        return dict(self.shard([item for part in self.gather([*left.items()]) for item in part]))

    def broadcast(self, value: T) -> T:
        """The main process's ``value`` (picklable), in every process."""
        if self.world == 1:
            return value
        import torch

        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def __enter__(self) -> Dist:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        # NCCL would wait for the other processes, which may wait for this one; `util.runtime.cli.run` then ends it.
        fails_among_gpus = kind is not None and self.world > 1 and self.device.type == "cuda"
        if self.device is not None and not fails_among_gpus:
            cleanup()


ALONE = Dist(0, 1, 0, None)  # type: ignore[arg-type]  # one process that asks for no device


def join() -> Dist:
    """Join the other processes of ``torchrun`` for work without a network; without it torch is not even imported."""
    return init("cpu") if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ALONE


def init(device: str = "auto") -> Dist:
    """Join the other processes of ``torchrun``, or be the only one when it was not used.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Each process of ``torchrun`` takes the GPU of its local
            rank; NCCL connects GPUs, Gloo CPUs.

    Raises:
        InputError: if the device is not there, or more processes than GPUs were started.
    """
    import torch

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    chosen = choose_device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    if world == 1:
        if chosen.type == "cuda" and chosen.index is not None:
            torch.cuda.set_device(chosen)  # or what names no GPU would use memory of the first
        return Dist(0, 1, 0, chosen)
    if chosen.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started process {local_rank + 1} on a machine with {counted(torch.cuda.device_count(), 'GPU')}; "
                "set --nproc-per-node to the number of GPUs, or use --device cpu"
            )
        chosen = torch.device("cuda", local_rank)
        torch.cuda.set_device(chosen)
    if not torch.distributed.is_initialized():
        # Its functions take the group of the moment of their import as a default argument. Imported later, as a part of
        # torch._dynamo, they would keep the group and its threads beyond `cleanup`, and Python aborts if such a thread
        # lets go of a tensor while the interpreter shuts down.
        import torch.distributed.nn.functional

        has_nccl = torch.distributed.is_nccl_available()  # not on Windows
        backend = "nccl" if chosen.type == "cuda" and has_nccl else "gloo"
        torch.distributed.init_process_group(backend, timeout=TIMEOUT)
    return Dist(rank, world, local_rank, chosen)


def cleanup() -> None:
    """Leave the group of processes and end its threads; safe to call without one."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # networks that were shared out refer to the group, and often to themselves


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is the GPU where there is one, else the CPU, on no more threads than a container grants.

    Raises:
        InputError: if there is no such device, or torch was built for newer ones.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and os.environ.get("RANK", "0") == "0" and _has_nvidia_gpu():
            print(
                f"this machine has an NVIDIA GPU, but torch {torch.__version__} finds none, and the CPU is used; the torch for "
                "it: https://pytorch.org/get-started/locally",
                file=sys.stderr,
            )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: no such device; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name}: of GPUs, those of CUDA and ROCm are used; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: torch finds no GPU here; use --device cpu or install a torch with CUDA")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: found {counted(torch.cuda.device_count(), 'GPU')}, counted from 0")
    if device.type == "cuda":
        _check_kernels(device)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), processors()))
    return device


def _has_nvidia_gpu() -> bool:
    """Whether NVIDIA's driver is installed, and nobody has hidden the GPUs."""
    return "CUDA_VISIBLE_DEVICES" not in os.environ and shutil.which("nvidia-smi") is not None


def _check_kernels(device: torch.device) -> None:
    """Raise InputError for a GPU that is older than all that torch was built for, such as a V100."""
    import torch

    built_for = [int(name[3:]) for name in torch.cuda.get_arch_list() if name[:3] == "sm_" and name[3:].isdigit()]
    major, minor = torch.cuda.get_device_capability(device)
    if built_for and 10 * major + minor < min(built_for):
        raise InputError(
            f"{torch.cuda.get_device_name(device)}: this torch ({torch.__version__}) is built for newer GPUs. Install "
            "the one for CUDA 12.6 (https://pytorch.org/get-started/locally), or give --device cpu"
        )
