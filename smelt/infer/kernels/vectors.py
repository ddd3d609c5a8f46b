"""Sixteen numbers at a time: the steps of LLVM code from which the kernels are put together.

Vectors live only inside an intrinsic, since numba has no name for them; so these functions emit code and are called by
those that make an intrinsic. A vector has 16 lanes whatever the processor: LLVM cuts it to the width that there is. All
steps are plain LLVM save one: the product of bytes has an instruction of its own on processors with VNNI, and is made
of products of 16 bits elsewhere, with the same result.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
FP32, BF16, INT8, INT4 = 0, 1, 2, 3  # kinds of numbers, as records name them
I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(F32, LANES)
WORDS = ir.VectorType(I32, LANES)
HALVES = ir.VectorType(I16, LANES)
BYTES = ir.VectorType(I8, LANES)


def fill(kind: Any, value: float) -> Any:
    """Return the vector of one constant."""
    return ir.Constant(kind, [value] * kind.count)


def offset(builder: Any, address: Any, num_bytes: int | Any) -> Any:
    """Return an address so many bytes further."""
    return builder.add(address, I64(num_bytes) if isinstance(num_bytes, int) else num_bytes)


def load(builder: Any, kind: Any, address: Any) -> Any:
    """Return what lies at an address."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def store(builder: Any, value: Any, address: Any) -> None:
    """Write a value at an address."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def growing_sum(builder: Any, start: Any = None) -> Any:
    """Return a variable of 16 sums, zeros or what is given; LLVM keeps it in a register."""
    place = cgutils.alloca_once(builder, VECTOR)  # type: ignore[no-untyped-call]
    builder.store(fill(VECTOR, 0.0) if start is None else start, place)
    return place


def splat(builder: Any, value: Any) -> Any:
    """Return the vector of one number."""
    kind = ir.VectorType(value.type, LANES)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), fill(WORDS, 0))


def call(builder: Any, name: str, *values: Any) -> Any:
    """Call one of LLVM's functions on vectors, which gives what its first argument is."""
    kind = ir.FunctionType(values[0].type, [value.type for value in values])
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), list(values))


def multiply_add(builder: Any, first: Any, second: Any, third: Any) -> Any:
    """Return first * second + third, rounded once where the processor can."""
    return call(builder, "llvm.fmuladd.v16f32", first, second, third)


def widen(builder: Any, halves: Any) -> Any:
    """Return bf16 numbers, given as their 16 bits, as fp32."""
    return builder.bitcast(builder.shl(builder.zext(halves, WORDS), fill(WORDS, 16)), VECTOR)


def widen_fp16(builder: Any, halves: Any, *, converts: bool) -> Any:
    """Return positive fp16 numbers, given as their 16 bits, as fp32, exactly; the processor `converts` them or not."""
    if converts:
        return builder.fpext(builder.bitcast(halves, ir.VectorType(ir.HalfType(), LANES)), VECTOR)
    moved = builder.bitcast(builder.shl(builder.zext(halves, WORDS), fill(WORDS, 13)), VECTOR)
    return builder.fmul(moved, fill(VECTOR, 2.0**112))  # the exponents' zero is elsewhere


def load_numbers(builder: Any, kind: int, address: Any) -> Any:
    """Return 16 numbers, fp32, bf16 or int8, as fp32."""
    if kind == INT8:
        return builder.sitofp(builder.sext(load(builder, BYTES, address), WORDS), VECTOR)
    return widen(builder, load(builder, HALVES, address)) if kind == BF16 else load(builder, VECTOR, address)


def total(builder: Any, vector: Any) -> Any:
    """Return the sum of the lanes, always in the same order: halves on halves."""
    for size in (8, 4, 2, 1):
        rest = ir.Constant(ir.VectorType(I32, LANES), [(lane + size) % LANES for lane in range(LANES)])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, rest))
    return builder.extract_element(vector, I32(0))


