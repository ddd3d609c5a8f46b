"""The compiled way from texts to ids: many texts in one call, on every core, in bounded memory.

Texts are gathered into batches of about a MB, each encoded by one thread while the others go on: kernels release
Python's lock and share the tables, so nothing is copied or pickled between workers. A text that is longer than a batch
is cut where every published pattern ends a word, between a letter and white space. Ids stay in arrays; lists are made
only for those who ask for lists, which costs more than the encoding.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import regex

from smelt.core.runtime import num_threads
from smelt.tokenizers.base import IdArray
from smelt.tokenizers.bert import BertPreTokenizer
from smelt.tokenizers.bpe import BPE
from smelt.tokenizers.bytelevel import lone_surrogate
from smelt.tokenizers.normalize import BertNormalizer
from smelt.tokenizers.pretokenize import SAFE_CUT
from smelt.tokenizers.splitters import SPACE_MARK, Metaspace
from smelt.tokenizers.unigram import Unigram
from smelt.tokenizers.wordpiece import WordPiece

if TYPE_CHECKING:
    from smelt.tokenizers.kernels.fast_bpe import FastBpe
    from smelt.tokenizers.pipeline import Pipeline

Ids = npt.NDArray[np.uint32]
Ends = npt.NDArray[np.int64]

BATCH_CHARACTERS = 1 << 19
# So many batches more than threads may be under way: none waits where one batch takes longer than the others.
BATCHES_AHEAD = 4
# Shorter texts do not pay for loading the kernels (0.5 s, once a process).
FAST_FROM_CHARACTERS = 1 << 14
SURROGATE = regex.compile("[\ud800-\udfff]")
CUT_NOWHERE = regex.compile(r"(?!)")
CUT_AT_MARK = regex.compile(rf"(?<=[^{SPACE_MARK}])(?={SPACE_MARK})")


class Kernel(Protocol):
    """A compiled encoder (`kernels`), safe to share between threads."""

    def encode(self, data: npt.NDArray[np.uint8], ends: Ends) -> tuple[Ids, Ends]:
        """Return the ids of UTF-8 documents laid end to end, and where each one's ids end."""


@dataclass
class _Batch:
    """Stretches of text to encode, and what comes between: `marks` are (stretches before, id or END).

    `texts` are those that the stretches are of, to say where one is broken.
    """

    stretches: list[str]
    marks: list[tuple[int, int]]
    texts: list[str]


END = -1
Finished = TypeVar("Finished", bound=npt.NDArray[Any])


def _as_they_are(ids: Ids) -> Any:
    return ids


class _Integers:
    """Python's integers below a number, for lists of them in which equal ones are one object.

    A list of new integers takes six times as long. What `of` returns borrows the objects: nobody counts references
    for it, so that making a list of it counts each once.
    """

    def __init__(self, size: int) -> None:
        self._objects = np.array(range(size), object)
        pointers = ctypes.cast(self._objects.ctypes.data, ctypes.POINTER(ctypes.c_uint64))
        self._addresses = np.ctypeslib.as_array(pointers, (size,)) if size else np.zeros(0, np.uint64)

    def of(self, ids: Ids) -> npt.NDArray[np.object_]:
        """Return the objects of ids (N,), to be made a list of while this exists."""
        return np.asarray(_Borrowed(self._addresses.take(ids)))


class _Borrowed:
    """Objects by their addresses (N,), as numpy's array interface offers them."""

    def __init__(self, addresses: npt.NDArray[np.uint64]) -> None:
        self._addresses = addresses
        data = (addresses.ctypes.data, False)
        self.__array_interface__ = {"shape": addresses.shape, "typestr": "|O", "data": data, "version": 3}


