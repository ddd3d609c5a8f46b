"""Apply a SentencePiece normalization map, and its treatment of spaces, to UTF-8 in one pass.

What is done says `sentencepiece_text.normalize`: at each place a symbol of the user's stays, else the longest rule
applies, else one character is kept; a space that follows a space is dropped, the others become the mark that
SentencePiece writes for them. Here, a table of bits tells which characters begin a rule or a symbol at all, so that
hardly any text walks a trie.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.charsmap import Charsmap
from smelt.tokenizers.kernels.double_array import Number, Units, base_of, build_double_array, is_child
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.loads import address, load_u8, load_u32, store_u32

Bytes = npt.NDArray[np.uint8]
Ends = npt.NDArray[np.int64]
Item = TypeVar("Item", bound=np.generic)

# What to do with spaces.
ADD_PREFIX, REMOVE_EXTRA, ESCAPE, ADD_SUFFIX = 1, 2, 4, 8
# The step of ASCII that stays what it is before other ASCII.
BEFORE_OTHERS = 4
# What begins with a character: nothing, only strings that go on with a character outside ASCII, or more than those.
NONE, LONGER, SOME = 0, 1, 2
NOTHING = (0, np.int64(0))  # what longest_match returns where nothing matches


@inline
def longest_match(data: Bytes, place: int, end: int, units: Units) -> tuple[Number, Number]:
    """Return (length in bytes, value) of the longest string of a trie at a place; (0, 0) if there is none."""
    size, value = 0, np.int64(0)
    node = base_of(units[0], 0)
    for at in range(place, end):
        byte = data[at]
        node ^= byte
        unit = units[node]
        if not is_child(unit, byte):
            break
        node = base_of(unit, node)
        if unit & 256 and (at + 1 == end or data[at + 1] & 0xC0 != 0x80):
            size, value = at + 1 - place, np.int64(units[node] & np.uint32(0x7FFF_FFFF))
    return size, value


@kernel
def first_nodes(units: Units) -> npt.NDArray[np.int32]:
    """Return (65536,) the node that each character below U+10000 leads to from a trie's root, or -1."""
    nodes = np.full(1 << 16, -1, np.int32)
    encoded = np.zeros(3, np.uint8)
    for code in range(1, 1 << 16):
        size = 1 if code < 0x80 else 2 if code < 0x800 else 3
        rest = code
        for at in range(size - 1, 0, -1):
            encoded[at] = 0x80 | (rest & 63)
            rest >>= 6
        encoded[0] = rest if size == 1 else rest | (0xC0 if size == 2 else 0xE0)
        node: Number = np.int64(0)
        for at in range(size):
            node = base_of(units[node], node) ^ encoded[at]
            if not is_child(units[node], encoded[at]):
                node = -1
                break
        nodes[code] = node
    return nodes


def beginnings(units: Units) -> Bytes:
    """Return (65537,) what a trie holds that begins with each character; the last is for all from U+10000 on."""
    nodes = first_nodes(units).astype(np.int64)
    kinds = np.full((1 << 16) + 1, SOME, np.uint8)
    kinds[:-1][nodes < 0] = NONE
    present = np.flatnonzero(nodes >= 0)
    own = units[nodes[present]].astype(np.int64)
    bases = nodes[present] ^ (own >> 10 << ((own & 512) >> 6))
    ascii_bytes = np.arange(1, 0x80)
    ascii_next = (units[bases[:, None] ^ ascii_bytes] & np.uint32(0x8000_00FF) == ascii_bytes).any(axis=1)
    kinds[present] = np.where(ascii_next | (own & 256 > 0), SOME, LONGER)
    return kinds


@inline
def character_at(data: Bytes, place: int) -> tuple[Number, Number]:
    """Return the code point at a place (65536 for all above) and its length in bytes."""
    byte = np.int64(data[place])
    if byte < 0x80:
        return byte, 1
    if byte < 0xE0:
        return (byte & 31) << 6 | (data[place + 1] & 63), 2
    if byte < 0xF0:
        return (byte & 15) << 12 | (np.int64(data[place + 1]) & 63) << 6 | (data[place + 2] & 63), 3
    return 1 << 16, 4


@inline
def _put_space(out: Bytes, filled: int, options: int) -> int:
    if options & ESCAPE:
        out[filled], out[filled + 1], out[filled + 2] = 0xE2, 0x96, 0x81
        return filled + 3
    out[filled] = 0x20
    return filled + 1


@inline
def _without_spaces(out: Bytes, start: int, filled: int, options: int) -> int:
    """Return where the text ends once the spaces at its end are gone."""
    if options & ESCAPE:
        while filled - start >= 3 and out[filled - 3] == 0xE2 and out[filled - 2] == 0x96 and out[filled - 1] == 0x81:
            filled -= 3
    else:
        while filled > start and out[filled - 1] == 0x20:
            filled -= 1
    return filled


@inline
def _put_chunk(
    source: Bytes, at: Number, stop: Number, out: Bytes, filled: int, begun: bool, after_space: bool, options: int
) -> tuple[int, bool, bool]:  # fmt: skip
    """Write what comes next; return how much is written, whether the text has begun, and whether a space was last."""
    if not begun:
        if options & REMOVE_EXTRA and stop - at == 1 and source[at] == 0x20:
            return filled, False, after_space
        filled = _put_space(out, filled, options) if options & ADD_PREFIX else filled
    while after_space and at < stop and source[at] == 0x20:
        at += 1
    if at < stop:
        after_space = options & REMOVE_EXTRA != 0 and source[stop - 1] == 0x20
    while at < stop:
        if source[at] == 0x20:
            filled = _put_space(out, filled, options)
        else:
            out[filled] = source[at]
            filled += 1
        at += 1
    return filled, True, after_space


