"""Keys and values of past tokens, kept so that each new token costs one row of work instead of the whole text.

The cache is an argument of the forward, not a part of the model: one model serves many conversations. Memory is
allocated once for `max_seq_len` slots: 2 x L x K x C numbers a token and row. A layer with a window keeps as many slots
as the window has: a new token takes the place of the one that has just left it, and since a weighted mean has no order,
a single token reads the ring as it lies. Segment ids travel with the slots, so left padding and separate documents stay
separate while generating.
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
    window: int | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new tokens (B, K, T, C) in place; return all filled slots (B, K, S, C), in a window those it shows.

        A single token gets the slots of a window in the order of the ring, several get them in that of the text.
        """
        if self.window is None:
            end = self.length + keys.shape[2]
            self.keys[:, :, self.length : end] = keys
            self.values[:, :, self.length : end] = values
            self.length = end
            return self.keys[:, :, :end], self.values[:, :, :end]
        size, num_new, start = self.keys.shape[2], keys.shape[2], self.length
        self.length += num_new
        if num_new == 1:
            self.keys[:, :, start % size] = keys[:, :, 0]
            self.values[:, :, start % size] = values[:, :, 0]
            return self.keys[:, :, : self.length], self.values[:, :, : self.length]
        past = torch.arange(start - slots_behind(start, self.window), start, device=keys.device) % size
        last = torch.arange(start, self.length, device=keys.device)[-size:] % size
        seen = torch.cat((self.keys[:, :, past], keys), dim=2), torch.cat((self.values[:, :, past], values), dim=2)
        self.keys[:, :, last] = keys[:, :, -size:]
        self.values[:, :, last] = values[:, :, -size:]
        return seen


def slots_behind(length: int, window: int | None) -> int:
    """Return how many of so many cached slots new tokens may see."""
    return length if window is None else min(length, window - 1)


@dataclass
class LayerState:
    """Hold what one recurrent layer remembers of `length` tokens, (B, H) each."""

    values: tuple[Tensor, ...]
    length: int = 0

    def advance(self, values: tuple[Tensor, ...], num_tokens: int) -> None:
        """Remember what is left behind so many tokens more."""
        self.values, self.length = values, self.length + num_tokens


class KVCache:
    """Hold the cache of every layer, or the state of every recurrent one, and the segment id of every slot."""

    def __init__(self, layers: list[LayerCache], segments: Tensor, states: list[LayerState] | None = None) -> None:
        self.layers = layers
        self.states = states or []
        self.segments = segments  # (B, S)
        self.memory: tuple[Tensor, Tensor | None] | None = None  # an encoder's output and its segments
        self.context: tuple[Tensor, Tensor] | None = None  # where each row's context ends, and its blank: (B, 1) each
        self.prefix: list[tuple[Tensor, Tensor]] | None = None  # of virtual tokens, by layer, for all rows alike
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
            window = layer.attention.window
            window = None if window is None or window >= max_seq_len else window
            keys, values = (
                torch.empty(batch_size, heads, window or max_seq_len, size, dtype=dtype, device=device)
                for heads, size in layer.attention.cached
            )
            layers.append(LayerCache(keys, values, window=window))
        states = []
        if (recurrent := spec.recurrent) is not None:
            zeros = torch.zeros(batch_size, spec.dim, dtype=dtype, device=device)
            states = [LayerState((zeros,) * recurrent.num_states) for _ in range(recurrent.num_layers)]
        return cls(layers, torch.ones(batch_size, max_seq_len, dtype=torch.long, device=device), states)

    @property
    def length(self) -> int:
        """Return the number of filled slots."""
        return (self.layers or self.states)[0].length

    @property
    def max_seq_len(self) -> int:
        """Return the number of slots a row."""
        return self.segments.shape[1]

    def in_order(self, mask: Tensor, window: int | None) -> Tensor:
        """Put the columns of the next token's mask in the order in which layers give their slots."""
        length = self.length + 1
        return mask if window is None or length < window else mask.roll(length % window, dims=-1)

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
        if self.context is not None:
            self.context = self.context[0][index], self.context[1][index]
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[index], layer.values[index]
            if layer.memory is not None:
                layer.memory = layer.memory[0][index], layer.memory[1][index]
        for state in self.states:
            state.values = tuple(value[index] for value in state.values)
