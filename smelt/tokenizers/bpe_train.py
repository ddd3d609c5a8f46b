"""Learn byte-pair merges: join the most frequent pair of neighbours, again and again.

The text is counted into distinct words first (10 MB of books has 50,000), then only the words that hold the chosen
pair are rewritten and only the counts next to it change. The heap is lazy: an entry whose count has fallen since it
was pushed goes back with its present count. So a merge costs what it touches, not a pass over the text.

    low x5, lower x2, newest x6:  e+s 6 -> es+t 6 -> l+o 7 is higher: first lo, then lo+w 7, n+e 6 ...

Ties and bookkeeping equal Hugging Face's BpeTrainer, so the merges do too: the higher count first, then the smaller
pair of ids; a pair must be seen twice (`min_frequency=2`), since joining what occurred once generalises nothing. Text
that runs out of such pairs gives a smaller vocabulary than asked for.

`count_words` and `learn_merges` are the definition; patterns that `kernels` knows take the compiled way, which gives
the same merges some hundred times as fast.

Ref: arXiv:1508.07909, algorithm 1; A Formal Perspective on Byte-Pair Encoding, arXiv:2306.16837 (the lazy heap).
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from smelt.core.errors import TokenizerError
from smelt.tokenizers.base import SPECIAL
from smelt.tokenizers.bytelevel import BYTE_ORDER
from smelt.tokenizers.merging import Pair
from smelt.tokenizers.pipeline import Pipeline, byte_level
from smelt.tokenizers.pretokenize import PATTERNS, compile_pattern, iterate_words

MIN_FREQUENCY = 2
# Called with (tokens learned so far, tokens wanted).
Progress = Callable[[int, int], None]


def byte_tokenizer() -> Pipeline:
    """Return the tokenizer called "bytes": a token for each byte, and the special ones."""
    return train_bpe([], vocab_size=256 + len(SPECIAL))


def train_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    pattern: str = "gpt4",
    special: Sequence[str] = SPECIAL,
    on_progress: Progress | None = None,
) -> Pipeline:
    """Learn a byte-level BPE tokenizer from texts.

    `vocab_size` counts everything: 256 bytes, learned tokens and special tokens. The result is smaller when the
    text runs out of pairs that occur twice. `vocab_size == 256 + len(special)` gives bytes as they are.

    Raises:
        TokenizerError: the vocabulary is smaller than the alphabet, there is no text, a text holds a lone surrogate,
            or a special token repeats.
    """
    compile_pattern(pattern)
    smallest = 256 + len(special)
    if vocab_size < smallest:
        raise TokenizerError(
            f"vocab_size={vocab_size} is smaller than the alphabet: 256 bytes and {len(special)} special tokens",
            accepted=f"{smallest} or more",
            fix=f"vocab_size={smallest} for plain bytes, 4096 to 32768 for text",
        )
    if len(set(special)) != len(special) or "" in special:
        raise TokenizerError(f"special tokens must be distinct and not empty, got {list(special)!r}")
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    merges: list[Pair] = []
    if vocab_size > smallest:
        learned = _learn_fast if pattern in PATTERNS else _learn_slowly
        tokens, merges = learned(texts, pattern, vocab_size - smallest, on_progress)
    special_ids = {text: len(tokens) + number for number, text in enumerate(special)}
    return byte_level(
        [*tokens, *(text.encode("utf-8") for text in special)], merges, pattern=pattern, special=special_ids
    )


def _learn_slowly(
    texts: Iterable[str], pattern: str, num_tokens: int, on_progress: Progress | None
) -> tuple[list[bytes], list[Pair]]:
    counts = count_words(texts, pattern)
    if not counts:
        raise _no_text()
    return learn_merges(counts, num_tokens, on_progress)


def _learn_fast(
    texts: Iterable[str], pattern: str, num_tokens: int, on_progress: Progress | None
) -> tuple[list[bytes], list[Pair]]:
    from smelt.tokenizers.kernels import fast_train
    from smelt.tokenizers.kernels.scan import PATTERN_NUMBER

    counts = fast_train.count_texts(texts, PATTERN_NUMBER[pattern])
    if not any(table.used for table in counts):
        raise _no_text()
    found = fast_train.learn_merges(counts, BYTE_ORDER, num_tokens, MIN_FREQUENCY, on_progress)
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    merges: list[Pair] = list(zip(*found.T.tolist(), strict=True))
    tokens += [b""] * len(merges)
    for number, (left, right) in enumerate(merges, start=256):
        tokens[number] = tokens[left] + tokens[right]
    return tokens, merges


def _no_text() -> TokenizerError:
    return TokenizerError("no text to train a tokenizer on", fix="check that the files are not empty")


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
    learned, merges = learn_further(tokens, words, list(word_counts.values()), num_tokens, on_progress)
    return tokens + learned, merges


def learn_further(
    tokens: Sequence[bytes],
    words: list[list[int]],
    weights: Sequence[int],
    num_tokens: int,
    on_progress: Progress | None = None,
) -> tuple[list[bytes], list[Pair]]:
    """Learn up to `num_tokens` new tokens on top of a vocabulary.

    Args:
        tokens: the vocabulary, indexed by id.
        words: the ids of each distinct word after all merges that the vocabulary has; they are altered.
        weights: how often each word occurs.

    Returns:
        The new tokens, whose ids come behind the old ones, and the merges that make them.
    """
    tokens, first = list(tokens), len(tokens)
    known = set(tokens)
    counts, heap = _count_pairs(words, weights)
    merges: list[Pair] = []
    while len(merges) < num_tokens and heap:
        negative, pair, places = heapq.heappop(heap)
        count = counts[pair]
        if count != -negative:
            heapq.heappush(heap, (-count, pair, places))
            continue
        if count < MIN_FREQUENCY:
            break
        joined = tokens[pair[0]] + tokens[pair[1]]
        # A token that older merges do not lead to. A merge that did would rank behind those that go on from it.
        if joined in known:
            continue
        product = len(tokens)
        known.add(joined)
        tokens.append(joined)
        merges.append(pair)
        created: dict[Pair, list[int]] = defaultdict(list)
        for place in places:
            for new_pair in _merge_in_word(words[place], pair, product, weights[place], counts):
                created[new_pair].append(place)
        for new_pair, new_places in created.items():
            if counts[new_pair] > 0:
                heapq.heappush(heap, (-counts[new_pair], new_pair, new_places))
        if on_progress is not None:
            on_progress(len(merges), num_tokens)
    return tokens[first:], merges


# Lowest first: (minus the count when pushed, the pair, the words that may hold it).
_Heap = list[tuple[int, Pair, list[int]]]


def _count_pairs(words: list[list[int]], weights: Sequence[int]) -> tuple[Counter[Pair], _Heap]:
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
