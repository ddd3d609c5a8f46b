"""Which writing a text is in, told by its letters: a first answer to "which languages are in there?".

A script is not a language: English, German and Malay are all Latin here. Chinese and Japanese are told apart by kana.
"""

from __future__ import annotations

from collections import Counter

import regex

NAMES = (
    "Latin", "Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali",
    "Tamil", "Thai",
)  # fmt: skip
KANA = ("Hiragana", "Katakana")
OTHER, NONE = "another", "no letters"
LETTERS = regex.compile("|".join([*(rf"(?P<{name}>\p{{Script={name}}}+)" for name in NAMES), r"(?P<another>\p{L}+)"]))
MOST_CHARACTERS = 10_000  # of one text: its beginning tells


def script_of(text: str) -> str:
    """Return the script of most letters of a text, "Japanese" where Han and kana stand together."""
    counts = Counter[str]()
    for match in LETTERS.finditer(text[:MOST_CHARACTERS]):
        counts[match.lastgroup or OTHER] += len(match.group())
    if not counts:
        return NONE
    kana = sum(counts[name] for name in KANA)
    if kana > 0.1 * (kana + counts["Han"]) and kana + counts["Han"] > counts.total() / 2:
        return "Japanese"
    return counts.most_common(1)[0][0]
