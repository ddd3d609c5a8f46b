"""Find where words end in UTF-8, for each published split pattern: what `pretokenize` says with a regular expression.

Every `_after_*` function returns where the word that begins at `place` ends, and reads like its pattern: one
alternative after another. Letters are looked at eight bytes at a time, anything beyond ASCII by its class in a table.
A word never crosses `end`. Valid UTF-8 is assumed. Speed: hundreds of MB/s, where `regex` has about 12.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.ascii_words import BYTES_AT_ONCE, after_contraction, find_ascii_words
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.loads import (
    address,
    ascii_letters,
    load_u8,
    load_u16,
    load_u64,
    spaces,
    store_u64,
    trailing_zeros,
)
from smelt.tokenizers.kernels.unicode import (
    HAN,
    KANA_OR_HAN,
    LETTER,
    LOWER,
    MARK,
    NEWLINE,
    NUMBER,
    SPACE,
    SYMBOL,
    UPPER,
)

# The number by which kernels know a pattern. The last two cut text whose spaces are written "▁" (SentencePiece): before
# each of them, or before each run of them.
PATTERN_NUMBER = {
    "gpt2": 0, "gpt4": 1, "qwen2": 2, "o200k": 3, "deepseek": 4, "han": 5, "cl100k": 6, "metaspace": 7, "marks": 8,
}  # fmt: skip

# A batch of words: enough that their rows of a table can be fetched together, few enough that they stay near the core.
WORDS_AT_ONCE = 256 + BYTES_AT_ONCE

_HIGH = np.uint64(0x8080808080808080)
_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
_CASE = np.uint64(0x2020202020202020)
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_FROM_A = np.uint64(0x1F1F1F1F1F1F1F1F)  # carries into the high bit from "a" on
_PAST_Z = np.uint64(0x0505050505050505)  # carries into the high bit after "z"


@inline
def character(place: int) -> tuple[int, int]:
    """Return the code point at a place and its number of bytes."""
    first = load_u8(place)
    if first < 0x80:
        return first, 1
    second = load_u8(place + 1) & 0x3F
    if first < 0xE0:
        return (first & 0x1F) << 6 | second, 2
    third = load_u8(place + 2) & 0x3F
    if first < 0xF0:
        return (first & 0x0F) << 12 | second << 6 | third, 3
    return (first & 0x07) << 18 | second << 12 | third << 6 | load_u8(place + 3) & 0x3F, 4


@inline
def _class_of(code: int, classes: int) -> int:
    return load_u16(classes + 2 * code)


@inline
def _class_at(place: int, end: int, classes: int) -> tuple[int, int]:
    """Return the class and size of the character at a place, (0, 0) at the end."""
    if place >= end:
        return 0, 0
    code, size = character(place)
    return _class_of(code, classes), size


@inline
def _after_run(place: int, end: int, classes: int, kind: int) -> int:
    """Return where a run of characters of some classes ends."""
    while place < end:
        code, size = character(place)
        if not _class_of(code, classes) & kind:
            break
        place += size
    return place


@inline
def _after_others(place: int, end: int, classes: int, kind: int) -> int:
    """Return where a run of characters of none of some classes ends."""
    while place < end:
        code, size = character(place)
        if _class_of(code, classes) & kind:
            break
        place += size
    return place


@inline
def _after_letters(place: int, end: int, classes: int) -> int:
    """Return where a run of letters ends: eight ASCII letters a step, other scripts one by one."""
    while place < end:
        word = load_u64(place)
        low = (word & _LOW) | _CASE
        letters = (low + _FROM_A) & ~(low + _PAST_Z) & ~word & _HIGH
        other = ~letters & _HIGH
        if other == np.uint64(0):
            place += 8
            continue
        place += trailing_zeros(other) >> 3
        if place >= end:
            return end
        if load_u8(place) < 0x80:
            return place
        before = place
        while place < end and load_u8(place) >= 0x80:
            code, size = character(place)
            if not _class_of(code, classes) & LETTER:
                return place
            place += size
        if place == before:
            return place
    return end


@inline
def _after_numbers(place: int, end: int, classes: int, most: int) -> int:
    """Return where at most so many numerals end."""
    for _ in range(most):
        kind, size = _class_at(place, end, classes)
        if not kind & NUMBER:
            break
        place += size
    return place


@inline
def _after_space(place: int, end: int, classes: int, lines: bool) -> int:
    r"""Return where `\s*[\r\n]+|\s+(?!\S)|\s+` ends (without `lines`, `\s+(?!\S)|\s+`)."""
    stop, last, after_line = place, place, -1
    while stop < end:
        code, size = character(stop)
        kind = _class_of(code, classes)
        if not kind & SPACE:
            break
        last = stop
        stop += size
        if kind & NEWLINE:
            after_line = stop
    if lines and after_line >= 0:
        return after_line
    if stop == end or last == place:
        return stop
    return last


@inline
def _after_gpt2(place: int, end: int, classes: int) -> int:
    first = load_u8(place)
    if first == 0x27:
        stop = after_contraction(place, end, False)
        if stop > place:
            return stop
    start = place + 1 if first == 0x20 else place
    kind, size = _class_at(start, end, classes)
    if kind & LETTER:
        return _after_letters(start, end, classes)
    if size == 0 or kind & SPACE:
        return _after_space(place, end, classes, False)
    if kind & NUMBER:
        return _after_run(start, end, classes, NUMBER)
    return _after_others(start, end, classes, LETTER | NUMBER | SPACE)


@inline
def _after_rest(place: int, end: int, classes: int, slash: bool) -> int:
    r"""Return where ` ?[^\s\p{L}\p{N}]+[\r\n]*` or white space ends; with `slash`, "/" counts with the line ends."""
    start = place + 1 if load_u8(place) == 0x20 else place
    kind, size = _class_at(start, end, classes)
    if size == 0 or kind & (LETTER | NUMBER | SPACE):
        return _after_space(place, end, classes, True)
    stop = _after_others(start, end, classes, LETTER | NUMBER | SPACE)
    while stop < end and (load_u8(stop) == 0x0A or load_u8(stop) == 0x0D or (slash and load_u8(stop) == 0x2F)):
        stop += 1
    return stop


@inline
def _after_gpt4(place: int, end: int, classes: int, most_numbers: int) -> int:
    """Also qwen2, with single numerals."""
    if load_u8(place) == 0x27:
        stop = after_contraction(place, end, True)
        if stop > place:
            return stop
    kind, size = _class_at(place, end, classes)
    if kind & LETTER:
        return _after_letters(place, end, classes)
    if kind & NUMBER:
        return _after_numbers(place, end, classes, most_numbers)
    if not kind & NEWLINE:
        start = place + size
        after, _ = _class_at(start, end, classes)
        if after & LETTER:
            return _after_letters(start, end, classes)
    return _after_rest(place, end, classes, False)


@inline
def _after_cl100k(place: int, end: int, classes: int) -> int:
    r"""As gpt4, but white space that ends the text is one word (`\s++$`)."""
    stop = _after_gpt4(place, end, classes, 3)
    if stop < end:
        kind, _ = _class_at(place, end, classes)
        if kind & SPACE:
            tail = _after_run(place, end, classes, SPACE)
            if tail == end:
                return end
    return stop


@inline
def _after_cased(place: int, end: int, classes: int) -> int:
    """Return where o200k's two kinds of words end, or `place`: capitals, then small letters; or capitals alone."""
    upper_end, last_both = place, place
    while upper_end < end:
        code, size = character(upper_end)
        kind = _class_of(code, classes)
        if not kind & UPPER:
            break
        upper_end += size
        if kind & LOWER:
            last_both = upper_end  # the capitals give back as much as a small letter needs
    stop = _after_run(upper_end, end, classes, LOWER)
    if stop > upper_end:
        return stop
    return last_both if last_both > place else -upper_end