@inline
def _copy(source: int, stop: int, target: int, steps: int) -> int:
    """Copy the characters from an address on that stay what they are; return how many bytes they have.

    `steps` says of a first byte how long such a character is: 0 that it may change, ASCII only that it may change
    before what is not ASCII (BEFORE_OTHERS). Four bytes are copied at a time: three behind `stop` must be the text's.
    """
    start = source
    while source < stop:
        size = load_u8(steps + load_u8(source))
        if size == BEFORE_OTHERS and load_u8(source + 1) < 0x80:
            size = 1
        if size == 0 or size == BEFORE_OTHERS:
            break
        store_u32(target + source - start, load_u32(source))
        source += size
    return source - start


@inline
def _grown(out: Bytes, size: Number) -> Bytes:
    return np.concatenate((out, np.empty(len(out) + size, np.uint8)))


@kernel
def normalize_documents(
    data: Bytes, ends: Ends, units: Units, replacements: Bytes, symbols: Units, kinds: Bytes, steps: Bytes,
    options: int,
) -> tuple[Bytes, Ends]:  # fmt: skip
    """Return the normalized documents, end to end, and their ends."""
    out = np.empty(len(data) + len(data) // 4 + 64, np.uint8)
    out_ends = np.empty_like(ends)
    filled, place, has_symbols = 0, 0, len(symbols) > 0
    for document in range(len(ends)):
        start, end, begun, after_space = filled, ends[document], False, options & REMOVE_EXTRA != 0
        while place < end:
            if filled + 16 > len(out):
                out = _grown(out, 16)
            if begun:  # `out` has a name below, too: until then numba does not free it
                stop = min(end - 3, place + len(out) - filled - 16)
                size = _copy(address(data) + place, address(data) + stop, address(out) + filled, address(steps))
                place, filled, after_space = place + size, filled + size, after_space and size == 0
            byte = data[place]
            if begun and byte == 0x20 and kinds[0x20] == NONE:
                filled = filled if after_space else _put_space(out, filled, options)
                after_space = options & REMOVE_EXTRA != 0
                place += 1
                continue
            code, size = character_at(data, place)
            some = kinds[code] != NONE
            if begun and not some and byte != 0x20:
                for _ in range(size):
                    out[filled] = data[place]
                    filled, place = filled + 1, place + 1
                after_space = False
                continue
            found, _ = longest_match(data, place, end, symbols) if some and has_symbols else NOTHING
            rule, value = longest_match(data, place, end, units) if some and not found else NOTHING
            if rule:
                stop = value
                while replacements[stop]:
                    stop += 1
                if filled + 3 * (stop - value) + 6 > len(out):
                    out = _grown(out, 3 * (stop - value) + 6)
                filled, begun, after_space = _put_chunk(
                    replacements, value, stop, out, filled, begun, after_space, options
                )
            else:
                size = found if found else size
                if filled + 3 * size + 6 > len(out):
                    out = _grown(out, 3 * size + 6)
                filled, begun, after_space = _put_chunk(
                    data, place, place + size, out, filled, begun, after_space, options
                )
            place += rule if rule else size
        if options & REMOVE_EXTRA:
            filled = _without_spaces(out, start, filled, options)
        if begun and options & ADD_SUFFIX:
            if filled + 3 > len(out):
                out = _grown(out, 3)
            filled = _put_space(out, filled, options)
        out_ends[document] = filled
    return out[:filled], out_ends


class FastNormalizer:
    """Normalize UTF-8 documents as SentencePiece does.

    `symbols` is a trie or empty, `options` a sum of the constants above.
    """

    def __init__(self, charsmap: Charsmap, symbols: Units, options: int) -> None:
        nothing = build_double_array({})
        self.units = as_read_only(charsmap.units if len(charsmap.units) else nothing)
        self.symbols = as_read_only(symbols)
        self.replacements = np.frombuffer(charsmap.replacements + b"\0", np.uint8)
        self.kinds = np.maximum(beginnings(self.units), beginnings(symbols if len(symbols) else nothing))
        self.steps = _steps(self.kinds)
        self.options = options

    def normalize(self, data: Bytes, ends: Ends) -> tuple[Bytes, Ends]:
        """Return the normalized documents, end to end, and their cumulative byte offsets."""
        return normalize_documents(
            as_read_only(data), ends, self.units, self.replacements, self.symbols, self.kinds, self.steps,
            self.options,
        )  # fmt: skip


def _steps(kinds: Bytes) -> Bytes:
    """Return (256,) how many bytes the characters have that begin with a byte, if all stay what they are, else 0.

    ASCII that changes only before a character outside of it has BEFORE_OTHERS.
    """
    steps = np.zeros(256, np.uint8)
    steps[:0x80][kinds[:0x80] == NONE] = 1
    steps[:0x80][kinds[:0x80] == LONGER] = BEFORE_OTHERS
    steps[0xC0:0xE0][(kinds[:0x800].reshape(32, 64) == NONE).all(axis=1)] = 2
    steps[0xE0:0xF0][(kinds[: 1 << 16].reshape(16, 4096) == NONE).all(axis=1)] = 3
    steps[0x20] = 0
    return steps


def as_read_only(array: npt.NDArray[Item]) -> npt.NDArray[Item]:
    """Return a view that nobody can write to: the kernels are compiled for such arrays alone."""
    view = array.view()
    view.flags.writeable = False
    return view
