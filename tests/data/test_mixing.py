"""Orders of rows: every row once an epoch, shares that are exact, and nothing but (seed, place) deciding."""

from collections import Counter

import numpy as np
import pytest

from smelt.core.errors import ConfigError
from smelt.data.bucketing import WINDOW_BATCHES, ByLength, PaddedRows, pad_rows
from smelt.data.mixing import BLOCK, Mixed, Order, Shuffled, shares_of
from smelt.data.order import shuffled_index
from smelt.data.packing import pack_rows

LENGTHS = np.random.default_rng(0).integers(2, 200, 1003).tolist()


def by_length(num_rows: int, batch_rows: int, seed: int = 5, lengths: list[int] = LENGTHS) -> ByLength:
    return ByLength(Shuffled(num_rows, seed), lengths[:num_rows], batch_rows, epoch_rows=num_rows, seed=seed)


ORDERS = {
    "shuffled": lambda: Shuffled(1003, 5),
    "mixed": lambda: Mixed([7, 990, 6], [1, 5, 0.25], 5),
    "by length": lambda: by_length(1003, 8),
    "mixed by length": lambda: ByLength(Mixed([7, 996], [1, 5], 5), LENGTHS, 8, epoch_rows=0, seed=5),
}


@pytest.mark.parametrize("name", ORDERS)
def test_any_place_is_known_without_its_predecessors(name: str) -> None:
    order: Order = ORDERS[name]()
    together = order.draw(range(2500))
    alone = [ORDERS[name]().draw(range(place, place + 1))[0] for place in (2499, 1003, 1002, 64, 0)]
    assert alone == [together[place] for place in (2499, 1003, 1002, 64, 0)]
    assert order.draw(range(990, 1020)) == together[990:1020]


def test_shuffled_is_what_it_was() -> None:
    drawn = Shuffled(10, 3).draw(range(25))
    assert drawn == [(shuffled_index(p % 10, num_rows=10, seed=3, epoch=p // 10), p // 10) for p in range(25)]


@pytest.mark.parametrize("batch_rows", [1, 3, 8, 17])
@pytest.mark.parametrize("num_rows", [1, 2, 16, 17, 600, 1003])
def test_by_length_gives_every_row_once_an_epoch(num_rows: int, batch_rows: int) -> None:
    order = by_length(num_rows, batch_rows)
    for epoch in range(4):
        drawn = order.draw(range(epoch * num_rows, (epoch + 1) * num_rows))
        assert sorted(drawn) == [(row, epoch) for row in range(num_rows)]


def fill(batches: list[list[int]]) -> float:
    """Return the share of slots that hold a token."""
    slots = sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in batches)
    return sum(LENGTHS[row] for batch in batches for row in batch) / slots


def test_batches_stay_whole_where_an_epoch_does_not_begin_with_one() -> None:
    drawn = [row for row, _ in by_length(300, 7).draw(range(6 * 300))]
    assert fill([drawn[start : start + 7] for start in range(0, len(drawn), 7)]) > 0.9


def test_by_length_batches_hold_like_lengths_and_differ_between_epochs() -> None:
    order, batch_rows = by_length(1003, 8), 8
    drawn = [row for row, _ in order.draw(range(3 * 1003))]
    batches = [drawn[start : start + batch_rows] for start in range(0, len(drawn), batch_rows)]

    plain = [row for row, _ in Shuffled(1003, 5).draw(range(3 * 1003))]
    assert fill(batches) > 0.95
    assert fill([plain[start : start + 8] for start in range(0, len(plain), 8)]) < 0.65
    longest = [max(LENGTHS[row] for row in batch) for batch in batches[:60]]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)
    companions = [
        {tuple(sorted(batch)) for batch in batches if batch[0] in drawn}
        for batches in (batches[:125], batches[126:250])
    ]
    assert not companions[0] & companions[1]


def test_a_window_is_no_larger_than_said() -> None:
    order = by_length(1003, 8)
    first = [row for row, _ in order.draw(range(WINDOW_BATCHES * 8))]
    assert sorted(first) == sorted(row for row, _ in Shuffled(1003, 5).draw(range(WINDOW_BATCHES * 8)))


def test_mixed_keeps_shares_and_repeats_nothing_before_a_set_is_through() -> None:
    sizes, weights = [7, 990, 6], [1.0, 5.0, 0.25]
    order = Mixed(sizes, weights, seed=5)
    assert order.shares == (160, 800, 40) and sum(order.shares) == BLOCK
    for block in range(3):
        drawn = order.draw(range(block * BLOCK, (block + 1) * BLOCK))
        owners = Counter(0 if row < 7 else 1 if row < 997 else 2 for row, _ in drawn)
        assert tuple(owners[number] for number in range(3)) == order.shares
    drawn = order.draw(range(2000))
    for start, size in zip((0, 7, 997), sizes, strict=True):
        of_set = sorted(((epoch, row) for row, epoch in drawn if start <= row < start + size))
        whole, rest = divmod(len(of_set), size)
        assert of_set[: whole * size] == [(e, start + r) for e in range(whole) for r in range(size)]
        assert len({row for _, row in of_set[whole * size :]}) == rest
    first = drawn[:100]
    assert 5 <= sum(row < 7 for row, _ in first) <= 30, "sources come in turn, not one after the other"
    assert Mixed(sizes, weights, seed=6).draw(range(100)) != first


@pytest.mark.parametrize(
    ("weights", "shares"), [([2, 1], (667, 333)), ([1, 1, 1], (334, 333, 333)), ([1, 999], (1, 999)), ([3], (1000,))]
)
def test_shares(weights: list[float], shares: tuple[int, ...]) -> None:
    assert shares_of(weights) == shares


def test_a_share_of_nothing() -> None:
    with pytest.raises(ConfigError, match=r"a weight of 0\.1 of 1000\.1 in all is less than one draw in a thousand"):
        shares_of([1000, 0.1])


def test_padded_rows_by_hand() -> None:
    examples = [([5, 6, 7], [0, 1, 1]), ([8, 9], [0, 1]), ([1, 2, 3, 4], [0, 1, 0, 1])]
    rows, report = pad_rows(examples, 3, on_long="drop", pad_id=99)
    assert (rows.num_rows, report.num_tokens, report.num_supervised_tokens, report.num_dropped) == (2, 5, 3, 1)
    batch = rows.take([1, 0])
    assert batch.ids.tolist() == [[8, 9, 99], [5, 6, 7]]
    assert batch.labels.tolist() == [[9, -100, -100], [6, 7, -100]]
    assert batch.segments.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.positions.tolist() == [[0, 1, 0], [0, 1, 2]]
    assert rows.take([1]).ids.shape == (1, 2), "as long as the longest of the batch"


def test_padding_teaches_what_packing_does() -> None:
    generator = np.random.default_rng(1)
    examples = []
    for length in generator.integers(2, 30, 50).tolist():
        mask = generator.integers(0, 2, length)
        mask[-1] = 1
        examples.append((generator.integers(0, 9, length).tolist(), mask.tolist()))
    rows, padded = pad_rows(examples, 32)
    assert isinstance(rows, PaddedRows)
    packed, report = pack_rows(examples, 32)
    every = rows.take(range(50))
    assert padded.num_supervised_tokens == report.num_supervised_tokens == int((every.labels != -100).sum())
    assert sorted(every.labels[every.labels != -100].tolist()) == sorted(packed.labels[packed.labels != -100].tolist())
