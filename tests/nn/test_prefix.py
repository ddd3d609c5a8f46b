"""Keys and values before those of a text, and the columns of a mask that they take."""

import math

import torch

from smelt.nn.cache import LayerCache
from smelt.nn.masks import Rules, with_prefix
from smelt.nn.prefix import Prefixed
from smelt.nn.spec import AttentionSpec

NO = -math.inf
LIKE = torch.zeros(1)


def test_keys_stand_before_those_of_each_row_and_before_cached_ones():
    first, own = torch.tensor([7.0]).view(1, 1, 1, 1), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    keys, values = Prefixed(first, -first).append(own, own * 3)
    assert keys.flatten(1).tolist() == [[7, 1], [7, 2]]
    assert values.flatten(1).tolist() == [[-7, 3], [-7, 6]]
    behind = LayerCache(torch.zeros(2, 1, 3, 1), torch.zeros(2, 1, 3, 1))
    kept = Prefixed(first, first, behind=behind)
    kept.append(own, own)
    assert kept.append(own * 2, own)[0].flatten(1).tolist() == [[7, 1, 2], [7, 2, 4]]
    assert behind.length == 2


def test_shared_numbers_take_the_type_of_the_rows():
    first, own = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)
    assert Prefixed(first, first).append(own, own)[0].dtype == torch.bfloat16


def widened(mask, positions, num_virtual, num_keys, **attention):
    spec = AttentionSpec(2, 2, 4, **attention)
    found = with_prefix(mask, spec, torch.tensor(positions), num_virtual, num_keys, LIKE)
    return None if found is None else found.tolist()


def test_all_tokens_see_virtual_ones_and_each_other_as_before():
    assert widened(None, [2, 3], 2, 2) == [[[[0, 0, 0, NO], [0, 0, 0, 0]]]]
    mask = torch.tensor([[[[0.0, NO]]], [[[NO, 0.0]]]])
    assert widened(mask, [[3], [2]], 1, 2) == [[[[0, 0, NO]]], [[[0, NO, 0]]]]


def test_no_mask_is_made_where_all_see_all():
    assert widened(None, [5], 2, 4) is None
    assert widened(None, [2, 3], 2, 2, causal=False) is None


def test_a_window_reaches_virtual_tokens_by_their_positions():
    assert widened(None, [2, 3], 2, 2, window=3) == [[[[0, 0, 0, NO], [NO, 0, 0, 0]]]]
    two_texts = torch.zeros(1, 1, 2, 2)  # in a row, both at the first position behind two virtual tokens
    assert widened(two_texts, [[2, 2]], 2, 2, window=2)[0][0] == [[NO, 0, 0, 0], [NO, 0, 0, 0]]
    assert widened(None, [4], 2, 1, window=3) == [[[[NO, NO, 0]]]]


def test_rules_of_long_rows_become_a_mask():
    segments = torch.tensor([[1, 1, 2]])
    found = widened(Rules(3, 3, segments), [[1, 2, 1]], 1, 3)
    assert found == [[[[0, 0, NO, NO], [0, 0, 0, NO], [0, NO, NO, 0]]]]
