"""Beam search: keep the best few partial answers, extend all of them, keep the best few again.

Greedy decoding commits to each token; a beam can take a worse token now for a better sentence later. An answer's score
is its summed log-probability divided by its number of tokens (length penalty 1.0). Finished answers and running ones
are kept apart, and a prompt is settled when the best running score can no longer beat the worst finished one. These
are the rules of transformers' beam search, kept so that texts are identical. Cost: `num_beams` forwards a token, and
one copy of the cache a token to follow the surviving beams.

Ref: Sutskever et al., arXiv:1409.3215, section 3.2; length normalisation: Wu et al., arXiv:1609.08144, section 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smelt.infer.rows import CachedRows, PromptBatch
from smelt.infer.sampling import Past, penalize_repetition


@dataclass
class Beams:
    """K answers for each of B prompts: ids (B, K, T), their scores (B, K), -inf where there is none, lengths (B, K)."""

    ids: Tensor
    scores: Tensor
    lengths: Tensor

    @classmethod
    def empty(cls, num_prompts: int, num_beams: int, num_tokens: int, device: torch.device) -> Beams:
        """Allocate beams that hold no answer yet."""
        return cls(
            torch.zeros(num_prompts, num_beams, num_tokens, dtype=torch.long, device=device),
            torch.full((num_prompts, num_beams), -math.inf, device=device),
            torch.zeros(num_prompts, num_beams, dtype=torch.long, device=device),
        )

    def best(self, other: Beams) -> Beams:
        """Merge with `other` and keep each prompt's K best."""
        scores, index = torch.cat((self.scores, other.scores), 1).topk(self.scores.shape[1])  # (B, K)
        ids = torch.cat((self.ids, other.ids), 1)
        ids = ids.gather(1, index[:, :, None].expand(-1, -1, ids.shape[2]))
        return Beams(ids, scores, torch.cat((self.lengths, other.lengths), 1).gather(1, index))


def beam_search(batch: PromptBatch) -> list[list[int]]:
    """Return the ids of the best answer of each prompt, its stop id included."""
    num_prompts, num_beams, num_steps = len(batch.prompts), batch.sampling.num_beams, max(batch.budgets)
    rows = CachedRows(batch.model, batch.prompts, num_steps, batch.sources)
    device = rows.logits.device
    first = torch.arange(num_prompts, device=device) * num_beams  # (B,) first row of each prompt
    rows.keep(torch.arange(num_prompts, device=device).repeat_interleave(num_beams))
    seen = _seen(batch, device)
    stop, budgets = (
        torch.tensor(values, dtype=torch.long, device=device) for values in (batch.stop_ids, batch.budgets)
    )
    running = Beams.empty(num_prompts, num_beams, num_steps, device)
    running.scores[:, 0] = 0.0  # the beams of a prompt are equal at first: only one may be extended
    finished = Beams.empty(num_prompts, num_beams, num_steps, device)
    unsettled = torch.ones(num_prompts, 1, dtype=torch.bool, device=device)
    for step in range(num_steps):
        candidates, parent = _extend(running, _log_probabilities(rows.logits, batch, seen), batch, step)
        last = candidates.ids[:, :, step]  # (B, M)
        ended = torch.isin(last, stop) | (budgets[:, None] == step + 1)
        # Only the K best candidates may finish; the others are there to replace those that do.
        may_finish = ended & unsettled & (torch.arange(last.shape[1], device=device) < num_beams)
        done_scores = (candidates.scores / (step + 1)).masked_fill(~may_finish, -math.inf)
        finished = finished.best(Beams(candidates.ids, done_scores, candidates.lengths))
        running.scores, index = candidates.scores.masked_fill(ended, -math.inf).topk(num_beams)  # (B, K)
        running.ids = candidates.ids.gather(1, index[:, :, None].expand(-1, -1, num_steps))
        running.lengths = candidates.lengths.gather(1, index)
        unsettled &= running.scores[:, :1] / (step + 1) > finished.scores[:, -1:]
        if not bool(unsettled.any()):
            break
        survivors = (first[:, None] + parent.gather(1, index)).flatten()  # (B * K,)
        rows.keep(survivors)
        new_ids = running.ids[:, :, step].flatten()
        if seen is not None:
            seen = seen[survivors].scatter(1, new_ids[:, None], True)
        rows.step(new_ids)
    best = zip(finished.ids[:, 0].tolist(), finished.lengths[:, 0].tolist(), strict=True)
    return [ids[:length] for ids, length in best]


def _seen(batch: PromptBatch, device: torch.device) -> Tensor | None:
    if batch.sampling.repetition_penalty == 1:
        return None
    return Past.of(batch.prompts, batch.vocab_size, device).seen.repeat_interleave(batch.sampling.num_beams, 0)


def _log_probabilities(logits: Tensor, batch: PromptBatch, seen: Tensor | None) -> Tensor:
    """Turn logits into log-probabilities (B, K, V); the repetition penalty acts on them, as in transformers."""
    scores = logits[:, : batch.vocab_size].float().log_softmax(-1)
    if seen is not None:
        scores = penalize_repetition(scores, seen, batch.sampling.repetition_penalty)
    return scores.view(-1, batch.sampling.num_beams, batch.vocab_size)


def _extend(running: Beams, log_probabilities: Tensor, batch: PromptBatch, step: int) -> tuple[Beams, Tensor]:
    """Return the M best one-token extensions of the running beams, and the beam (B, M) that each extends.

    M leaves K candidates to go on with even when every beam's stop ids are among the best.
    """
    num_beams, vocab_size = log_probabilities.shape[1:]
    num_candidates = min(max(2, 1 + len(batch.stop_ids)) * num_beams, num_beams * vocab_size)
    total = (running.scores[:, :, None] + log_probabilities).flatten(1)  # (B, K * V)
    scores, index = total.topk(num_candidates)  # (B, M)
    parent = index // vocab_size
    ids = running.ids.gather(1, parent[:, :, None].expand(-1, -1, running.ids.shape[2]))
    ids[:, :, step] = index % vocab_size
    return Beams(ids, scores, torch.full_like(index, step + 1)), parent
