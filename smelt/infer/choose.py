"""Choose the next token of many requests at once, those that sample in one way together, and tell log-probabilities."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from smelt.infer.requests import Request, TokenLogprobs
from smelt.infer.sampling import Past, Sampling, next_ids


def kind_of(sampling: Sampling) -> Sampling:
    """Return what a choice depends on: requests for which it is equal can choose together."""
    return replace(sampling, max_new_tokens=1, stop=(), seed=0, logprobs=None)


def choose(logits: Tensor, requests: Sequence[Request], ahead: int = 0) -> list[int]:
    """Return the next token of each request, given its row of logits (R, V), or the one so many tokens ahead of it."""
    logits = constrained(logits, requests)
    kinds: dict[Sampling, list[int]] = defaultdict(list)
    for row, request in enumerate(requests):
        kinds[request.kind].append(row)
    chosen = torch.empty(len(requests), dtype=torch.long, device=logits.device)
    for kind, rows in kinds.items():
        index = torch.tensor(rows, device=logits.device)
        numbers = past = None
        if not kind.greedy:
            numbers = torch.stack([_number(requests[row], ahead) for row in rows]).to(logits.device)
        if kind.looks_back:
            pasts = [_past(requests[row]) for row in rows]
            past = Past(torch.cat([one.seen for one in pasts]), torch.cat([one.counts for one in pasts]))
        ids = next_ids(logits[index], kind, past, numbers)
        chosen[index] = ids
        if kind.looks_back:
            for one, id_ in zip(pasts, ids.split(1), strict=True):
                one.add(id_)
    return chosen.tolist()


def constrained(logits: Tensor, requests: Sequence[Request]) -> Tensor:
    """Set the logits (R, V) of tokens that a request's constraint does not allow to -inf."""
    allowed = {row: one.constraint.allowed for row, one in enumerate(requests) if one.constraint is not None}
    if not allowed:
        return logits
    index = torch.tensor(list(allowed), device=logits.device)
    ruled = torch.stack(list(allowed.values())).to(logits.device)
    return logits.index_copy(0, index, logits[index].masked_fill(~ruled, -math.inf))


def _number(request: Request, ahead: int) -> Tensor:
    assert request.numbers is not None, "a request that samples has its numbers"
    return request.numbers[len(request.ids) + ahead]


def _past(request: Request) -> Past:
    assert request.past is not None, "a request that looks back has its past"
    return request.past


def log_probabilities(logits: Tensor, ids: Sequence[int], num_top: int) -> list[TokenLogprobs]:
    """Return the log-probabilities of one token a row of logits (R, V), and those of the likeliest ones."""
    logprobs = logits.float().log_softmax(-1)
    own = logprobs.gather(1, torch.tensor(ids, device=logits.device)[:, None]).squeeze(1).tolist()
    best, top = logprobs.topk(min(num_top, logits.shape[1]), dim=-1)
    pairs = (tuple(zip(*row, strict=True)) for row in zip(top.tolist(), best.tolist(), strict=True))
    return [TokenLogprobs(id_, logprob, near) for id_, logprob, near in zip(ids, own, pairs, strict=True)]
