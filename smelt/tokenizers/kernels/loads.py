"""Read and write memory as C does: one, two, four or eight bytes at an address, anywhere.

Two reasons. Eight bytes at once let a kernel look at a word, not at its letters. And an array that is passed from one
compiled function to another costs two atomic operations (numba counts references), which made scanning five times
slower; an address is a plain number. So kernels take arrays, and their small helpers take addresses into them.

The machine must be little-endian (every one torch runs on is), and text needs `PADDING` bytes after its last.
"""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from smelt.tokenizers.kernels.jit import inline

# The 64 bytes from any byte of a text on may be read.
PADDING = 64


def padded(*parts: bytes) -> npt.NDArray[np.uint8]:
    """Return bytes as one array with `PADDING` zeros behind them (n + PADDING,)."""
    return np.frombuffer(b"".join((*parts, bytes(PADDING))), np.uint8)


def aligned_zeros(numbers: int) -> npt.NDArray[np.uint64]:
    """Return zeros (numbers,) that begin with a cache line, so that a row of half a line never lies in two."""
    room = np.zeros(numbers + 8, np.uint64)
    start = -room.ctypes.data % 64 // 8
    return room[start : start + numbers]


@inline
def address(array: npt.NDArray[np.generic]) -> int:
    """Return where the first element of an array is in memory.

    Only of arrays that the caller of a kernel passes: numba frees an array made inside after its last use by name.
    """
    return np.int64(array.ctypes.data)


def _loader(bits: int, result: Any) -> Any:
    def load(typing: Any, address: Any) -> Any:
        """Return the unsigned number at an address, lowest byte first."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = builder.inttoptr(values[0], ir.IntType(bits).as_pointer())
            loaded = builder.load(pointer, align=1)
            return builder.zext(loaded, ir.IntType(64)) if bits < 64 else loaded

        return result(types.int64), generate

    return intrinsic(load)


def _storer(bits: int, kind: Any) -> Any:
    def store(typing: Any, address: Any, value: Any) -> Any:
        """Write a number, cut to the width of the store, at an address."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = builder.inttoptr(values[0], ir.IntType(bits).as_pointer())
            value = builder.trunc(values[1], ir.IntType(bits)) if bits < 64 else values[1]
            builder.store(value, pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, kind), generate

    return intrinsic(store)


# Small numbers come as int64, so that arithmetic with places stays in integers (uint64 and int64 would make a float).
load_u8 = _loader(8, types.int64)
load_u16 = _loader(16, types.int64)
load_u32 = _loader(32, types.int64)
load_u64 = _loader(64, types.uint64)
store_u8 = _storer(8, types.int64)
store_u32 = _storer(32, types.int64)
store_u64 = _storer(64, types.uint64)


@intrinsic
def load_acquire(typing: Any, address: Any) -> Any:
    """Return the uint64 at an address, and see all that was written before another thread released it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.uint64(types.int64), generate


@intrinsic
def store_release(typing: Any, address: Any, value: Any) -> Any:
    """Write a uint64 at an address, for other threads to see after all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        builder.store_atomic(values[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), generate


@intrinsic
def fetch_add(typing: Any, address: Any, value: Any) -> Any:
    """Add to the uint64 at an address, to which other threads may add too; return what it was."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, values[1], "acq_rel")

    return types.uint64(types.int64, types.uint64), generate


@intrinsic
def swap_if(typing: Any, address: Any, expected: Any, value: Any) -> Any:
    """Write a uint64 at an address if the expected one is there, in one step; return whether it was."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.extract_value(builder.cmpxchg(pointer, values[1], values[2], "acq_rel", "acquire"), 1)

    return types.boolean(types.int64, types.uint64, types.uint64), generate


@intrinsic
def pause(typing: Any) -> Any:
    """Leave the core's units to its other thread for a moment: what a loop that waits should do."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            name, kind = "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def give_way(typing: Any) -> Any:
    """Let the system run another thread on this core, if one waits for it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if os.name == "posix":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(
                builder.module.globals.get("sched_yield") or ir.Function(builder.module, kind, "sched_yield"), []
            )
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """Ask for the cache line at an address, which will be read soon; do not wait for it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        read, near, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [builder.inttoptr(values[0], pointer), read, near, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def trailing_zeros(typing: Any, value: Any) -> Any:
    """Return the number of zero bits below the lowest set bit of a uint64, 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def leading_zeros(typing: Any, value: Any) -> Any:
    """Return the number of zero bits above the highest set bit of a uint64, 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ctlz(values[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def count_ones(typing: Any, value: Any) -> Any:
    """Return the number of set bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ctpop(values[0])

    return types.int64(types.uint64), generate


def _byte_test(compare: Any) -> Any:
    def test(typing: Any, address: Any) -> Any:
        """Return a number whose bits say of which of the 64 bytes at an address something is true."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            row = ir.VectorType(ir.IntType(8), 64)
            loaded = builder.load(builder.inttoptr(values[0], row.as_pointer()), align=1)
            found = compare(builder, loaded, lambda byte: ir.Constant(row, [byte] * 64))
            return builder.bitcast(found, ir.IntType(64))

        return types.uint64(types.int64), generate

    return intrinsic(test)


def _in_range(builder: Any, row: Any, first: Any, count: Any) -> Any:
    return builder.icmp_unsigned("<", builder.sub(row, first), count)


ascii_letters = _byte_test(
    lambda builder, row, fill: _in_range(builder, builder.or_(row, fill(0x20)), fill(0x61), fill(26))
)
ascii_digits = _byte_test(lambda builder, row, fill: _in_range(builder, row, fill(0x30), fill(10)))
ascii_white = _byte_test(
    lambda builder, row, fill: builder.or_(
        _in_range(builder, row, fill(0x09), fill(5)), builder.icmp_unsigned("==", row, fill(0x20))
    )
)
ascii_lines = _byte_test(
    lambda builder, row, fill: builder.or_(
        builder.icmp_unsigned("==", row, fill(0x0A)), builder.icmp_unsigned("==", row, fill(0x0D))
    )
)
spaces = _byte_test(lambda builder, row, fill: builder.icmp_unsigned("==", row, fill(0x20)))
apostrophes = _byte_test(lambda builder, row, fill: builder.icmp_unsigned("==", row, fill(0x27)))
beyond_ascii = _byte_test(lambda builder, row, fill: builder.icmp_signed("<", row, fill(0)))
