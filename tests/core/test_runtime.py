import ctypes
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from smelt.core import runtime


def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    monkeypatch.setattr(runtime, "CGROUP", tmp_path)


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("1 100000", 1)]
)
def test_threads_stay_below_the_quota(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda process: set(range(8)))
    container(tmp_path, monkeypatch, cpu_max=quota)
    assert runtime.num_threads() == expected


def test_threads_without_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "CGROUP", tmp_path / "absent")
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda process: {3, 5})
    assert runtime.num_threads() == 2


def test_free_memory_is_what_the_container_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit alone said that a container which is full has all of its memory free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 10_000, "total": 20_000}))
    container(
        tmp_path, monkeypatch, memory_max="4000", memory_current="3900", memory_stat="anon 3000\ninactive_file 500"
    )
    assert runtime.free_memory_bytes() == 4000 - 3900 + 500
    assert runtime.total_memory_bytes() == 4000
    container(tmp_path, monkeypatch, memory_max="max")
    assert runtime.free_memory_bytes() == 10_000
    assert runtime.total_memory_bytes() == 20_000


def test_used_memory_is_plausible() -> None:
    assert 10**6 < runtime.used_memory_bytes() < psutil.virtual_memory().total


def test_training_dtype_follows_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "device", lambda: "cpu")
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset({"GenuineIntel", "avx512_bf16", "avx512f"}))
    assert runtime.training_dtype() is torch.float32
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset({"AuthenticAMD", "avx512f"}))
    assert runtime.training_dtype() is torch.float32
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset({"AuthenticAMD", "avx512_bf16", "avx512f"}))
    assert runtime.training_dtype() is torch.bfloat16
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    assert runtime.training_dtype() is torch.bfloat16
    monkeypatch.setattr(runtime, "cpu_flags", frozenset)
    monkeypatch.setattr(runtime, "device", lambda: "cuda")
    assert runtime.training_dtype() is torch.bfloat16


def test_autocast_lowers_products_only_where_asked() -> None:
    one = torch.ones(2, 2)
    with runtime.autocast(torch.bfloat16):
        assert (one @ one).dtype is torch.bfloat16
    with runtime.autocast(torch.float32):
        assert (one @ one).dtype is torch.float32
    assert (one @ one).dtype is torch.float32


def test_rank_and_world_size_come_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (runtime.rank(), runtime.world_size()) == (0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (runtime.rank(), runtime.world_size()) == (3, 4)


PAGE_FAULTS_OF_TWENTY_TENSORS = """
import resource, sys, torch
from smelt.core import runtime
runtime.keep_freed_memory()
for _ in range(3):
    torch.ones(int(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(int(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize(
    "num_entries",
    [
        pytest.param(2**20, id="4 MB"),
        pytest.param(2**24, id="64 MB, more than the threshold of mapping can be raised to"),
    ],
)
def test_memory_that_was_freed_is_kept_for_the_next_tensor(num_entries: int) -> None:
    """A page fault for every 4 kB of a tensor that was there a moment ago is what this saves.

    In a process of its own: what other tests left on the heap is not what is asked.
    """
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("not glibc")
    command = [sys.executable, "-c", PAGE_FAULTS_OF_TWENTY_TENSORS, str(num_entries)]
    faults = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    all_their_pages = 20 * 4 * num_entries // 4096
    assert int(faults.stdout) < all_their_pages / 2  # now and then one lies at another place of the heap


def test_compiler_is_looked_up_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not runtime.has_compiler()
    (tmp_path / "g++").touch(0o755)
    assert runtime.has_compiler()
