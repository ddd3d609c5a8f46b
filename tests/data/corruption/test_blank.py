"""Blank infilling: the figure of the paper by hand, the statistics of the spans, and the way back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from smelt.data.corruption.blank import (
    Blanking,
    blank_out,
    lay_out,
    restore_blanks,
    sentence_spans,
    short_spans,
    tail_span,
)

MASK, SENTENCE, TAIL, BEGIN, END, STOP = 100, 101, 102, 103, 104, 50
BLANKING = Blanking(MASK, SENTENCE, TAIL, BEGIN, END, np.arange(110) == STOP, tail_share=0.0)


def test_the_figure_of_the_paper() -> None:
    """x1 .. x6 with the spans x3 and x5 x6, written in the order 5-6, 3 (figure 2 of the paper)."""
    ids = np.arange(1, 7, dtype=np.int32)
    seed = next(s for s in range(20) if np.random.default_rng(s).permutation(2).tolist() == [1, 0])
    found = lay_out([(2, 3), (4, 6)], ids, MASK, BLANKING, np.random.default_rng(seed))
    x = -100
    assert found.ids.tolist() == [1, 2, MASK, 4, MASK, BEGIN, 5, 6, BEGIN, 3]
    assert found.labels.tolist() == [x, x, x, x, x, 5, 6, END, 3, END]
    assert found.places.tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 2, 2]
    assert found.inside.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 1, 2]
    assert found.order.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    example = found.example()
    assert example.positions is not None
    assert example.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 3, 4]


def test_a_blank_at_the_end_counts_on() -> None:
    example = lay_out([(3, 6)], np.arange(6, dtype=np.int32), TAIL, BLANKING, np.random.default_rng(0)).example()
    assert example.positions is not None and example.positions.tolist() == list(range(8))


def test_spans_hold_the_rate_and_their_lengths_the_mean() -> None:
    draws = [short_spans(400, BLANKING, np.random.default_rng(i)) for i in range(300)]
    assert {sum(stop - start for start, stop in spans) for spans in draws} == {60}
    lengths = [stop - start for spans in draws for start, stop in spans]
    # Poisson(3) with its zeros taken as ones, the last span of a text cut short
    assert abs(np.mean(lengths) - 3.0) < 0.1
    assert max(map(len, draws)) <= BLANKING.max_spans(400) == 30
    hidden = np.zeros(400)
    for spans in draws:
        for start, stop in spans:
            hidden[start:stop] += 1
    assert abs(hidden[10:-10] / 300 - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 300)


def test_sentences_are_cut_out_whole() -> None:
    ids = np.array([1, 2, STOP, 3, STOP, 4, 5, STOP, 6], dtype=np.int32)
    whole = {(0, 3), (3, 5), (5, 8), (8, 9)}
    for seed in range(30):
        spans = sentence_spans(ids == STOP, BLANKING, np.random.default_rng(seed))
        assert set(spans) < whole and spans == sorted(spans)
    assert sentence_spans(np.zeros(4, dtype=bool), BLANKING, np.random.default_rng(0))[0][1] == 4


@given(st.integers(2, 200), st.integers(0, 2**32))
def test_the_end_is_at_least_half_and_never_all(num_tokens: int, seed: int) -> None:
    start, stop = tail_span(num_tokens, np.random.default_rng(seed))
    assert stop == num_tokens and 0 < start <= num_tokens - num_tokens // 2


@given(
    st.integers(2, 200),
    st.floats(0.05, 0.9),
    st.floats(1.0, 8.0),
    st.sampled_from([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.3, 0.3)]),
    st.integers(0, 2**32),
)
def test_nothing_is_lost(num_tokens: int, rate: float, mean: float, shares: tuple[float, float], seed: int) -> None:
    blanking = Blanking(
        MASK, SENTENCE, TAIL, BEGIN, END, np.arange(110) == STOP, rate, mean, *shares
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 99, num_tokens).astype(np.int32)
    found = blank_out(ids, blanking, rng)
    assert restore_blanks(found).tolist() == ids.tolist()
    num_blanks = int(np.isin(found.ids, [MASK, SENTENCE, TAIL]).sum())
    assert len(found.ids) == num_tokens + 2 * num_blanks
    assert num_blanks <= blanking.max_spans(num_tokens)
    written = found.order > 0
    assert (found.labels[~written] == -100).all() and (found.labels[written] != -100).all()
    assert found.order[written].tolist() == list(range(1, int(written.sum()) + 1))