class FastEncoder:
    """Encode with a kernel what `Pipeline.encode_slowly` encodes step by step.

    Args:
        pipeline: whose ids are wanted.
        kernel: the compiled encoder.
        prepare: what makes the kernel's input of a text between added tokens, told whether it begins the whole text.
        cut: the places at which what is prepared may be cut without a difference.
    """

    def __init__(
        self, pipeline: Pipeline, kernel: Kernel, prepare: Callable[[str, bool], str], cut: regex.Pattern[str]
    ) -> None:
        self._pipeline, self._kernel, self._prepare, self._cut = pipeline, kernel, prepare, cut

    def encode(self, text: str, *, allow_special: bool = False, continued: bool = False) -> list[int]:
        """Return the ids of a text."""
        found: list[int] = []
        for ids, _ in self.arrays([text], allow_special=allow_special, continued=continued, finish=self._integers.of):
            found += ids.tolist()
        return found

    def encode_batch(self, texts: Sequence[str], *, allow_special: bool = False) -> list[list[int]]:
        """Return the ids of each text."""
        found: list[list[int]] = []
        rest: list[int] = []  # of a text that is longer than a batch
        for ids, ends in self.arrays(texts, allow_special=allow_special, finish=self._integers.of):
            start = 0
            for end in ends.tolist():
                found.append(rest + ids[start:end].tolist() if rest else ids[start:end].tolist())
                rest, start = [], end
            rest += ids[start:].tolist()
        return found

    @functools.cached_property
    def _integers(self) -> _Integers:
        return _Integers(self._pipeline.vocab_size)

    def arrays(
        self,
        texts: Iterable[str],
        *,
        end_id: int | None = None,
        allow_special: bool = False,
        continued: bool = False,
        finish: Callable[[Ids], Finished] = _as_they_are,
    ) -> Iterator[tuple[Finished, Ends]]:
        """Yield the ids of some texts batch by batch, and where in the batch texts end.

        `finish` is what a batch's ids go through in the thread that found them.
        """
        threads = num_threads()
        batches = self._batches(texts, allow_special, continued)

        def encode(batch: _Batch) -> tuple[Finished, Ends]:
            ids, ends = self._encode(batch, end_id)
            return finish(ids), ends

        if threads == 1:
            yield from map(encode, batches)
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[tuple[Finished, Ends]]] = deque()
            for batch in batches:
                waiting.append(pool.submit(encode, batch))
                if len(waiting) > threads + BATCHES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _batches(self, texts: Iterable[str], allow_special: bool, continued: bool) -> Iterator[_Batch]:
        """Gather stretches of text into batches."""
        batch, size = _Batch([], [], []), 0
        for text in texts:
            batch.texts.append(text)
            for number, piece in enumerate(self._pipeline.raw_pieces(text, allow_special=allow_special)):
                if isinstance(piece, int):
                    batch.marks.append((len(batch.stretches), piece))
                    continue
                for stretch in self._stretches(self._prepare(piece, number == 0 and not continued)):
                    batch.stretches.append(stretch)
                    size += len(stretch)
                    if size >= BATCH_CHARACTERS:
                        yield batch
                        batch, size = _Batch([], [], [text]), 0
            batch.marks.append((len(batch.stretches), END))
            size += 1
        if batch.stretches or batch.marks:
            yield batch

    def _stretches(self, text: str) -> Iterator[str]:
        start = 0
        while len(text) - start > BATCH_CHARACTERS:
            found = self._cut.search(text, start + BATCH_CHARACTERS)
            if found is None:
                break
            yield text[start : found.start()]
            start = found.start()
        yield text[start:] if start else text

    def _encode(self, batch: _Batch, end_id: int | None) -> tuple[Ids, Ends]:
        from smelt.tokenizers.kernels.loads import padded

        try:
            encoded = [stretch.encode("utf-8") for stretch in batch.stretches]
        except UnicodeEncodeError as error:
            raise lone_surrogate(next(text for text in batch.texts if SURROGATE.search(text))) from error
        ends = np.cumsum([len(stretch) for stretch in encoded], dtype=np.int64)
        ids, id_ends = self._kernel.encode(padded(*encoded), ends)
        plain = all(mark == END for _, mark in batch.marks) and end_id is None
        starts = np.concatenate([[0], id_ends])
        if plain:
            return ids, starts[[before for before, _ in batch.marks]]
        places = starts[[before for before, _ in batch.marks]]
        kept = [(place, mark if mark != END else end_id) for place, (_, mark) in zip(places, batch.marks, strict=True)]
        wanted = [(place, mark) for place, mark in kept if mark is not None]
        merged = np.insert(ids, [place for place, _ in wanted], [mark for _, mark in wanted]).astype(np.uint32)
        inserted = np.cumsum([mark is not None for _, mark in kept])
        is_end = np.array([mark == END for _, mark in batch.marks], bool)
        return merged, (places + inserted)[is_end]


