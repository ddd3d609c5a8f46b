"""Training: a corpus small enough to work out by hand, ties, stopping, progress."""

from collections import Counter

from smelt.tokenizers.bpe_train import count_words, learn_merges
from smelt.tokenizers.bytelevel import BYTE_ORDER

ID = {bytes([byte]): number for number, byte in enumerate(BYTE_ORDER)}


def spelled(words: dict[str, int], num_tokens: int) -> list[tuple[bytes, bytes]]:
    tokens, merges = learn_merges(words, num_tokens)
    return [(tokens[left], tokens[right]) for left, right in merges]


def test_counting_words_over_texts() -> None:
    assert count_words(["a bc", " bc a"], "gpt4") == Counter({" bc": 2, "a": 1, " a": 1})


def test_merges_by_hand() -> None:
    # es: 9, st: 9, lo: 7, ow: 7. es and st tie, e < s, so es goes first; then es+t has 9.
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    assert spelled(words, 5) == [(b"e", b"s"), (b"es", b"t"), (b"l", b"o"), (b"lo", b"w"), (b"e", b"w")]


def test_ids_follow_the_order_of_learning() -> None:
    tokens, merges = learn_merges({"abab": 3}, 2)
    assert tokens[256:] == [b"ab", b"abab"]
    assert merges == [(ID[b"a"], ID[b"b"]), (256, 256)]


def test_a_tie_goes_to_the_smaller_pair_of_ids() -> None:
    assert spelled({"zy": 2, "az": 2, "ab": 2}, 3) == [(b"a", b"b"), (b"a", b"z"), (b"z", b"y")]
    # In the byte alphabet "~" comes before a space, although its byte value is larger.
    assert spelled({"  ": 2, "~~": 2}, 1) == [(b"~", b"~")]


def test_overlapping_pairs_are_not_counted_after_the_merge() -> None:
    assert spelled({"aaaaa": 2}, 9) == [(b"a", b"a"), (b"aa", b"a"), (b"aa", b"aaa")]


def test_what_occurs_once_is_not_learned() -> None:
    tokens, merges = learn_merges({"ab": 1, "cd": 2, "cde": 1}, 10)
    assert tokens[256:] == [b"cd"]
    assert len(merges) == 1


def test_progress_counts_up_to_the_wanted_number() -> None:
    seen: list[tuple[int, int]] = []
    learn_merges({"abab": 3}, 2, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
