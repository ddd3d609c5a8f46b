"""Encode with a Unigram model at speed: the same ids as `Unigram.encode_word`, over UTF-8 documents laid end to end.

The dynamic program runs over bytes, with a double array to find the tokens that begin at a place. What it keeps is
small: the best scores in a ring that holds as many places as the longest token has bytes and, for every byte since the
last place that all segmentations must pass, the token (int32) that ends there best. Such places are everywhere in text,
so a document of any length takes little memory; only where tokens overlap without end (100 MB of the letter "a") is it
4 bytes a byte. Time is linear always.

There is no memory of words: working one out is as quick as looking it up, and scores in single precision may make its
ids depend on what came before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.charsmap import FastNormalizer, Item, as_read_only, character_at, first_nodes
from smelt.tokenizers.kernels.double_array import Units, base_of, build_double_array, is_child
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.lattice import UNKNOWN
from smelt.tokenizers.unigram import HIGHEST_SCORE, Unigram, unknown_character

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[Any]  # float32 or float64: the model's precision

# So many bytes are worked on before a place is looked for at which the ids so far are final.
WINDOW_BYTES = 1 << 15


class _Model(NamedTuple):
    units: Units
    firsts: Ids  # (65536,): the node that each character below U+10000 leads to, or -1
    scores: Scores
    lengths: Ids  # of the tokens, in bytes
    byte_ids: Ids  # empty without byte fallback
    unknown_score: Any
    unk_id: int  # -1: there is none
    highest: float  # the score that is set back to zero; infinite in double precision


@inline
def _character_bytes(byte: int) -> int:
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


@inline
def _search(
    units: Units, firsts: Ids, scores: Scores, unknown_score: float, highest: float, best: Scores, back: Ids,
    data: Bytes, at: int, stop: int, origin: int, furthest: int,
) -> tuple[int, int]:  # fmt: skip
    """Go on to the segment's end, to a place that every segmentation passes after a window, or until `back` is full.

    The one hot loop: it calls nothing that takes arrays. Before and after, `best` is -inf but for `at`..`furthest`.
    """
    mask = len(best) - 1
    while at < stop and at - origin + len(best) < len(back) and (furthest > at or at - origin <= WINDOW_BYTES):
        so_far = best[at & mask]
        if abs(so_far) > highest:
            for later in range(at, furthest + 1):
                best[later & mask] -= so_far
            so_far = best[at & mask]
        best[at & mask] = -np.inf
        code, size = character_at(data, at)
        after = min(at + size, stop)
        single = False
        node, place = (np.int64(firsts[code]), after) if code < 1 << 16 else (np.int64(0), at)
        while node >= 0:
            unit = units[node]
            base = base_of(unit, node)
            if unit & np.uint32(256):
                token = np.int64(units[base] & np.uint32(0x7FFF_FFFF))
                score = so_far + scores[token]
                if score > best[place & mask]:
                    best[place & mask] = score
                    back[place - origin] = token
                furthest = max(furthest, place)
                single |= place == after
            if place == stop:
                break
            node = base ^ data[place]
            if not is_child(units[node], data[place]):
                break
            place += 1
        at = after
        if not single:
            score = so_far + unknown_score
            if score > best[at & mask]:
                best[at & mask] = score
                back[at - origin] = UNKNOWN
            furthest = max(furthest, at)
    return at, furthest


@inline
def _trace(model: _Model, data: Bytes, back: Ids, origin: int, end: int) -> int:
    """Write the best segmentation of origin..end to the end of back[: end - origin + 1]; return its first index."""
    top = end - origin + 1
    while end > origin:
        token = back[end - origin]
        top -= 1
        back[top] = token  # a token has a byte or more, so what is overwritten has been read
        if token == UNKNOWN:
            end -= 1
            while data[end] & 0xC0 == 0x80:
                end -= 1
        else:
            end -= model.lengths[token]
    return top


@inline
def _emit(
    model: _Model, data: Bytes, place: int, path: Ids, out: npt.NDArray[np.uint32], filled: int, after_unknown: bool
) -> tuple[int, bool]:  # fmt: skip
    """Write the final ids of a segmentation: unknown neighbours as one, or each as its bytes."""
    for token in path:
        size = _character_bytes(data[place]) if token == UNKNOWN else model.lengths[token]
        unknown = token == UNKNOWN or token == model.unk_id
        if unknown and len(model.byte_ids):
            for at in range(place, place + size):
                out[filled] = model.byte_ids[data[at]]
                filled += 1
        elif unknown and model.unk_id < 0:
            return -1 - place, True
        elif not (unknown and after_unknown):
            out[filled] = model.unk_id if unknown else token
            filled += 1
        after_unknown = unknown
        place += size
    return filled, after_unknown


@inline
def _longer(array: npt.NDArray[Item], size: int) -> npt.NDArray[Item]:
    """Return a copy with room at its end; what is not written to takes no memory."""
    longer = np.empty(size, array.dtype)
    longer[: len(array)] = array
    return longer


@kernel
def encode_documents(data: Bytes, ends: Integers, model: _Model, ring: int) -> tuple[npt.NDArray[np.uint32], Integers]:
    """Return all ids and the end of each document's.

    Where a character has no token and the model no unknown one, the ends are empty and the first id is its place.
    """
    best, back = np.full(ring, -np.inf, model.scores.dtype), np.empty(1 << 17, np.int32)
    out, out_ends = np.empty(len(data) // 3 + 64, np.uint32), np.empty_like(ends)
    filled, at = 0, 0
    for document in range(len(ends)):
        origin, furthest, after_unknown = at, at, False
        best[at & (ring - 1)] = 0
        while at < ends[document]:
            at, furthest = _search(
                model.units, model.firsts, model.scores, model.unknown_score, model.highest, best, back, data, at,
                ends[document], origin, furthest,
            )  # fmt: skip
            if furthest > at:  # tokens overlap: no segmentation is final yet
                back = _longer(back, 2 * len(back))
                continue
            if filled + at - origin > len(out):
                out = _longer(out, 2 * len(out) + at - origin)
            path = back[_trace(model, data, back, origin, at) : at - origin + 1]
            filled, after_unknown = _emit(model, data, origin, path, out, filled, after_unknown)
            if filled < 0:
                out[0] = -1 - filled
                return out[:1], ends[:0]
            origin = at
        best[at & (ring - 1)] = -np.inf
        out_ends[document] = filled
    return out[:filled], out_ends


class FastUnigram:
    """Encode valid UTF-8 as the model does, in any number of threads.

    `normalizer` is what its input still has to go through, if that is not yet done.

    Raises:
        TokenizerError: a token holds U+0000.
    """

    def __init__(self, model: Unigram, normalizer: FastNormalizer | None = None) -> None:
        self.normalizer = normalizer
        lengths = np.array([len(token.encode("utf-8")) for token in model.tokens], np.int32)
        longest = max((int(lengths[token]) for token in model.id_of.values()), default=1)
        self.ring = 1 << max(8, (longest + 4).bit_length())
        units = build_double_array({token.encode("utf-8"): number for token, number in model.id_of.items()})
        self.model = _Model(
            units=units,
            firsts=first_nodes(units),
            scores=np.array(model.edge_scores, model.number),
            lengths=lengths,
            byte_ids=np.array(model.byte_ids, np.int32),
            unknown_score=model.number(model.unknown_score),
            unk_id=-1 if model.unk_id is None else model.unk_id,
            highest=HIGHEST_SCORE if model.precision == "single" else np.inf,
        )

    def encode(self, data: Bytes, ends: Integers) -> tuple[npt.NDArray[np.uint32], Integers]:
        """Return the ids (N,) of documents and each document's end (documents,).

        Raises:
            TokenizerError: the text has an unknown character and the model nothing to stand for it.
        """
        if self.normalizer is not None:
            data, ends = self.normalizer.normalize(data, ends)
        ids, id_ends = encode_documents(as_read_only(data), ends, self.model, self.ring)
        if len(id_ends) < len(ends):
            character = bytes(data[ids[0] : ids[0] + 4]).decode("utf-8", errors="ignore")[:1]
            raise unknown_character(character, int(ids[0]))
        return ids, id_ends
