"""A SentencePiece model as a pipeline, and a pipeline as a SentencePiece model.

SentencePiece sees a text as one long word in which "▁" is a space. Its steps before the model are ordinary ones, so
that the same tokenizer can be written as a tokenizer.json:

    the map -> no extra spaces -> "▁" in front -> " " as "▁" -> Unigram or BPE over characters

Only user-defined symbols have no such form: they keep the map away from themselves. A model with some is run by
SentencePiece's own normalization (`SentencePieceNormalizer`) and cannot be written as JSON.

Ref: SentencePiece, arXiv:1808.06226.
"""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smelt.core.errors import TokenizerError
from smelt.tokenizers import sentencepiece_file as files
from smelt.tokenizers.added import AddedToken
from smelt.tokenizers.bpe import BPE
from smelt.tokenizers.charsmap import Precompiled
from smelt.tokenizers.decoders import MetaspaceDecoder
from smelt.tokenizers.merging import Pair
from smelt.tokenizers.normalize import Prepend, Replace, Strip
from smelt.tokenizers.pipeline import Normalizer, Pipeline
from smelt.tokenizers.sentencepiece_file import NormalizerSpec, SentencePieceModel, TrainerSpec
from smelt.tokenizers.sentencepiece_text import fast_normalizer, normalize
from smelt.tokenizers.splitters import SPACE_MARK, Metaspace
from smelt.tokenizers.unigram import Unigram

if TYPE_CHECKING:
    from smelt.tokenizers.kernels.charsmap import FastNormalizer

# A rank, two parts and what they make.
Way = tuple[int, int, int, int]
_ONE_SPACE = Replace({"Regex": " {2,}"}, " ")
# At the ends of the text alone: ^ and $ would hold at every line's.
_NO_FIRST_SPACE = Replace({"Regex": r"(?<![\s\S]) "}, "")
_NO_LAST_MARK = Replace({"Regex": rf"(?<!{SPACE_MARK}){SPACE_MARK}+(?![\s\S])"}, "")
_MARKED = Replace({"String": " "}, SPACE_MARK)


@dataclass(frozen=True)
class SentencePieceNormalizer:
    """Normalize as SentencePiece does around user-defined symbols; the fields are those of its normalizer_spec."""

    precompiled_charsmap: str
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool
    treat_whitespace_as_suffix: bool
    symbols: tuple[str, ...]

    @property
    def spec(self) -> NormalizerSpec:
        """Return these settings as a model's file holds them."""
        charsmap = base64.b64decode(self.precompiled_charsmap)
        return NormalizerSpec(
            "user_defined", charsmap, self.add_dummy_prefix, self.remove_extra_whitespaces, self.escape_whitespaces
        )

    @functools.cached_property
    def _model(self) -> SentencePieceModel:
        kinds = [files.UNKNOWN] + [files.USER_DEFINED] * len(self.symbols)
        return SentencePieceModel(
            ("<unk>", *self.symbols),
            np.zeros(len(kinds), np.float32),
            np.array(kinds, np.uint8),
            trainer=TrainerSpec(treat_whitespace_as_suffix=self.treat_whitespace_as_suffix),
            normalizer=self.spec,
        )

    def __call__(self, text: str) -> str:
        """Return the text as the model is to see it."""
        return normalize(text, self._model)

    def compiled(self) -> FastNormalizer:
        """Return what does the same to many documents at once."""
        return fast_normalizer(self._model)


def from_sentencepiece(model: SentencePieceModel) -> Pipeline:
    """Return the tokenizer that a SentencePiece model describes.

    Raises:
        TokenizerError: it is neither BPE nor Unigram, or a BPE model has user-defined symbols.
    """
    control = model.ids_of(files.CONTROL, files.UNKNOWN)
    spec, trainer = model.normalizer, model.trainer
    return Pipeline(
        _model_of(model),
        splitters=(),
        decoder=MetaspaceDecoder(SPACE_MARK, trainer.byte_fallback, spec.add_dummy_prefix),
        normalizers=_normalizers(model),
        added=[AddedToken(number, model.tokens[number]) for number in control],
    )


def _normalizers(model: SentencePieceModel) -> tuple[Normalizer, ...]:
    spec, suffix = model.normalizer, model.trainer.treat_whitespace_as_suffix
    symbols = tuple(model.tokens[number] for number in model.ids_of(files.USER_DEFINED))
    charsmap = base64.b64encode(spec.precompiled_charsmap).decode("ascii")
    one = SentencePieceNormalizer(
        charsmap, spec.add_dummy_prefix, spec.remove_extra_whitespaces, spec.escape_whitespaces, suffix, symbols
    )
    return (one,) if symbols or suffix or not spec.escape_whitespaces else _steps(one)


