"""The decoder-only language model: embed, run the blocks, normalise, project to the vocabulary.

One forward serves training, packed documents, left-padded batches and cached generation; only positions, mask and
cache differ, and all three are settled here, once, before the first block. The model computes no loss: `project=False`
leaves the vocabulary product, the largest of a small model, to an objective that runs it in chunks.

Ref: Language Models are Unsupervised Multitask Learners (2019).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from smelt.core.errors import UsageError
from smelt.nn.block import Block
from smelt.nn.cache import KVCache
from smelt.nn.masks import attention_mask
from smelt.nn.norms import make_norm
from smelt.nn.positions import positions_in_segments, rotary_tables, sinusoidal
from smelt.nn.spec import AttentionSpec, ModelSpec


@dataclass
class Output:
    """Hold what a forward returns: logits (B, T, V), None without projection; hidden (B, T, D) after the final norm.

    `router` has the scores (B, T, E) of each layer that is a mixture of experts.
    """

    logits: Tensor | None
    hidden: Tensor
    router: tuple[Tensor, ...] = ()


class Decoder(nn.Module):
    """Predict the next token at every position."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.gradient_checkpointing = False
        self.token_embedding = nn.Embedding(spec.vocab_size, spec.dim)
        learned = spec.positions == "learned"
        self.position_embedding = nn.Embedding(spec.max_seq_len, spec.dim) if learned else None
        self.blocks = nn.ModuleList(Block(layer, spec.dim) for layer in spec.layers)
        self.norm = nn.Identity() if spec.norm is None else make_norm(spec.norm, spec.dim)
        self.head = None if spec.tied else nn.Linear(spec.dim, spec.vocab_size, bias=spec.head_bias)

    @property
    def head_weight(self) -> Tensor:
        """Return the matrix of the vocabulary projection: (V, D)."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    @property
    def head_bias(self) -> Tensor | None:
        """Return the bias of the vocabulary projection: (V,) or None."""
        return None if self.head is None else self.head.bias

    def project(self, hidden: Tensor) -> Tensor:
        """Map normalised hidden states to logits: (.., D) -> (.., V)."""
        if self.head is None:
            logits = functional.linear(hidden, self.token_embedding.weight)
        else:
            logits = self.head(hidden)
        cap = self.spec.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: KVCache | None = None,
        project: bool = True,
    ) -> Output:
        """Run the model on ids (B, T); with a cache, ids are the new tokens only and the cache grows in place.

        positions and segments are (B, T). Segment 0 is padding; a token sees only its own segment. Positions left
        out are counted from the start of each segment. Raises UsageError beyond the model's context.
        """
        positions, seen = self._place(ids, positions, segments, cache)
        x = self._embed(ids, positions)  # (B, T, D)
        shared = self._shared(positions, seen, x, 0 if cache is None else cache.length)
        router: list[Tensor] = []
        for index, (block, layer) in enumerate(zip(self.blocks, self.spec.layers, strict=True)):
            cos, sin, mask = shared[layer.attention]
            if cache is not None:
                # Not block(...): a compiled call would be traced again for every length of the cache.
                x, scores = block.forward(x, cos, sin, mask, cache.layers[index])
            elif self.gradient_checkpointing and torch.is_grad_enabled():
                x, scores = checkpoint(block, x, cos, sin, mask, use_reentrant=False, preserve_rng_state=False)
            else:
                x, scores = block(x, cos, sin, mask)
            if scores is not None:
                router.append(scores)
        hidden = self.norm(x)
        return Output(self.project(hidden) if project else None, hidden, tuple(router))

    def _shared(
        self, positions: Tensor, seen: Tensor | None, x: Tensor, start: int
    ) -> dict[AttentionSpec, tuple[Tensor | None, Tensor | None, Tensor | None]]:
        """Return cos, sin and mask for each kind of attention that layers have."""
        found: dict[AttentionSpec, tuple[Tensor | None, Tensor | None, Tensor | None]] = {}
        for layer in self.spec.layers:
            kind = layer.attention
            if kind not in found:
                cos, sin = (None, None) if kind.rotary is None else rotary_tables(positions, kind.rotary, x.dtype)
                found[kind] = (cos, sin, attention_mask(kind, x.shape[1], start + x.shape[1], seen, x))
        return found

    def _embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        x: Tensor = self.token_embedding(ids)
        if self.spec.embedding_scale is not None:
            x = x * torch.tensor(self.spec.embedding_scale, dtype=x.dtype)  # rounded as the weights are
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        elif self.spec.positions == "sinusoidal":
            x = x + sinusoidal(positions, self.spec.dim, x.dtype)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # a narrow residual stream halves the memory traffic
        return x

    def _place(
        self, ids: Tensor, positions: Tensor | None, segments: Tensor | None, cache: KVCache | None
    ) -> tuple[Tensor, Tensor | None]:
        """Settle positions, (T,) or (B, T), and the segments of all slots, (B, S) or None where no mask is needed."""
        num_tokens, start, limit = ids.shape[1], 0 if cache is None else cache.length, self.spec.max_seq_len
        if positions is None and start + num_tokens > limit:
            raise UsageError(
                f"{start + num_tokens} tokens in a context of {limit}",
                accepted=f"at most {limit} tokens",
                fix="shorten the text, or use a model with a longer context",
            )
        seen = segments if cache is None else cache.extend_segments(num_tokens, segments)
        if seen is None or (cache is not None and cache.uniform):
            if positions is None:
                positions = torch.arange(start, start + num_tokens, device=ids.device)
            return positions, seen if start > 0 and num_tokens > 1 else None
        if positions is None:
            positions = positions_in_segments(seen)[:, start:]
        return positions, seen
