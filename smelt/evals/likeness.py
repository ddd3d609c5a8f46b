"""Vectors put to use: which document a question finds, and whether near texts are those that people call alike.

Vectors are of length 1, so their product is the cosine. An encoder gives what `smelt embed` gives; a decoder the mean
of its last hidden states.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch

from smelt.core.errors import DataError, UsageError
from smelt.evals.rank_correlation import spearman
from smelt.evals.ranking import Places, places, ranking_scores
from smelt.evals.resampling import Numbers, Score
from smelt.infer.embed import embed as embed_ids
from smelt.models.encoder_decoder import Network
from smelt.models.readings import Pooling, embed, surround
from smelt.models.transformer import Transformer
from smelt.tokenizers.pipeline import Pipeline

STEP_TOKENS = 2048


def vectors_of(
    model: Network, tokenizer: Pipeline, texts: Sequence[str], *, pooling: Pooling = "mean", where: Sequence[str] = ()
) -> Numbers:
    """Return a vector of length 1 for each text: (N, D), by a decoder or an encoder.

    `where` names each text in errors. Raises UsageError for an encoder-decoder, and for a pooling that a decoder has
    not; DataError for a text without a token or longer than the model's context.
    """
    decoder = isinstance(model, Transformer) and model.spec.is_causal
    if decoder and pooling != "mean":
        raise UsageError(f"--pooling {pooling} of a decoder", accepted="mean")
    every = tokenizer.encode_batch(texts)
    for number, ids in enumerate(every):
        size = len(ids) if decoder else len(surround(tokenizer, ids).ids)
        if not ids or size > model.spec.max_seq_len:
            name = where[number] if where else f"text {number + 1}"
            raise DataError(f"{name}: {size} tokens", accepted=f"1 to {model.spec.max_seq_len}, the model's context")
    if not decoder:
        return embed(model, tokenizer, texts, pooling=pooling).numpy().astype(np.float64)
    assert isinstance(model, Transformer)
    found: dict[int, torch.Tensor] = {}
    for step in embed_ids(model, every, step_tokens=STEP_TOKENS):
        found |= step
    return torch.stack([found[number] for number in range(len(texts))]).numpy().astype(np.float64)


def found_documents(questions: Numbers, documents: Numbers, relevant: Sequence[Sequence[int]]) -> list[Places]:
    """Return the places of each question's documents among all, given vectors (Q, D) and (N, D)."""
    return [places(documents @ one, mine) for one, mine in zip(questions, relevant, strict=True)]


def retrieval_scores(
    model: Network,
    tokenizer: Pipeline,
    pairs: Iterable[tuple[str, str, str]],
    *,
    pooling: Pooling = "mean",
) -> dict[str, Score]:
    """Score how well questions find their documents among those of all pairs (question, document, where).

    A text that stands in several rows is one question or one document. Raises UsageError for fewer than two documents.
    """
    questions, documents = dict[str, list[int]](), dict[str, int]()
    where = dict[str, str]()
    for question, document, place in pairs:
        number = documents.setdefault(document, len(documents))
        mine = questions.setdefault(question, [])
        mine += [] if number in mine else [number]
        where.setdefault(question, place)
        where.setdefault(document, place)
    if len(documents) < 2:
        raise UsageError(f"{len(documents)} documents to search", accepted="two different targets or more")
    asked, searched = (
        vectors_of(model, tokenizer, texts, pooling=pooling, where=[where[text] for text in texts])
        for texts in (list(questions), list(documents))
    )
    return ranking_scores(found_documents(asked, searched, list(questions.values())))


def similarity_scores(
    model: Network,
    tokenizer: Pipeline,
    rows: Sequence[tuple[str, str, float, str]],
    *,
    pooling: Pooling = "mean",
) -> dict[str, Score]:
    """Score how cosines follow the grades of pairs (text, text, grade, where).

    Raises UsageError for fewer than two pairs or for grades that are all equal.
    """
    grades = [grade for _, _, grade, _ in rows]
    if all(one == other for one, other in pairwise(grades)):
        raise UsageError(f"{len(rows)} pairs with one grade", accepted="two pairs or more, of different grades")
    texts = [text for row in rows for text in row[:2]]
    vectors = vectors_of(model, tokenizer, texts, pooling=pooling, where=[row[3] for row in rows for _ in range(2)])
    return {"spearman": spearman((vectors[0::2] * vectors[1::2]).sum(axis=1), grades)}
