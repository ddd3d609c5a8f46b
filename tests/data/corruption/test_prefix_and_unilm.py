"""Prefixes and mixed readings: orders and labels by hand, and who sees whom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.data.corruption.masked import Masking
from smelt.data.corruption.prefix import prefix_and_rest
from smelt.data.corruption.unilm import READINGS, SHARES, Mixture, mixed_reading, read_as
from smelt.data.packing import IGNORED

IDS = np.array([7, 11, 12, 13, 14, 15, 16], dtype=np.int32)
MIXTURE = Mixture(Masking(4, np.arange(50) < 5), begin_id=2, end_id=3)


def test_the_example_of_the_docstring() -> None:
    seed = next(s for s in range(50) if np.random.default_rng(s).integers(1, 7) == 3)
    example = prefix_and_rest(IDS, np.random.default_rng(seed))
    assert example.ids.tolist() == [7, 11, 12, 13, 14, 15]
    assert example.labels.tolist() == [IGNORED, IGNORED, 13, 14, 15, 16]
    assert example.order is not None and example.order.tolist() == [0, 0, 0, 1, 2, 3]


@given(st.integers(2, 40), st.integers(0, 2**32))
def test_no_token_sees_what_it_predicts(num_tokens: int, seed: int) -> None:
    ids = np.arange(num_tokens, dtype=np.int32)
    example = prefix_and_rest(ids, np.random.default_rng(seed))
    assert example.order is not None
    predicts = example.labels != IGNORED
    assert predicts.any()
    sees = example.order[None, :] <= example.order[:, None]  # (query, key)
    for slot in np.flatnonzero(predicts):
        assert example.labels[slot] == ids[slot + 1]
        assert not sees[slot, slot + 1 :].any() and sees[slot, : slot + 1].all()


def test_borders_are_equally_likely() -> None:
    draws = [prefix_and_rest(IDS, np.random.default_rng(i)).labels for i in range(3000)]
    counts = np.bincount([int((labels == IGNORED).sum()) for labels in draws], minlength=6)
    assert abs(counts - 500).max() < 120


@pytest.mark.parametrize(
    ("reading", "order", "types"),
    [
        ("both_ways", [0] * 9, [0] * 9),
        ("left_to_right", list(range(9)), [0] * 9),
        ("right_to_left", list(range(8, -1, -1)), [0] * 9),
        ("in_two_parts", [0, 0, 0, 0, 0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
    ],
)
def test_readings_by_hand(reading: str, order: list[int], types: list[int]) -> None:
    seed = next(s for s in range(50) if np.random.default_rng(s).integers(1, 7) == 3)
    example = read_as(reading, IDS, MIXTURE, np.random.default_rng(seed))  # type: ignore[arg-type]
    assert example.order is not None and example.types is not None
    assert example.order.tolist() == order and example.types.tolist() == types
    whole = np.where(example.labels == IGNORED, example.ids, example.labels).tolist()
    text = [2, *IDS.tolist(), 3] if reading != "in_two_parts" else [2, *IDS[:3].tolist(), 3, *IDS[3:].tolist(), 3]
    assert whole == text


def test_the_mixture_has_its_shares() -> None:
    found = []
    for seed in range(3000):
        example = mixed_reading(IDS, MIXTURE, np.random.default_rng(seed))
        assert example.order is not None and example.types is not None
        order = example.order.tolist()
        two = len(order) == 10
        found.append(
            "in_two_parts" if two else "both_ways" if not any(order) else "left_to_right" if order[1] == 1
            else "right_to_left"
        )  # fmt: skip
    shares = [found.count(reading) / 3000 for reading in READINGS]
    assert shares == pytest.approx(SHARES, abs=0.04)
