"""Keys and values in pages: what a model's forward sees as a cache, for requests that each have their own length.

A pool holds the slots of all pages, a layer at a time. For one forward, rows are laid side by side so that their last
tokens stand in the same column: new keys and values go to the slots of their request, and those of the whole text are
gathered from its pages. Distances, and with them windows and biases, are those of the text. What fills a row up at its
left is of segment 0 and seen by nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smelt.infer.absmax import SCALE_BYTES, dequantize_heads, quantize_heads
from smelt.nn.cache import KVCache, LayerCache, slots_behind
from smelt.nn.spec import ModelSpec


class Pool:
    """Hold the keys and values of every layer: (slots, K, C) each, and one page more that nobody reads.

    In int8 a head has its scale behind it (`absmax.quantize_heads`).
    """

    def __init__(
        self, spec: ModelSpec, num_pages: int, page_tokens: int, *, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.page_tokens = page_tokens
        self.spare_slot = num_pages * page_tokens  # takes what fills rows up
        num_slots = self.spare_slot + page_tokens
        # Zeros, not whatever was there: a weight of 0 times NaN is NaN.
        self.layers = [
            tuple(
                torch.zeros(num_slots, heads, _cells(size, dtype), dtype=dtype, device=device)
                for heads, size in layer.attention.cached
            )
            for layer in spec.layers
        ]

    @staticmethod
    def bytes_per_token(spec: ModelSpec, dtype: torch.dtype) -> int:
        """Return what the keys and values of one token take, in all layers."""
        numbers = sum(heads * _cells(size, dtype) for layer in spec.layers for heads, size in layer.attention.cached)
        return numbers * dtype.itemsize


def _cells(size: int, dtype: torch.dtype) -> int:
    """Return how many cells of a type hold a head."""
    return size + SCALE_BYTES if size and dtype is torch.int8 else size


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros: a weight of 0 times NaN would be NaN. On the CPU, what is never written takes no memory."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)


@dataclass(frozen=True)
class Row:
    """One request's part of a forward: its pages, how many of its tokens are cached, and the tokens to read now."""

    pages: Sequence[int]
    num_cached: int
    tokens: Sequence[int]


class PagedLayer(LayerCache):
    """Store new tokens in a layer's slots, and gather those that they may see."""

    def __init__(self, keys: Tensor, values: Tensor, written: Tensor, read: Tensor, window: int | None) -> None:
        super().__init__(keys, values, window=window)
        self.written, self.read = written, read  # (B, T) and (B, S) slots

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new tokens (B, K, T, C); return those of the whole rows, in a window the last: (B, K, S, C)."""
        num_new = keys.shape[2]
        num_seen = slots_behind(self.read.shape[1] - num_new, self.window) + num_new
        read = self.read[:, -num_seen:]
        return self._through(self.keys, keys, read), self._through(self.values, values, read)

    def _through(self, cells: Tensor, heads: Tensor, read: Tensor) -> Tensor:
        """Write new heads (B, K, T, C), and return those of the slots (B, S) that are read, (B, K, S, C)."""
        new = heads.transpose(1, 2)
        if cells.dtype is not torch.int8:
            cells[self.written] = new
            return cells[read].transpose(1, 2)
        cells[self.written] = quantize_heads(new)
        return dequantize_heads(cells[read], heads.dtype).transpose(1, 2)


class PagedCache(KVCache):
    """The cache of one forward over some requests; ids, positions and segments of the new tokens lie beside it."""

    def __init__(self, spec: ModelSpec, pool: Pool, rows: Sequence[Row]) -> None:
        device = pool.layers[0][0].device
        num_new = max(len(row.tokens) for row in rows)
        num_slots = max(row.num_cached + len(row.tokens) for row in rows)
        ids, positions = torch.zeros(2, len(rows), num_new, dtype=torch.long)
        read = torch.full((len(rows), num_slots), pool.spare_slot)
        within = torch.arange(pool.page_tokens)
        for number, row in enumerate(rows):
            count, end = len(row.tokens), row.num_cached + len(row.tokens)
            ids[number, num_new - count :] = torch.tensor(row.tokens)
            positions[number, num_new - count :] = torch.arange(row.num_cached, end)
            slots = (torch.tensor(row.pages)[:, None] * pool.page_tokens + within).flatten()
            read[number, num_slots - end :] = slots[:end]
        segments = (read != pool.spare_slot).long()
        new = torch.arange(num_new)[None] >= num_new - torch.tensor([len(row.tokens) for row in rows])[:, None]
        written = torch.where(new, read[:, num_slots - num_new :], pool.spare_slot)
        self.ids, self.positions = ids.to(device), positions.to(device)
        self.start = num_slots - num_new
        written, read = written.to(device), read.to(device)
        layers: list[LayerCache] = [
            PagedLayer(keys, values, written, read, layer.attention.window)
            for (keys, values), layer in zip(pool.layers, spec.layers, strict=True)
        ]
        super().__init__(layers, segments.to(device))
        self.uniform = bool(segments.all()) and bool(new.all())

    @property
    def length(self) -> int:
        """Return how many columns lie before the new tokens'."""
        return self.start

    def in_order(self, mask: Tensor, window: int | None) -> Tensor:
        """Return the mask as it is: rows are gathered in the order of their text."""
        return mask

    def extend_segments(self, num_tokens: int, segments: Tensor | None) -> Tensor:
        """Return the segments of all columns (B, S)."""
        return self.segments
