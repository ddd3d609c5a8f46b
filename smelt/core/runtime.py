"""What this machine can do, and the process-wide switches that follow from it.

The only module that reads environment variables. Torch is imported inside the functions that need it,
because importing it costs a second that `smelt --help` should not pay.
Measured on two cores: bf16 matmul is 6x faster than fp32 with AMX, 4x faster on AMD's AVX-512 (Zen 4 and later), and
2-700x slower elsewhere, so the training type is chosen by the processor's maker and flags and by nothing else.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

CGROUP = Path("/sys/fs/cgroup")  # the limits of a container (version 2)


def device() -> str:
    """Return "cuda" where an accelerator is present, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the processor's feature flags and its maker's name, empty where the system does not tell them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    return frozenset(
        flag
        for line in text.splitlines()
        if line.startswith(("flags", "Features", "vendor_id"))
        for flag in line.split(":")[1].split()
    )


def has_fast_bfloat16() -> bool:
    """Tell whether bf16 matrix products are faster than fp32 ones here: AMX, AMD's AVX-512, or an accelerator."""
    flags = cpu_flags()
    return "amx_bf16" in flags or {"AuthenticAMD", "avx512_bf16"} <= flags or device() == "cuda"


def has_compiler() -> bool:
    """Tell whether `torch.compile` can build kernels here (it needs a C++ compiler for the CPU)."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


def num_threads() -> int:
    """Return the number of processor cores this process may use, by affinity and by the container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (int(word) for word in (CGROUP / "cpu.max").read_text().split())
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return cores
    return max(1, min(cores, -(-quota // period)))


@functools.cache
def cache_directory() -> Path:
    """Return a folder for what can be made again: the user's cache, or one for this process where that is read-only."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "smelt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="smelt-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="smelt-"))


def rank() -> int:
    """Return this process's number in the group that torchrun started, 0 alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes that torchrun started, 1 alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def total_memory_bytes() -> int:
    """Return the memory of the machine, or the container's limit where that is lower."""
    try:
        return min(int((CGROUP / "memory.max").read_text()), psutil.virtual_memory().total)
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        return psutil.virtual_memory().total


def free_memory_bytes() -> int:
    """Return the memory that a run may still take: the machine's, or what is left of the container's limit."""
    available = psutil.virtual_memory().available
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return available
    return max(0, min(available, limit - used + int(stat["inactive_file"])))  # such pages are given up on demand


def used_memory_bytes() -> int:
    """Return this process's resident memory."""
    return psutil.Process().memory_info().rss


def secret(variable: str) -> str:
    """Return what an environment variable holds that the user named, "" where it is not set."""
    return os.environ.get(variable, "")


def prepare_process(*, saves_memory: bool = False) -> None:
    """Give torch every core of this process, unless OMP_NUM_THREADS says how many; safe to call again.

    Freed memory is kept for the next step, or where memory is what is short, given back at once.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(num_threads())
    if saves_memory:
        map_large_blocks()
    else:
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for the next step; a no-op under any other C library.

    It gives a large tensor back to the system as soon as it is freed, and the next step pays for every page anew: at
    the most that its threshold can be raised to, 32 MB, still 160,000 page faults in a training pass of a Llama of 110M
    over 1,024 tokens, a third of its time. So no block is mapped apart; peak memory stays as it was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        trim_threshold, most_mapped = -1, -4  # <malloc.h>
        mallopt(most_mapped, 0)
        mallopt(trim_threshold, -1)  # never


def map_large_blocks() -> None:
    """Tell glibc to map blocks of 1 MiB and more apart, so that they leave no holes; a no-op elsewhere.

    It is what `keep_freed_memory` undoes: a page fault for each page of every step, against holes between
    the blocks that stay, such as what gradient checkpointing keeps of each layer.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        trim_threshold, map_threshold, most_mapped = -1, -3, -4  # <malloc.h>
        mallopt(most_mapped, 2**16)
        mallopt(map_threshold, 2**20)
        mallopt(trim_threshold, 2**20)


def give_back_freed_memory() -> None:
    """Give whole pages of freed memory back to the system now; a no-op under any other C library than glibc.

    For the end of a phase that leaves behind blocks of sizes that no later one asks for, where what is freed is kept.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


@contextmanager
def autocast(dtype: torch.dtype) -> Iterator[None]:
    """Run matrix products in `dtype` where it differs from fp32; weights stay fp32."""
    import torch

    with torch.autocast(device(), dtype=dtype, enabled=dtype != torch.float32):
        yield


def training_dtype() -> torch.dtype:
    """Return the type of matrix products in training: bf16 where it is fast, else fp32."""
    import torch

    return torch.bfloat16 if has_fast_bfloat16() else torch.float32