def fast_encoder(pipeline: Pipeline) -> FastEncoder | None:
    """Return the compiled encoder of a tokenizer, None where its steps are not of a kind that kernels know."""
    if pipeline.added_after_normalization:
        return None
    model = pipeline.model
    if isinstance(model, BPE):
        return _fast_bpe(pipeline, model)
    if isinstance(model, Unigram):
        return _fast_unigram(pipeline, model)
    return _fast_bert(pipeline, model)


def _fast_bert(pipeline: Pipeline, model: WordPiece) -> FastEncoder | None:
    match pipeline.normalizers, pipeline.splitters:
        case (BertNormalizer() as normalizer,), (BertPreTokenizer(),):
            from smelt.tokenizers.kernels.wordpiece import FastBert

            kernel = _Shared(lambda: FastBert(model, normalizer))
            return FastEncoder(pipeline, kernel, lambda text, first: text, SAFE_CUT)  # normalizes by itself
    return None


def _fast_unigram(pipeline: Pipeline, model: Unigram) -> FastEncoder | None:
    match pipeline.splitters:
        case (Metaspace(replacement=mark, split=True),) if mark == SPACE_MARK:
            if any(SPACE_MARK in token[1:] for token in model.tokens):
                return None  # the kernel would use tokens that words cut before every mark never need
        case () | (Metaspace(split=False),):
            pass
        case _:
            return None
    from smelt.tokenizers.kernels.unigram import FastUnigram
    from smelt.tokenizers.sentencepiece_pipeline import as_one

    one = as_one(pipeline.normalizers) if not pipeline.splitters else None
    if one is not None:
        kernel = FastUnigram(model, one.compiled())
        return FastEncoder(pipeline, kernel, lambda text, first: text, CUT_NOWHERE)  # normalizes by itself
    # In single precision a text's scores depend on all that came before: it cannot be cut without a difference.
    crossing = any(SPACE_MARK in token.lstrip(SPACE_MARK) for token in model.tokens)
    cut = CUT_NOWHERE if crossing or model.precision == "single" else CUT_AT_MARK
    return FastEncoder(pipeline, FastUnigram(model), _marked(pipeline), cut)


class _Shared:
    """A kernel that one thread at a time may use, made as often as threads use it at the same time."""

    def __init__(self, make: Callable[[], Kernel]) -> None:
        self._make = make
        self._free: list[Kernel] = []
        self._lock = threading.Lock()

    def encode(self, data: npt.NDArray[np.uint8], ends: Ends) -> tuple[Ids, Ends]:
        """Return the ids of documents."""
        with self._lock:
            kernel = self._free.pop() if self._free else None
        kernel = kernel or self._make()
        found = kernel.encode(data, ends)
        with self._lock:
            self._free.append(kernel)
        return found


def _fast_bpe(pipeline: Pipeline, model: BPE) -> FastEncoder | None:
    if model.level == "bytes":
        prepare, cut, pattern = _normalized(pipeline), SAFE_CUT, pipeline.pattern
    else:
        prepare, cut, pattern = _marked(pipeline), CUT_AT_MARK, _mark_pattern(pipeline, model.tokens)
    kernel = bpe_kernel(model, pattern) if pattern is not None else None
    return FastEncoder(pipeline, kernel, prepare, cut) if kernel is not None else None


