"""Positions: index arithmetic by hand, the published sinusoidal row, and what rotary promises."""

import math

import torch

from smelt.nn.positions import (
    apply_rotary,
    context_bounds,
    context_positions,
    distance_buckets,
    positions_in_segments,
    rotary_tables,
    sinusoidal,
    sinusoidal_table,
    turn,
)
from smelt.nn.spec import ContextSpec, RelativeSpec, RotarySpec


def test_positions_restart_with_each_segment():
    segments = torch.tensor([[0, 0, 1, 1, 1, 2], [1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
    expected = [[0, 1, 0, 1, 2, 0], [0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]]
    assert positions_in_segments(segments).tolist() == expected


def test_sinusoidal_row_one_to_six_digits():
    row = sinusoidal_table(4, 64)[1, :6]
    assert [f"{value:.6f}" for value in row.tolist()] == [
        "0.841471",
        "0.540302",
        "0.681561",
        "0.731761",
        "0.533168",
        "0.846009",
    ]


def test_sinusoidal_table_starts_with_zero_and_one():
    assert sinusoidal_table(1, 6).tolist() == [[0.0, 1.0, 0.0, 1.0, 0.0, 1.0]]


def test_sinusoidal_takes_positions_of_any_shape():
    table = sinusoidal_table(5, 8)
    positions = torch.tensor([[0, 1, 2], [0, 0, 4]])
    torch.testing.assert_close(sinusoidal(positions, 8), table[positions])


def test_rotary_turns_half_split_pairs():
    # Size 4, theta 1: every pair turns by the position itself. Pairs are (0, 2) and (1, 3).
    cos, sin = rotary_tables(torch.tensor([1]), RotarySpec(4, theta=1.0), torch.float32)
    turned = apply_rotary(torch.tensor([1.0, 0.0, 0.0, 1.0]).reshape(1, 1, 1, 4), cos, sin)
    expected = torch.tensor([math.cos(1), -math.sin(1), math.sin(1), math.cos(1)])
    torch.testing.assert_close(turned.flatten(), expected)


def test_rotary_scores_depend_on_distance_alone():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 8, generator=generator)

    def score(query_position: int, key_position: int) -> torch.Tensor:
        cos, sin = rotary_tables(torch.tensor([query_position, key_position]), RotarySpec(8), torch.float32)
        turned = apply_rotary(torch.stack((query, key))[None, :, None], cos, sin)[0, :, 0]
        return turned[0] @ turned[1]

    torch.testing.assert_close(score(9, 4), score(105, 100), atol=1e-5, rtol=0)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


def test_rotary_keeps_the_type_of_its_input():
    cos, sin = rotary_tables(torch.arange(3), RotarySpec(4), torch.float32)
    assert apply_rotary(torch.ones(1, 3, 1, 4, dtype=torch.bfloat16), cos, sin).dtype == torch.bfloat16


def test_interleaved_and_half_split_turn_the_same_pairs_in_another_order():
    cos, sin = rotary_tables(torch.arange(5), RotarySpec(8), torch.float32)
    x = torch.randn(1, 5, 2, 8, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])  # half-split entries as neighbours
    torch.testing.assert_close(apply_rotary(x[..., order], cos, sin, True), apply_rotary(x, cos, sin)[..., order])


def test_entries_beyond_the_rotary_size_stay():
    cos, sin = rotary_tables(torch.arange(5), RotarySpec(4), torch.float32)
    x = torch.randn(1, 5, 2, 10, generator=torch.Generator().manual_seed(0))
    found = apply_rotary(x, cos, sin)
    assert torch.equal(found[..., 4:], x[..., 4:])
    torch.testing.assert_close(found[..., :4], apply_rotary(x[..., :4], cos, sin))


def test_positions_of_a_context_and_its_answer():
    spec = ContextSpec(begin_id=9, blank_ids=(8, 7))
    ids = torch.tensor([[7, 1, 8, 9, 2, 3], [1, 7, 9, 2, 9, 8], [1, 2, 3, 4, 5, 6]])
    bounds = context_bounds(ids, torch.arange(6).expand(3, 6), None, spec)
    first, second = context_positions(torch.arange(6), *bounds)
    assert first.tolist() == [[0, 1, 2, 2, 2, 2], [0, 1, 1, 1, 1, 1], [0] * 6]
    assert second.tolist() == [[0, 0, 0, 1, 2, 3], [0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]


def test_packed_texts_have_contexts_of_their_own():
    ids, segments = torch.tensor([[1, 8, 9, 2, 8, 9, 3]]), torch.tensor([[1, 1, 1, 1, 2, 2, 2]])
    positions = positions_in_segments(segments)
    both = context_positions(positions, *context_bounds(ids, positions, segments, ContextSpec(9, (8,))))
    assert both[:, 0].tolist() == [[0, 1, 1, 1, 0, 0, 0], [0, 0, 1, 2, 0, 1, 2]]


def test_two_axes_turn_half_a_head_each():
    spec, one = RotarySpec(8, axes=2), RotarySpec(4)
    positions, x = torch.tensor([[[0, 3, 5]], [[2, 2, 7]]]), torch.randn(1, 3, 2, 8)
    found = turn(x, *rotary_tables(positions, spec, torch.float32), spec)
    for axis, half in enumerate(x.chunk(2, dim=-1)):
        expected = apply_rotary(half, *rotary_tables(positions[axis], one, torch.float32))
        torch.testing.assert_close(found.chunk(2, dim=-1)[axis], expected)


def test_buckets_are_single_distances_and_then_grow():
    spec = RelativeSpec(8, 16)
    behind = -torch.tensor([0, 1, 2, 3, 4, 5, 6, 8, 11, 12, 15, 16, 1000])
    assert distance_buckets(behind, spec, causal=True).tolist() == [0, 1, 2, 3, 4, 4, 5, 6, 6, 7, 7, 7, 7]
    assert distance_buckets(-behind, spec, causal=True).tolist() == [0] * 13
    both = torch.tensor([-16, -3, -1, 0, 1, 3, 16])
    assert distance_buckets(both, spec, causal=False).tolist() == [3, 2, 1, 0, 5, 6, 7]


def test_sines_stand_before_cosines_or_beside_them():
    one, other = sinusoidal_table(3, 6), sinusoidal_table(3, 6, halves=True)
    assert torch.equal(other, one[:, [0, 2, 4, 1, 3, 5]])
