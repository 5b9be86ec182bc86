"""How many processors a process counts on."""

import os
import sys

import pytest
import torch

from util.runtime import distributed, processors


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch, tmp_path):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16), raising=False)
    monkeypatch.setattr(processors, "CGROUP", tmp_path)


def test_processes_of_one_machine_share_its_processors(monkeypatch):
    assert processors.processors() == processors.default_workers() == 16
    for processes, expected in ((8, 2), (3, 5), (64, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert processors.processors() == processors.default_workers() == expected
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(sys, "platform", "win32")
    assert processors.default_workers() == 8


@pytest.mark.parametrize(
    "limit, expected",
    [
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 16),
        ({"cpu.max": "6400000 100000"}, 16),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
    ],
)
def test_a_container_counts_the_processors_that_it_may_use(tmp_path, limit, expected):
    for name, text in limit.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert processors.processors() == processors.default_workers() == expected


@pytest.mark.parametrize("given, expected", [(None, 2), ("12", 12)])
def test_torch_starts_no_more_threads_than_a_container_may_use(monkeypatch, tmp_path, given, expected):
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    before = torch.get_num_threads()
    torch.set_num_threads(12)
    try:
        distributed.choose_device("cpu")
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
