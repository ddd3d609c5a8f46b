"""Laws of the transformer and its weight rules, over drawn shapes and texts."""

import tempfile
from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.families import FAMILIES, Shape, spec_for
from smelt.models.hub import load_model, save_model
from smelt.models.weights import export_weights, import_weights
from smelt.nn.cache import KVCache
from smelt.nn.spec import AttentionSpec

MAX_TOKENS = 12
TINY = Shape(8, 8, 1, 1, MAX_TOKENS)
SPECS = {name: spec_for(name, TINY) for name in sorted(FAMILIES)}
DECODERS = tuple(name for name, spec in SPECS.items() if spec.is_causal and spec.encoder is None)
CAUSAL = tuple(name for name in DECODERS if SPECS[name].context is None)  # no text is read both ways


def turns_half(attention: AttentionSpec) -> bool:
    """Tell whether rotary positions turn half a head, or each half by a position of its own."""
    rotary = attention.rotary
    return rotary is not None and (rotary.axes == 2 or rotary.dim < attention.head_dim)


@st.composite
def models(draw: st.DrawFn, names: tuple[str, ...] = tuple(sorted(FAMILIES))) -> Network:
    """Draw a model of one of these families and odd shape."""
    family = draw(st.sampled_from(names))
    num_kv_heads, groups, half_head = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    if family.startswith("gpt"):
        groups = 1
    if SPECS[family].layers and turns_half(SPECS[family].layers[0].attention):  # in pairs
        half_head *= 2
    if family == "gpt1":  # its stream is normalised, and a norm of two numbers tells their order alone
        half_head = 4
    num_heads = num_kv_heads * groups
    shape = Shape(
        vocab_size=draw(st.integers(2, 40)),
        dim=num_heads * half_head * 2,
        num_layers=draw(st.integers(1, 3)),
        num_heads=num_heads,
        max_seq_len=MAX_TOKENS,
        num_kv_heads=num_kv_heads,
        hidden_dim=draw(st.integers(1, 20)),
        tied=draw(st.booleans()),
    )
    if SPECS[family].layers and SPECS[family].layers[0].attention.latent is not None:
        shape = replace(shape, num_kv_heads=num_heads)
    if family not in CAUSAL:
        shape = replace(shape, num_kv_heads=num_heads, vocab_size=shape.vocab_size + 2)  # two of them are marks
    if family in ("rnn", "lstm", "gru"):  # a state has neither
        shape = replace(shape, num_kv_heads=None, hidden_dim=None)
    if family == "gpt1":  # its layout knows nothing else
        shape = replace(shape, hidden_dim=None, tied=True)
    if family == "transformer2017":
        shape = replace(shape, tied=True)
    return build(spec_for(family, shape), seed=draw(st.integers(0, 99)))


def draw_ids(data: st.DataObject, model: Network, num_tokens: int) -> torch.Tensor:
    token = st.integers(0, model.spec.vocab_size - 1)
    return torch.tensor([data.draw(st.lists(token, min_size=num_tokens, max_size=num_tokens))])


@settings(max_examples=20, deadline=None)
@given(models(CAUSAL), st.data())
@torch.no_grad()
def test_editing_a_token_changes_no_earlier_logit(model, data):
    num_tokens = data.draw(st.integers(2, MAX_TOKENS))
    ids, place = draw_ids(data, model, num_tokens), data.draw(st.integers(0, num_tokens - 1))
    edited = ids.clone()
    edited[0, place] = (edited[0, place] + 1) % model.spec.vocab_size
    output = model(ids)
    before, after = output.logits, model(edited).logits
    if output.router:  # an expert's rows are one product, which may round otherwise when it has others
        torch.testing.assert_close(before[:, :place], after[:, :place], atol=1e-5, rtol=1e-5)
    else:
        assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place], after[:, place])


@settings(max_examples=20, deadline=None)
@given(models(CAUSAL), st.data())
@torch.no_grad()
def test_any_packing_and_any_cutting_equal_separate_documents(model, data):
    lengths = data.draw(
        st.lists(st.integers(1, 5), min_size=1, max_size=4).filter(lambda found: sum(found) <= MAX_TOKENS)
    )
    documents = [draw_ids(data, model, length) for length in lengths]
    segments = torch.cat([torch.full((1, length), index + 1) for index, length in enumerate(lengths)], dim=1)
    expected = torch.cat([model(document).logits for document in documents], dim=1)
    ids = torch.cat(documents, dim=1)
    torch.testing.assert_close(model(ids, segments=segments).logits, expected, atol=1e-5, rtol=1e-4)
    cut = data.draw(st.integers(1, ids.shape[1]))
    cache = KVCache.allocate(model.spec, 1, MAX_TOKENS)
    pieces = zip(ids.split(cut, dim=1), segments.split(cut, dim=1), strict=True)
    found = [model(piece, segments=segment, cache=cache).logits for piece, segment in pieces]
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-5, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(models())
def test_import_of_export_is_the_identity(model):
    rules = FAMILIES[model.spec.family].rules(model.spec)
    published = dict(export_weights(rules, dict(model.named_parameters())))
    target = {name: torch.full_like(parameter, torch.nan) for name, parameter in model.named_parameters()}
    shapes = {name: tuple(tensor.shape) for name, tensor in published.items()}
    import_weights(rules, shapes, published.__getitem__, target, "memory")
    assert all(torch.equal(target[name], parameter) for name, parameter in model.named_parameters())
    again = dict(export_weights(rules, target))
    assert all(torch.equal(again[name], tensor) for name, tensor in published.items())


@settings(max_examples=20, deadline=None)
@given(models())
def test_load_of_save_is_the_identity(model):
    with tempfile.TemporaryDirectory() as directory:
        save_model(model, directory)
        loaded = load_model(directory)
    assert loaded.spec == model.spec
    theirs = dict(loaded.named_parameters())
    assert all(torch.equal(theirs[name], parameter) for name, parameter in model.named_parameters())
