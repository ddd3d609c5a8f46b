"""Guess the next tokens cheaply, so that the model can check several in one pass: the weights are read once for all.

A request's next token is a function of the logits and of its own uniform number. So a guess is checked by choosing as
always and comparing: an answer with guesses is, token for token, the answer without, greedy or sampled. A guess that
comes with certainty is right as often as its token is likely, which no rule of acceptance can better; a model that
guesses with the request's own numbers agrees more often still.

`PromptLookup` guesses what followed when the last few tokens stood in the text before. `DraftModel` asks a smaller
model. `shallow` makes one of a model's own first layers.

Ref: Fast Inference via Speculative Decoding, arXiv:2211.17192. Ref: prompt lookup decoding, A. Saxena (2023).
Ref: LayerSkip, arXiv:2404.16710 (a model's own first layers).
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from smelt.core.errors import UsageError
from smelt.infer.choose import choose
from smelt.infer.limits import check_model
from smelt.infer.paged_cache import PagedCache, Pool, Row
from smelt.infer.requests import Request
from smelt.models.transformer import Transformer


class Drafter(Protocol):
    """What guesses for an engine, up to `num_tokens` ahead."""

    num_tokens: int

    def attach(self, vocab_size: int, num_pages: int, page_tokens: int) -> None:
        """Make ready for an engine's vocabulary and pages; raises UsageError where they do not fit."""

    def propose(self, requests: Sequence[Request], most: Sequence[int]) -> list[list[int]]:
        """Return up to so many guesses for each request."""


class PromptLookup:
    """Guess that a text goes on as it did when its last tokens, `longest` of them or fewer, stood in it before."""

    def __init__(self, num_tokens: int = 8, longest: int = 3) -> None:
        if num_tokens < 1 or longest < 1:
            raise UsageError(f"num_tokens={num_tokens}, longest={longest}", accepted="whole numbers, 1 or more")
        self.num_tokens, self.longest = num_tokens, longest

    def attach(self, vocab_size: int, num_pages: int, page_tokens: int) -> None:
        """Need nothing."""

    def propose(self, requests: Sequence[Request], most: Sequence[int]) -> list[list[int]]:
        """Return what followed the last place at which each text had its present end, the longest end that is found."""
        return [self.look_up(request.tokens, count) for request, count in zip(requests, most, strict=True)]

    def look_up(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return up to `count` tokens.

        [1, 2, 3, 9, 1, 2], 2 -> [3, 9]
        """
        text = array("q", tokens)
        data, size = text.tobytes(), text.itemsize
        for length in range(min(self.longest, len(tokens) - 1), 0, -1):
            end = len(data) - size  # the last token may not be part of what is found
            while (at := data.rfind(data[-length * size :], 0, end)) >= 0:
                if at % size == 0:
                    return list(tokens[at // size + length :][:count])
                end = at + length * size - 1
        return []


class DraftModel:
    """Guess with another model of the same vocabulary, whose keys and values lie in pages of the same numbers.

    Args:
        model: the one that guesses.
        num_tokens: how many tokens ahead.

    Raises:
        UsageError: a model that the engine does not know.
    """

    def __init__(self, model: Transformer, num_tokens: int = 4) -> None:
        if num_tokens < 1:
            raise UsageError(f"num_tokens={num_tokens}", accepted="a whole number, 1 or more")
        check_model(model)
        self.model, self.num_tokens = model.eval(), num_tokens

    def attach(self, vocab_size: int, num_pages: int, page_tokens: int) -> None:
        """Allocate the pages; raises UsageError for another vocabulary."""
        if self.model.spec.vocab_size < vocab_size:
            raise UsageError(
                f"a draft model of {self.model.spec.vocab_size} tokens for a model of {vocab_size}",
                accepted="a model with the same tokenizer",
            )
        weight = self.model.head_weight
        self._vocab_size = vocab_size
        self._pool = Pool(self.model.spec, num_pages, page_tokens, dtype=weight.dtype, device=weight.device)

    def propose(self, requests: Sequence[Request], most: Sequence[int]) -> list[list[int]]:
        """Return the tokens that the model chooses one after another, with each request's own numbers."""
        guesses: list[list[int]] = [[] for _ in requests]
        limit = self.model.spec.max_seq_len
        for ahead in range(max(most, default=0)):
            working = [
                number
                for number, (request, count) in enumerate(zip(requests, most, strict=True))
                if count > ahead and len(request.tokens) + ahead <= limit
            ]
            rows = [self._row(requests[number], guesses[number]) for number in working]
            if not rows:
                break
            cache = PagedCache(self.model.spec, self._pool, rows)
            hidden = self.model(cache.ids, positions=cache.positions, cache=cache, project=False).hidden
            logits = self.model.project(hidden[:, -1])[:, : self._vocab_size].float()
            chosen = choose(logits, [requests[number] for number in working], ahead)
            for number, row, token_id in zip(working, rows, chosen, strict=True):
                requests[number].num_drafted = row.num_cached + len(row.tokens)
                guesses[number].append(token_id)
        return guesses

    def _row(self, request: Request, guesses: Sequence[int]) -> Row:
        """Return what the model has not read yet: a text, what was accepted of it since, or the guess before."""
        text = [*request.tokens, *guesses]
        # Behind the last token of the text lie guesses of before, which may have been wrong.
        known = min(request.num_drafted, len(request.tokens) - 1) if not guesses else len(text) - 1
        return Row(request.pages, known, text[known:])


def shallow(model: Transformer, num_layers: int) -> Transformer:
    """Return a model of the first layers alone, with the same parameters: it costs their share of the time.

    Raises UsageError for a number of layers that leaves nothing to save.
    """
    if not 0 < num_layers < len(model.spec.layers):
        raise UsageError(
            f"{num_layers} of {len(model.spec.layers)} layers", accepted=f"1 to {len(model.spec.layers) - 1}"
        )
    spec = dataclasses.replace(model.spec, layers=model.spec.layers[:num_layers])
    with torch.device("meta"):
        first = Transformer(spec)
    for name, child in model.named_children():
        setattr(first, name, nn.ModuleList(list(model.blocks)[:num_layers]) if name == "blocks" else child)
    if model.tied_bias is not None:
        first.tied_bias = model.tied_bias
    return first.eval()