def bpe_kernel(model: BPE, pattern: str) -> FastBpe | None:
    """Return the compiled encoder of a BPE model, None for a pattern or an order of merges that it does not know."""
    from smelt.tokenizers.kernels.bpe import NONE
    from smelt.tokenizers.kernels.fast_bpe import FastBpe, MergesOutOfOrder
    from smelt.tokenizers.kernels.scan import PATTERN_NUMBER

    if pattern not in PATTERN_NUMBER or model.end_of_word_suffix:
        return None
    merges = np.array(
        [(*pair, rank, product) for pair, rank, product in zip(model.merges, model.ranks, model.products, strict=True)],
        np.int64,
    ).reshape(-1, 4)
    visible = [number for number in range(len(model.tokens)) if number not in model.hidden]
    try:
        return FastBpe(
            model.tokens,
            merges[np.argsort(merges[:, 2], kind="stable")],
            symbols=model.symbol_ids,
            pattern=PATTERN_NUMBER[pattern],
            byte_ids=np.array([NONE if known is None else known for known in model.byte_ids], np.uint32),
            fuse=model.fuse_unk and not model.byte_fallback,
            whole=visible if model.ignore_merges else [],
        )
    except MergesOutOfOrder:  # no training gives such: they are applied step by step
        return None


def _normalized(pipeline: Pipeline) -> Callable[[str, bool], str]:
    return lambda text, first: pipeline.normalize(text)


def _marked(pipeline: Pipeline) -> Callable[[str, bool], str]:
    """Return what normalizes a text and writes its spaces as marks."""
    match pipeline.splitters:
        case (Metaspace() as splitter,):
            whole = replace(splitter, split=False)
            return lambda text, first: "".join((whole if first else whole.inside())(pipeline.normalize(text)))
    return _normalized(pipeline)


def _mark_pattern(pipeline: Pipeline, tokens: Iterable[bytes]) -> str | None:
    """Return how text with marks may be cut into words without a difference, None where it may not be."""
    match pipeline.splitters:
        case (Metaspace(replacement=replacement, split=True),) if replacement == SPACE_MARK:
            return "metaspace"
        case () | (Metaspace(split=False),):
            # Words are not cut at all. Where no token has a mark behind another character, they may as well be.
            crossing = any(SPACE_MARK in token.decode().lstrip(SPACE_MARK) for token in tokens)
            return None if crossing else "marks"
    return None


def encode_to_array(pipeline: Pipeline, texts: Iterable[str], end_id: int | None) -> tuple[IdArray, Ends]:
    """Return all ids (N,) in one array and the end offset of each document (documents,), its `end_id` included."""
    dtype: Any = np.uint16 if pipeline.vocab_size < 1 << 16 else np.uint32
    source = iter(texts)
    first: list[str] = []
    size = 0
    while size < FAST_FROM_CHARACTERS and (text := next(source, None)) is not None:
        first.append(text)
        size += len(text)
    parts: list[IdArray] = []
    all_ends: list[Ends] = []
    total = 0
    for ids, ends in _arrays(pipeline, chain(first, source), end_id, fast=size >= FAST_FROM_CHARACTERS):
        parts.append(ids.astype(dtype, copy=False))
        all_ends.append(ends + total)
        total += len(ids)
    if not parts:
        return np.zeros(0, dtype), np.zeros(0, np.int64)
    whole: Any = np.concatenate(parts)
    return whole, np.concatenate(all_ends)


def _arrays(pipeline: Pipeline, texts: Iterable[str], end_id: int | None, *, fast: bool) -> Iterator[tuple[Ids, Ends]]:
    if fast and pipeline.fast is not None:
        yield from pipeline.fast.arrays(texts, end_id=end_id)
        return
    tail = [] if end_id is None else [end_id]
    for text in texts:
        ids = np.array([*pipeline.encode_slowly(text), *tail], np.uint32)
        yield ids, np.array([len(ids)], np.int64)
