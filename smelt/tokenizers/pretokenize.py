"""Cut text into words before any merging, so that no token spans two words.

Merges learned inside words generalise ("dog." and "dog!" share "dog") and every distinct word is encoded only once.
The patterns are the published ones, so that other tools cut alike; this is their definition, `kernels.scan` does the
same a hundred times as fast. Any other regular expression is accepted as it is. Byte-level words always join up to the
text again: what no match covers is a word too.

    "It's 1234 dogs"  gpt4 -> It|'s| |123|4| dogs   qwen2 -> It|'s| |1|2|3|4| dogs   metaspace -> ▁It's|▁1234|▁dogs

"cl100k" is "gpt4" as OpenAI runs it now (white space at the end of a text is one word); "gpt4" is its common form,
that of Llama 3 too. "qwen2" takes single digits, "o200k" parts words where capitals begin, "deepseek" cuts numerals
and Chinese off first. "han" is ours: qwen2 with each Chinese character a word, and only a space or a hyphen joined to
the next word, so that a name is cut alike whatever stands beside it, which small models need to copy it.

Ref: GPT-2, section 2.2; the patterns in tiktoken; Qwen2, arXiv:2407.10671; DeepSeek-V3, arXiv:2412.19437, section 4.1.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from itertools import chain, islice

import regex

from smelt.core.errors import TokenizerError, nearest

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT4 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST
_QWEN2 = _GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Each is the cuts to make one after another: nearly always one.
PATTERNS: dict[str, tuple[str, ...]] = {
    "gpt2": (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",),
    "gpt4": (_GPT4,),
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s",
    ),
    "qwen2": (_QWEN2,),
    "o200k": (_O200K,),
    "deepseek": (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", _DEEPSEEK_WORDS),
    "han": (r"\p{Han}|" + _QWEN2.replace(r"[^\r\n\p{L}\p{N}]?\p{L}+", r"[ -]?(?:(?!\p{Han})\p{L})+"),),
}

# A long text is cut in stretches of about this many characters, which bounds the words held at once (~100 MB).
STRETCH_CHARACTERS = 1 << 20
_WORDS_AT_ONCE = 1 << 18
# Every published pattern ends a word between a letter and white space, punctuation or a symbol (not in front of an
# apostrophe, which may begin a suffix), whatever follows: a safe place to cut.
SAFE_CUT = regex.compile(r"(?<=\p{L})(?=[\s\p{P}\p{S}])(?!')")


@functools.lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> tuple[regex.Pattern[str], ...]:
    """Compile the cuts of a pattern given by name, or one given as a regular expression.

    Raises:
        TokenizerError: no such name, or not a regular expression.
    """
    if pattern in PATTERNS:
        return tuple(regex.compile(cut) for cut in PATTERNS[pattern])
    accepted = f"{', '.join(PATTERNS)}, or a regular expression"
    if regex.fullmatch(r"[\w.-]*", pattern):  # a bare word splits nothing of use: it is a name mistyped
        raise TokenizerError(f"unknown split pattern '{pattern[:80]}'.{nearest(pattern, PATTERNS)}", accepted=accepted)
    try:
        return (regex.compile(pattern),)
    except regex.error as error:
        raise TokenizerError(
            f"split pattern '{pattern[:80]}' is not a regular expression: {error}", accepted=accepted
        ) from error


def split(text: str, pattern: str) -> list[str]:
    """Cut a text into words: split("It's 1234 dogs", "gpt4") -> ["It", "'s", " ", "123", "4", " dogs"]."""
    return list(chain.from_iterable(iterate_words(text, pattern)))


def iterate_words(text: str, pattern: str) -> Iterator[list[str]]:
    """Yield the words of a text in order, in lists of bounded size."""
    cuts = compile_pattern(pattern)
    if pattern not in PATTERNS:
        words = _words_and_gaps(text, cuts[0])
        while batch := list(islice(words, _WORDS_AT_ONCE)):
            yield batch
        return
    start = 0
    while start < len(text):
        found = SAFE_CUT.search(text, start + STRETCH_CHARACTERS)
        end = found.start() if found else len(text)
        if len(cuts) == 1:  # such patterns match every character, so there are no gaps to keep
            yield cuts[0].findall(text, start, end)
        else:
            yield functools.reduce(_cut_each, cuts, [text[start:end]])
        start = end


def _cut_each(words: Iterable[str], cut: regex.Pattern[str]) -> list[str]:
    return [piece for word in words for piece in _words_and_gaps(word, cut)]


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
