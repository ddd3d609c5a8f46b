"""ROUGE-L in bits beside the table of the definition, and the pool."""

import random

import pytest

from smelt.data.synth.likeness import Pool, common_length, rouge_l, words


def slow_common_length(first: list[str], second: list[str]) -> int:
    """The definition, by the table of all beginnings."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first, start=1):
        for j, other in enumerate(second, start=1):
            table[i][j] = table[i - 1][j - 1] + 1 if one == other else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


def test_bits_and_table_agree() -> None:
    chance = random.Random(0)
    for _ in range(300):
        first, second = ([chance.choice("abcde") for _ in range(chance.randrange(90))] for _ in range(2))
        assert common_length(first, second) == slow_common_length(first, second)


@pytest.mark.parametrize(
    ("first", "second", "score"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("the cat sat down", "the dog sat", 4 / 7),  # "the sat": 2 x 2 / (4 + 3)
        ("a b", "c d", 0.0),
        ("", "", 1.0),
        ("", "a", 0.0),
    ],
)
def test_by_hand(first: str, second: str, score: float) -> None:
    assert rouge_l(first.split(), second.split()) == pytest.approx(score)


def test_words_of_two_scripts() -> None:
    assert words("Let's GO, 你好! été 3.5") == ["let", "s", "go", "你", "好", "été", "3", "5"]
    assert words("カナabc漢") == ["カ", "ナ", "abc", "漢"]


def test_pool_finds_what_is_alike_and_nothing_else() -> None:
    pool = Pool(0.7)
    pool.add("Name three rivers in France.")
    assert pool.like("Name three rivers in Spain!") == "Name three rivers in France."  # 4 of 5 words
    assert pool.like("Name three rivers in Spain!", but=["Name three rivers in France."]) is None
    assert pool.like("Name the longest rivers of Spain and France") is None
    assert Pool(1.0).like("anything") is None
    same = Pool(1.0)
    same.add("Name three rivers.")
    assert same.like("name three rivers") and same.like("name three long rivers") is None


@pytest.mark.parametrize("limit", [0.3, 0.5, 0.7, 0.8, 1.0])
def test_the_pool_finds_what_the_definition_finds(limit: float) -> None:
    chance = random.Random(1)
    texts = [" ".join(chance.choice("abcdefg") for _ in range(chance.randrange(1, 12))) for _ in range(60)]
    texts += texts[:3]
    pool = Pool(limit)
    num_alike = 0
    for number, text in enumerate(texts):
        alike = [old for old in texts[:number] if rouge_l(words(old), words(text)) >= limit]
        assert pool.like(text) == (alike[0] if alike else None)
        num_alike += bool(alike)
        pool.add(text)
    assert num_alike
