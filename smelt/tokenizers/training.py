"""Train a whole tokenizer from texts: the steps that suit an algorithm, around the model that it learns.

    bpe        bytes, cut by a pattern; any text comes back exactly                        GPT, Llama 3, Qwen
    wordpiece  lower case, cut at white space and punctuation; [CLS] text [SEP]            BERT
    unigram    NFKC, words that begin with their space, bytes for what is rare; exact      T5, ALBERT, XLNet
               but for what NFKC changes and "▁", which comes back as a space

WordPiece and Unigram learn from the distinct words and how often each occurs, so that much memory is needed and no
more. Words repeat, and what stands between two spaces repeats too: those chunks are counted first, and each distinct
one is normalized and cut once, for every 16 MB of text. "the cat. the end" -> 2 the, 1 cat., 1 end -> cat | .
For WordPiece a Chinese character is a word whatever stands beside it: those are counted before all else.

A Unigram token never joins letters with other characters (`unigram_train`), so its words may be cut there without any
change of what is learned. That matters where no spaces are written: a page of Chinese is one word otherwise.

Ref: arXiv:1508.07909 (BPE), arXiv:1810.04805 (BERT), arXiv:1808.06226 (SentencePiece).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import regex

from smelt.core.errors import TokenizerError, nearest
from smelt.tokenizers.added import AddedToken
from smelt.tokenizers.base import SPECIAL
from smelt.tokenizers.bert import BertPreTokenizer
from smelt.tokenizers.bpe_train import Progress, train_bpe
from smelt.tokenizers.bytelevel import lone_surrogate
from smelt.tokenizers.decoders import MetaspaceDecoder, WordPieceDecoder
from smelt.tokenizers.normalize import CHINESE_BLOCKS, NFKC, BertNormalizer
from smelt.tokenizers.pipeline import Pipeline, Template
from smelt.tokenizers.pretokenize import PATTERNS, split
from smelt.tokenizers.splitters import SPACE_MARK, Metaspace
from smelt.tokenizers.unigram import Unigram
from smelt.tokenizers.unigram_train import train_unigram
from smelt.tokenizers.wordpiece import WordPiece
from smelt.tokenizers.wordpiece_train import train_wordpiece

Algorithm = Literal["bpe", "wordpiece", "unigram"]
Words = Callable[[Sequence[str]], list[str]]  # of some texts

UNKNOWN, CLASS, SEPARATOR = "[UNK]", "[CLS]", "[SEP]"
BERT_SPECIAL = ("[PAD]", UNKNOWN, CLASS, SEPARATOR, "[MASK]")
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
# Who types "<0x41>" means six characters: with tokens for each of them, any way to write it beats a byte's score.
BYTE_CHARACTERS, BYTE_SCORE = "<>x0123456789ABCDEF", -1000.0
SCORE_DECIMALS = 9  # more may be read as another number: not every reader of JSON rounds correctly
CHARACTERS_AT_ONCE = 1 << 24
CHUNKS_AT_ONCE = 1 << 12
CHINESE_AT_ONCE = 1 << 20  # characters

_RUNS = regex.compile(rf"{SPACE_MARK}?(?:\p{{L}}[\p{{L}}\p{{M}}]*|[^\p{{L}}{SPACE_MARK}]+)|{SPACE_MARK}")


def train_tokenizer(
    texts: Iterable[str],
    *,
    algorithm: Algorithm = "bpe",
    vocab_size: int,
    pattern: str = "gpt4",
    special: Sequence[str] = SPECIAL,
    on_progress: Progress | None = None,
) -> Pipeline:
    """Learn a tokenizer from texts.

    Args:
        texts: read once, one after another.
        algorithm: "bpe", "wordpiece" or "unigram".
        vocab_size: all ids, special ones and the alphabet included; fewer where the text has no more to give.
        pattern: how BPE cuts text into words (`pretokenize`); the others have their own way.
        special: control tokens; no text becomes one. WordPiece has BERT's five besides.
        on_progress: called while learning with (steps done, steps in all).

    Raises:
        TokenizerError: an unknown algorithm, no text, a vocabulary too small for the alphabet, a text that no UTF-8
            can express, or a special token that is empty, repeats or is a word.
    """
    check_algorithm(algorithm)
    if algorithm == "bpe":
        # With an expression of the user's own, anything may be one word; a collision shows in the end.
        _check_special(special, (lambda texts: split(texts[0], pattern)) if pattern in PATTERNS else None)
        return train_bpe(texts, vocab_size=vocab_size, pattern=pattern, special=special, on_progress=on_progress)
    learn = _wordpiece if algorithm == "wordpiece" else _unigram
    return learn(texts, vocab_size, special, on_progress)


def check_algorithm(name: str) -> None:
    """Refuse what is not the name of an algorithm.

    Raises:
        TokenizerError: it is not.
    """
    known = get_args(Algorithm)
    if name not in known:
        raise TokenizerError(f"unknown algorithm '{name}'.{nearest(name, known)}", accepted=", ".join(known))


def _check_special(special: Sequence[str], words_of: Words | None) -> None:
    """Refuse special tokens that are empty, repeat, or are one word, which ordinary text could become."""
    accepted = "a text that is cut into several words, such as '<|tool|>'"
    if "" in special:
        raise TokenizerError("a special token is empty", accepted=accepted)
    if twice := [text for text, times in Counter(special).items() if times > 1]:
        raise TokenizerError(f"the special token {twice[0]!r} is there twice", accepted="each once")
    for token in special:
        if words_of is not None and words_of([token]) == [token]:
            raise TokenizerError(f"the special token {token!r} is a word that texts may hold", accepted=accepted)


def _wordpiece(texts: Iterable[str], vocab_size: int, special: Sequence[str], on_progress: Progress | None) -> Pipeline:
    normalizer, splitter = BertNormalizer(), BertPreTokenizer()

    def words_of(texts: Sequence[str]) -> list[str]:
        return splitter(normalizer(" ".join(texts)))

    _check_special(special, words_of)
    controls = tuple(dict.fromkeys([*BERT_SPECIAL, *special]))
    chinese: Counter[str] = Counter()
    counts = _some(count_words(_without_chinese(texts, chinese), words_of) + chinese)
    tokens = train_wordpiece(counts, vocab_size, special=controls, on_progress=on_progress)
    return Pipeline(
        WordPiece(tokens, unk_token=UNKNOWN),
        normalizers=[normalizer],
        splitters=[splitter],
        decoder=WordPieceDecoder(),
        template=Template((CLASS, "$A", SEPARATOR), (CLASS, "$A", SEPARATOR, "$B:1", f"{SEPARATOR}:1")),
        added=[AddedToken(number, text) for number, text in enumerate(controls)],
    )


def _unigram(texts: Iterable[str], vocab_size: int, special: Sequence[str], on_progress: Progress | None) -> Pipeline:
    normalizer = NFKC()
    fixed = ("<unk>", *BYTE_TOKENS)

    def words_of(texts: Sequence[str]) -> list[str]:
        return [word for text in texts for word in _RUNS.findall(normalizer(text).replace(" ", SPACE_MARK))]

    _check_special([*fixed, *special], None)
    _check_special(special, words_of)
    counts = _some(count_words(texts, words_of))
    counts.update(BYTE_CHARACTERS)

    def show(left: int, to_drop: int) -> None:
        if on_progress is not None:
            on_progress(to_drop - left, to_drop)

    tokens, scores = train_unigram(
        counts, vocab_size, special=(*fixed, *special), required=BYTE_CHARACTERS, on_progress=show
    )
    learned = len(fixed) + len(special)
    tokens = [*fixed, *tokens[learned:]]
    rounded = [round(score, SCORE_DECIMALS) for score in scores[learned:]]
    return Pipeline(
        Unigram(
            tokens,
            [0.0, *[BYTE_SCORE] * len(BYTE_TOKENS), *rounded],
            unk_id=0,
            byte_fallback=True,
            hidden=[0],
            precision="double",
        ),
        normalizers=[normalizer],
        splitters=[Metaspace(prepend_scheme="never")],
        decoder=MetaspaceDecoder(byte_fallback=True, strip=False),
        added=[
            AddedToken(0, fixed[0]),
            *(AddedToken(number, text) for number, text in enumerate(special, start=len(tokens))),
        ],
    )


def _some(counts: Counter[str]) -> Counter[str]:
    if not counts:
        raise TokenizerError("no text to train a tokenizer on", fix="check that the files are not empty")
    return counts


def count_words(texts: Iterable[str], words_of: Words) -> Counter[str]:
    """Count the distinct words of all texts.

    `words_of` normalizes and cuts some texts; a space must end a word, whatever stands before and behind it.

    Raises:
        TokenizerError: a text holds a lone surrogate.
    """
    counts: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    pending: list[str] = []  # chunks not yet counted: counting them one text at a time is slow
    characters = 0

    def settle() -> None:
        chunks.update(pending)
        pending.clear()
        alike: defaultdict[int, list[str]] = defaultdict(list)
        for chunk, times in chunks.items():
            alike[times].append(chunk)
        for times, found in alike.items():
            for start in range(0, len(found), CHUNKS_AT_ONCE):
                for word, number in Counter(words_of(found[start : start + CHUNKS_AT_ONCE])).items():
                    counts[word] += times * number
        chunks.clear()

    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise lone_surrogate(text) from error
        first, *others = text.split(" ")
        pending.append(first)
        pending += [" " + chunk for chunk in others]
        characters += len(text)
        if len(pending) >= CHUNKS_AT_ONCE:
            chunks.update(pending)
            pending.clear()
        if characters >= CHARACTERS_AT_ONCE:
            settle()
            characters = 0
    settle()
    return counts


def _without_chinese(texts: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    """Count the Chinese characters; yield the texts, joined by spaces, with a space in place of each run of them.

    Those that decompose stay: they are other characters once they are normalized.
    """
    chinese = np.zeros(0x110000, bool)
    for block in CHINESE_BLOCKS[:-2]:
        chinese[block.start : block.stop] = True
    for batch in _batches(texts):
        try:
            codes = np.frombuffer(" ".join(batch).encode("utf-32-le"), np.uint32)
        except UnicodeEncodeError:
            yield from batch  # whoever counts their words says which text is at fault
            continue
        found = chinese[codes]
        times = np.bincount(codes[found])
        counts.update({chr(code): int(times[code]) for code in np.flatnonzero(times)})
        begins = found & ~np.append(False, found[:-1])
        yield np.where(found, ord(" "), codes)[begins | ~found].astype("<u4").tobytes().decode("utf-32-le")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Gather texts until they have a million characters."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= CHINESE_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
