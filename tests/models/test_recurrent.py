"""Recurrent language models: read by torch's own layers, trained, cached, resized and refused like any decoder."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from smelt.core.errors import CheckpointError, UsageError
from smelt.infer import Sampling, generate
from smelt.infer.rows import CachedRows
from smelt.models.build import build, count_parameters, describe
from smelt.models.families import PRESETS, Shape, spec_for
from smelt.models.hub import load_model, save_model
from smelt.models.resize import resize_embeddings
from smelt.models.sizes import cache_bytes, forward_flops, state_bytes
from smelt.nn.cache import KVCache
from smelt.train.plan import activation_bytes

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SHAPE = Shape(61, 20, 2, 1, 40)


def lively(cell, **changes):
    """Return a model whose answers differ."""
    model = build(spec_for(cell, Shape(**{**vars(SHAPE), **changes})), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 5 if parameter.ndim == 2 else 1
    return model


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cell", sorted(CELLS))
@torch.no_grad()
def test_torchs_layers_read_the_file_and_say_the_same(cell, tied, tmp_path):
    model, ids = lively(cell, tied=tied), torch.arange(30).view(2, 15)
    save_model(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    layers = CELLS[cell](20, 20, num_layers=2, batch_first=True)
    layers.load_state_dict({name[4:]: tensor for name, tensor in tensors.items() if name.startswith("rnn.")})
    hidden, _ = layers(tensors["encoder.weight"][ids])
    head = tensors["encoder.weight" if tied else "decoder.weight"]
    torch.testing.assert_close(model(ids).logits, hidden @ head.T + tensors["decoder.bias"], atol=1e-4, rtol=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == f"smelt-{cell}"
    assert torch.equal(load_model(tmp_path)(ids).logits, model(ids).logits)


def test_presets_are_the_sizes_of_their_paper():
    assert count_parameters(PRESETS["lstm-66m"]) == 2 * 10_000 * 1500 + 10_000 + 2 * (8 * 1500**2 + 8 * 1500)
    for name in ("rnn-5m", "lstm-5m", "lstm-20m", "lstm-66m", "gru-5m"):
        named = 1e6 * float(name.split("-")[1].removesuffix("m"))
        assert count_parameters(PRESETS[name]) == pytest.approx(named, rel=0.08)


def test_a_new_lstm_remembers_and_all_else_is_uniform():
    model = build(spec_for("lstm", Shape(61, 100, 1, 1, 40)), seed=1)
    layer = model.recurrent[0]
    assert layer.bias[100:200].eq(1).all()
    for part in (layer.weight, layer.input.weight, layer.input.bias, layer.bias[:100], layer.bias[200:]):
        assert 0.095 < part.abs().max() <= 0.1
    assert build(spec_for("gru", SHAPE), seed=1).recurrent[0].bias.abs().max() <= 20**-0.5


@pytest.mark.parametrize("cell", sorted(CELLS))
@torch.inference_mode()
def test_rows_kept_copied_and_dropped_go_on_as_if_alone(cell):
    model, prompts = lively(cell), [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    rows = CachedRows(model, prompts, 4)
    rows.step(torch.tensor([10, 11, 12]))
    rows.keep(torch.tensor([2, 0, 2]))
    rows.step(torch.tensor([13, 14, 15]))
    for row, ids in enumerate([[5, 6, 7, 8, 9, 12, 13], [1, 2, 3, 10, 14], [5, 6, 7, 8, 9, 12, 15]]):
        alone = model(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(rows.logits[row], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generation_in_a_batch_is_generation_alone(num_beams, byte_tokenizer):
    model, prompts = lively("gru", vocab_size=259), [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    sampling = Sampling(temperature=0.0, max_new_tokens=6, num_beams=num_beams)
    together = generate(model, byte_tokenizer, prompts, sampling)
    alone = [generate(model, byte_tokenizer, [prompt], sampling)[0] for prompt in prompts]
    assert [answer.ids for answer in together] == [answer.ids for answer in alone]
    assert len({answer.ids for answer in alone}) == 3


def test_recomputed_layers_have_the_same_gradients():
    model, ids = lively("lstm"), torch.arange(30).view(2, 15)
    segments = torch.tensor([[1] * 6 + [2] * 9, [1] * 15])
    found = []
    for recomputed in (False, True):
        model.gradient_checkpointing = recomputed
        loss = model(ids, segments=segments).logits.square().mean()
        found.append(torch.autograd.grad(loss, tuple(model.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_costs():
    spec = spec_for("lstm", SHAPE)
    weights = 2 * 8 * 20 * 20 + 61 * 20 + 2 * 8 * 20 + 61
    assert forward_flops(spec, 40) == 2 * weights == forward_flops(spec, 7)
    assert (cache_bytes(spec), state_bytes(spec)) == (0, 2 * 2 * 20 * 2)
    assert state_bytes(spec_for("gru", SHAPE), 4) == 2 * 20 * 4
    assert state_bytes(PRESETS["smelt-nano"]) == 0
    assert sum(count for *_, count in describe(spec)) == weights + 61 * 20
    whole, recomputed = (activation_bytes(PRESETS["lstm-20m"], 8, 256, kept, torch.float32) for kept in (False, True))
    assert recomputed < whole
    cache = KVCache.allocate(spec, 3, 5)
    assert not cache.layers and [len(state.values) for state in cache.states] == [2, 2]


def test_a_new_vocabulary_keeps_old_logits():
    model, ids = lively("rnn"), torch.tensor([[0, 1, 2, 3]])
    before = model(ids).logits
    resize_embeddings(model, range(10), [[1, 2]])
    torch.testing.assert_close(model(ids).logits[..., :10], before[..., :10])


def test_what_a_recurrent_model_has_not_is_refused(tmp_path):
    with pytest.raises(UsageError) as caught:
        spec_for("lstm", Shape(61, 20, 2, 2, 40, hidden_dim=80))
    assert str(caught.value) == (
        "hidden_dim=80, num_kv_heads=None in a model of lstm layers\naccepted: a width and a number of layers"
    )
    save_model(lively("gru"), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for change, message in (
        ({"num_hidden_layers": 3}, "4 missing: rnn.bias_hh_l2, rnn.bias_ih_l2, rnn.weight_hh_l2, rnn.weight_ih_l2"),
        ({"bidirectional": True}, "bidirectional = True is not known to the gru layout"),
        ({"model_type": "smelt-lstm"}, r"rnn.weight_ih_l0 has shape \(60, 20\), config.json asks for \(80, 20\)"),
    ):
        path.write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError, match=message):
            load_model(tmp_path)
