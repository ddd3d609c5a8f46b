"""Recurrent layers: one state for all of the past, updated token by token: the RNN, LSTM and GRU that torch has too.

The input's part of all gates, of all tokens, is one product; only the state's part has to wait for the token before.
`recur_steps` is the definition: it walks through the tokens in plain tensor operations, on any device and in any type.
`recur` runs the same in compiled loops (`recurrent_kernels`) with a backward pass through time written by hand, in
float32 on the processor, and a test proves them equal to each other and to torch. Where a text begins in the row, the
state is zero, so packed documents and left padding leave no trace. A step costs the same however long the text is.

Ref: Elman, Finding structure in time, 1990. Ref: Hochreiter & Schmidhuber, Long short-term memory, 1997.
Ref: Gers et al., Learning to forget, 2000 (forget gate). Ref: Cho et al., arXiv:1406.1078, eq. 5 to 8 (GRU; here the
reset gate acts on the product with its bias, as in torch and cuDNN).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from smelt.nn import recurrent_kernels as kernels
from smelt.nn.cache import LayerState
from smelt.nn.spec import Cell, RecurrentSpec

States = tuple[Tensor, ...]  # (B, H) each: the output, and of an LSTM the cell
ROWS_TOGETHER = 4  # that the kernels' product takes at once


def rnn_step(x: Tensor, states: States, weight: Tensor, bias: Tensor) -> States:
    """Run h = tanh(x + U h + b): x (B, H), U (H, H)."""
    return ((x + functional.linear(states[0], weight, bias)).tanh(),)


def lstm_step(x: Tensor, states: States, weight: Tensor, bias: Tensor) -> States:
    """Run c = f c + i g, h = o tanh(c) on gates i, f, g, o in x (B, 4H), U (4H, H)."""
    hidden, cell = states
    i, f, g, o = (x + functional.linear(hidden, weight, bias)).chunk(4, dim=-1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def gru_step(x: Tensor, states: States, weight: Tensor, bias: Tensor) -> States:
    """Run n = tanh(x + r (U h + b)), h = (1 - z) n + z h on gates r, z, n in x (B, 3H), U (3H, H)."""
    (hidden,) = states
    (xr, xz, xn), (r, z, n) = x.chunk(3, dim=-1), functional.linear(hidden, weight, bias).chunk(3, dim=-1)
    r, z = (xr + r).sigmoid(), (xz + z).sigmoid()
    n = (xn + r * n).tanh()
    return ((1 - z) * n + z * hidden,)


STEPS: dict[Cell, Callable[[Tensor, States, Tensor, Tensor], States]] = {
    "rnn": rnn_step,
    "lstm": lstm_step,
    "gru": gru_step,
}


def recur_steps(
    cell: Cell, projected: Tensor, weight: Tensor, bias: Tensor, starts: Tensor | None, states: States
) -> tuple[Tensor, States]:
    """Walk through projected inputs (T, B, G); forget where `starts` (T, B). Returns outputs (T, B, H), last states."""
    outputs = []
    for t, x in enumerate(projected):
        if starts is not None:
            states = tuple(state.masked_fill(starts[t][:, None], 0.0) for state in states)
        states = STEPS[cell](x, states, weight, bias)
        outputs.append(states[0])
    return torch.stack(outputs), states


def recur(
    cell: Cell, projected: Tensor, weight: Tensor, bias: Tensor, starts: Tensor | None, states: States
) -> tuple[Tensor, States]:
    """Do what `recur_steps` does, in compiled loops; float32 on the processor only."""
    begins = np.zeros((0, 0), np.bool_) if starts is None else starts.contiguous().numpy()
    hidden, *last = FUNCTIONS[cell].apply(projected, weight, bias, begins, *states)
    return hidden, tuple(last)


def _on_rows(kernel: Callable[..., None], num_rows: int, *tensors: Tensor | NDArray[Any]) -> None:
    """Call a kernel for all rows, each of torch's threads taking some."""
    arrays = [tensor.detach().numpy() if isinstance(tensor, Tensor) else tensor for tensor in tensors]
    groups = -(-num_rows // ROWS_TOGETHER)
    size = -(-groups // torch.get_num_threads()) * ROWS_TOGETHER
    pieces = [(first, min(first + size, num_rows)) for first in range(0, num_rows, size)]
    if len(pieces) == 1:
        kernel(*arrays, 0, num_rows)
        return
    with ThreadPoolExecutor(len(pieces)) as pool:
        for done in [pool.submit(kernel, *arrays, *piece) for piece in pieces]:
            done.result()


def _weight_gradients(gradient: Tensor, before: Tensor) -> States:
    """Return the gradients of weight and bias from those of the products (T, B, G) and what was multiplied."""
    rows = gradient.flatten(0, 1)  # (T * B, G)
    return rows.T @ before.flatten(0, 1), rows.sum(dim=0)


class RNNFunction(torch.autograd.Function):
    """The plain cell over all tokens, and back."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, weight: Tensor, bias: Tensor, starts: NDArray[np.bool_], state: Tensor
    ) -> States:
        """Return outputs (T, B, H) and the last state."""
        x, state = projected.contiguous(), state.clone()
        hidden, before = torch.empty_like(x), torch.empty_like(x)
        into = (x, weight.T.contiguous(), bias.contiguous(), starts, state, hidden, before)
        _on_rows(kernels.rnn_forward, x.shape[1], *into)
        ctx.starts = starts
        ctx.save_for_backward(hidden, before, weight)
        return hidden, state

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through time."""
        hidden, before, weight = ctx.saved_tensors
        gradient, grad_state = torch.empty_like(hidden), grads[1].clone()
        into = (hidden, weight, ctx.starts, grads[0].contiguous(), gradient, grad_state)
        _on_rows(kernels.rnn_backward, hidden.shape[1], *into)
        return gradient, *_weight_gradients(gradient, before), None, grad_state


class LSTMFunction(torch.autograd.Function):
    """The LSTM over all tokens, and back."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, weight: Tensor, bias: Tensor, starts: NDArray[np.bool_], *states: Tensor
    ) -> States:
        """Return outputs (T, B, H) and the last states."""
        x, (state, cell) = projected.contiguous(), (state.clone() for state in states)
        shape = (*x.shape[:2], weight.shape[1])
        gates, (hidden, *kept) = torch.empty_like(x), (x.new_empty(shape) for _ in range(4))
        into = (x, weight.T.contiguous(), bias.contiguous(), starts, state, cell)
        _on_rows(kernels.lstm_forward, x.shape[1], *into, gates, hidden, *kept)
        ctx.starts = starts
        ctx.save_for_backward(gates, weight, *kept)
        return hidden, state, cell

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through time."""
        gates, weight, before, cell_before, bounded = ctx.saved_tensors
        gradient, grad_state, grad_cell = torch.empty_like(gates), grads[1].clone(), grads[2].clone()
        outputs = (gradient, grad_state, grad_cell)
        into = (gates, weight, ctx.starts, grads[0].contiguous(), cell_before, bounded, *outputs)
        _on_rows(kernels.lstm_backward, gates.shape[1], *into)
        return gradient, *_weight_gradients(gradient, before), None, grad_state, grad_cell


class GRUFunction(torch.autograd.Function):
    """The GRU over all tokens, and back."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, weight: Tensor, bias: Tensor, starts: NDArray[np.bool_], state: Tensor
    ) -> States:
        """Return outputs (T, B, H) and the last state."""
        x, state = projected.contiguous(), state.clone()
        gates, inner = torch.empty_like(x), torch.empty_like(x)
        hidden, before = (x.new_empty(*x.shape[:2], weight.shape[1]) for _ in range(2))
        into = (x, weight.T.contiguous(), bias.contiguous(), starts, state, gates, hidden, before, inner)
        _on_rows(kernels.gru_forward, x.shape[1], *into)
        ctx.starts = starts
        ctx.save_for_backward(gates, inner, before, weight)
        return hidden, state

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through time."""
        gates, inner, before, weight = ctx.saved_tensors
        gradient, grad_inner, grad_state = torch.empty_like(gates), torch.empty_like(inner), grads[1].clone()
        outputs = (gradient, grad_inner, grad_state)
        into = (gates, weight, ctx.starts, grads[0].contiguous(), before, inner, *outputs)
        _on_rows(kernels.gru_backward, gates.shape[1], *into)
        return gradient, *_weight_gradients(grad_inner, before), None, grad_state


FUNCTIONS: dict[Cell, Any] = {"rnn": RNNFunction, "lstm": LSTMFunction, "gru": GRUFunction}


class RecurrentLayer(nn.Module):
    """Run a cell over the tokens of a row; the recurrent matrix is no Linear, since nothing multiplies by it alone."""

    def __init__(self, spec: RecurrentSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.input = nn.Linear(dim, spec.num_gates * dim)
        self.weight = nn.Parameter(torch.empty(spec.num_gates * dim, dim))
        self.bias = nn.Parameter(torch.empty(spec.num_gates * dim))

    def forward(self, x: Tensor, starts: Tensor | None = None, state: LayerState | None = None) -> Tensor:
        """Turn x (B, T, H) into outputs (B, T, H); a text begins where `starts` (B, T); `state` moves on in place.

        The state is kept in the type of the weights, also under autocast: rounding would add up over the text.
        """
        projected = self.input(x.transpose(0, 1).contiguous())  # (T, B, G)
        with torch.autocast(x.device.type, enabled=False):
            projected = projected.to(self.weight.dtype)
            zeros = projected.new_zeros(x.shape[0], x.shape[2])
            states = (zeros,) * self.spec.num_states if state is None else state.values
            is_plain = projected.device.type == "cpu" and projected.dtype == torch.float32
            run = recur if is_plain and x.shape[1] > 1 else recur_steps
            begins = None if starts is None else starts.T
            hidden, states = run(self.spec.cell, projected, self.weight, self.bias, begins, states)
        if state is not None:
            state.advance(states, x.shape[1])
        return hidden.transpose(0, 1).to(x.dtype)
