"""Worker processes: what they give back, how they end, and what is said when one is lost."""

import multiprocessing
import os
import signal

import pytest

from util.runtime import parallel
from util.runtime.errors import InputError
from util.runtime.parallel import batches_of, run_parallel


@pytest.fixture(autouse=True)
def handler():
    """Python's own handler of Ctrl-C, whatever the shell or other tests have set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=multiprocessing.get_all_start_methods())
def start_method(request):
    """Worker processes that start in each of the ways that this system has."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def square_and_process(number):
    return number * number, os.getpid()


def handlers_of_worker(number):
    return [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]


def process_and_group(number):
    return os.getpid(), os.getpgid(0)


def die(number):
    os._exit(1)


def stumble(number):
    raise ValueError(f"no {number}")


def run(work, count, workers=2, chunk=3):
    return run_parallel(work, list(range(count)), workers=workers, description="test", chunk=chunk)


@pytest.mark.parametrize("workers", [0, 1])
def test_few_workers_need_no_process(workers):
    assert list(run(square_and_process, 5, workers)) == [(n * n, os.getpid()) for n in range(5)]


def test_every_item_is_worked_on_once_by_other_processes(start_method):
    values, processes = zip(*run(square_and_process, 20))
    assert sorted(values) == [n * n for n in range(20)]
    assert os.getpid() not in processes


def test_workers_leave_interrupts_to_their_parent(start_method):
    assert list(run(handlers_of_worker, 4, chunk=1))[0] == [signal.SIG_IGN, signal.SIG_DFL]


def test_a_lost_worker_is_an_input_error(start_method):
    with pytest.raises(InputError, match="a worker process died.*fewer --workers"):
        list(run(die, 8))


def test_an_error_of_the_work_comes_through():
    with pytest.raises(ValueError, match="no "):
        list(run(stumble, 8))


def test_only_a_few_chunks_are_under_way(monkeypatch):
    asked = []

    class Items(list):
        def __getitem__(self, key):
            asked.append(key)
            return super().__getitem__(key)

    results = run_parallel(square_and_process, Items(range(100)), workers=2, description="test", chunk=2)
    next(results)
    assert len(asked) <= 2 * 2 + 1
    results.close()


class Loader:
    """Is interrupted while it starts its workers."""

    def __iter__(self):
        signal.raise_signal(signal.SIGINT)
        self.started = True
        return iter([1, 2])


def test_workers_of_a_loader_start_before_an_interrupt_counts():
    loader = Loader()
    with pytest.raises(KeyboardInterrupt):
        batches_of(loader)
    assert loader.started


def test_batches_come_as_they_are():
    assert list(batches_of([3, 1])) == [3, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def broken_loader(message):
    yield 1
    raise RuntimeError(message)


@pytest.mark.parametrize(
    "message",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. Raise your shared memory limit.",
        "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
        "unable to write to file </torch_1_2_0>: No space left on device (28)",
        "unable to allocate shared memory(shm) for file </torch_1_2_0>",
    ],
)
def test_lost_workers_of_a_loader_are_an_input_error(message):
    batches = batches_of(broken_loader(message))
    assert next(batches) == 1
    with pytest.raises(InputError, match=r"--workers 0.*--shm-size"):
        next(batches)


class Batches:
    """Breaks, and has a reference to itself, as the iterator of a loader with workers."""

    ended = False

    def __init__(self):
        self.itself = self

    def __iter__(self):
        return self

    def __next__(self):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error.")

    def __del__(self):
        Batches.ended = True


def test_the_other_workers_of_a_loader_have_ended_before_the_error_is_reported():
    with pytest.raises(InputError) as error:
        next(batches_of(Batches()))
    assert Batches.ended and error.value.__context__ is None


def test_other_errors_of_a_loader_come_through():
    with pytest.raises(RuntimeError, match="something else"):
        list(batches_of(broken_loader("something else")))


def test_a_worker_does_without_a_parent_that_is_not_there():
    """`start_worker` may run in the main process, where a torch loader has no workers."""
    assert multiprocessing.parent_process() is None
    parallel._join_parent()


@pytest.mark.skipif(not hasattr(os, "setpgid"), reason="process groups are POSIX's")
def test_workers_are_not_in_the_group_that_torchrun_signals(start_method):
    found = list(run_parallel(process_and_group, range(20), workers=2, description="groups", chunk=2))
    assert all(process == group != os.getpgid(0) for process, group in found)
