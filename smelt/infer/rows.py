"""A batch of prompts inside a model's cache: one forward for all prompts, then one token a row and step.

Prompts of different lengths are padded on the left, so that every row's next token falls into the same slot; segment 0
hides the padding and positions count from each row's first real token, so a row computes what it would compute alone.
Rows can be dropped or copied at any time; that costs a copy of the cache. Where a model has an encoder, each row also
has a source, which is read once, in the first forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smelt.core.errors import SmeltError, UsageError
from smelt.infer.sampling import Sampling
from smelt.models.encoder_decoder import Network
from smelt.nn.cache import KVCache

Rows = Sequence[Sequence[int]]
NO_SOURCE: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class PromptBatch:
    """Prompts to continue with one model; each has its budget of new tokens, 1 or more, and its seed.

    For a model with an encoder, `sources` are what the answers are about, and a prompt is how its answer begins.
    Ids from `vocab_size` on are never chosen: padded vocabularies have logits for ids that no tokenizer can spell.
    """

    model: Network
    prompts: Rows
    budgets: Sequence[int]
    seeds: Sequence[int]
    sampling: Sampling
    stop_ids: tuple[int, ...]
    vocab_size: int
    sources: Rows | None = None


def token_budgets(prompts: Rows, max_new_tokens: int, max_seq_len: int) -> list[int]:
    """Return how many tokens each prompt may be continued by, so that prompt and answer fit the context.

    Raises UsageError for an empty prompt and for one that is longer than the context.
    """
    for row, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise UsageError(
                f"prompt {row} has no token", accepted="at least one", fix="begin with the end-of-text token"
            )
        if len(prompt) > max_seq_len:
            raise UsageError(
                f"prompt {row} has {len(prompt)} tokens, but the model's context holds {max_seq_len}",
                accepted=f"prompts of 1 to {max_seq_len} tokens",
                fix="shorten the prompt, or use a model with a longer context",
            )
    return [min(max_new_tokens, max_seq_len - len(prompt)) for prompt in prompts]


def pad_left(prompts: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, positions and segments, each (B, T); the padding is id 0 in segment 0 at position 0.

    [[5, 6, 7], [8]] -> ids [[5, 6, 7], [0, 0, 8]], positions [[0, 1, 2], [0, 0, 0]], segments [[1, 1, 1], [0, 0, 1]]
    """
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])  # (B, T)
    padding = torch.tensor([width - len(prompt) for prompt in prompts])  # (B,)
    positions = torch.arange(width) - padding[:, None]
    return ids, positions.clamp(min=0), (positions >= 0).long()


class CachedRows:
    """Prompts in a cache, and the logits of the token that comes next.

    Args:
        model: the language model.
        prompts: token ids, at least one each, none longer than the model's context.
        num_new_tokens: the most tokens that will be added to any row.
        sources: for a model with an encoder, what each row is about, under the same rules.
    """

    def __init__(self, model: Network, prompts: Rows, num_new_tokens: int, sources: Rows | None = None) -> None:
        weight = model.head_weight
        ids, positions, segments = (part.to(weight.device) for part in pad_left(prompts))
        num_rows, width = ids.shape
        self.model = model
        self.cache = KVCache.allocate(
            model.spec, num_rows, width + num_new_tokens, dtype=weight.dtype, device=weight.device
        )
        self.last_position = positions[:, -1:]  # (B, 1)
        # Prompts of one length need no mask, and the model can use plain causal attention.
        padded = None if bool(segments.all()) else segments
        self.logits = self._forward(ids, positions, padded, _encoder_input(sources, weight.device))  # (B, V)
        if not bool(self.logits.isfinite().all()):
            raise SmeltError(
                "the model's logits are not finite numbers", fix="use an earlier checkpoint; this one has diverged"
            )

    def step(self, ids: Tensor) -> None:
        """Add one token to each row, ids `(B,)`, and compute the logits that follow."""
        # A row that is finished but not yet dropped must not run off the position table.
        self.last_position = (self.last_position + 1).clamp(max=self.model.max_text_tokens - 1)
        # What an encoder writes has another token type than what it reads.
        typed = not self.model.spec.is_causal and self.model.spec.num_types > 1
        more = {"types": torch.ones_like(ids[:, None])} if typed else NO_SOURCE
        self.logits = self._forward(ids[:, None], self.last_position, None, more)

    def keep(self, rows: Tensor) -> None:
        """Make row b what row rows[b] was; rows left out are dropped, rows named twice are copied."""
        self.cache.reorder(rows)
        self.last_position, self.logits = self.last_position[rows], self.logits[rows]

    def _forward(
        self, ids: Tensor, positions: Tensor, segments: Tensor | None, more: Mapping[str, Tensor] = NO_SOURCE
    ) -> Tensor:
        output = self.model(ids, positions=positions, segments=segments, cache=self.cache, project=False, **more)
        logits: Tensor = self.model.project(output.hidden[:, -1])
        return logits


def _encoder_input(sources: Rows | None, device: torch.device) -> Mapping[str, Tensor]:
    """Return what the first forward of a model with an encoder is given beside the prompts."""
    if sources is None:
        return NO_SOURCE
    ids, _, segments = (part.to(device) for part in pad_left(sources))
    return {"source": ids, "source_segments": segments}
