"""The loops over time of recurrent cells, forward and backward, each one compiled function for some rows of a batch.

A step is a small product of the states with the recurrent matrix and a few numbers a unit. Called one by one from
Python, and through a library that packs the matrix anew each time, they cost several times what they compute; here a
whole text is one call. `add_product` keeps four rows and four inputs in registers, so that it reads the matrix once for
four rows; the loops over units are plain, and the compiler makes vectors of them. Rows are independent, so threads take
some rows each. All arrays are float32 and contiguous, time first; x is what the input gives to each gate, and a forward
pass keeps what its backward pass needs. A row whose text begins at a step, `starts` (T, B), forgets all before it.

Gates lie as in torch: LSTM i f g o, GRU r z n. Compiling takes some seconds a function, once on a machine.

Ref: Hochreiter & Schmidhuber, Long short-term memory, 1997; Gers et al., Learning to forget, 2000.
Ref: Cho et al., arXiv:1406.1078. Ref: Werbos, Backpropagation through time, 1990.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Function = TypeVar("Function", bound=Callable[..., object])

_float = np.float32
_int = np.int32


def _compile(function: Function) -> Function:
    """Compile once and keep the machine code on disk; a product and a sum may round once (contract)."""
    return numba.njit(function, cache=True, nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore


def _inline(function: Function) -> Function:
    """Mark a small function that is compiled into those that call it."""
    return numba.njit(function, inline="always", nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore


@_inline
def exp_of_negative(x: Any) -> Any:
    """Return exp(x) for x <= 0, to a rounding or two: 2^-n times a series on half an octave; 0 below exp(-80)."""
    x = _float(-80) if x < _float(-80) else x  # written so that NaN stays NaN
    n = _int(_float(0.5) - x * _float(1.4426950408889634))
    rest = x + _float(n) * _float(0.693145751953125) + _float(n) * _float(1.42860682030941723e-06)  # ln 2 in two parts
    series = _float(1 / 720) + rest * _float(1 / 5040)
    series = _float(1 / 24) + rest * (_float(1 / 120) + rest * series)
    series = _float(1) + rest * (_float(1) + rest * (_float(1 / 2) + rest * (_float(1 / 6) + rest * series)))
    return series * _int((_int(127) - n) << _int(23)).view(_float)


@_inline
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x))."""
    small = exp_of_negative(-abs(x))
    return (small if x < _float(0) else _float(1)) / (_float(1) + small)


@_inline
def tanh(x: Any) -> Any:
    """Return tanh(x)."""
    small = exp_of_negative(_float(-2) * abs(x))
    size = (_float(1) - small) / (_float(1) + small)
    return -size if x < _float(0) else size


