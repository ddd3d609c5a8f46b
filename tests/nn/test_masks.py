"""Masks say exactly who sees whom; linear biases fall with distance."""

import pytest
import torch

from smelt.nn.masks import Rules, attention_mask, by_slots, linear_bias, relative_bias, slopes, visible, visible_memory
from smelt.nn.positions import distance_buckets
from smelt.nn.spec import AttentionSpec, RelativeSpec


def seen(*arguments: object) -> list[list[int]]:
    return visible(*arguments, torch.device("cpu"))[0].int().tolist()


def test_a_window_counts_the_token_itself():
    assert seen(4, 4, None, 2) == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_a_window_behind_a_cache_and_within_segments():
    assert seen(2, 5, None, 3) == [[0, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert seen(2, 5, torch.tensor([[1, 1, 2, 2, 2]]), 3) == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]


@pytest.mark.parametrize("window", [None, 5, 9])
def test_plain_rows_need_no_mask(window):
    spec = AttentionSpec(2, 2, 4, window=window)
    assert attention_mask(spec, 5, 5, None, torch.zeros(())) is None
    assert attention_mask(spec, 1, 6, None, torch.zeros(())) is None or window == 5


def test_slopes_of_the_paper():
    assert slopes(4) == [1 / 4, 1 / 16, 1 / 64, 1 / 256]
    assert slopes(3) == [1 / 16, 1 / 256, 1 / 4]  # two of a power of two, then the first of the next


def test_linear_bias_is_slope_times_distance():
    bias = linear_bias(2, 2, 3, torch.zeros(()))
    assert bias.shape == (2, 4) and bias[0].tolist() == [-2 / 16, -1 / 16, 0.0, 1 / 16]
    assert by_slots(bias, 3)[0].tolist() == [[-1 / 16, 0.0, 1 / 16], [-2 / 16, -1 / 16, 0.0]]
    mask = attention_mask(AttentionSpec(2, 2, 4, alibi=True), 2, 3, None, torch.zeros(()))
    assert mask[0, 0, 0, 2] == -torch.inf and mask[0, 1, 1, 0] == -2 / 256


@pytest.mark.parametrize("causal", [True, False])
def test_a_learned_bias_is_that_of_the_bucket_of_the_distance(causal):
    spec, table = RelativeSpec(8, 20), torch.randn(8, 3)
    laid_out = by_slots(relative_bias(table, spec, 4, 9, causal=causal), 9)  # (H, T, S)
    for row in range(4):
        for key in range(9):
            bucket = distance_buckets(torch.tensor(key - (5 + row)), spec, causal=causal)
            torch.testing.assert_close(laid_out[:, row, key], table[bucket])


def test_long_rows_are_rules_whose_whole_mask_is_that_of_short_rows():
    spec, segments = AttentionSpec(2, 2, 4, window=3, alibi=True), torch.tensor([[1] * 500 + [2] * 524])
    rules = attention_mask(spec, 1024, 1024, segments, torch.zeros(()))
    assert isinstance(rules, Rules)
    part = attention_mask(spec, 8, 1024, segments, torch.zeros(()))  # few queries, few scores
    assert torch.equal(rules.mask(torch.zeros(()))[:, :, -8:], part)
    assert attention_mask(AttentionSpec(2, 2, 4), 1024, 1024, None, torch.zeros(())) is None


def test_a_target_reads_the_source_of_its_segment_and_padding_reads_all_of_them():
    source, target = torch.tensor([[1, 1, 2, 0]]), torch.tensor([[1, 2, 0]])
    assert visible_memory(source, None).int().tolist() == [[[1, 1, 1, 0]]]
    assert visible_memory(source, target).int().tolist() == [[[1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 0]]]
