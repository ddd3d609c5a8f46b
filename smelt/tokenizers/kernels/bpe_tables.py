"""Turn a vocabulary and its merges into the tables that `bpe` encodes with, in some 20 ms for 50,000 tokens.

A token is kept if its own text encodes to it: then, and only then, can it come up. To see that, every merge is tried
in order of rank: its two parts fit each other up to that rank, or the product never arises this way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.bpe import (
    CHARACTER,
    EMPTY,
    MADE_SHIFT,
    NO_SHORTER,
    NODE_BITS,
    NODE_MASK,
    NONE,
    SIZE_SHIFT,
    TOKEN_NUMBERS,
    Array32,
    Array64,
    filter_bit,
    fit,
    label_at,
    slot,
)  # fmt: skip
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.loads import address, load_u8, load_u64, store_u8, store_u64
from smelt.tokenizers.kernels.memo import WORD_BYTES, find_row, name_row, remember, word_key

Array8 = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
_HALF = np.uint64(32)


def shift_for(rows: int) -> int:
    """Return 64 minus the binary logarithm of a table's size that leaves half of it free."""
    return 64 - max(4, int(2 * rows - 1).bit_length())


def pair_table(left: Places, right: Places, rank: Places, product: Places) -> tuple[Array64, int]:
    """Return the table of pairs and its shift; of two equal pairs the last one counts."""
    shift = shift_for(len(left))
    rows = 1 << (64 - shift)
    table = np.concatenate([np.full(2 * rows, EMPTY, np.uint64), np.zeros(rows // 8, np.uint64)])
    _insert_pairs(left, right, rank, product, table, shift)
    return table, shift


@kernel
def _insert_pairs(left: Places, right: Places, rank: Places, product: Places, table: Array64, shift: int) -> None:
    mask = (1 << (64 - shift)) - 1
    for number in range(left.size):
        key = np.uint64(left[number]) << _HALF | np.uint64(right[number])
        row = slot(key, shift)
        while table[2 * row] != EMPTY and table[2 * row] != key:
            row = (row + 1) & mask
        table[2 * row] = key
        table[2 * row + 1] = np.uint64(rank[number]) << _HALF | np.uint64(product[number])
        byte, bit = filter_bit(key, address(table), shift)
        store_u8(byte, load_u8(byte) | bit)


@kernel
def find_makings(
    left: Places, right: Places, rank: Places, product: Places, pairs: Array64, shift: int, tokens: Array64,
    made: Array8,
) -> bool:  # fmt: skip
    """Note for each token how it is made; `made` (1 for the first symbols) marks those that can come up.

    A token that is made in one way never comes up in another, so other ways to it need not be looked at.

    Returns:
        False where a merge of a token that is not made otherwise ranks before one that makes its parts.
    """
    pairs_at, tokens_at = address(pairs), address(tokens)
    for number in range(left.size):
        one, two, result = left[number], right[number], product[number]
        if not (made[one] and made[two]) or made[result]:
            continue
        if fit(one, two, rank[number], pairs_at, shift, tokens_at):
            row = TOKEN_NUMBERS * result
            tokens[row + 2] = np.uint64(two) << _HALF | np.uint64(one)
            tokens[row + 3] |= np.uint64(rank[number] + 1) << MADE_SHIFT
            made[result] = 1
    for number in range(left.size):
        one, two = left[number], right[number]
        if made[one] and made[two] and not made[product[number]]:
            parts_made = max(tokens[TOKEN_NUMBERS * one + 3], tokens[TOKEN_NUMBERS * two + 3]) >> MADE_SHIFT
            if rank[number] < np.int64(parts_made):
                return False
    return True


@kernel
def find_spines(left: Places, right: Places, product: Places, symbols: Places, tokens: Array64, made: Array8) -> None:
    """Fill two sets a token: the symbols that its right end may be joined with, those that its left end consists of.

    The ends are the token itself, the outer part it was made of, that part's outer part and so on. A part can be joined
    only until it becomes one with its other neighbour: what ranks later is not in the set.
    """
    partners = np.zeros(made.size, np.uint64)  # of each symbol, those it is joined with up to the present rank
    for number in range(symbols.size):
        tokens[TOKEN_NUMBERS * symbols[number] + 1] = _bit(symbols[number])
    for number in range(left.size):
        token = product[number]
        row = TOKEN_NUMBERS * token
        parts = np.uint64(right[number]) << _HALF | np.uint64(left[number])
        if made[token] and tokens[row + 2] == parts:
            tokens[row] = tokens[TOKEN_NUMBERS * right[number]] | partners[right[number]]
            tokens[row + 1] = _bit(token) | tokens[TOKEN_NUMBERS * left[number] + 1]
        partners[left[number]] |= _bit(right[number])
    for token in range(made.size):
        tokens[TOKEN_NUMBERS * token] |= partners[token]


@inline
def _bit(symbol: int) -> int:
    return np.uint64(1) << ((np.uint64(symbol) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(58))


@inline
def _down(node: int, label: int, trie: int, shift: int, fresh: int) -> int:
    """Return the node below a node; where there is none, enter `fresh`, or return -1 if that is 0."""
    key = np.uint64(node << 17 | label)
    mask = (1 << (64 - shift)) - 1
    row = slot(key, shift)
    while True:
        found = load_u64(trie + 8 * row)
        if found == EMPTY:
            if fresh == 0:
                return -1
            store_u64(trie + 8 * row, key << NODE_BITS | np.uint64(fresh))
            return fresh
        if found >> NODE_BITS == key:
            return np.int64(found & NODE_MASK)
        row = (row + 1) & mask


@kernel
def build_trie(
    pool: Array8, offsets: Places, made: Array8, listed: Array8, tokens: Array64, trie: Array64, shift: int,
    nodes: Array64, exact: Array32, roots: Array32, whole: Array32,
) -> int:  # fmt: skip
    """Enter every token that can come up (and, given `whole`, every `listed` one); return the number of nodes.

    `exact` gets the token that ends at a node; `nodes`, the longest that its text begins with.
    """
    text, trie_at, count = address(pool), address(trie), 1
    for token in range(offsets.size - 1):
        tokens[TOKEN_NUMBERS * token + 3] |= np.uint64(offsets[token + 1] - offsets[token]) << SIZE_SHIFT
        if not made[token] and not (whole.size and listed[token]):
            continue
        node, place, end = 0, text + offsets[token], text + offsets[token + 1]
        while place < end:
            label, size = label_at(place, end)
            if label >= CHARACTER:
                nodes[node] |= np.uint64(1) << np.uint64(32 + (label & 15))
            else:
                nodes[node] |= np.uint64(1) << np.uint64(48 + (label & 7))
                if label & 0xF0 == 0xE0:
                    nodes[node] |= np.uint64(1) << np.uint64(63)
            node = _down(node, label, trie_at, shift, count)
            count += node == count
            place += size
        if made[token]:
            exact[node] = token
            if end - text - offsets[token] == 1:
                roots[pool[offsets[token]]] = token
        if whole.size and listed[token]:
            whole[node] = token
    for token in range(offsets.size - 1):
        if made[token] or (whole.size and listed[token]):
            shorter = _note_prefixes(
                text + offsets[token], text + offsets[token + 1], token, trie_at, shift, nodes, exact, roots
            )
            tokens[TOKEN_NUMBERS * token + 3] |= np.uint64(min(shorter, NO_SHORTER))
    return count


@inline
def _note_prefixes(
    place: int, end: int, token: int, trie: int, shift: int, nodes: Array64, exact: Array32, roots: Array32
) -> int:
    """Note at every node of a token's text the longest token that the text up to there begins with; return the last
    one that is not the token itself."""
    begin, node, best = place, 0, NONE
    while place < end:
        label, size = label_at(place, end)
        if label >= CHARACTER:  # tokens may end inside the character
            inside, byte = node, 0
            while byte < 2 and inside >= 0:
                inside = _down(inside, load_u8(place + byte), trie, shift, 0)
                if inside >= 0 and exact[inside] != NONE:
                    best = np.int64(exact[inside])
                byte += 1
        node = _down(node, label, trie, shift, 0)
        place += size
        if exact[node] != NONE and place < end:
            best = np.int64(exact[node])
        here = np.int64(exact[node]) if exact[node] != NONE else best
        nodes[node] = nodes[node] >> _HALF << _HALF | np.uint64(here)
        if place - begin == 1:
            roots[256 + (2 << 16) + load_u8(begin)] = node
        elif place - begin == 2 and label < CHARACTER:
            roots[256 + (load_u8(begin) << 8 | load_u8(begin + 1))] = node
        elif place - begin == 3 and label >= CHARACTER:
            roots[256 + (1 << 16) + label - CHARACTER] = node
    return best


@kernel
def rehash(trie: Array64, smaller: Array64, shift: int) -> None:
    """Move a trie's rows to a smaller table: what is compact stays near the core."""
    mask = (1 << (64 - shift)) - 1
    for entry in trie:
        if entry != EMPTY:
            row = slot(entry >> NODE_BITS, shift)
            while smaller[row] != EMPTY:
                row = (row + 1) & mask
            smaller[row] = entry


@kernel
def seed_memo(pool: Array8, offsets: Places, known: Array8, memo: Array64, shift: int) -> int:
    """Enter the short tokens into a memo, each as the one id of its own text; return how many."""
    pool_at, memo_at = address(pool), address(memo)
    ids = np.zeros(1, np.uint32)
    count = 0
    for token in range(offsets.size - 1):
        size = offsets[token + 1] - offsets[token]
        if known[token] and 0 < size <= WORD_BYTES:
            low, high = word_key(pool_at + offsets[token], size)
            ids[0] = token
            row = find_row(low, high, memo_at, shift)
            name_row(row, low, high)
            remember(row, address(ids), 1, 0, 0)
            count += 1
    return count
