"""What an encoder that points at tokens finds in a text: the answer to a question, pieces of a kind, and triples.

An answer is the best pair of a first and a last token of all windows; each window's scores are taken against those of
its first slot, which stands for "not here". Pieces are pairs of ends that each have a probability of their own. Triples
are found in two hops: a relation asks for subjects, a subject with its relation asks for objects.

Ref: BERT, arXiv:1810.04805, 4.2 and 4.3. Ref: UIE, arXiv:2203.12277.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smelt.core.errors import UsageError
from smelt.data.triple_prompts import Names, Schema
from smelt.models.encoder_decoder import Network
from smelt.models.hub import LINEAGE
from smelt.models.readings import encoder_with, forwards
from smelt.models.shards import read_json
from smelt.models.text_windows import STRIDE_TOKENS, Pieces, Window, cut_pieces, windows
from smelt.models.transformer import Transformer
from smelt.tokenizers.pipeline import Pipeline

TASK = "span"
"""What the task is called in `Output.tasks`."""
MOST_SUBJECTS = 32
"""Of a text and a relation; only the likeliest are asked for objects, as a bad model sees a subject everywhere."""
SCHEMA = "schema"
"""Where a checkpoint's smelt.json has what its triples are asked by."""


@dataclass(frozen=True)
class Answer:
    """A piece of a context, text[start:stop], and the probability of its first and last token."""

    text: str
    start: int
    stop: int
    probability: float


@dataclass(frozen=True)
class Asked:
    """A prompt and the text that it is about, cut into tokens."""

    prompt: str
    pieces: Pieces


@dataclass(frozen=True)
class Reader:
    """A model that points, and how it is shown long texts: rows of at most `max_seq_len` tokens, None: its context."""

    model: Network
    tokenizer: Pipeline
    max_seq_len: int | None = None
    stride_tokens: int = STRIDE_TOKENS

    def encoder(self) -> Transformer:
        """Return the model; raises UsageError where it does not point at pieces."""
        has_head = any(task.name == TASK for task in self.model.spec.tasks)
        return encoder_with(self.model, has_head, "a head that points at answers")

    @torch.inference_mode()
    def scores(self, asked: Sequence[Asked]) -> list[list[tuple[Window, Tensor, Tensor]]]:
        """Return of each prompt its windows with their tokens' scores (T, 2), and those of the first slot (2,)."""
        encoder = self.encoder()
        longest = self.max_seq_len or encoder.spec.max_seq_len
        cut = [windows(self.tokenizer, one.prompt, one.pieces, longest, self.stride_tokens) for one in asked]
        flat = [(number, window) for number, found in enumerate(cut) for window in found]
        flat.sort(key=lambda pair: len(pair[1].row.ids))  # rows of like length are computed together
        found: list[list[tuple[Window, Tensor, Tensor]]] = [[] for _ in asked]
        waiting = iter(flat)
        for batch, output in forwards(encoder, [window.row for _, window in flat]):
            scores = output.tasks[TASK].float().cpu()
            for row, (number, window) in zip(scores[: len(batch)], waiting, strict=False):
                found[number].append((window, row[window.slots.start : window.slots.stop], row[0]))
        return [sorted(entries, key=lambda entry: entry[0].start) for entries in found]

    def answers(self, asked: Sequence[Asked], max_answer_tokens: int = 30) -> list[Answer]:
        """Return the likeliest answer to each question; raises UsageError for a text without a word."""
        found = []
        for one, entries in zip(asked, self.scores(asked), strict=True):
            # A token that two windows show takes part twice; of one window, the first slot's scores cancel out.
            scores = [scores - nothing for _, scores, nothing in entries]
            total = torch.cat(scores).logsumexp(0).sum()
            best = [best_pair(part, max_answer_tokens) for part in scores]
            number = max(range(len(best)), key=lambda place: best[place][2])
            (first, last, score), start = best[number], entries[number][0].start
            begin, end = one.pieces.characters(start + first, start + last)
            found.append(Answer(one.pieces.text[begin:end], begin, end, (score - total).exp().item()))
        return found

    def pieces(self, asked: Sequence[Asked], threshold: float = 0.5) -> list[list[Answer]]:
        """Return the pieces that each prompt asks for, in order; several of one place count once."""
        if not 0 < threshold < 1:
            raise UsageError(f"threshold={threshold}", accepted="a probability between 0 and 1")
        found = []
        for one, entries in zip(asked, self.scores(asked), strict=True):
            best: dict[tuple[int, int], float] = {}
            for window, scores, _ in entries:
                for first, last, probability in pairs_above(scores.sigmoid(), threshold):
                    ends = one.pieces.characters(window.start + first, window.start + last)
                    best[ends] = max(best.get(ends, 0.0), probability)
            found.append([Answer(one.pieces.text[slice(*ends)], *ends, best[ends]) for ends in sorted(best)])
        return found

    def triples(self, texts: Sequence[Pieces], schema: Schema, threshold: float = 0.5) -> list[dict[Names, float]]:
        """Return the triples of each text with their probabilities, the product over both hops."""
        first = [(number, relation) for number in range(len(texts)) for relation in schema.relations]
        subjects = self.pieces([Asked(relation, texts[number]) for number, relation in first], threshold)
        likeliest: dict[tuple[int, str, str], float] = {}
        for (number, relation), pieces in zip(first, subjects, strict=True):
            named: dict[str, float] = {}
            for piece in sorted(pieces, key=lambda piece: -piece.probability):
                named.setdefault(piece.text, piece.probability)
            likeliest |= {(number, name, relation): named[name] for name in list(named)[:MOST_SUBJECTS]}
        objects = self.pieces([Asked(schema.ask(s, r), texts[number]) for number, s, r in likeliest], threshold)
        found: list[dict[Names, float]] = [{} for _ in texts]
        for (number, subject, relation), pieces in zip(likeliest, objects, strict=True):
            for piece in pieces:
                names = (subject, relation, piece.text)
                probability = likeliest[number, subject, relation] * piece.probability
                found[number][names] = max(found[number].get(names, 0.0), probability)
        return found