def exponential(builder: Any, x: Any) -> Any:
    """Return e^x to within two units in the last place; 0 below -87.

    2^n times a polynomial of what is left. Ref: Cephes, expf.
    """
    small = builder.fcmp_ordered("<", x, fill(VECTOR, -87.0))
    x = builder.select(small, fill(VECTOR, -87.0), x)
    x = builder.select(builder.fcmp_ordered(">", x, fill(VECTOR, 88.0)), fill(VECTOR, 88.0), x)
    whole = call(builder, "llvm.rint.v16f32", builder.fmul(x, fill(VECTOR, 1.44269504088896341)))
    rest = multiply_add(builder, whole, fill(VECTOR, -0.693359375), x)
    rest = multiply_add(builder, whole, fill(VECTOR, 2.12194440e-4), rest)
    value = fill(VECTOR, 1.9875691500e-4)
    for term in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        value = multiply_add(builder, value, rest, fill(VECTOR, term))
    value = multiply_add(builder, value, builder.fmul(rest, rest), builder.fadd(rest, fill(VECTOR, 1.0)))
    power = builder.add(builder.fptosi(whole, WORDS), fill(WORDS, 127))
    value = builder.fmul(value, builder.bitcast(builder.shl(power, fill(WORDS, 23)), VECTOR))
    return builder.select(small, fill(VECTOR, 0.0), value)


def sigmoid(builder: Any, x: Any) -> Any:
    """Return 1 / (1 + e^-x)."""
    one = fill(VECTOR, 1.0)
    return builder.fdiv(one, builder.fadd(one, exponential(builder, builder.fneg(x))))


def has_vnni(context: Any) -> bool:
    """Tell whether the processor that is compiled for multiplies bytes by fours, 64 at a time."""
    return "+avx512vnni" in context.codegen().magic_tuple()[2]


def converts_fp16(context: Any) -> bool:
    """Tell whether the processor that is compiled for turns fp16 into fp32 itself; small numbers are slow elsewhere."""
    triple, _, features = context.codegen().magic_tuple()
    return "+f16c" in features or str(triple).startswith(("aarch64", "arm64"))


def dot_bytes(builder: Any, sums: Any, unsigned: Any, signed: Any, *, vnni: bool) -> Any:
    """Add to each of 16 sums the products of its four unsigned bytes with its four signed bytes: 16 words each."""
    if vnni:
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", sums, unsigned, signed)
    pairs, wide = ir.VectorType(I16, 2 * LANES), ir.VectorType(I32, 2 * LANES)
    even, odd = ([2 * lane + side for lane in range(LANES)] for side in (0, 1))
    eight = fill(pairs, 8)
    left, right = builder.bitcast(unsigned, pairs), builder.bitcast(signed, pairs)
    for one, other in (
        (builder.and_(left, fill(pairs, 255)), builder.ashr(builder.shl(right, eight), eight)),
        (builder.lshr(left, eight), builder.ashr(right, eight)),
    ):
        products = builder.mul(builder.sext(one, wide), builder.sext(other, wide))
        for side in (even, odd):
            sums = builder.add(sums, builder.shuffle_vector(products, products, ir.Constant(WORDS, side)))
    return sums


@intrinsic
def load_f32(typing: Any, address: Any) -> Any:
    """Return the fp32 number at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return load(builder, F32, values[0])

    return types.float32(types.int64), generate


@intrinsic
def load_bf16(typing: Any, address: Any) -> Any:
    """Return the bf16 number at an address, as fp32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.zext(load(builder, I16, values[0]), I32)
        return builder.bitcast(builder.shl(bits, I32(16)), F32)

    return types.float32(types.int64), generate


@intrinsic
def load_i8(typing: Any, address: Any) -> Any:
    """Return the int8 number at an address, as fp32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.sitofp(builder.sext(load(builder, I8, values[0]), I32), F32)

    return types.float32(types.int64), generate


@intrinsic
def store_i8(typing: Any, address: Any, value: Any) -> Any:
    """Write a number between -127 and 127 at an address as int8, rounded to the nearest."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rounded = call(builder, "llvm.rint.f32", values[1])
        store(builder, builder.trunc(builder.fptosi(rounded, I32), I8), values[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def store_f32(typing: Any, address: Any, value: Any) -> Any:
    """Write an fp32 number at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        store(builder, values[1], values[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def store_bf16(typing: Any, address: Any, value: Any) -> Any:
    """Write a number at an address as bf16, rounded to the nearest, to the even one of two."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.bitcast(values[1], I32)
        odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, I32(0x7FFF))), I32(16))
        store(builder, builder.trunc(rounded, I16), values[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate
