"""Recurrent layers: equal to torch's, the compiled loops equal to the steps, texts apart, pieces equal to the whole."""

import numpy as np
import pytest
import torch
from torch import nn

from smelt.nn import recurrent_kernels as kernels
from smelt.nn.cache import LayerState
from smelt.nn.recurrent import RecurrentLayer, recur, recur_steps
from smelt.nn.spec import RecurrentSpec

THEIRS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CELLS = sorted(THEIRS)
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def stack(cell: str, num_layers: int, dim: int) -> tuple[nn.Module, list[RecurrentLayer]]:
    """Return torch's layers and ours with the same weights."""
    theirs = THEIRS[cell](dim, dim, num_layers=num_layers, batch_first=True)
    ours = [RecurrentLayer(RecurrentSpec(cell, num_layers), dim) for _ in range(num_layers)]
    for index, layer in enumerate(ours):
        for name, parameter in layer.named_parameters():
            parameter.data.copy_(getattr(theirs, torch_name(name, index)))
    return theirs, ours


def torch_name(name: str, layer: int) -> str:
    names = {"input.weight": "weight_ih", "input.bias": "bias_ih", "weight": "weight_hh", "bias": "bias_hh"}
    return f"{names[name]}_l{layer}"


def random_inputs(cell: str, num_rows: int, num_tokens: int, dim: int) -> tuple[torch.Tensor, ...]:
    """Return projected inputs, weight and bias, all wanting gradients, and first states."""
    spec = RecurrentSpec(cell, 1)
    shapes = [(num_tokens, num_rows, spec.num_gates * dim), (spec.num_gates * dim, dim), (spec.num_gates * dim,)]
    shapes += [(num_rows, dim)] * spec.num_states
    scales = [1.0, 0.3, 0.3, 1.0, 1.0]  # a larger matrix is chaotic, and its gradients explode
    return tuple((scale * torch.randn(shape)).requires_grad_() for scale, shape in zip(scales, shapes, strict=False))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_states_and_gradients_are_torchs(cell, seed):
    torch.manual_seed(seed)
    num_rows, num_tokens, dim, num_layers = [(3, 7, 5), (6, 13, 18), (9, 4, 33)][seed - 1] + (3,)
    theirs, ours = stack(cell, num_layers, dim)
    x = torch.randn(num_rows, num_tokens, dim, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    expected, last = theirs(x)
    last = torch.stack(last if isinstance(last, tuple) else (last,))  # (states, L, B, H)
    states = [LayerState((torch.zeros(num_rows, dim),) * len(last)) for _ in ours]
    found = y
    for layer, state in zip(ours, states, strict=True):
        found = layer(found, None, state)
    found_last = torch.stack([torch.stack(state.values) for state in states], dim=1)
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(found_last, last, **CLOSE)
    weights, state_weights = torch.randn_like(expected), torch.randn_like(last)
    ((expected * weights).sum() + (last * state_weights).sum()).backward()
    ((found * weights).sum() + (found_last * state_weights).sum()).backward()
    torch.testing.assert_close(y.grad, x.grad, **CLOSE)
    for index, layer in enumerate(ours):
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(parameter.grad, getattr(theirs, torch_name(name, index)).grad, **CLOSE)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_compiled_loops_are_the_steps(cell, num_threads, packed):
    torch.manual_seed(4)
    inputs = random_inputs(cell, 7, 11, 10)
    starts = torch.rand(11, 7) < 0.2 if packed else None
    gradients = []
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        for run in (recur, recur_steps):
            hidden, last = run(cell, *inputs[:3], starts, inputs[3:])
            torch.manual_seed(5)
            loss = sum((out * torch.randn_like(out)).sum() for out in (hidden, *last))
            gradients.append((hidden, *last, *torch.autograd.grad(loss, inputs, retain_graph=True)))
            again = torch.autograd.grad(loss, inputs)  # the first pass left what it read as it was
            pairs = zip(again, gradients[-1][-len(inputs) :], strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)
    finally:
        torch.set_num_threads(before)
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, **CLOSE)


@pytest.mark.parametrize("cell", CELLS)
def test_the_definition_has_true_gradients(cell):
    inputs = tuple(part.detach().double().requires_grad_() for part in random_inputs(cell, 2, 3, 4))
    starts = torch.tensor([[False, False], [True, False], [False, False]])

    def run(projected, weight, bias, *states):
        hidden, last = recur_steps(cell, projected, weight, bias, starts, states)
        return (hidden, *last)

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("cell", CELLS)
def test_a_text_in_a_row_is_as_if_alone_and_hears_no_gradient_of_another(cell):
    torch.manual_seed(6)
    layer = stack(cell, 1, 6)[1][0]
    texts = [torch.randn(1, length, 6, requires_grad=True) for length in (3, 1, 5)]
    starts = torch.tensor([[False, False, False, True, True, False, False, False, False]])
    packed = layer(torch.cat(texts, dim=1), starts)
    alone = torch.cat([layer(text) for text in texts], dim=1)
    torch.testing.assert_close(packed, alone)
    gradients = torch.autograd.grad(packed[:, 4:].sum(), texts)
    assert [bool(gradient.any()) for gradient in gradients] == [False, False, True]


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_pieces_with_a_state_are_the_whole(cell):
    torch.manual_seed(7)
    layer = stack(cell, 1, 6)[1][0]
    x = torch.randn(3, 9, 6)
    whole = layer(x)
    for size in (1, 4):
        state = LayerState((torch.zeros(3, 6),) * layer.spec.num_states)
        pieces = [layer(piece, None, state) for piece in x.split(size, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
        assert state.length == 9


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_narrow_types_keep_their_states_wide_under_autocast(cell):
    torch.manual_seed(8)
    layer, x = stack(cell, 1, 16)[1][0], torch.randn(2, 9, 16)
    state = LayerState((torch.zeros(2, 16),) * layer.spec.num_states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x.bfloat16(), None, state)
    assert out.dtype == torch.bfloat16 and state.values[0].dtype == torch.float32
    torch.testing.assert_close(out.float(), layer(x), atol=0.03, rtol=0.03)


def test_a_state_that_is_no_number_stays_none():
    for cell in CELLS:
        layer = stack(cell, 1, 8)[1][0]
        x = torch.zeros(1, 4, 8)
        x[0, 1, 0] = torch.nan
        assert layer(x).isnan().all(dim=2).tolist() == [[False, True, True, True]]


def test_sigmoid_and_tanh_are_exact_to_a_rounding_or_two():
    x = np.concatenate([np.linspace(-100, 100, 20_001), [np.inf, -np.inf, 0.0]]).astype(np.float32)
    given, none = x[:, None, None].copy(), np.zeros((0, 0), np.bool_)
    found, zero = np.zeros_like(given), np.zeros((1, 1), np.float32)
    kernels.rnn_forward(given, zero, zero[0], none, zero.copy(), found, np.zeros_like(given), 0, 1)
    assert np.abs(found[:, 0, 0] - np.tanh(x.astype(np.float64))).max() < 2e-7
    gates = np.zeros((len(x), 1, 4), np.float32)
    gates[:, 0, 0], gates[:, 0, 2] = x, 20.0  # the input gate alone lets a 1 through, behind a forget gate of 0
    gates[:, 0, 1], gates[:, 0, 3] = -100.0, 100.0
    rows = [np.zeros((len(x), 1, 1), np.float32) for _ in range(4)]
    states = [np.zeros((1, 1), np.float32) for _ in range(2)]
    matrix, bias, found = np.zeros((1, 4), np.float32), np.zeros(4, np.float32), np.zeros_like(gates)
    kernels.lstm_forward(gates, matrix, bias, none, *states, found, *rows, 0, 1)
    with np.errstate(over="ignore"):
        assert np.abs(found[:, 0, 0] - 1 / (1 + np.exp(-x.astype(np.float64)))).max() < 2e-7