def answer(model: Network, tokenizer: Pipeline, question: str, context: str, *, max_answer_tokens: int = 30) -> Answer:
    """Return the likeliest answer to a question among the pieces of a context, however long that is.

    Raises UsageError for a model without a head that points at spans, or a context without a word.
    """
    reader = Reader(model, tokenizer)
    reader.encoder()
    return reader.answers([Asked(question, cut_pieces(tokenizer, context))], max_answer_tokens)[0]


def triples(
    model: Network, tokenizer: Pipeline, text: str, schema: Schema, *, threshold: float = 0.5
) -> dict[Names, float]:
    """Return the triples (subject, relation, object) that a text states, with their probabilities.

    Raises UsageError for a model without a head that points at spans, or a text without a word.
    """
    return Reader(model, tokenizer).triples([cut_pieces(tokenizer, text)], schema, threshold)[0]


def pieces_of(model: Network, tokenizer: Pipeline, prompt: str, text: str, *, threshold: float = 0.5) -> list[Answer]:
    """Return the pieces of a text that a prompt asks for, in order; errors are those of `triples`."""
    return Reader(model, tokenizer).pieces([Asked(prompt, cut_pieces(tokenizer, text))], threshold)[0]


def kept_schema(schema: Schema) -> dict[str, Any]:
    """Return a schema as smelt.json keeps it."""
    return {"relations": list(schema.relations), "second_prompt": schema.second_prompt}


def schema_of(directory: Path) -> Schema:
    """Return the schema that a checkpoint was trained with.

    Raises:
        UsageError: it was trained without one.
    """
    lineage = read_json(directory / LINEAGE) if (directory / LINEAGE).is_file() else {}
    found = lineage.get(SCHEMA)
    if found is None:
        raise UsageError(
            f"{directory} was not trained on triples, so there are no relations to ask for",
            accepted="a checkpoint of `smelt extract` on triples",
            fix="name pieces to look for with --prompt, or ask a question with `smelt answer`",
        )
    return Schema(tuple(found["relations"]), found["second_prompt"])


def best_pair(scores: Tensor, max_tokens: int) -> tuple[int, int, Tensor]:
    """Return the first and last token of the best sum of scores (T, 2), of at most so many tokens, and the sum ()."""
    first, last = scores.unbind(1)  # (T,)
    allowed = torch.ones(len(scores), len(scores), dtype=torch.bool, device=scores.device).triu().tril(max_tokens - 1)
    pairs = (first[:, None] + last).masked_fill(~allowed, -torch.inf)
    start, stop = divmod(int(pairs.argmax()), len(scores))
    return start, stop, pairs[start, stop]


def pairs_above(shares: Tensor, threshold: float) -> list[tuple[int, int, float]]:
    """Return pairs of a beginning and an end, each with a share (T, 2) of at least the threshold, and their product.

    A beginning goes with the nearest end at or behind it, an end with the nearest beginning at or before it, so of
    pieces inside one another only one is found. Ends of [(0.9, 0.1), (0.8, 0.1), (0, 0.7)] -> [(1, 2, 0.56)]
    """
    begins, ends = ((shares[:, side] >= threshold).nonzero().flatten().tolist() for side in (0, 1))
    nearest_begin: dict[int, int] = {}
    for begin in begins:
        end = next((place for place in ends if place >= begin), None)
        if end is not None:
            nearest_begin[end] = begin  # begins come in order: the last one is the nearest
    return [(begin, end, (shares[begin, 0] * shares[end, 1]).item()) for end, begin in nearest_begin.items()]