@_compile
def add_product(out: Floats, rows: Floats, matrix: Floats, first: int, last: int) -> None:
    """Add rows (B, K) @ matrix (K, N) to out (B, N), for the rows from `first` to `last`."""
    size, grouped = matrix.shape[0], first + (last - first) // 4 * 4
    whole = size // 4 * 4
    for k in range(0, whole, 4):
        m0, m1, m2, m3 = matrix[k], matrix[k + 1], matrix[k + 2], matrix[k + 3]
        for b in range(first, grouped, 4):
            a0, a1, a2, a3 = rows[b, k], rows[b, k + 1], rows[b, k + 2], rows[b, k + 3]
            b0, b1, b2, b3 = rows[b + 1, k], rows[b + 1, k + 1], rows[b + 1, k + 2], rows[b + 1, k + 3]
            c0, c1, c2, c3 = rows[b + 2, k], rows[b + 2, k + 1], rows[b + 2, k + 2], rows[b + 2, k + 3]
            d0, d1, d2, d3 = rows[b + 3, k], rows[b + 3, k + 1], rows[b + 3, k + 2], rows[b + 3, k + 3]
            oa, ob, oc, od = out[b], out[b + 1], out[b + 2], out[b + 3]
            for j in range(m0.size):
                x0, x1, x2, x3 = m0[j], m1[j], m2[j], m3[j]
                oa[j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                ob[j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                oc[j] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                od[j] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
        for b in range(grouped, last):
            a0, a1, a2, a3 = rows[b, k], rows[b, k + 1], rows[b, k + 2], rows[b, k + 3]
            oa = out[b]
            for j in range(m0.size):
                oa[j] += a0 * m0[j] + a1 * m1[j] + a2 * m2[j] + a3 * m3[j]
    for k in range(whole, size):
        for b in range(first, last):
            out[b] += rows[b, k] * matrix[k]


@_inline
def take_state(before: Any, state: Any, starts: Any, t: Any, b: Any) -> None:
    """Write into a row of before[t] the state it begins with: none where a text starts."""
    if starts.shape[0] > 0 and starts[t, b]:
        before[t, b] = _float(0)
    else:
        before[t, b] = state[b]


@_inline
def forget_gradient(gradient: Any, starts: Any, t: Any, b: Any) -> None:
    """Let no gradient pass from a text to the one before it."""
    if starts.shape[0] > 0 and starts[t, b]:
        gradient[b] = _float(0)


@_compile
def rnn_forward(
    x: Floats,
    matrix: Floats,
    bias: Floats,
    starts: Bools,
    state: Floats,
    gates: Floats,
    before: Floats,
    first: int,
    last: int,
) -> None:
    """Run h = tanh(x + U h + b) into `gates` (T, B, H); `matrix` is U transposed (H, H), `state` (B, H) moves on."""
    for t in range(gates.shape[0]):
        for b in range(first, last):
            take_state(before, state, starts, t, b)
            gates[t, b] = x[t, b] + bias
        add_product(gates[t], before[t], matrix, first, last)
        for b in range(first, last):
            row = gates[t, b]
            for j in range(row.size):
                row[j] = tanh(row[j])
            state[b] = row


@_compile
def rnn_backward(
    gates: Floats,
    matrix: Floats,
    starts: Bools,
    grad_hidden: Floats,
    gradient: Floats,
    grad_state: Floats,
    first: int,
    last: int,
) -> None:
    """Find the `gradient` (T, B, H) of the cell's input; `matrix` is U (H, H), `grad_state` (B, H) moves back."""
    for t in range(gates.shape[0] - 1, -1, -1):
        for b in range(first, last):
            gradient[t, b] = gates[t, b]
            row, grad, carried = gradient[t, b], grad_hidden[t, b], grad_state[b]
            for j in range(row.size):
                row[j] = (grad[j] + carried[j]) * (_float(1) - row[j] * row[j])
            carried[:] = _float(0)
        add_product(grad_state, gradient[t], matrix, first, last)
        for b in range(first, last):
            forget_gradient(grad_state, starts, t, b)


@_compile
def lstm_forward(
    x: Floats,
    matrix: Floats,
    bias: Floats,
    starts: Bools,
    state: Floats,
    cell: Floats,
    gates: Floats,
    hidden: Floats,
    before: Floats,
    cell_before: Floats,
    bounded: Floats,
    first: int,
    last: int,
) -> None:
    """Run c = f c + i g, h = o tanh(c): x and `gates` (T, B, 4H), `matrix` (H, 4H); `bounded` becomes tanh(c)."""
    size = state.shape[1]
    for t in range(gates.shape[0]):
        for b in range(first, last):
            take_state(before, state, starts, t, b)
            take_state(cell_before, cell, starts, t, b)
            gates[t, b] = x[t, b] + bias
        add_product(gates[t], before[t], matrix, first, last)
        for b in range(first, last):
            row = gates[t, b]
            for j in range(2 * size):
                row[j] = sigmoid(row[j])
            for j in range(2 * size, 3 * size):
                row[j] = tanh(row[j])
            for j in range(3 * size, 4 * size):
                row[j] = sigmoid(row[j])
            old, new, bound, out = cell_before[t, b], cell[b], bounded[t, b], hidden[t, b]
            for j in range(size):
                new[j] = row[size + j] * old[j] + row[j] * row[2 * size + j]
            for j in range(size):
                bound[j] = tanh(new[j])
            for j in range(size):
                out[j] = row[3 * size + j] * bound[j]
            state[b] = out


@_compile
def lstm_backward(
    gates: Floats,
    matrix: Floats,
    starts: Bools,
    grad_hidden: Floats,
    cell_before: Floats,
    bounded: Floats,
    gradient: Floats,
    grad_state: Floats,
    grad_cell: Floats,
    first: int,
    last: int,
) -> None:
    """Find the `gradient` (T, B, 4H) of the cell's input, `matrix` (4H, H); both gradients of states move back."""
    size = grad_state.shape[1]
    for t in range(gates.shape[0] - 1, -1, -1):
        for b in range(first, last):
            gradient[t, b] = gates[t, b]
            row, grad, old, bound = gradient[t, b], grad_hidden[t, b], cell_before[t, b], bounded[t, b]
            i, f, g, o = row[:size], row[size : 2 * size], row[2 * size : 3 * size], row[3 * size :]
            carried, carried_cell = grad_state[b], grad_cell[b]
            for j in range(size):
                carried[j] += grad[j]
            for j in range(size):
                carried_cell[j] += carried[j] * o[j] * (_float(1) - bound[j] * bound[j])
            for j in range(size):
                o[j] = carried[j] * bound[j] * o[j] * (_float(1) - o[j])
            for j in range(size):
                from_i = carried_cell[j] * g[j] * i[j] * (_float(1) - i[j])
                g[j] = carried_cell[j] * i[j] * (_float(1) - g[j] * g[j])
                i[j] = from_i
            for j in range(size):
                passed = carried_cell[j] * f[j]
                f[j] = passed * old[j] * (_float(1) - f[j])
                carried_cell[j] = passed
            carried[:] = _float(0)
        add_product(grad_state, gradient[t], matrix, first, last)
        for b in range(first, last):
            forget_gradient(grad_state, starts, t, b)
            forget_gradient(grad_cell, starts, t, b)


@_compile
def gru_forward(
    x: Floats,
    matrix: Floats,
    bias: Floats,
    starts: Bools,
    state: Floats,
    gates: Floats,
    hidden: Floats,
    before: Floats,
    inner: Floats,
    first: int,
    last: int,
) -> None:
    """Run n = tanh(x + r (U h + b)), h = (1 - z) n + z h: x and `gates` (T, B, 3H), `matrix` (H, 3H).

    `inner` (T, B, 3H) becomes U h + b.
    """
    size = state.shape[1]
    for t in range(gates.shape[0]):
        for b in range(first, last):
            take_state(before, state, starts, t, b)
            inner[t, b] = bias
        add_product(inner[t], before[t], matrix, first, last)
        for b in range(first, last):
            given, row, product, old, out = x[t, b], gates[t, b], inner[t, b], before[t, b], hidden[t, b]
            for j in range(2 * size):
                row[j] = sigmoid(given[j] + product[j])
            for j in range(size):
                row[2 * size + j] = tanh(given[2 * size + j] + row[j] * product[2 * size + j])
            for j in range(size):
                n = row[2 * size + j]
                out[j] = n + row[size + j] * (old[j] - n)
            state[b] = out


@_compile
def gru_backward(
    gates: Floats,
    matrix: Floats,
    starts: Bools,
    grad_hidden: Floats,
    before: Floats,
    inner: Floats,
    gradient: Floats,
    grad_inner: Floats,
    grad_state: Floats,
    first: int,
    last: int,
) -> None:
    """Find the gradients (T, B, 3H) of the cell's input and of the product; `matrix` (3H, H)."""
    size = grad_state.shape[1]
    for t in range(gates.shape[0] - 1, -1, -1):
        for b in range(first, last):
            gradient[t, b], grad_inner[t, b] = gates[t, b], inner[t, b]
            row, product, grad, old, carried = (
                gradient[t, b],
                grad_inner[t, b],
                grad_hidden[t, b],
                before[t, b],
                grad_state[b],
            )
            r, z, n, inside = row[:size], row[size : 2 * size], row[2 * size :], product[2 * size :]
            for j in range(size):
                carried[j] += grad[j]
            for j in range(size):
                from_z = carried[j] * (old[j] - n[j]) * z[j] * (_float(1) - z[j])
                n[j] = carried[j] * (_float(1) - z[j]) * (_float(1) - n[j] * n[j])
                carried[j] *= z[j]
                z[j] = from_z
            for j in range(size):
                from_r = n[j] * inside[j] * r[j] * (_float(1) - r[j])
                inside[j] = n[j] * r[j]
                r[j] = from_r
            product[: 2 * size] = row[: 2 * size]
        add_product(grad_state, grad_inner[t], matrix, first, last)
        for b in range(first, last):
            forget_gradient(grad_state, starts, t, b)
