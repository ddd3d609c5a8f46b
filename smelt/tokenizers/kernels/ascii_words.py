"""Find where words of ASCII end, 64 bytes at a time: each byte is a bit, and a word begins where a few shifts say so.

Going from word to word, a core guesses at each letter whether the word goes on, and a wrong guess costs as much as
twenty operations; in source code every second word is one. Here nothing is guessed, whatever the text.

Worked example, the pattern of GPT-4, "." for no and "#" for yes:

    text            if (x.size)⏎⏎  y
    letters         ##..#.####.....#
    white space     ..#........####.
    marks           ...#.#....#.....
    words begin     #.#.##....#..##.      if| (|x|.size|)⏎⏎| | y

")" takes the lines behind it, "." the letters behind it, " " the marks or letters behind it; "(" stands behind a space,
so that "x" begins a word of its own.
"""

from __future__ import annotations

import numpy as np

from smelt.tokenizers.kernels.jit import inline
from smelt.tokenizers.kernels.loads import (
    apostrophes,
    ascii_digits,
    ascii_letters,
    ascii_lines,
    ascii_white,
    beyond_ascii,
    count_ones,
    leading_zeros,
    load_u8,
    spaces,
    store_u64,
    trailing_zeros,
)

# What the words of 64 bytes take at most, and room for them is asked for at once.
BYTES_AT_ONCE = 64

_ZERO, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
_ALL, _TOP = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0x8000000000000000)


@inline
def after_contraction(place: int, end: int, any_case: bool) -> int:
    """Return where 's 't 'm 'd 'll 've 're ends, or `place` where there is none; U+017F is an s in any case."""
    if place + 1 >= end or load_u8(place) != 0x27:
        return place
    first, second = load_u8(place + 1), load_u8(place + 2)
    if any_case:
        if first == 0xC5 and second == 0xBF and place + 2 < end:
            return place + 3
        first, second = first | 0x20, second | 0x20
        if not (0x61 <= first <= 0x7A and load_u8(place + 1) < 0x80):
            return place
    if first == 0x73 or first == 0x74 or first == 0x6D or first == 0x64:
        return place + 2
    if place + 2 < end and (
        (first == 0x6C and second == 0x6C and (not any_case or load_u8(place + 2) >= 0x40))
        or ((first == 0x76 or first == 0x72) and second == 0x65 and (not any_case or load_u8(place + 2) >= 0x40))
    ):
        return place + 3
    return place


@inline
def _first_of(run: int) -> int:
    """Keep the first bit of every run of ones."""
    return run & ~(run << _ONE)


@inline
def _begun_by_gpt2(letters: int, numbers: int, white: int, blanks: int, marks: int) -> int:
    """Return where words begin, contractions aside, by GPT-2's pattern: one space goes with what stands behind it."""
    begun = _first_of(letters) | _first_of(numbers) | _first_of(marks)
    return begun & ~(blanks << _ONE) | _first_of(white) | white & ~(white >> _ONE)


@inline
def _begun_by_gpt4(letters: int, numbers: int, white: int, blanks: int, lines: int, marks: int, most: int) -> int:
    r"""Return where words begin, contractions aside, by GPT-4's pattern; up to `most` numerals, 1 or 3, are a word."""
    after_marks = lines & (marks << _ONE)
    white = white & ~(lines & ~(lines + after_marks))  # the sum carries through the run of lines: marks take it whole
    lines = lines & white
    gaps = white & ~lines
    after_line = gaps & (lines << _ONE)
    begun = _first_of(white) | gaps & ~(white >> _ONE) | after_line
    between = (gaps + after_line) & ~gaps & lines  # `\s*[\r\n]+` goes on to the last line of the run
    while between:  # seldom: lines that are blank but for spaces
        gap = after_line & (between - _ONE) & ~between  # begins at the highest bit
        begun &= ~(_TOP >> np.uint64(leading_zeros(gap)))
        between &= between - _ONE
    first_marks = _first_of(marks) & ~(blanks << _ONE)
    lone = first_marks & ~(marks >> _ONE)
    begun |= first_marks | _first_of(letters) & ~((gaps | lone) << _ONE)
    if most == 1:
        return begun | numbers
    begun |= _first_of(numbers)
    inside = numbers & (numbers << _ONE) & (numbers << _TWO)
    again = (_first_of(numbers) << _THREE) & inside
    while again:  # seldom: numbers of more than three digits
        begun |= again
        again = (again << _THREE) & inside
    return begun


@inline
def find_ascii_words(place: int, end: int, stops: int, most: int) -> int:
    """Write, at address `stops`, where the words of up to 64 bytes from `place` on end, which is where one begins.

    Only what those bytes alone decide: the last word, and white space that they end with, wait for the next call. None
    may be left, beside a character beyond ASCII or in a word of 64 bytes. There is room for `BYTES_AT_ONCE`.

    Args:
        most: numerals in a word, 1 or 3, by GPT-4's pattern; 0 for GPT-2's pattern.

    Returns:
        How many ends are written.
    """
    size = min(trailing_zeros(beyond_ascii(place)), end - place)
    seen = _ALL >> np.uint64(64 - size) if size else _ZERO
    letters, numbers, white = ascii_letters(place) & seen, ascii_digits(place) & seen, ascii_white(place) & seen
    lines, blanks = ascii_lines(place) & seen, spaces(place) & seen
    marks = seen & ~(letters | numbers | white)
    if most:
        begun = _begun_by_gpt4(letters, numbers, white, blanks, lines, marks, most)
    else:
        begun = _begun_by_gpt2(letters, numbers, white, blanks, marks)
    quotes = apostrophes(place) & _first_of(marks) & ~(blanks << _ONE) & (letters >> _ONE)
    while quotes:
        quote = trailing_zeros(quotes)
        stop = after_contraction(place + quote, end, most > 0) - place
        if stop > quote:
            begun &= ~(_TWO << np.uint64(quote))
            begun |= _ONE << np.uint64(stop) if stop < 64 else _ZERO
        quotes &= quotes - _ONE
    # White space at the end may go on. In front of it, and where it begins, all is known.
    known = seen & ~white
    if known == _ZERO:
        return 0
    begun &= seen & ((_ALL >> np.uint64(leading_zeros(known))) << _ONE)
    count = count_ones(begun)
    for number in range(0, count, 8):  # eight without asking: a loop to the count would guess at its end
        for ahead in range(8):
            store_u64(stops + 8 * (number + ahead), np.uint64(place + trailing_zeros(begun)))
            begun &= begun - _ONE
    return count
