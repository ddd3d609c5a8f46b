"""Cross-attention by the formula, under a mask, and with keys and values made once."""

import torch

from smelt.nn.attention import attend_reference
from smelt.nn.cache import LayerCache
from smelt.nn.cross_attention import CrossAttention
from smelt.nn.masks import additive, visible_memory
from smelt.nn.spec import AttentionSpec


def make() -> tuple[CrossAttention, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    part = CrossAttention(AttentionSpec(6, 2, 5, qkv_bias=True, scale=0.3, causal=False), 12)
    return part, torch.randn(2, 4, 12, generator=generator), torch.randn(2, 7, 12, generator=generator)


def test_it_is_attention_of_one_text_to_another():
    part, x, memory = make()
    heads = [linear(y).unflatten(-1, (-1, 5)).transpose(1, 2) for linear, y in ((part.query, x), (part.key, memory))]
    values = part.value(memory).unflatten(-1, (-1, 5)).transpose(1, 2)
    mixed = attend_reference(*heads, values, torch.zeros(1, 1, 1, 7), scale=0.3)
    torch.testing.assert_close(part(x, memory, None), part.output(mixed.transpose(1, 2).flatten(2)))


def test_what_the_mask_hides_changes_nothing():
    part, x, memory = make()
    mask = additive(visible_memory(torch.tensor([[1] * 7, [1] * 3 + [0] * 4]), None), torch.float32)
    other = memory.clone()
    other[1, 3:] = 100.0
    torch.testing.assert_close(part(x, other, mask), part(x, memory, mask))
    assert not torch.allclose(part(x, other, None)[1], part(x, memory, None)[1])


def test_a_cache_keeps_the_keys_and_values_of_the_first_call():
    part, x, memory = make()
    cache = LayerCache(torch.empty(0), torch.empty(0))
    expected = part(x, memory, None, cache)
    assert cache.memory is not None and cache.memory[0].shape == (2, 2, 7, 5)
    assert torch.equal(part(x, memory + 1, None, cache), expected)
