"""Keys and values of past tokens, kept so that each new token costs one row of work instead of the whole text.

The cache is an argument of the forward, not a part of the model: one model serves many conversations. Memory is
allocated once for `max_seq_len` slots: 2 x L x K x C numbers a token and row. Segment ids travel with the slots, so
left padding and separate documents stay separate while generating.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smelt.core.errors import UsageError
from smelt.nn.spec import ModelSpec


@dataclass
class LayerCache:
    """Hold one layer's keys and values, (B, K, S, C) each, filled up to `length`; and those of an encoder's output."""

    keys: Tensor
    values: Tensor
    length: int = 0
    memory: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new tokens (B, K, T, C) in place; return views of all filled slots (B, K, S, C)."""
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """Hold the cache of every layer and the segment id of every slot."""

    def __init__(self, layers: list[LayerCache], segments: Tensor) -> None:
        self.layers = layers
        self.segments = segments  # (B, S)
        self.memory: tuple[Tensor, Tensor | None] | None = None  # an encoder's output and its segments
        self.uniform = True  # no caller gave segments yet: every slot is segment 1, no mask is needed

    @classmethod
    def allocate(
        cls,
        spec: ModelSpec,
        batch_size: int,
        max_seq_len: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> "KVCache":
        """Allocate an empty cache of `max_seq_len` slots a row."""
        layers = []
        for layer in spec.layers:
            attention = layer.attention
            shape = (batch_size, attention.num_kv_heads, max_seq_len, attention.head_dim)
            keys, values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
            layers.append(LayerCache(keys, values))
        return cls(layers, torch.ones(batch_size, max_seq_len, dtype=torch.long, device=device))

    @property
    def length(self) -> int:
        """Return the number of filled slots."""
        return self.layers[0].length

    @property
    def max_seq_len(self) -> int:
        """Return the number of slots a row."""
        return self.segments.shape[1]

    def extend_segments(self, num_tokens: int, segments: Tensor | None) -> Tensor:
        """Record the segments of the next tokens (B, T), 1 if None; return all segments so far (B, S).

        Raises UsageError when the tokens do not fit.
        """
        start, end = self.length, self.length + num_tokens
        if end > self.max_seq_len:
            raise UsageError(
                f"{end} tokens in a cache of {self.max_seq_len}",
                accepted=f"at most {self.max_seq_len} tokens with the prompt",
                fix="allocate a longer cache, or shorten the prompt or the answer",
            )
        if segments is not None:
            self.segments[:, start:end] = segments
            self.uniform = False
        return self.segments[:, :end]

    def reorder(self, rows: Tensor | Sequence[int]) -> None:
        """Replace row b by row rows[b], in place; for beam search."""
        index = torch.as_tensor(rows, device=self.segments.device)
        self.segments = self.segments[index]
        if self.memory is not None:
            self.memory = self.memory[0][index], None if self.memory[1] is None else self.memory[1][index]
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[index], layer.values[index]
            if layer.memory is not None:
                layer.memory = layer.memory[0][index], layer.memory[1][index]
