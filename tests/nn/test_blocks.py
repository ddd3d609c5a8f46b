"""Attention among blocks equals dense attention under the same mask, and is linear in length."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from smelt.core.errors import UsageError
from smelt.nn.attention import attend, attend_reference
from smelt.nn.masks import Rules, seen_blocks, visible
from smelt.nn.spec import AttentionSpec, BlocksSpec
from smelt.nn.tiled import attend_tiled

SPEC = BlocksSpec(size=4, window=3, num_global=1, num_random=2, seed=5)


def drawn(length, num_kv_heads=2, batch=2, num_heads=4, head_dim=5):
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(batch, heads, length, head_dim, generator=generator, dtype=torch.float64).requires_grad_()
        for heads in (num_heads, num_kv_heads, num_kv_heads)
    ]


def with_gradients(function, inputs):
    out = function(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return out, *torch.autograd.grad((out * weights).sum(), inputs)


def test_near_first_and_random_blocks_by_hand():
    none = BlocksSpec(size=4, window=3, num_global=1, num_random=0)
    assert seen_blocks(none, 6, True) == ((0,), (0, 1), (0, 1, 2), (0, 1, 2, 3), (0, 2, 3, 4), (0, 3, 4, 5))
    every = tuple(range(6))
    assert seen_blocks(none, 6, False) == (every, (0, 1, 2), (0, 1, 2, 3), (0, 2, 3, 4), (0, 3, 4, 5), (0, 4, 5))


@pytest.mark.parametrize("causal", [True, False])
def test_random_blocks_are_drawn_by_the_seed_beside_the_others(causal):
    near = seen_blocks(BlocksSpec(size=4, window=3, num_global=1, num_random=0), 40, causal)
    seen, other = (seen_blocks(BlocksSpec(4, 3, 1, 2, seed), 40, causal) for seed in (5, 6))
    assert seen != other
    for own in range(8, 40):
        assert set(near[own]) < set(seen[own]) and len(seen[own]) == len(near[own]) + 2
        assert not causal or max(seen[own]) == own
    assert len({row[1] for row in seen[8:]}) > 5  # not one draw for all


def test_causal_draws_do_not_depend_on_what_follows():
    assert seen_blocks(SPEC, 40, True)[:17] == seen_blocks(SPEC, 17, True)


def test_the_mask_is_the_table_of_blocks_and_causal():
    seen = visible(10, 10, None, None, torch.device("cpu"), blocks=SPEC)[0]
    for query, key in itertools.product(range(10), range(10)):
        assert seen[query, key] == (key <= query and key // 4 in seen_blocks(SPEC, 3, True)[query // 4])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [3, 8, 37, 64])
def test_gathered_blocks_and_tiles_equal_dense_attention_with_gradients(length, causal):
    segments = torch.tensor([[1] * (length - 2) + [2] * 2, [0] * (length // 3) + [1] * (length - length // 3)])
    order = torch.arange(length).clamp(min=length // 2).expand(2, -1)
    for packed, ordered, softcap in itertools.product((None, segments), (None, order), (None, 1.5)):
        rules = Rules(length, length, packed, None, causal, ordered, blocks=SPEC)
        inputs = drawn(length)
        mask = rules.mask(inputs[0])
        expected = with_gradients(lambda *qkv, m=mask, c=softcap: attend_reference(*qkv, m, softcap=c), inputs)
        found = with_gradients(lambda *qkv, r=rules, c=softcap: attend(*qkv, r, softcap=c), inputs)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
        tiled = with_gradients(lambda *qkv, r=rules, c=softcap: attend_tiled(*qkv, r, softcap=c, tile=8), inputs)
        torch.testing.assert_close(tiled, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("causal", [True, False])
def test_biases_of_distances_ride_along(causal):
    bias, sinks = torch.randn(4, 73, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    inputs = [*drawn(37), bias.requires_grad_(), sinks.requires_grad_()]

    def blocks(queries, keys, values, bias, sinks):
        return attend(queries, keys, values, Rules(37, 37, causal=causal, bias=bias, blocks=SPEC), sinks=sinks)

    def dense(queries, keys, values, bias, sinks):
        mask = Rules(37, 37, causal=causal, bias=bias, blocks=SPEC).mask(queries)
        return attend_reference(queries, keys, values, mask, sinks=sinks)

    found, expected = with_gradients(blocks, inputs), with_gradients(dense, inputs)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_new_tokens_behind_a_cache_see_the_blocks_of_their_slots():
    queries, keys, values = (x.detach() for x in drawn(37))
    whole = attend(queries, keys, values, Rules(37, 37, blocks=SPEC))
    for rules in (Rules(5, 37, blocks=SPEC), Rules(5, 37, blocks=SPEC).mask(queries)):
        torch.testing.assert_close(attend(queries[:, :, -5:], keys, values, rules), whole[:, :, -5:])


class Work(TorchDispatchMode):
    """Add up the elements of all tensors that operations return, and remember the largest."""

    total, largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(found) if isinstance(x, torch.Tensor)]
        self.total, self.largest = self.total + sum(sizes), max(self.largest, *sizes, 0)
        return found


@pytest.mark.parametrize("causal", [True, False])
def test_time_and_memory_are_linear_in_length(causal):
    found = []
    for length in (1024, 4096):
        inputs = [x.detach().float().requires_grad_() for x in drawn(length, batch=1)]
        with Work() as work:
            out = attend(*inputs, Rules(length, length, causal=causal, blocks=BlocksSpec(32, 3, 1, 2)))
            torch.autograd.grad(out.sum(), inputs)
        found.append((work.total, work.largest))
        assert work.largest < length * length
    assert found[1][0] < 4.4 * found[0][0] and found[1][1] < 4.4 * found[0][1]


def test_impossible_blocks_are_refused():
    with pytest.raises(UsageError, match="blocks of 0 tokens, 3 near, 2 first, 3 random"):
        BlocksSpec(size=0)
    with pytest.raises(UsageError, match="a window on attention among blocks"):
        AttentionSpec(2, 2, 4, window=3, blocks=SPEC)
    with pytest.raises(UsageError, match="a window of 4 blocks that looks both ways\naccepted: an odd number"):
        AttentionSpec(2, 2, 4, causal=False, blocks=BlocksSpec(window=4))
