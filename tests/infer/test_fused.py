"""The fused step beside the model itself, and beside a plain twin that rounds as it does."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from smelt.core.errors import UsageError
from smelt.infer.absmax import dequantize, quantize, quantize_activations
from smelt.infer.fused import FusedDecoder, supports
from smelt.models.build import build
from smelt.models.families import FAMILIES, Shape, spec_for
from smelt.models.families.qwen2 import make as make_with_biases
from smelt.models.transformer import Transformer
from smelt.nn.scaling import RampScaling
from smelt.nn.spec import FeedForwardSpec, NormSpec, RotarySpec

PAGE, CONTEXT, VOCABULARY = 4, 40, 101
SHAPE = Shape(VOCABULARY, 52, 3, 6, CONTEXT, num_kv_heads=2, hidden_dim=70)
LENGTHS = (23, 1, 9, 16, 30)


def _attention(spec, **changes):
    layers = (replace(layer, attention=replace(layer.attention, **changes)) for layer in spec.layers)
    return replace(spec, layers=tuple(layers))


def _specs():
    llama = FAMILIES["llama"].make
    odd = llama(SHAPE, head_dim=10)
    plain = FeedForwardSpec(70, "relu_squared", bias=True)
    wide = llama(replace(SHAPE, num_heads=4), head_dim=80, rotary=RotarySpec(40))
    ramp = RotarySpec(10, 500.0, scaling=RampScaling(4.0, 16))
    return {
        "llama": odd,
        "llama tied": replace(odd, tied=True),
        "wide heads partly turned": wide,
        "ramp": llama(SHAPE, head_dim=10, rotary=ramp),
        "head bias": replace(odd, head_bias=True),
        "biases and windows": make_with_biases(replace(SHAPE, num_heads=4, dim=56), windows=(None, 5, 1)),
        "head norms": FAMILIES["qwen3"].make(SHAPE, head_dim=10),
        "head layer norms": _attention(odd, qk_norm=NormSpec("layer", 1e-5)),
        "scale and softcap": _attention(odd, scale=0.5, softcap=2.0),
        "unit offset": replace(odd, norm=NormSpec("rms", 1e-6, unit_offset=True)),
        "gpt2": spec_for("gpt2", Shape(VOCABULARY, 50, 2, 5, CONTEXT)),
        "relu": replace(odd, layers=tuple(replace(layer, feed_forward=plain) for layer in odd.layers)),
        "geglu": replace(
            odd, layers=tuple(replace(layer, feed_forward=FeedForwardSpec(33, "geglu")) for layer in odd.layers)
        ),
    }


SPECS = _specs()


def lively(spec) -> Transformer:
    """Build a model in which every weight matters: drawn anew, biases and norms too."""
    model, generator = build(spec, seed=3).eval(), torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            wide = parameter.ndim == 2 and "embedding" not in name
            parameter.normal_(0.0, 1.5 / parameter.shape[-1] ** 0.5 if wide else 0.5, generator=generator)
            if parameter.ndim == 1 and "norm" in name and name.endswith("weight"):
                parameter += 1.0
    return model


class Cached:
    """Texts of several lengths that a decoder reads token by token, each when its time has come."""

    def __init__(self, decoder, lengths=LENGTHS, dtype=torch.float32, seed=5):
        spec, attention = decoder.spec, decoder.spec.layers[0].attention
        generator = torch.Generator().manual_seed(seed)
        self.decoder, self.lengths, num_pages = decoder, lengths, CONTEXT // PAGE
        self.ids = torch.randint(0, spec.vocab_size, (len(lengths), CONTEXT), generator=generator)
        self.pages = torch.randperm(len(lengths) * num_pages, generator=generator).view(-1, num_pages)
        slots = (len(lengths) * CONTEXT, attention.num_kv_heads, attention.head_dim)
        self.keys = [torch.full(slots, torch.nan, dtype=dtype) for _ in spec.layers]
        self.values = [torch.full(slots, torch.nan, dtype=dtype) for _ in spec.layers]
        decoder.attach(self.keys, self.values, PAGE)

    def read(self, rows=None, pages=None):
        """Return each row's logits; shorter texts join late, so that all end together."""
        rows = range(len(self.lengths)) if rows is None else rows
        pages = self.pages if pages is None else pages
        found, last = {row: [] for row in rows}, max(self.lengths[row] for row in rows)
        for step in range(last):
            here = [(row, step - last + self.lengths[row]) for row in rows]
            here = [(row, place) for row, place in here if place >= 0]
            ids = [self.ids[row, place] for row, place in here]
            logits = self.decoder.decode(ids, [place for _, place in here], pages[[row for row, _ in here]])
            for (row, _), line in zip(here, logits.clone(), strict=True):
                found[row].append(line)
        return {row: torch.stack(lines) for row, lines in found.items()}