@inline
def _after_o200k(place: int, end: int, classes: int) -> int:
    kind, size = _class_at(place, end, classes)
    prefixed = not kind & (LETTER | NUMBER | NEWLINE)
    with_prefix = _after_cased(place + size, end, classes) if prefixed else np.int64(0)
    stop = np.int64(0)
    if with_prefix > 0 and with_prefix > place + size:
        stop = with_prefix
    else:
        bare = _after_cased(place, end, classes) if kind & (UPPER | LOWER) else np.int64(0)
        if bare > place:
            stop = bare
        elif -with_prefix > place + size:
            stop = -with_prefix
        elif -bare > place:
            stop = -bare
    if stop > 0:
        return after_contraction(stop, end, True)
    if kind & NUMBER:
        return _after_numbers(place, end, classes, 3)
    return _after_rest(place, end, classes, True)


@inline
def _is_mark_of_ascii(byte: int) -> bool:
    """Tell whether a byte is one of ASCII's punctuation marks and symbols."""
    return 0x21 <= byte <= 0x2F or 0x3A <= byte <= 0x40 or 0x5B <= byte <= 0x60 or 0x7B <= byte <= 0x7E


@inline
def _after_deepseek(place: int, end: int, classes: int) -> int:
    """Three cuts one after another: numerals in threes, runs of kana and Chinese, then words inside each piece."""
    kind, _ = _class_at(place, end, classes)
    if kind & NUMBER:
        return _after_numbers(place, end, classes, 3)
    if kind & KANA_OR_HAN:
        return _after_piece(place, _after_run(place, end, classes, KANA_OR_HAN), classes, NUMBER)
    return _after_piece(place, end, classes, NUMBER | KANA_OR_HAN)


