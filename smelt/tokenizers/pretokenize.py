"""Cut text into words before any merging, so that no token spans two words.

Merges learned inside words generalise ("dog." and "dog!" share "dog") and every distinct word is encoded only once.
The patterns are the published ones, so that other tools cut alike: "gpt2", "gpt4" (cl100k: digits in threes, a
punctuation mark or space joins the next word, line ends apart) and "qwen2" (the same with single digits). "han" is
ours: qwen2 with each Chinese character a word, and only a space or a hyphen joined to the next word, so that a name
is cut alike whatever stands beside it, which small models need to copy it. Any other regular expression is accepted as
it is. Words always join up to the text again: what no match covers is a word too.
Costs about 12 MB/s on English with the `regex` package, which has the Unicode classes that `re` lacks.

Ref: GPT-2, section 2.2; the cl100k_base pattern in tiktoken; the Qwen2 technical report, arXiv:2407.10671.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import chain, islice

import regex

from smelt.core.errors import TokenizerError, nearest

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT4 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _GPT4.replace(r"\p{N}{1,3}", r"\p{N}")

PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": _GPT4,
    "qwen2": _QWEN2,
    "han": r"\p{Han}|" + _QWEN2.replace(r"[^\r\n\p{L}\p{N}]?\p{L}+", r"[ -]?(?:(?!\p{Han})\p{L})+"),
}

# A long text is cut in stretches of about this many characters, which bounds the words held at once (~100 MB).
STRETCH_CHARACTERS = 1 << 20
_WORDS_AT_ONCE = 1 << 18
# Every published pattern ends a word between a letter and white space, whatever follows: a safe place to cut.
_SAFE_CUT = regex.compile(r"(?<=\p{L})(?=\s)")


@functools.lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Compile a pattern given by name or as a regular expression.

    Raises:
        TokenizerError: no such name, or not a regular expression.
    """
    if pattern in PATTERNS:
        return regex.compile(PATTERNS[pattern])
    accepted = f"{', '.join(PATTERNS)}, or a regular expression"
    if regex.fullmatch(r"[\w.-]*", pattern):  # a bare word splits nothing of use: it is a name mistyped
        raise TokenizerError(f"unknown split pattern '{pattern}'.{nearest(pattern, PATTERNS)}", accepted=accepted)
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise TokenizerError(
            f"split pattern '{pattern}' is not a regular expression: {error}", accepted=accepted
        ) from error


def split(text: str, pattern: str) -> list[str]:
    """Cut a text into words: split("It's 1234 dogs", "gpt4") -> ["It", "'s", " ", "123", "4", " dogs"]."""
    return list(chain.from_iterable(iterate_words(text, pattern)))


def iterate_words(text: str, pattern: str) -> Iterator[list[str]]:
    """Yield the words of a text in order, in lists of bounded size."""
    compiled = compile_pattern(pattern)
    if pattern not in PATTERNS:
        words = _words_and_gaps(text, compiled)
        while batch := list(islice(words, _WORDS_AT_ONCE)):
            yield batch
        return
    start = 0
    while start < len(text):  # the published patterns match every character, so there are no gaps to keep
        cut = _SAFE_CUT.search(text, start + STRETCH_CHARACTERS)
        end = cut.start() if cut else len(text)
        yield compiled.findall(text, start, end)
        start = end


def _words_and_gaps(text: str, compiled: regex.Pattern[str]) -> Iterator[str]:
    """Yield each match and each stretch between matches, as Hugging Face's "Isolated" splitting does."""
    position = 0
    for match in compiled.finditer(text):
        start, end = match.span()
        if start > position:
            yield text[position:start]
        if end > start:
            yield text[start:end]
        position = max(position, end)
    if position < len(text):
        yield text[position:]