class RoundedLinear(nn.Module):
    """What a matrix computes in 16, 8 or 4 bits, by the formula."""

    def __init__(self, weight, bias, weights):
        super().__init__()
        self.weights, self.fill = weights, -weight.shape[1] % 32
        wide = functional.pad(weight.detach(), (0, self.fill))
        bits = {"int8": 8, "int4": 4}.get(weights)
        self.weight = wide.bfloat16().float() if bits is None else dequantize(*quantize(wide, bits))
        self.bias = bias

    def forward(self, x):
        x = functional.pad(x, (0, self.fill))
        if self.weights.startswith("int"):
            x = dequantize(*quantize_activations(x))
        return functional.linear(x, self.weight, self.bias)


def twin(model, weights):
    """Return a model whose matrices are rounded; embeddings are as they were."""
    head = RoundedLinear(model.head_weight, model.head_bias, weights)
    rounded = deepcopy(model)
    for block in rounded.blocks:
        for part in (block.attention, block.feed_forward):
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(part, name, RoundedLinear(child.weight, child.bias, weights))
    rounded.head = head
    return rounded


@torch.inference_mode()
def expected(model, cached):
    """Return what the model says of each text, read at once."""
    return {row: model(cached.ids[row : row + 1, :length]).logits[0] for row, length in enumerate(cached.lengths)}


def worst(found, wanted):
    return max((found[row] - wanted[row]).abs().max().item() for row in wanted)


@pytest.mark.parametrize("name", SPECS)
def test_fp32_logits_equal_the_model(name):
    model = lively(SPECS[name])
    cached = Cached(FusedDecoder(model, weights="fp32", threads=2))
    wanted = expected(model, cached)
    assert max(line.abs().max() for line in wanted.values()) > 1.0
    assert worst(cached.read(), wanted) < 1e-4


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "llama tied", "gpt2", "biases and windows"])
def test_rounded_logits_equal_a_twin_that_rounds_alike(name, weights):
    model = lively(SPECS[name])
    cached = Cached(FusedDecoder(model, weights=weights, threads=2))
    found, wanted = cached.read(), expected(twin(model, weights), cached)
    errors = torch.cat([(found[row] - wanted[row]).abs().amax(dim=-1) for row in wanted])
    # An activation that lies between two bytes may go to either; that moves the logits of a token or two.
    assert (errors < 1e-4).float().mean() >= (1.0 if weights == "bf16" else 0.9)
    assert errors.max() < 0.4 * worst(wanted, expected(model, cached))


def test_a_cache_in_bf16_is_near_one_in_fp32():
    model = lively(SPECS["llama"])
    decoder = FusedDecoder(model, weights="fp32", threads=1)
    cached = Cached(decoder, dtype=torch.bfloat16)
    narrow, wanted = cached.read(), expected(model, cached)
    assert 1e-4 < worst(narrow, wanted) < 0.2
    exact = Cached(decoder)
    exact.read()
    written = ~exact.keys[0].isnan()
    assert torch.equal(written, ~cached.keys[0].isnan())
    assert torch.equal(exact.keys[0][written].bfloat16(), cached.keys[0][written])


