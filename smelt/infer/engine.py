"""The engine: many requests over one model, each as if it were alone.

A step admits who may run, reads pieces of prompts, and computes one token for everybody who decodes. Requests come and
go between steps; where keys and values lie is the business of `pages`, who runs that of `scheduler`. What a request
answers depends on its prompt, its settings and its seed, not on who else is there: `generate` is the oracle, and tests
compare the two over random arrivals, cancellations and shortages of pages. One thread works it. What would use more
machines is more engines, each with its own model, behind whoever hands out requests.

Ref: PagedAttention, arXiv:2309.06180. Ref: Orca, OSDI 2022. Ref: Sarathi-Serve, arXiv:2403.02310.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smelt.core.errors import SmeltError, UsageError
from smelt.infer.adapters import Adapters
from smelt.infer.answer import Answer, Generation
from smelt.infer.choose import choose, kind_of, log_probabilities
from smelt.infer.constrain import Constraint
from smelt.infer.drafts import Drafter
from smelt.infer.fused import FusedDecoder
from smelt.infer.generate import OnText, generate
from smelt.infer.limits import EngineSettings, QueueFull, check_model, count_pages, fused_step, reason_against
from smelt.infer.paged_cache import PagedCache, Pool, Row
from smelt.infer.pages import Pages
from smelt.infer.requests import Request, Update
from smelt.infer.rows import token_budgets
from smelt.infer.sampling import Past, Sampling, check_biases, row_seeds, uniforms
from smelt.infer.scheduler import Scheduler
from smelt.models.encoder_decoder import Network
from smelt.models.transformer import Transformer
from smelt.peft.load import load
from smelt.tokenizers.base import Tokenizer
from smelt.tokenizers.chat import ChatTemplate

ALIKE = 0.75  # prompts' pieces are read together where the shortest has this share of the longest's tokens


@dataclass(frozen=True)
class Piece:
    """So many tokens of a request to compute, and guesses of those that follow."""

    request: Request
    num_tokens: int
    guesses: Sequence[int] = ()


class Engine:
    """Answer prompts with a decoder, any number at a time.

    Args:
        model: the language model; it is set to evaluation.
        tokenizer: turns its tokens into text.
        stop_ids: tokens that end any answer.
        settings: how much is done at once.
        drafter: guesses tokens for those who decode; answers stay what they are.
        adapters: those of the model, where several engines follow one another; None: there are none yet.

    Raises:
        UsageError: a model whose answers need more than keys and values of its tokens.
        ResourceError: no memory for the keys and values of one token.
    """

    def __init__(
        self,
        model: Network,
        tokenizer: Tokenizer,
        *,
        stop_ids: Iterable[int] = (),
        settings: EngineSettings | None = None,
        drafter: Drafter | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        check_model(model)
        assert isinstance(model, Transformer), "a model without an encoder is a Transformer"
        settings = settings or EngineSettings()
        self.model, self.tokenizer, self.settings = model.eval(), tokenizer, settings
        self.adapters = Adapters(model) if adapters is None else adapters
        self.stop_ids = frozenset(stop_ids)
        self.vocab_size = min(tokenizer.vocab_size, model.spec.vocab_size)
        weight = model.head_weight
        num_pages = count_pages(model.spec, settings, weight.dtype)
        dtype = settings.cache_in(weight.dtype)
        self.pool = Pool(model.spec, num_pages, settings.page_tokens, dtype=dtype, device=weight.device)
        self.scheduler = Scheduler(
            Pages(num_pages, settings.page_tokens), settings.max_running, settings.prefill_tokens
        )
        ahead = 0 if drafter is None else drafter.num_tokens
        self._fused = fused_step(model, self.pool, settings, rows=settings.max_running * (1 + ahead))
        self.drafter = drafter
        if drafter is not None:
            drafter.attach(self.vocab_size, num_pages, settings.page_tokens)
        self.num_guessed, self.num_accepted = 0, 0
        self._ids = itertools.count()
        self._full: list[Request] = []  # whose prompts leave no room for an answer

    @classmethod
    def load(cls, path: str | Path, *, settings: EngineSettings | None = None) -> Engine:
        """Return the engine of a checkpoint, whose answers end where the checkpoint says, and at the end of a turn."""
        model, tokenizer = load(path)
        turns = ChatTemplate(tokenizer).stop_ids if tokenizer.chat_template is not None else ()
        return cls(model, tokenizer, stop_ids=(*model.spec.token_ids.end, *turns), settings=settings)

    @property
    def num_running(self) -> int:
        """Return how many requests run."""
        return len(self.scheduler.running)

    @property
    def num_waiting(self) -> int:
        """Return how many requests are in line."""
        return len(self.scheduler.waiting)

    @property
    def num_pages(self) -> int:
        """Return how many pages there are."""
        return self.scheduler.pages.num_pages

    @property
    def num_free_pages(self) -> int:
        """Return how many pages no request holds."""
        return self.scheduler.pages.num_free

    @property
    def has_work(self) -> bool:
        """Tell whether a step would do anything."""
        return bool(self.scheduler.running or self.scheduler.waiting or self._full)

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        priority: int = 0,
        prompt_logprobs: int | None = None,
        adapter: str | None = None,
        constraint: Constraint | None = None,
        shown: Collection[int] = (),
    ) -> Request:
        """Put a prompt in line; lower priorities are served first, and `adapter` names one of `adapters`.

        The answer keeps to a `constraint`, which no other request may share. Special tokens have no text, but for
        those in `shown`.

        Raises UsageError for a prompt that is empty or too long, for an id that the vocabulary does not have, for an
        adapter that is not loaded, for a constraint of another vocabulary, and for beams, and QueueFull where the line
        is full.
        """
        if sampling.num_beams > 1:
            raise UsageError("beam search in a batch of requests", accepted="num_beams=1", fix="use Engine.generate")
        if self.num_waiting >= self.settings.max_waiting:
            raise QueueFull(f"{self.num_waiting} requests are waiting", fix="ask again later")
        (budget,) = token_budgets([prompt], sampling.max_new_tokens, self.model.spec.max_seq_len)
        check_biases(sampling, self.vocab_size)
        self._check(prompt, budget, prompt_logprobs, constraint)
        request = Request(
            id=next(self._ids),
            prompt=tuple(prompt),
            sampling=sampling,
            kind=kind_of(sampling),
            priority=priority,
            answer=Answer.begin(self.tokenizer, budget, self.stop_ids, sampling.stop, shown),
            prompt_logprobs=prompt_logprobs,
            numbers=None if sampling.greedy else uniforms([sampling.seed], budget)[0],
            past=Past.of([prompt], self.vocab_size, self.model.head_weight.device) if sampling.looks_back else None,
            adapter=None if adapter is None else self.adapters.find(adapter),
            constraint=constraint,
            tokens=list(prompt),
        )
        if budget:
            self.scheduler.add(request)
        else:
            self._full.append(request)
        return request

    def _check(
        self, prompt: Sequence[int], budget: int, prompt_logprobs: int | None, constraint: Constraint | None
    ) -> None:
        """Raise UsageError for what cannot be answered, as `submit` says."""
        if not budget and prompt_logprobs is not None:
            raise UsageError(
                f"log-probabilities of a prompt that fills the context of {self.model.spec.max_seq_len} tokens",
                accepted="a prompt that leaves room for one token",
            )
        if wrong := [id_ for id_ in prompt if not 0 <= id_ < self.model.spec.vocab_size]:
            raise UsageError(f"no id {wrong[0]} in this vocabulary", accepted=f"0 to {self.model.spec.vocab_size - 1}")
        if constraint is not None and constraint.vocab_size != self.vocab_size:
            raise UsageError(
                f"a constraint over {constraint.vocab_size} tokens", accepted=f"one over the {self.vocab_size} here"
            )
        room = self.num_pages * self.settings.page_tokens
        if len(prompt) + budget > room:
            raise UsageError(
                f"{len(prompt)} tokens and {budget} new ones in a cache of {room}",
                accepted=f"{room} tokens in all",
                fix="a shorter prompt, a smaller max_new_tokens, or an engine with more cache_tokens",
            )

    def cancel(self, request: Request) -> None:
        """Forget a request, at any moment between two steps; one that is over, or cancelled already, is left alone."""
        if request in self._full:
            self._full.remove(request)
        elif request in self.scheduler.running or request in self.scheduler.waiting:
            self.scheduler.remove(request)

    @torch.inference_mode()
    def step(self) -> list[Update]:
        """Do one round, and tell what it did: a token for each request that decodes, pieces of prompts read."""
        full, self._full = self._full, []
        updates = [Update(request, (), "", (), None, request.finish_reason) for request in full]
        self.scheduler.admit()
        decoding = self._decoding()
        pieces = list(itertools.starmap(Piece, self.scheduler.pieces()))
        if self._fused is not None and decoding:
            updates += self._decode(self._fused, decoding)
            decoding = []
        for batch in alike([*decoding, *pieces]):
            updates += self._compute(batch)
        return updates

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, on_text: OnText | None = None
    ) -> list[Generation]:
        """Answer all prompts and return the answers in order; prompt number r has the seed that is r higher.

        `on_text(row, text)` is called as soon as text is certain. Beams are searched by the plain loop. Raises
        UsageError as `submit` does, before anything is answered of prompts that do not fit.
        """
        if sampling.num_beams > 1:
            stop = tuple(self.stop_ids)
            return generate(self.model, self.tokenizer, prompts, sampling, stop_ids=stop, on_text=on_text)
        token_budgets(prompts, sampling.max_new_tokens, self.model.spec.max_seq_len)
        requests: list[Request] = []
        rows: dict[Request, int] = {}
        seeds = row_seeds(sampling.seed, len(prompts))
        try:
            while len(requests) < len(prompts) or self.has_work:
                while len(requests) < len(prompts) and self.num_waiting < self.settings.max_waiting:
                    row = len(requests)
                    requests.append(self.submit(prompts[row], replace(sampling, seed=seeds[row])))
                    rows[requests[row]] = row
                for update in self.step():
                    if update.text and on_text is not None:
                        on_text(rows[update.request], update.text)
        finally:  # an interrupt, say: who would take the rest?
            for request in requests:
                self.cancel(request)
        return [request.answer.result() for request in requests]

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages, line and running requests fit together; for tests."""
        self.scheduler.check()

    def _decoding(self) -> list[Piece]:
        """Return the pieces of those who decode, each with guesses where there is room for them."""
        requests = self.scheduler.decoding()
        if self.drafter is None or not requests:
            return [Piece(request, 1) for request in requests]
        # The last token of all needs no guess behind it.
        left = [0 if request.looks_back else request.answer.budget - len(request.ids) - 1 for request in requests]
        most = [
            self.scheduler.room(request, min(self.drafter.num_tokens, count))
            for request, count in zip(requests, left, strict=True)
        ]
        guesses = self.drafter.propose(requests, most)
        self.num_guessed += sum(map(len, guesses))
        return [Piece(request, 1, own) for request, own in zip(requests, guesses, strict=True)]

    def _decode(self, step: FusedDecoder, batch: Sequence[Piece]) -> list[Update]:
        """Compute the one token that each piece has left, and its guesses, and choose the next ones."""
        counts = [1 + len(piece.guesses) for piece in batch]
        pages = np.zeros((sum(counts), max(len(piece.request.pages) for piece in batch)), np.int64)
        ids: list[int] = []
        positions: list[int] = []
        for piece, count in zip(batch, counts, strict=True):
            request, row = piece.request, len(ids)
            pages[row : row + count, : len(request.pages)] = request.pages
            positions += range(request.num_computed, request.num_computed + count)
            ids += [request.tokens[-1], *piece.guesses]
            if not request.is_heard:
                self._hear(request, self.model.head_weight[:0])
            self.scheduler.advance(request, 1)
        rows = [piece.request.adapter for piece, count in zip(batch, counts, strict=True) for _ in range(count)]
        adapters = [0 if adapter is None else adapter.address for adapter in rows]
        return self._choose(batch, step.decode(ids, positions, pages, counts, adapters)[:, : self.vocab_size])

    def _compute(self, batch: Sequence[Piece]) -> list[Update]:
        """Run the model over pieces, and choose tokens for each request whose text is complete."""
        rows = []
        for piece in batch:
            request, end = piece.request, piece.request.num_computed + piece.num_tokens
            tokens = [*request.tokens[request.num_computed : end], *piece.guesses]
            rows.append(Row(request.pages, request.num_computed, tokens))
        cache = PagedCache(self.model.spec, self.pool, rows)
        with self.adapters.applied([piece.request.adapter for piece in batch]):
            hidden = self.model(cache.ids, positions=cache.positions, cache=cache, project=False).hidden  # (B, T, D)
        complete, last = [], []
        for piece, states in zip(batch, hidden, strict=True):
            request, states = piece.request, states[-piece.num_tokens - len(piece.guesses) :]
            if not request.is_heard:
                self._hear(request, states[: piece.num_tokens])
            self.scheduler.advance(request, piece.num_tokens)
            if request.num_pending == 0:
                complete.append(piece)
                last.append(states[piece.num_tokens - 1 :])
        return self._choose(complete, self._project(torch.cat(last))) if complete else []

    def _choose(self, pieces: Sequence[Piece], logits: Tensor) -> list[Update]:
        """Choose the tokens behind complete texts, given the logits of each one's last token and guesses, (N, V).

        A guess that is not what is chosen is dropped, and all behind it.
        """
        if not bool(logits.isfinite().all()):
            raise SmeltError(
                "the model's logits are not finite numbers", fix="use an earlier checkpoint; this one has diverged"
            )
        firsts = [0, *itertools.accumulate(1 + len(piece.guesses) for piece in pieces)]
        updates: dict[int, Update] = {}
        working = list(range(len(pieces)))
        ahead = 0
        while working:
            requests = [pieces[number].request for number in working]
            own = logits[[firsts[number] + ahead for number in working]]
            going_on = []
            for number, token_id, row in zip(working, choose(own, requests), own, strict=True):
                piece = pieces[number]
                update = self._take(piece.request, token_id, row)
                updates[number] = joined(updates[number], update) if number in updates else update
                if list(piece.guesses[ahead : ahead + 1]) == [token_id]:
                    self.num_accepted += 1
                    if update.finish_reason is None:
                        self.scheduler.advance(piece.request, 1)
                        going_on.append(number)
            working, ahead = going_on, ahead + 1
        return list(updates.values())

    def _project(self, hidden: Tensor) -> Tensor:
        return self.model.project(hidden)[:, : self.vocab_size].float()

    def _hear(self, request: Request, hidden: Tensor) -> None:
        """Note the log-probabilities of the prompt's tokens behind those just read, whose hidden states are (n, D)."""
        if not request.heard:
            request.heard.append(None)
        start = len(request.heard)
        following = request.prompt[start : start + len(hidden)]
        if following and request.prompt_logprobs is not None:
            logits = self._project(hidden[: len(following)])
            request.heard += log_probabilities(logits, following, request.prompt_logprobs)

    def _take(self, request: Request, token_id: int, logits: Tensor) -> Update:
        """Give a request its next token, and let it go when that was the last."""
        is_first, num_top = not request.ids, request.sampling.logprobs
        logprobs = () if num_top is None else tuple(log_probabilities(logits[None], [token_id], num_top))
        constraint = request.constraint
        text = request.answer.push(token_id, is_last=constraint is not None and constraint.take(token_id))
        if constraint is not None and constraint.failed:
            request.answer.finish_reason = "error"
        request.tokens.append(token_id)
        if request.finish_reason is not None:
            self.scheduler.remove(request)
        heard = tuple(request.heard) if is_first and request.prompt_logprobs is not None else None
        return Update(request, (token_id,), text, logprobs, heard, request.finish_reason)


