"""What a stage does about signals; that it resumes, and is never stale, is tested with the scripts and in tests/faults."""

import signal

import pytest

from util.runtime.parallel import batches_of


@pytest.fixture(autouse=True)
def handler():
    """Python's own handler of Ctrl-C, whatever the shell or other tests have set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