def test_keys_and_values_of_a_token_lie_where_its_page_says():
    model = lively(SPECS["gpt2"])
    cached = Cached(FusedDecoder(model, weights="fp32", threads=1), lengths=(6,))
    cached.read()
    filled = {slot for slot, line in enumerate(cached.keys[1]) if not line.isnan().any()}
    assert filled == {int(cached.pages[0, t // PAGE]) * PAGE + t % PAGE for t in range(6)}
    x = model.blocks[0].attention_norm(
        model.token_embedding.weight[cached.ids[0, 0]] + model.position_embedding.weight[0]
    )
    value = model.blocks[0].attention.value(x).view(5, 10)
    torch.testing.assert_close(cached.values[0][int(cached.pages[0, 0]) * PAGE], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4"])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(weights):
    lengths = tuple(3 + row % 5 for row in range(15))  # tiles of 8, 4, 2 and 1 rows
    decoder = FusedDecoder(lively(SPECS["llama"]), weights=weights, threads=2)
    cached = Cached(decoder, lengths)
    together = cached.read()
    for row in range(len(lengths)):
        assert torch.equal(cached.read([row], cached.pages.roll(3, 0))[row], together[row])


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4"])
def test_threads_do_not_change_a_bit(weights):
    model = lively(SPECS["biases and windows"])
    alone, *others = (Cached(FusedDecoder(model, weights=weights, threads=threads)).read() for threads in (1, 2, 5))
    for found in others:
        assert all(torch.equal(found[row], alone[row]) for row in alone)


def test_threads_wait_for_each_other_where_parts_are_large():
    model = lively(spec_for("llama", Shape(VOCABULARY, 640, 2, 8, CONTEXT, num_kv_heads=8, hidden_dim=4000)))
    alone, together, crowd = (
        Cached(FusedDecoder(model, weights="fp32", threads=threads), lengths=(12,)).read() for threads in (1, 2, 5)
    )
    assert torch.equal(together[0], alone[0])
    assert torch.equal(crowd[0], alone[0])


def test_a_closed_decoder_goes_on_with_the_callers_thread():
    decoder = FusedDecoder(lively(SPECS["llama"]), weights="bf16", threads=3)
    cached = Cached(decoder)
    before = cached.read()
    decoder.close()
    after = cached.read()
    assert all(torch.equal(before[row], after[row]) for row in before)


def test_a_process_that_decodes_ends_by_itself():
    code = (
        "import torch\n"
        "from smelt.infer.fused import FusedDecoder\n"
        "from smelt.models.build import build\n"
        "from smelt.models.families import FAMILIES\n"
        "spec = FAMILIES['llama'].presets['smelt-nano']\n"
        "decoder = FusedDecoder(build(spec, seed=0), threads=3)\n"
        "pool = [torch.zeros(16, 2, 32) for _ in spec.layers]\n"
        "decoder.attach(pool, [p.clone() for p in pool], 16)\n"
        "assert decoder.decode([1], [0], [[0]]).isfinite().all()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_what_the_step_does_not_know_is_named():
    spec, layer = SPECS["llama"], SPECS["llama"].layers[0]

    def reason(**changes):
        return supports(replace(spec, layers=(replace(layer, **changes),) * 2))

    assert all(supports(known) is None for known in SPECS.values())
    assert reason(placement="post") == "it has post norms"
    assert reason(attention=replace(layer.attention, sinks=True)) == "it has attention with sinks or linear biases"
    assert reason(feed_forward=FeedForwardSpec(8, "gelu")) == "it has gelu activations"
    assert supports(FAMILIES["mixtral"].make(SHAPE)) == "it has a mixture of experts"
    assert supports(spec_for("bert", Shape(50, 20, 1, 2, 8))) is not None
    other = replace(layer, feed_forward=FeedForwardSpec(8, "swiglu"))
    assert supports(replace(spec, layers=(layer, other))) == "it has layers of different sizes"
    with pytest.raises(UsageError, match="no fused step for this network: it has scaled or bounded"):
        FusedDecoder(build(replace(spec, logit_softcap=3.0), seed=0))


def _message(call):
    with pytest.raises(UsageError) as error:
        call()
    return str(error.value)


def test_bad_input_is_refused_with_its_value():
    decoder = FusedDecoder(lively(SPECS["llama"]), weights="bf16", threads=1, max_rows=2)
    assert _message(lambda: decoder.decode([1], [0], [[0]])) == (
        "a fused step without a cache\ntry: attach() a pool first"
    )
    cached = Cached(decoder, lengths=(3,))
    for ids, places, pages, message in (
        ([0, 101], [0, 0], [[0], [0]], "row 1: token id 101\naccepted: 0 to 100"),
        ([-1], [0], [[0]], "row 0: token id -1\naccepted: 0 to 100"),
        ([1], [4], [[0]], "row 0: position 4\naccepted: 0 to 3, by the model's context and the pages given"),
        ([1], [40], [range(11)], "row 0: position 40\naccepted: 0 to 39, by the model's context and the pages given"),
        ([1], [4], [[0, 10]], "row 0: pages [0, 10]\naccepted: 0 to 9"),
        (
            [1, 2],
            [0],
            [[0]],
            "ids (2,), positions (1,), pages (1, 1)\naccepted: (B,), (B,) and (B, P) with B from 1 to 2",
        ),
    ):
        assert _message(lambda i=ids, p=places, g=pages: decoder.decode(i, p, g)) == message
    assert decoder.decode([1], [3], [[0, 99]]).shape == (1, 101)  # a page beyond the position is not read
    assert _message(lambda: decoder.attach(cached.keys, cached.values, 0)).startswith(
        "3 layers of keys, 3 of values, pages of 0"
    )
    assert "contiguous (40, 2, 10) on the CPU" in _message(
        lambda: decoder.attach(cached.keys, [value.double() for value in cached.values], 4)
    )
    assert (
        _message(lambda: FusedDecoder(lively(SPECS["llama"]), threads=0))
        == "a fused step with 0 threads\naccepted: at least 1"
    )
    assert _message(lambda: FusedDecoder(lively(SPECS["llama"]), weights="int3")) == (
        "weights in 'int3'\naccepted: fp32, bf16, int8, int4"
    )


@pytest.mark.parametrize("name", ["llama", "biases and windows", "gpt2"])
def test_tokens_of_one_text_go_together_as_they_go_alone(name):
    decoder = FusedDecoder(lively(SPECS[name]), weights="fp32", threads=2)
    spec = SPECS[name]
    attention = spec.layers[0].attention
    ids = torch.randint(0, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1)).numpy()
    pages = [[5, 1, 7], [0, 2, 3], [8, 9, 4]]

    def attach():
        pool = [torch.zeros(2, 10 * PAGE, attention.num_kv_heads, attention.head_dim) for _ in spec.layers]
        decoder.attach([keys for keys, _ in pool], [values for _, values in pool], PAGE)
        return pool

    first = attach()
    alone = [[decoder.decode([ids[text, t]], [t], [pages[text]])[0].clone() for t in range(9)] for text in range(3)]
    second = attach()
    for start, counts in ((0, (4, 1, 2)), (4, (5, 3, 1))):
        starts = (0, 0, 0) if start == 0 else (4, 1, 2)
        rows = [
            (text, begin + t)
            for text, (begin, count) in enumerate(zip(starts, counts, strict=True))
            for t in range(count)
        ]
        found = decoder.decode(
            [ids[text, t] for text, t in rows], [t for _, t in rows], [pages[text] for text, _ in rows], counts
        )
        for (text, t), logits in zip(rows, found, strict=True):
            assert torch.equal(logits, alone[text][t])
    for text, last in enumerate((9, 4, 3)):
        slots = [pages[text][t // PAGE] * PAGE + t % PAGE for t in range(last)]
        assert all(torch.equal(one[:, slots], two[:, slots]) for one, two in zip(first, second, strict=True))
    for counts in ([1, 1], [3, 0], [2, 2]):
        with pytest.raises(UsageError, match="one or more a text, all of them together"):
            decoder.decode([1, 2, 3], [0, 1, 2], [pages[0]] * 3, counts)
