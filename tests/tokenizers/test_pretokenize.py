"""Splitting: the published patterns by hand, gaps of other patterns kept, long texts cut where nothing changes."""

import pytest

from smelt.core.errors import TokenizerError
from smelt.tokenizers import pretokenize
from smelt.tokenizers.pretokenize import PATTERNS, split


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("gpt2", ["It", "'s", " 1234", " DON", "'", "Ts", "...", "\n", "\n", "ok", " "]),
        ("gpt4", ["It", "'s", " ", "123", "4", " DON", "'T", "s", "...\n\n", "ok", " "]),
        ("qwen2", ["It", "'s", " ", "1", "2", "3", "4", " DON", "'T", "s", "...\n\n", "ok", " "]),
    ],
)
def test_published_patterns(pattern: str, words: list[str]) -> None:
    assert split("It's 1234 DON'Ts...\n\nok ", pattern) == words


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "text", ["", " ", "\n\n\n a", "  two  spaces  ", "漢字かな交じり文", "e\u0301\u200d🙂", "\x00\x1c\x85\u2028"]
)
def test_words_join_up_to_the_text(pattern: str, text: str) -> None:
    assert "".join(split(text, pattern)) == text


def test_another_expression_keeps_what_it_does_not_match() -> None:
    assert split("ab12cd3", r"\d+") == ["ab", "12", "cd", "3"]
    assert split("ab", r"x*") == ["a", "b"]  # an empty match is no word, but it cuts


@pytest.mark.parametrize("pattern", PATTERNS)
def test_long_texts_are_cut_where_the_words_stay_the_same(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "They've  said 12345 things,\n\n  hadn't they?  Ça va déjà \t!\r\n" * 20
    whole = split(text, pattern)
    monkeypatch.setattr(pretokenize, "STRETCH_CHARACTERS", 7)
    stretches = list(pretokenize.iterate_words(text, pattern))
    assert len(stretches) > 50
    assert split(text, pattern) == whole


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(TokenizerError) as caught:
        split("x", "gtp4")
    assert str(caught.value) == (
        "unknown split pattern 'gtp4'. Did you mean 'gpt4'?\naccepted: gpt2, gpt4, cl100k, qwen2, o200k, "
        "deepseek, han, or a regular expression"
    )


def test_broken_expression_says_what_is_wrong() -> None:
    with pytest.raises(TokenizerError, match=r"split pattern '\(a' is not a regular expression: missing \)"):
        split("x", "(a")


def test_the_message_about_a_long_pattern_is_short() -> None:
    for pattern in ("(" + "a|" * 5000, "x" * 5000):
        with pytest.raises(TokenizerError) as caught:
            split("a", pattern)
        assert len(str(caught.value)) < 400