def _steps(one: SentencePieceNormalizer) -> tuple[Normalizer, ...]:
    """Return the steps, each of a kind that tokenizer.json knows, of one without symbols that writes marks first."""
    steps: list[Normalizer] = [Precompiled(one.precompiled_charsmap)] if one.precompiled_charsmap else []
    removes = one.remove_extra_whitespaces
    steps += [_ONE_SPACE, _NO_FIRST_SPACE] if removes else []
    steps += [Prepend(SPACE_MARK), _MARKED] if one.add_dummy_prefix else [_MARKED]
    return (*steps, _NO_LAST_MARK) if removes else tuple(steps)


def as_one(normalizers: tuple[Normalizer, ...]) -> SentencePieceNormalizer | None:
    """Return what does all the steps of a tokenizer in one pass; None unless they are a SentencePiece model's."""
    match normalizers:
        case (SentencePieceNormalizer() as one,):
            return one
        case (Precompiled(charsmap), *_):
            pass
        case _:
            charsmap = ""
    one = SentencePieceNormalizer(
        charsmap, Prepend(SPACE_MARK) in normalizers, _ONE_SPACE in normalizers, True, False, ()
    )
    return one if _steps(one) == normalizers else None


def _model_of(model: SentencePieceModel) -> BPE | Unigram:
    hidden = model.ids_of(files.CONTROL, files.UNKNOWN, files.UNUSED, files.BYTE)
    symbols = model.ids_of(files.USER_DEFINED)
    fallback = model.trainer.byte_fallback
    if model.trainer.model_type == files.UNIGRAM:
        scores = model.scores.tolist()
        return Unigram(
            model.tokens, scores, unk_id=model.unk_id, byte_fallback=fallback, hidden=hidden, user_defined=symbols
        )
    if model.trainer.model_type != files.BPE:
        raise TokenizerError("a SentencePiece model of words or characters", accepted="one of BPE or Unigram")
    if symbols:
        raise TokenizerError(
            f"a SentencePiece BPE model with user-defined symbols ({model.tokens[symbols[0]]!r})",
            accepted="one without, or a Unigram model",
        )
    tokens = [token.encode("utf-8") for token in model.tokens]
    order = np.unique(-model.scores, return_inverse=True)[1].tolist()
    merges, ranks = merges_of(tokens, order, hidden=frozenset(hidden))
    return BPE(
        tokens, merges, level="characters", ranks=ranks, unk_id=model.unk_id, fuse_unk=True, byte_fallback=fallback,
        hidden=hidden,
    )  # fmt: skip


def merges_of(
    tokens: list[bytes], order: list[int], *, hidden: frozenset[int] = frozenset(), characters: bool = True
) -> tuple[list[Pair], list[int]]:
    """Return every way to make a token of two others, best first, with the rank of what it makes.

    Of the ways to make a token only one can come up, unless ranks are in an order that no training gives: where that
    can be seen, that one alone is returned and ranks count from 0.
    """
    ids = {token: number for number, token in enumerate(tokens) if number not in hidden}
    ways = []
    for token, number in ids.items():
        for cut in range(1, len(token)):
            if characters and 0x80 <= token[cut] < 0xC0:
                continue
            left, right = ids.get(token[:cut]), ids.get(token[cut:])
            if left is not None and right is not None:
                ways.append((order[number], left, right, number))
    ways = sorted(ways) if not characters else _runs_in_order(sorted(ways), tokens, ids)
    made = _made(tokens, ways, ids, characters=characters)
    if made is None:
        return [(left, right) for _, left, right, _ in ways], [rank for rank, *_ in ways]
    return made, list(range(len(made)))


