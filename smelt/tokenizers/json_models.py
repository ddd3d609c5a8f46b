"""The "model" part of a tokenizer.json: BPE, WordPiece and Unigram, read with care and written key for key.

A file may come from anywhere, so every value is checked before it is used: types, ids without gaps and without
repetition, merges of tokens that exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from smelt.core.errors import TokenizerError
from smelt.tokenizers.added import AddedToken
from smelt.tokenizers.bpe import BPE
from smelt.tokenizers.bytelevel import CHARACTER_TO_BYTE, from_visible
from smelt.tokenizers.merging import Pair
from smelt.tokenizers.unigram import Unigram
from smelt.tokenizers.wordpiece import WordPiece

Model = BPE | WordPiece | Unigram


def model_to_json(model: Model, spelling: Sequence[str]) -> dict[str, Any]:
    """Return the model part; `spelling` is every token as the file writes it."""
    if isinstance(model, BPE):
        return _bpe_to_json(model, spelling)
    if isinstance(model, WordPiece):
        return {
            "type": "WordPiece",
            "unk_token": model.unk_token,
            "continuing_subword_prefix": model.continuing_subword_prefix,
            "max_input_chars_per_word": model.max_input_chars_per_word,
            "vocab": {text: number for number, text in enumerate(model.tokens)},
        }
    return {
        "type": "Unigram",
        "unk_id": model.unk_id,
        "vocab": [[text, score] for text, score in zip(model.tokens, model.scores, strict=True)],
        "byte_fallback": model.byte_fallback,
    }


def _bpe_to_json(model: BPE, spelling: Sequence[str]) -> dict[str, Any]:
    order = sorted(range(len(model.merges)), key=lambda number: model.ranks[number])
    ranks = [model.ranks[number] for number in order]
    if len(set(ranks)) < len(ranks):
        raise TokenizerError(
            "several merges rank alike, which tokenizer.json cannot say", fix="keep the file that it came from"
        )
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None if model.unk_id is None else spelling[model.unk_id],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": model.end_of_word_suffix or None,
        "fuse_unk": model.fuse_unk,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": model.ignore_merges,
        "vocab": {text: number for number, text in enumerate(spelling[: len(model.tokens)])},
        "merges": [[spelling[model.merges[number][0]], spelling[model.merges[number][1]]] for number in order],
    }


def model_from_json(model: Mapping[str, Any], added: Sequence[AddedToken], *, byte_level: bool) -> Model:
    """Build the model that a file describes.

    Raises:
        TokenizerError: it is malformed, or of a kind that smelt does not have.
    """
    match model.get("type"):
        case "BPE":
            return _read_bpe(model, added, byte_level=byte_level)
        case "WordPiece":
            return WordPiece(
                _by_id(typed(model.get("vocab"), dict, "model.vocab"), added),
                unk_token=typed(model.get("unk_token"), str, "model.unk_token"),
                continuing_subword_prefix=typed(model.get("continuing_subword_prefix", "##"), str, "the prefix"),
                max_input_chars_per_word=typed(model.get("max_input_chars_per_word", 100), int, "the longest word"),
            )
        case "Unigram":
            return _read_unigram(model, added)
        case kind:
            raise TokenizerError(f"not supported: model.type {kind!r:.80}", accepted="BPE, WordPiece, Unigram")


def _read_bpe(model: Mapping[str, Any], added: Sequence[AddedToken], *, byte_level: bool) -> BPE:
    for key in ("dropout", "continuing_subword_prefix"):
        if model.get(key):
            raise TokenizerError(f"not supported: model.{key} {model[key]!r:.80}", accepted="a file without it")
    vocabulary = typed(model.get("vocab"), dict, "model.vocab")
    texts = _by_id(vocabulary, added)
    outside = {token.id for token in added}
    tokens = [
        _bytes_of(text, number) if byte_level and number not in outside else text.encode("utf-8")
        for number, text in enumerate(texts)
    ]
    unknown = model.get("unk_token")
    unk_id = None if unknown is None or byte_level else vocabulary.get(typed(unknown, str, "model.unk_token"))
    if unk_id is None and unknown is not None and not byte_level:
        raise TokenizerError(f"model.unk_token {unknown!r:.80} is not in the vocabulary")
    return BPE(
        tokens,
        _read_merges(typed(model.get("merges"), list, "model.merges"), vocabulary),
        level="bytes" if byte_level else "characters",
        unk_id=unk_id,
        fuse_unk=bool(model.get("fuse_unk")),
        byte_fallback=bool(model.get("byte_fallback")) and not byte_level,
        ignore_merges=bool(model.get("ignore_merges")),
        end_of_word_suffix=typed(model.get("end_of_word_suffix") or "", str, "model.end_of_word_suffix"),
        hidden=[token.id for token in added if token.special],
    )


def _bytes_of(text: str, number: int) -> bytes:
    if not text or any(character not in CHARACTER_TO_BYTE for character in text):
        raise TokenizerError(
            f"'{text:.60}' (id {number}) is not a byte-level token", accepted="a byte-level BPE vocabulary, as GPT-2's"
        )
    return from_visible(text)


def _by_id(vocabulary: Mapping[str, Any], added: Sequence[AddedToken]) -> list[str]:
    """Return the text of every id; ids must be 0 .. N-1, each used once."""
    by_id = {token.id: token.content for token in added}
    for text, number in vocabulary.items():
        if by_id.get(typed(number, int, f"the id of '{text:.60}'")) == text:
            continue
        if number in by_id:
            raise TokenizerError(f"id {number} of '{text:.60}' is used twice", accepted="distinct ids")
        by_id[number] = text
    if wrong := [number for number in by_id if not 0 <= number < len(by_id)]:
        raise TokenizerError(
            f"id {wrong[0]} does not fit a vocabulary of {len(by_id)} tokens",
            accepted=f"ids 0 to {len(by_id) - 1} without gaps",
        )
    return [by_id[number] for number in range(len(by_id))]


def _read_merges(entries: list[Any], vocabulary: Mapping[str, int]) -> list[Pair]:
    """Read merges in either published form: ["a", "b"] or "a b"."""
    merges = []
    for rank, entry in enumerate(entries):
        parts = entry.split(" ") if isinstance(entry, str) else entry
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise TokenizerError(f"model.merges[{rank}] is {entry!r:.120}", accepted='["a", "b"] or "a b"')
        for part in parts:
            if part not in vocabulary:
                raise TokenizerError(f"model.merges[{rank}] uses '{part:.60}', which is not in the vocabulary")
        merges.append((vocabulary[parts[0]], vocabulary[parts[1]]))
    return merges


def _read_unigram(model: Mapping[str, Any], added: Sequence[AddedToken]) -> Unigram:
    tokens, scores = [], []
    for place, entry in enumerate(typed(model.get("vocab"), list, "model.vocab")):
        match entry:
            case [str(text), int() | float() as score] if math.isfinite(score):
                tokens.append(text)
                scores.append(float(score))
            case _:
                raise TokenizerError(f"model.vocab[{place}] is {entry!r:.80}", accepted='["text", score]')
    unk_id = model.get("unk_id")
    hidden = [token.id for token in added if token.special and token.id < len(tokens)]
    return Unigram(
        tokens,
        scores,
        unk_id=None if unk_id is None else typed(unk_id, int, "model.unk_id"),
        byte_fallback=bool(model.get("byte_fallback")),
        hidden=hidden,
        precision="double",
    )


def typed(value: Any, kind: type, where: str) -> Any:
    """Return the value if it has the JSON type expected of it (a boolean is not an integer)."""
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {dict: "an object", list: "a list", str: "a string", int: "an integer"}
        raise TokenizerError(
            f"{where} is {value!r:.60}, not {names[kind]}", fix="check that this is a complete tokenizer.json"
        )
    return value