def joined(first: Update, then: Update) -> Update:
    """Return what two updates of a request say together."""
    return replace(
        then,
        ids=first.ids + then.ids,
        text=first.text + then.text,
        logprobs=first.logprobs + then.logprobs,
        prompt_logprobs=first.prompt_logprobs,
    )


def alike(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Put pieces of about one length together, so that little of a batch is filled up."""

    def length(piece: Piece) -> int:
        return piece.num_tokens + len(piece.guesses)

    batches: list[list[Piece]] = []
    for piece in sorted(pieces, key=length, reverse=True):
        if batches and length(piece) >= ALIKE * length(batches[-1][0]):
            batches[-1].append(piece)
        else:
            batches.append([piece])
    return batches


Answers = Callable[[Sequence[Sequence[int]], Sampling, OnText | None], list[Generation]]


def answers_of(model: Network, tokenizer: Tokenizer, stop_ids: Sequence[int], *, max_running: int = 1) -> Answers:
    """Return what answers prompts with any model: an engine, or the plain loop for a model that it does not know."""
    if reason_against(model) is None:
        settings = EngineSettings(max_running=max_running)
        return Engine(model, tokenizer, stop_ids=stop_ids, settings=settings).generate
    return lambda prompts, sampling, on_text: generate(
        model, tokenizer, prompts, sampling, stop_ids=stop_ids, on_text=on_text
    )
