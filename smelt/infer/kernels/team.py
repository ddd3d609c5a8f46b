"""Threads that share the parts of a job, and none of which is waited for before it has taken a part.

One word holds the number of the job and how many of its parts are left; a thread takes a part by lowering it, in one
atomic step that fails if the job has changed meanwhile. The first thread starts each job, takes parts like the others,
and waits only until all parts that were taken are done. So a thread that is late, asleep or gone costs time and nothing
else: no barrier counts heads. The others look for work for a moment after the last job, then say that they are parked
and return, to sleep until they are woken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.jit import inline
from smelt.tokenizers.kernels.loads import (
    aligned_zeros,
    fetch_add,
    give_way,
    load_acquire,
    load_u64,
    pause,
    store_release,
    store_u64,
    swap_if,
)

# Cells, in cache lines of their own: the word, parts done, the job (parts, phase, layer), whether to stop; then whether
# each thread is parked.
_WORD, _DONE, _PARTS, _PHASE, _LAYER, STOP, PARKED = 0, 8, 16, 17, 18, 24, 32
_STEP = 8  # cells of a cache line
_PART_BITS = np.uint64(24)
_PARTS_LEFT = np.uint64((1 << 24) - 1)
_ONE, _ZERO = np.uint64(1), np.uint64(0)
_PATIENCE = 4000  # looks for work before a thread parks: about 0.2 ms
_POLITENESS = 2000  # looks at what others have not done yet before their core is offered to them


def make_team(num_threads: int) -> npt.NDArray[np.uint64]:
    """Return the cells of a team."""
    return aligned_zeros(PARKED + _STEP * num_threads)


def parked_cell(thread: int) -> int:
    """Return the cell that says whether a thread is parked."""
    return PARKED + _STEP * thread


@inline
def announce(team: int, parts: int, phase: int, layer: int) -> None:
    """Start a job, the one before being done."""
    store_u64(team + 8 * _DONE, _ZERO)
    store_u64(team + 8 * _PARTS, np.uint64(parts))
    store_u64(team + 8 * _PHASE, np.uint64(phase))
    store_u64(team + 8 * _LAYER, np.uint64(layer))
    number = load_u64(team + 8 * _WORD) >> _PART_BITS
    store_release(team + 8 * _WORD, (number + _ONE) << _PART_BITS | np.uint64(parts))


@inline
def take_part(team: int) -> int:
    """Take a part of the present job and return its number, or -1 if none is left."""
    while True:
        word = load_acquire(team + 8 * _WORD)
        if word & _PARTS_LEFT == _ZERO:
            return -1
        if swap_if(team + 8 * _WORD, word, word - _ONE):
            return np.int64(load_u64(team + 8 * _PARTS)) - np.int64(word & _PARTS_LEFT)


@inline
def wait_for_part(team: int, thread: int) -> int:
    """Take a part of a job, waiting for one a moment; -1 if none came, and the thread parks."""
    for _ in range(_PATIENCE):
        part = take_part(team)
        if part >= 0:
            return part
        if load_acquire(team + 8 * STOP) != _ZERO:
            break
        pause()
    store_release(team + 8 * (PARKED + _STEP * thread), _ONE)
    return -1


@inline
def job(team: int) -> tuple[int, int]:
    """Return phase and layer of the job of which a part was taken."""
    return np.int64(load_u64(team + 8 * _PHASE)), np.int64(load_u64(team + 8 * _LAYER))


@inline
def part_done(team: int) -> None:
    """Say that a part is done."""
    fetch_add(team + 8 * _DONE, _ONE)


@inline
def wait_for_all(team: int) -> None:
    """Wait until all parts of the job are done, none being left to take."""
    looks = 0
    while load_acquire(team + 8 * _DONE) != load_u64(team + 8 * _PARTS):
        pause()
        looks += 1
        if looks % _POLITENESS == 0:
            give_way()