def _runs_in_order(ways: list[Way], tokens: list[bytes], ids: dict[bytes, int]) -> list[Way]:
    """Give the ways to make runs of "▁" ranks that a trained table could have, where they all rank alike.

    SentencePiece puts runs of 2 to 16 spaces last, with one score. The leftmost pair always merging, a run of n becomes
    as many 16 as there are, then the rest. So do these ranks: 1+1, 2+2, 4+4, 8+8, then 8+4, then 4+2, 8+2, 12+2, then
    all the sums with 1.
    """
    mark = SPACE_MARK.encode("utf-8")
    length = {number: len(token) // len(mark) for token, number in ids.items() if not token.replace(mark, b"")}
    runs = [way for way in ways if way[3] in length]
    longest = max(length.values(), default=0)
    alike = {way[0] for way in runs}
    if len(alike) != 1 or longest & (longest - 1) or sorted(length.values()) != list(range(1, longest + 1)):
        return ways
    [rank] = alike
    if any(way[0] >= rank for way in ways if way[3] not in length):
        return ways
    halves = [bit for bit in (1 << power for power in range(20)) if bit < longest]
    order = [(bit, bit) for bit in halves]
    order += [(high, bit) for bit in reversed(halves) for high in range(2 * bit, longest, 2 * bit)]
    by_length = {size: number for number, size in length.items()}
    new = [
        (rank + place, by_length[one], by_length[two], by_length[one + two]) for place, (one, two) in enumerate(order)
    ]
    return [way for way in ways if way[3] not in length] + new


def _made(tokens: list[bytes], ways: list[Way], ids: dict[bytes, int], *, characters: bool) -> list[Pair] | None:
    from smelt.tokenizers.kernels.fast_bpe import find_merges

    table = np.array([(left, right, rank, product) for rank, left, right, product in ways], np.int64).reshape(-1, 4)
    length = (lambda token: len(token.decode("utf-8", errors="replace"))) if characters else len
    symbols = [number for token, number in ids.items() if length(token) == 1]
    return find_merges(len(tokens), table, symbols)


def to_sentencepiece(tokenizer: Pipeline) -> SentencePieceModel:
    """Return the SentencePiece model of a tokenizer.

    Raises:
        TokenizerError: SentencePiece cannot do what the tokenizer does; the message says what.
    """
    model = tokenizer.model
    if not isinstance(model, Unigram) and not (isinstance(model, BPE) and model.level == "characters"):
        raise _no_form("byte-level BPE" if isinstance(model, BPE) else "WordPiece")
    if isinstance(model, BPE) and (model.end_of_word_suffix or model.ignore_merges):
        raise _no_form("BPE with end_of_word_suffix or ignore_merges")
    if isinstance(model, Unigram) and model.user_defined:
        symbols = tuple(model.tokens[number] for number in sorted(model.user_defined))
    else:
        symbols = ()
    if tokenizer.literal:
        raise _no_form(f"added tokens that text becomes ({next(iter(tokenizer.literal))!r})")
    normalizer = _as_normalizer(tokenizer)
    tokens = list(tokenizer.spelling)
    unk_id = model.unk_id
    if unk_id is None:
        raise _no_form("a model without an unknown token")
    kinds = np.full(len(tokens), files.NORMAL, np.uint8)
    if model.byte_fallback:
        kinds[[tokens.index(f"<0x{byte:02X}>") for byte in range(256)]] = files.BYTE
    kinds[list(tokenizer.special.values())] = files.CONTROL
    kinds[[number for number, token in enumerate(tokens) if token in symbols]] = files.USER_DEFINED
    kinds[unk_id] = files.UNKNOWN

    def place_of(text: str) -> int:
        return tokens.index(text) if text in tokens else -1

    trainer = TrainerSpec(
        model_type=files.UNIGRAM if isinstance(model, Unigram) else files.BPE,
        byte_fallback=model.byte_fallback,
        unk_id=unk_id,
        unk_piece=tokens[unk_id],
        bos_id=place_of("<s>"),
        eos_id=place_of("</s>"),
        pad_id=place_of("<pad>"),
        treat_whitespace_as_suffix=normalizer.treat_whitespace_as_suffix,
    )
    return SentencePieceModel(tuple(tokens), _scores(model, len(tokens)), kinds, trainer, normalizer.spec)


def _scores(model: BPE | Unigram, size: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    scores = np.zeros(size, np.float32)
    if isinstance(model, Unigram):
        scores[: len(model.scores)] = model.scores
        return scores
    best: dict[int, int] = {}
    for product, rank in zip(model.products, model.ranks, strict=True):
        if best.setdefault(product, rank) != rank:
            raise _no_form(f"a token that two merges make ({model.tokens[product]!r})")
    for product, rank in best.items():
        scores[product] = -rank
    unmade = [number for number in range(len(model.tokens)) if number not in best]
    scores[unmade] = -len(best)
    return scores


def _as_normalizer(tokenizer: Pipeline) -> SentencePieceNormalizer:
    """Return SentencePiece's settings for a tokenizer's steps."""
    one = as_one(tokenizer.normalizers)
    if one is not None and not tokenizer.splitters:
        return one
    steps = list(tokenizer.normalizers)
    charsmap = ""
    if steps and isinstance(steps[0], Precompiled):
        charsmap = steps.pop(0).precompiled_charsmap  # type: ignore[attr-defined]
    remove = steps[:2] == [Strip(True, True), _ONE_SPACE]
    del steps[: 2 * remove]
    match (*steps, *tokenizer.splitters):
        case (Prepend(mark), Replace() as marked) if mark == SPACE_MARK and marked == _MARKED:
            prefix = True
        case (Replace() as marked,) if marked == _MARKED:
            prefix = False
        case (Metaspace(replacement, scheme, _),) if replacement == SPACE_MARK:
            prefix = scheme != "never"
        case others:
            names = ", ".join(type(step).__name__ for step in others) or "no mark for spaces"
            raise _no_form(f"these steps ({names})")
    return SentencePieceNormalizer(charsmap, prefix, remove, True, False, ())


def _no_form(what: str) -> TokenizerError:
    return TokenizerError(
        f"a SentencePiece model cannot hold {what}",
        accepted="Unigram, or BPE over characters, with spaces written as ▁",
        fix="write tokenizer.json instead",
    )
