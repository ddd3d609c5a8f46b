"""The transformer: one forward for plain, packed, padded and cached text, all of them equal."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from smelt.core.errors import CheckpointError, UsageError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import save_model
from smelt.nn.cache import KVCache
from smelt.nn.spec import BlocksSpec, LatentSpec, ModelSpec, RelativeSpec, RotarySpec


def draw_ids(*shape: int, vocab_size: int = 61, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


def test_output_shapes_and_projection(model):
    out = model(draw_ids(2, 9))
    assert out.logits.shape == (2, 9, 61)
    assert out.hidden.shape == (2, 9, model.spec.dim)
    bare = model(draw_ids(2, 9), project=False)
    assert bare.logits is None
    close(model.project(bare.hidden), out.logits)
    bias = 0 if model.head_bias is None else model.head_bias
    close(bare.hidden @ model.head_weight.T + bias, out.logits)


def test_cache_equals_no_cache(model):
    ids = draw_ids(2, 15)
    cache = KVCache.allocate(model.spec, 2, 20)
    pieces = [model(piece, cache=cache).logits for piece in ids.split([6, 3, 1, 1, 4], dim=1)]
    assert cache.length == 15
    close(torch.cat(pieces, dim=1), model(ids).logits)


def test_left_padding_equals_unpadded_with_and_without_cache(model):
    short, long = draw_ids(1, 6), draw_ids(1, 10, seed=2)
    ids = torch.cat((torch.cat((draw_ids(1, 4, seed=3), short), dim=1), long))
    segments = torch.ones_like(ids)
    segments[0, :4] = 0
    padded = model(ids, segments=segments).logits
    close(padded[:1, 4:], model(short).logits)
    close(padded[1:], model(long).logits)
    cache = KVCache.allocate(model.spec, 2, 10)
    model(ids[:, :7], segments=segments[:, :7], cache=cache)
    steps = [model(ids[:, i : i + 1], cache=cache).logits for i in range(7, 10)]
    close(torch.cat(steps, dim=1), padded[:, 7:])
    assert torch.isfinite(padded).all()


def test_packed_documents_equal_separate_ones(model):
    documents = [draw_ids(1, length, seed=length) for length in (5, 8, 3)]
    ids = torch.cat((*documents, torch.zeros(1, 2, dtype=torch.long)), dim=1)
    segments = torch.tensor([[1] * 5 + [2] * 8 + [3] * 3 + [0] * 2])
    packed = model(ids, segments=segments).logits[:, :16].split([5, 8, 3], dim=1)
    for document, logits in zip(documents, packed, strict=True):
        close(logits, model(document).logits)


def test_positions_may_be_given(model):
    ids = draw_ids(2, 6)
    positions = torch.arange(6).expand(2, 6)
    close(model(ids, positions=positions).logits, model(ids).logits)
    moved = model(ids, positions=positions * 2).logits
    assert not torch.allclose(moved, model(ids).logits, atol=1e-3)


def test_reordered_cache_continues_other_rows(model):
    ids, next_ids = draw_ids(3, 5), draw_ids(3, 1, seed=4)
    rows = [2, 2, 0]
    cache = KVCache.allocate(model.spec, 3, 8)
    model(ids, cache=cache)
    cache.reorder(rows)
    close(model(next_ids, cache=cache).logits, model(torch.cat((ids[rows], next_ids), dim=1)).logits[:, 5:])


def test_checkpointing_gives_the_same_gradients(model):
    ids = draw_ids(2, 9)

    def gradients() -> list[torch.Tensor]:
        loss = functional.cross_entropy(model(ids).logits.flatten(0, 1), ids.flatten())
        return list(torch.autograd.grad(loss, list(model.parameters())))

    plain = gradients()
    model.gradient_checkpointing = True
    calls = []
    hook = model.blocks[0].attention.register_forward_hook(lambda *_: calls.append(1))
    checkpointed = gradients()
    hook.remove()
    assert len(calls) == 2  # once forward, once again for the backward
    torch.testing.assert_close(checkpointed, plain, atol=0, rtol=0)


def test_compiled_blocks_equal_eager_ones_also_with_cache_and_checkpointing(model):
    ids = draw_ids(2, 9)
    expected = model(ids).logits
    torch.compiler.reset()  # all blocks share one compiled function, and its number of variants is limited
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    close(model(ids).logits, expected)
    model.gradient_checkpointing = True
    close(model(ids).logits, expected)
    cache = KVCache.allocate(model.spec, 2, 9)
    pieces = [model(piece, cache=cache).logits for piece in ids.split([5, 1, 1, 1, 1], dim=1)]
    close(torch.cat(pieces, dim=1), expected)


def test_cached_tokens_never_reach_the_compiler(model):
    def refuse(*_: object) -> None:
        raise AssertionError("compiled during generation")

    for block in model.blocks:
        block.compile(backend=refuse)
    cache = KVCache.allocate(model.spec, 1, 4)
    model(draw_ids(1, 3), cache=cache)
    model(draw_ids(1, 1), cache=cache)


def test_context_is_enforced(model):
    with pytest.raises(UsageError) as caught:
        model(draw_ids(1, 41))
    assert str(caught.value) == (
        "41 tokens in a context of 40\naccepted: at most 40 tokens\n"
        "try: shorten the text, or use a model with a longer context"
    )
    cache = KVCache.allocate(model.spec, 1, 50)
    model(draw_ids(1, 40), cache=cache)
    with pytest.raises(UsageError, match="41 tokens in a context of 40"):
        model(draw_ids(1, 1), cache=cache)


def test_tied_head_is_the_embedding(tiny):
    tied, untied = tiny(tied=True), tiny(tied=False)
    assert tied.head_weight is tied.token_embedding.weight
    assert untied.head_weight is untied.head.weight
    assert tied.head_bias is None


def test_bf16_autocast_stays_near_fp32(model):
    ids = draw_ids(2, 9)
    segments = torch.tensor([[1] * 4 + [2] * 5, [0] * 2 + [1] * 7])
    exact = model(ids, segments=segments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        streams = []
        model.blocks[0].register_forward_hook(lambda module, inputs, output: streams.append(output[0].dtype))
        narrow = model(ids, segments=segments)
        narrow.logits.float().sum().backward()
    assert streams == [torch.bfloat16]
    assert (narrow.logits.float() - exact.logits).abs().mean() < 0.1 * exact.logits.std()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("name", ["llama", "gpt2", "novel"])
def test_loss_of_a_new_model_is_about_ln_vocabulary(tiny, name):
    spec = replace(tiny(name).spec, vocab_size=500)
    ids = draw_ids(4, 32, vocab_size=500)
    logits = build(spec, seed=3)(ids).logits
    loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(500)) < 0.3


def test_long_rows_by_tiles_equal_whole_masks_with_gradients(tiny, monkeypatch):
    ids, segments = draw_ids(2, 30), torch.tensor([[1] * 11 + [2] * 19, [0] * 4 + [1] * 26])
    order = torch.arange(30).clamp(min=9).expand(2, -1)
    changes: list[dict[str, object]] = [
        {"window": 7, "rotary": None},
        {"softcap": 2.0},
        {"alibi": True, "sinks": True},
        {"causal": False},
    ]
    for change in changes:
        spec = tiny().spec
        layer = replace(spec.layers[0], attention=replace(spec.layers[0].attention, **change))
        model = build(replace(spec, layers=(layer,) * 3, relative=RelativeSpec(8, 20)), seed=1)
        given: list[dict[str, torch.Tensor]] = [{}, {"segments": segments}, {"order": order}]
        for inputs in given:
            found = []
            for limit in (10**9, 1):
                monkeypatch.setattr("smelt.nn.masks.TILES_FROM", limit)
                logits = model(ids, **inputs).logits
                found.append((logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()))))
            torch.testing.assert_close(found[1], found[0], atol=2e-4, rtol=2e-4)


def by_hand(**attention: object) -> ModelSpec:
    spec = spec_for("llama", Shape(61, 24, 2, 4, 40, hidden_dim=36))
    layer = replace(spec.layers[0], attention=replace(spec.layers[0].attention, **attention))
    return replace(spec, layers=(layer,) * 2)


PARTS: dict[str, dict[str, object]] = {
    "blocks": {"blocks": BlocksSpec(size=4, window=2, num_global=1, num_random=1)},
    "latent": {"latent": LatentSpec(10, 7, 9), "rotary": RotarySpec(2)},
}


@pytest.mark.parametrize("part", sorted(PARTS))
def test_parts_that_no_layout_holds_train_and_generate_but_are_refused_on_saving(part, tmp_path):
    model, ids = build(by_hand(**PARTS[part]), seed=1), draw_ids(4, 30)
    optimizer, losses = torch.optim.AdamW(model.parameters(), 3e-3), []
    for _ in range(20):
        loss = functional.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
    cache = KVCache.allocate(model.spec, 4, 30)
    pieces = [model(piece, cache=cache).logits for piece in ids.split([11, 1, 1, 12, 5], dim=1)]
    close(torch.cat(pieces, dim=1), model(ids).logits)
    with pytest.raises(CheckpointError, match=r"cannot hold this model: layers\[0\]|partial_rotary_factor"):
        save_model(model, tmp_path)


@pytest.mark.parametrize("change", [{}, {"alibi": True, "rotary": None}, {"sinks": True}], ids=str)
@pytest.mark.parametrize("window", [1, 5])
def test_a_ring_in_place_of_a_long_cache(window, change):
    spec = by_hand(window=window, **change)
    full = replace(spec.layers[0], attention=replace(spec.layers[0].attention, window=None))
    model = build(replace(spec, layers=(full, *spec.layers)), seed=1)
    ids, segments = draw_ids(2, 30), torch.ones(2, 30, dtype=torch.long)
    segments[0, :8], segments[1, :2] = 0, 0
    given: list[torch.Tensor | None] = [None, segments]
    for packed in given:
        expected = model(ids, segments=packed).logits
        cache = KVCache.allocate(model.spec, 2, 30)
        assert [layer.keys.shape[2] for layer in cache.layers] == [30, window, window]
        found = []
        for start, stop in ((0, 11), (11, 12), (12, 13), (13, 22), (22, 29), (29, 30)):
            part = None if packed is None else packed[:, start:stop]
            found.append(model(ids[:, start:stop], segments=part, cache=cache).logits)
        close(torch.cat(found, dim=1), expected)
