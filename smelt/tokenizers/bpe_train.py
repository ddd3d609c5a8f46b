"""Learn byte-pair merges: join the most frequent pair of neighbours, again and again.

The text is counted into distinct words first (10 MB of books has 50,000), then only the words that hold the chosen
pair are rewritten and only the counts next to it change. The heap is lazy: an entry whose count has fallen since it
was pushed goes back with its present count. So a merge costs what it touches, not a pass over the text.

Ties and bookkeeping equal Hugging Face's BpeTrainer, so the merges do too: the higher count first, then the smaller
pair of ids; a string that two different pairs can spell keeps one id (both merges are kept); a pair must be seen
twice (`min_frequency=2`), since joining what occurred once generalises nothing. Text that runs out of such pairs
gives a smaller vocabulary than asked for.

Ref: arXiv:1508.07909, algorithm 1; A Formal Perspective on Byte-Pair Encoding, arXiv:2306.16837 (the lazy heap).
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from smelt.tokenizers.bytelevel import BYTE_ORDER
from smelt.tokenizers.merging import Pair
from smelt.tokenizers.pretokenize import iterate_words

MIN_FREQUENCY = 2
# Called with (tokens learned so far, tokens wanted).
Progress = Callable[[int, int], None]


def count_words(texts: Iterable[str], pattern: str) -> Counter[str]:
    """Count the distinct words of all texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        for words in iterate_words(text, pattern):
            counts.update(words)
    return counts


def learn_merges(
    word_counts: Mapping[str, int], num_tokens: int, on_progress: Progress | None = None
) -> tuple[list[bytes], list[Pair]]:
    """Learn up to `num_tokens` new tokens.

    Returns:
        The 256 bytes and the new tokens, indexed by id, and the merges in order of rank.
    """
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    id_of = {token: number for number, token in enumerate(tokens)}
    words = [[id_of[bytes([byte])] for byte in word.encode("utf-8")] for word in word_counts]
    weights = list(word_counts.values())
    counts, heap = _count_pairs(words, weights)
    merges: list[Pair] = []
    while len(tokens) < 256 + num_tokens and heap:
        negative, pair, places = heapq.heappop(heap)
        count = counts[pair]
        if count != -negative:
            heapq.heappush(heap, (-count, pair, places))
            continue
        if count < MIN_FREQUENCY:
            break
        joined = tokens[pair[0]] + tokens[pair[1]]
        if joined not in id_of:
            id_of[joined] = len(tokens)
            tokens.append(joined)
        merges.append(pair)
        created: dict[Pair, list[int]] = defaultdict(list)
        for place in places:
            for new_pair in _merge_in_word(words[place], pair, id_of[joined], weights[place], counts):
                created[new_pair].append(place)
        for new_pair, new_places in created.items():
            if counts[new_pair] > 0:
                heapq.heappush(heap, (-counts[new_pair], new_pair, new_places))
        if on_progress is not None:
            on_progress(len(tokens) - 256, num_tokens)
    return tokens, merges


# Lowest first: (minus the count when pushed, the pair, the words that may hold it).
_Heap = list[tuple[int, Pair, list[int]]]


def _count_pairs(words: list[list[int]], weights: list[int]) -> tuple[Counter[Pair], _Heap]:
    """Count every pair of neighbours and note the words it is in."""
    counts: Counter[Pair] = Counter()
    places: dict[Pair, list[int]] = defaultdict(list)
    for place, (word, weight) in enumerate(zip(words, weights, strict=True)):
        for pair in pairwise(word):
            counts[pair] += weight
            if not (known := places[pair]) or known[-1] != place:
                known.append(place)
    heap = [(-counts[pair], pair, known) for pair, known in places.items()]
    heapq.heapify(heap)
    return counts, heap


def _merge_in_word(word: list[int], pair: Pair, product: int, weight: int, counts: Counter[Pair]) -> set[Pair]:
    """Join a pair wherever the word holds it, adjust the counts beside it, and return the pairs that came to be."""
    first, second = pair
    created: set[Pair] = set()
    place = 0
    while place < len(word) - 1:
        if word[place] == first and word[place + 1] == second:
            word[place : place + 2] = [product]
            if place > 0:
                left = word[place - 1]
                counts[left, first] -= weight
                counts[left, product] += weight
                created.add((left, product))
            if place + 1 < len(word):
                right = word[place + 1]
                counts[second, right] -= weight
                counts[product, right] += weight
                created.add((product, right))
        place += 1
    return created