@inline
def _after_piece(place: int, end: int, classes: int, cut: int) -> int:
    """Return where the word ends in a piece of text that ends at `end` or where a character of class `cut` stands."""
    kind, size = _class_at(place, end, classes)
    start = place + size
    if start < end and _is_mark_of_ascii(load_u8(place)):
        stop = start
        while stop < end and 0x61 <= load_u8(stop) | 0x20 <= 0x7A and load_u8(stop) < 0x80:
            stop += 1
        if stop > start:
            return stop
    after, _ = _class_at(start, end, classes)
    if after & cut:
        after = 0
    if not kind & (NEWLINE | LETTER | SYMBOL) and after & (LETTER | MARK):
        return _after_run_but(start, end, classes, LETTER | MARK, cut)
    if kind & (LETTER | MARK):
        return _after_run_but(place, end, classes, LETTER | MARK, cut)
    if kind & SYMBOL or (load_u8(place) == 0x20 and after & SYMBOL):
        stop = _after_run_but(start, end, classes, SYMBOL, cut)
        while stop < end and (load_u8(stop) == 0x0A or load_u8(stop) == 0x0D):
            stop += 1
        return stop
    if kind & SPACE:
        stop = _after_run(place, end, classes, SPACE)
        after, _ = _class_at(stop, end, classes)
        return _after_space(place, stop if after & cut else end, classes, True)
    return _after_gap(place, end, classes, cut)


@inline
def _after_run_but(place: int, end: int, classes: int, kind: int, cut: int) -> int:
    """Return where a run of characters of some classes, and of none of others, ends."""
    while place < end:
        code, size = character(place)
        found = _class_of(code, classes)
        if not found & kind or found & cut:
            break
        place += size
    return place


@inline
def _after_gap(place: int, end: int, classes: int, cut: int) -> int:
    """Return where the characters that no alternative matches (controls) end; the last one joins a word after it."""
    while place < end:
        code, size = character(place)
        if _class_of(code, classes) & (cut | LETTER | MARK | SYMBOL | SPACE):
            break
        after, _ = _class_at(place + size, end, classes)
        if after & (LETTER | MARK) and not after & cut:
            break
        place += size
    return place


@inline
def _after_han(place: int, end: int, classes: int) -> int:
    kind, size = _class_at(place, end, classes)
    if kind & HAN:
        return place + size
    if load_u8(place) == 0x27:
        stop = after_contraction(place, end, True)
        if stop > place:
            return stop
    start = place + 1 if load_u8(place) == 0x20 or load_u8(place) == 0x2D else place
    first, _ = _class_at(start, end, classes)
    if first & LETTER and not first & HAN:
        while start < end:
            code, size = character(start)
            if not _class_of(code, classes) & LETTER or _class_of(code, classes) & HAN:
                break
            start += size
        return start
    if kind & NUMBER:
        return place + size
    return _after_rest(place, end, classes, False)


