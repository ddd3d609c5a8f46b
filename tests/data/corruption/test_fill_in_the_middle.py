"""Fill in the middle: both orders by hand, cuts inside tokens, and the way back to the text."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from smelt.data.corruption.fill_in_the_middle import Middle, arrange, cut_text, fill_in_the_middle
from smelt.tokenizers.training import train_tokenizer

TOKENIZER = train_tokenizer(["def add(first, second): return first + second\n磨坊在河边。" * 3], vocab_size=330)
P, S, M, E = 1000, 1001, 1002, 1003


def marks(share: float = 1.0, suffix_first: float = 0.5) -> Middle:
    return Middle(
        P, S, M, E, lambda text: TOKENIZER.encode(text, continued=True),
        lambda ids: TOKENIZER.decode_bytes(ids, continued=True), share, suffix_first,
    )  # fmt: skip


def test_both_orders_by_hand() -> None:
    assert arrange([1, 2], [3], [4, 5], marks(), False).tolist() == [P, 1, 2, S, 4, 5, M, 3, E]
    assert arrange([1, 2], [3], [4, 5], marks(), True).tolist() == [P, S, 4, 5, M, 1, 2, 3, E]


def parts_of(sequence: list[int]) -> tuple[bytes, bytes, bool]:
    """Return prefix plus middle and suffix; what the marks stand around."""
    assert sequence[0] == P and sequence[-1] == E
    text = TOKENIZER.decode_bytes
    if sequence[1] == S:
        middle = sequence.index(M)
        return text(sequence[middle + 1 : -1]), text(sequence[2:middle]), True
    suffix, middle = sequence.index(S), sequence.index(M)
    return text(sequence[1:suffix]) + text(sequence[middle + 1 : -1]), text(sequence[suffix + 1 : middle]), False


@given(st.text(alphabet="def add(first): \n磨坊é", min_size=1), st.sampled_from([0.0, 1.0]), st.integers(0, 2**32))
def test_the_text_comes_back(text: str, suffix_first: float, seed: int) -> None:
    ids = np.array(TOKENIZER.encode(text), dtype=np.int32)
    example = fill_in_the_middle(ids, marks(suffix_first=suffix_first), np.random.default_rng(seed), 10_000)
    assert example.ids[0] == E and (example.ids[1:] == example.labels[:-1]).all()
    before, after, first = parts_of(example.labels.tolist())
    assert (before + after).decode() == text
    assert first or not suffix_first  # without a prefix both orders are one and the same


def test_cuts_fall_inside_tokens() -> None:
    ids = np.array(TOKENIZER.encode(" return first"), dtype=np.int32)
    assert len(ids) <= 4
    found = {
        parts_of(fill_in_the_middle(ids, marks(suffix_first=1.0), np.random.default_rng(i), 99).labels.tolist())[1]
        for i in range(300)
    }
    assert found == {" return first"[i:].encode() for i in range(14)}


@given(st.text(), st.integers(0, 2**32))
def test_three_parts_make_the_text(text: str, seed: int) -> None:
    assert "".join(cut_text(text, np.random.default_rng(seed))) == text


def test_shares() -> None:
    ids = np.array(TOKENIZER.encode("return first + second"), dtype=np.int32)
    draws = [fill_in_the_middle(ids, marks(0.5), np.random.default_rng(i), 99).labels.tolist() for i in range(2000)]
    moved = [labels for labels in draws if labels[0] == P]
    assert abs(len(moved) - 1000) < 110
    assert abs(sum(labels[1] == S for labels in moved) - len(moved) / 2) < 110
    assert all(labels == [*ids.tolist(), E] for labels in draws if labels[0] != P)


def test_what_is_too_long_loses_its_outer_ends() -> None:
    ids = np.array(TOKENIZER.encode("def add(first, second): return first + second" * 4), dtype=np.int32)
    for seed in range(50):
        example = fill_in_the_middle(ids, marks(), np.random.default_rng(seed), len(ids) + 2)
        assert len(example) <= len(ids) + 2
        assert {P, S, M} < set(example.ids.tolist())


def test_a_torn_character_at_the_edge_is_left_out() -> None:
    ids = np.array([token for byte in "磨坊".encode()[1:] for token in [TOKENIZER.tokens.index(bytes([byte]))]])
    example = fill_in_the_middle(ids, marks(), np.random.default_rng(0), 99)
    before, after, _ = parts_of(example.labels.tolist())
    assert (before + after).decode() == "坊"
