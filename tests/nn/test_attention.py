"""The fused kernel equals the formula, and the mask says exactly who sees whom."""

import math

import pytest
import torch

from smelt.nn.attention import Attention, attend, attend_products, attend_reference, uses_products
from smelt.nn.masks import segment_mask
from smelt.nn.positions import rotary_tables
from smelt.nn.spec import AttentionSpec, RotarySpec


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def visible(mask: torch.Tensor) -> list[list[int]]:
    return (mask[0, 0] == 0).int().tolist()


def test_mask_is_causal_within_segments():
    segments = torch.tensor([[0, 1, 1, 2]])
    assert visible(segment_mask(segments, 4, torch.float32)) == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 1],
    ]


def test_mask_of_new_tokens_covers_the_cached_ones():
    seen = torch.tensor([[0, 1, 1, 1]])
    assert visible(segment_mask(seen, 2, torch.float32)) == [[0, 1, 1, 0], [0, 1, 1, 1]]


def test_reference_by_hand():
    # One head of size 1; scores of the second token are 0 and ln 3, so its weights are 1/4 and 3/4.
    queries = torch.tensor([1.0, math.log(3.0)]).reshape(1, 1, 2, 1)
    keys = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1)
    values = torch.tensor([8.0, 4.0]).reshape(1, 1, 2, 1)
    torch.testing.assert_close(attend_reference(queries, keys, values).flatten(), torch.tensor([8.0, 5.0]))


@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_and_products_equal_the_reference_with_gradients(num_kv_heads, masked):
    shapes = ((2, 6, 7, 5), (2, num_kv_heads, 7, 5), (2, num_kv_heads, 7, 5))
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 1, 1]])
    mask = segment_mask(segments, 7, torch.float32) if masked else None
    results = []
    for function in (attend, attend_products, attend_reference):
        inputs = [draw(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
        out = function(*inputs, mask)
        gradients = torch.autograd.grad(out.square().sum(), inputs)
        results.append((out, *gradients))
    fused, products, reference = results
    torch.testing.assert_close(fused, reference, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(products, reference, atol=1e-5, rtol=1e-5)


def test_products_take_the_last_queries_of_a_longer_row():
    queries, keys, values = draw(1, 4, 2, 4), draw(1, 2, 5, 4, seed=1), draw(1, 2, 5, 4, seed=2)
    mask = torch.zeros(1, 1, 2, 5)
    mask[..., 0, 4] = -math.inf  # the mask of two new tokens behind three cached ones
    expected = attend_reference(queries, keys, values, mask)
    torch.testing.assert_close(attend_products(queries, keys, values), expected)


def test_only_short_bfloat16_rows_on_the_processor_take_the_products():
    processor = torch.device("cpu")
    assert uses_products(512, 512, torch.bfloat16, processor)
    assert not uses_products(513, 513, torch.bfloat16, processor)
    assert not uses_products(1, 512, torch.bfloat16, processor)
    assert not uses_products(512, 512, torch.float32, processor)
    assert not uses_products(512, 512, torch.bfloat16, torch.device("cuda"))
    inputs = [draw(2, 2, 9, 4, seed=seed).bfloat16() for seed in range(3)]
    torch.testing.assert_close(attend(*inputs), attend_reference(*inputs), atol=2e-2, rtol=2e-2)


def test_one_token_sees_every_slot_without_a_mask():
    queries, keys, values = draw(1, 2, 1, 4), draw(1, 2, 5, 4, seed=1), draw(1, 2, 5, 4, seed=2)
    torch.testing.assert_close(attend(queries, keys, values), attend_reference(queries, keys, values))
    moved = attend(queries, keys, values + torch.tensor([0.0, 0, 0, 0, 9]).reshape(5, 1))
    assert not torch.allclose(moved, attend(queries, keys, values))


@pytest.mark.parametrize("biased", [False, True])
def test_biases_are_where_the_spec_says(biased):
    spec = AttentionSpec(num_heads=4, num_kv_heads=2, head_dim=3, qkv_bias=biased, output_bias=not biased)
    module = Attention(spec, 10)
    names = {name for name, _ in module.named_parameters() if name.endswith("bias")}
    assert names == ({"query.bias", "key.bias", "value.bias"} if biased else {"output.bias"})
    assert module.key.weight.shape == (6, 10)
    assert module(draw(2, 5, 10), None, None, None).shape == (2, 5, 10)


def test_module_equals_the_formula_head_by_head():
    spec = AttentionSpec(num_heads=4, num_kv_heads=2, head_dim=6, rotary=RotarySpec(6))
    module, x = Attention(spec, 10), draw(1, 5, 10)
    cos, sin = rotary_tables(torch.arange(5), RotarySpec(6), torch.float32)
    angle_cos, angle_sin = torch.cat((cos, cos), -1)[:, 0], torch.cat((sin, sin), -1)[:, 0]  # (T, C)

    def turned(head: torch.Tensor) -> torch.Tensor:
        return head * angle_cos + torch.cat((-head[:, 3:], head[:, :3]), -1) * angle_sin

    heads = []
    for head in range(4):
        kv = head // 2
        query = turned(x[0] @ module.query.weight[head * 6 : head * 6 + 6].T)
        key = turned(x[0] @ module.key.weight[kv * 6 : kv * 6 + 6].T)
        value = x[0] @ module.value.weight[kv * 6 : kv * 6 + 6].T
        scores = (query @ key.T / 6**0.5).masked_fill(torch.ones(5, 5).triu(1) > 0, -math.inf)
        heads.append(scores.softmax(-1) @ value)
    expected = torch.cat(heads, -1) @ module.output.weight.T
    torch.testing.assert_close(module(x, cos, sin, None)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"scale": 0.3}, {"softcap": 2.0}, {"softcap": 2.0, "scale": 0.3}, {"sinks": True}]
)
@pytest.mark.parametrize("masked", [False, True])
def test_other_scores_equal_the_reference_with_gradients(settings, masked):
    shapes = ((2, 6, 7, 5), (2, 2, 7, 5), (2, 2, 7, 5))
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 1, 1]])
    mask = segment_mask(segments, 7, torch.float32) if masked else None
    settings = settings | ({"sinks": draw(6, seed=9)} if "sinks" in settings else {})
    results = []
    for function in (attend, attend_products, attend_reference):
        inputs = [draw(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
        out = function(*inputs, mask, **settings)
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    for found in results[:2]:
        torch.testing.assert_close(found, results[2], atol=1e-5, rtol=1e-5)


def test_a_sink_takes_weight_and_gives_nothing():
    queries, keys, values = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    found = attend_reference(queries, keys, values, sinks=torch.tensor([math.log(3.0)]))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.25, 0.25]))