@inline
def _is_mark(place: int) -> bool:
    """Tell whether "▁" stands at a place."""
    return load_u8(place) == 0xE2 and load_u8(place + 1) == 0x96 and load_u8(place + 2) == 0x81


@inline
def _after_mark(place: int, end: int, runs: bool) -> int:
    """Return where the next mark stands; with `runs`, the next that follows another character."""
    if _is_mark(place):
        place += 3
        while runs and place < end and _is_mark(place):
            place += 3
    while place < end and not _is_mark(place):
        place += 1
    return min(place, end)


@inline
def word_end(place: int, end: int, classes: int, pattern: int) -> int:
    """Return where the word at `place` ends; `place` < `end`."""
    if pattern == 1:
        return _after_gpt4(place, end, classes, 3)
    if pattern == 0:
        return _after_gpt2(place, end, classes)
    if pattern == 2:
        return _after_gpt4(place, end, classes, 1)
    if pattern == 3:
        return _after_o200k(place, end, classes)
    if pattern == 4:
        return _after_deepseek(place, end, classes)
    if pattern == 5:
        return _after_han(place, end, classes)
    if pattern == 6:
        return _after_cl100k(place, end, classes)
    return _after_mark(place, end, pattern == 8)


@inline
def _plain_words(place: int, end: int, stops: int, most: int) -> tuple[int, int]:
    """Write the ends of words that are ASCII letters, each but the first behind one space; return how many, and where
    the last one ends.

    Most of English is such, and every pattern but o200k's (whose words have suffixes) cuts it alike. 64 bytes are
    looked at together: one word need not wait for the end of the one before.
    """
    letters, blanks = ascii_letters(place), spaces(place)
    regular = letters | (blanks & (letters >> _ONE) & (letters << _ONE | _ONE))
    size = min(trailing_zeros(~regular), end - place)
    inner = blanks & ((_ONE << np.uint64(size)) - _ONE if size < 64 else _ALL) & ~_ONE
    count, stop = 0, place
    while inner and count < most:
        stop = place + trailing_zeros(inner)
        store_u64(stops + 8 * count, np.uint64(stop))
        count += 1
        inner &= inner - _ONE
    if 0 < size < 64 and count < most and (place + size == end or load_u8(place + size) < 0x80):
        stop = place + size
        store_u64(stops + 8 * count, np.uint64(stop))
        count += 1
    return count, stop


@inline
def find_words(place: int, end: int, classes: int, pattern: int, stops: int, most: int) -> int:
    """Write the ends of up to `most` words, and of up to `BYTES_AT_ONCE` behind them, at address `stops`; return how
    many."""
    count, plain = 0, pattern == 4 or pattern == 5
    by_bits, most_numbers = pattern < 3 or pattern == 6, 0 if pattern == 0 else 1 if pattern == 2 else 3
    while place < end and count < most:
        if by_bits and load_u8(place) < 0x80 and load_u8(place + 1) < 0x80:
            more = find_ascii_words(place, end, stops + 8 * count, most_numbers)
            if more:
                count += more
                place = np.int64(load_u64(stops + 8 * count - 8))
                continue
        if plain and load_u8(place) == 0x20 and load_u8(place + 1) < 0x80:
            more, place = _plain_words(place, end, stops + 8 * count, most - count)
            count += more
            if more:
                continue
        place = word_end(place, end, classes, pattern)
        store_u64(stops + 8 * count, np.uint64(place))
        count += 1
    return count


@kernel
def scan_words(
    data: npt.NDArray[np.uint8], end: int, classes: npt.NDArray[np.uint16], pattern: int, stops: npt.NDArray[np.int64]
) -> int:
    """Fill `stops`, which has room for `BYTES_AT_ONCE` more, with the offsets at which words end; return how many."""
    text = address(data)
    count = find_words(text, text + end, address(classes), pattern, address(stops), stops.size - BYTES_AT_ONCE)
    for number in range(count):
        stops[number] -= text
    return count
