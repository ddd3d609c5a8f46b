"""Many adapters over one base in one batch: each request's rows get what its own adapter adds, and the others nothing.

A model is not changed: while some rows have an adapter, hooks behind its linear layers add up (down x) to those rows,
one adapter after another. The fused step does the same for itself, from tables of addresses (`PackedAdapter`). So an
adapter costs its own few numbers, and can come and go between two steps; whoever runs with one keeps it to the end.

Ref: S-LoRA, arXiv:2311.03285, sections 3 and 5.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.core.errors import UsageError, nearest
from smelt.infer.absmax import GROUP
from smelt.infer.fused import supports
from smelt.infer.kernels.step import PHASES, UP
from smelt.infer.kernels.vectors import LANES
from smelt.infer.packing import aligned_bytes, block_places, round_up
from smelt.infer.prepared import MATRICES, linears
from smelt.models.transformer import Transformer
from smelt.peft.lora import Lora, LowRank, check_fits

READ_AS_WEIGHTS = (".kv_up", ".router")
"""The ends of names of layers that the model does not always call."""
_serials = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A loaded adapter; `root` begins the names of its pages, as its keys and values are not those of the base."""

    name: str
    lora: Lora
    packed: PackedAdapter | None  # where the fused step knows the model
    root: bytes

    @property
    def address(self) -> int:
        """Return where the fused step finds it."""
        assert self.packed is not None, "a model with a fused step has packed adapters"
        return self.packed.address


class Adapters:
    """The adapters of a model by name.

    Args:
        model: the base of all of them.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self._loaded: dict[str, Adapter] = {}
        self._hooked: set[str] = set()
        self._groups: list[tuple[Adapter, Tensor]] = []  # who is applied now, and to which rows

    @property
    def names(self) -> list[str]:
        """Return what is loaded."""
        return list(self._loaded)

    def add(self, name: str, lora: Lora) -> None:
        """Load an adapter under a name that is free.

        Raises UsageError where it is not, for other layers' shapes, and for layers whose output it cannot reach.
        """
        if name in self._loaded:
            raise UsageError(f"an adapter named {name!r} is loaded", fix="drop it first, or use another name")
        check_fits(self.model, lora)
        for layer in lora:
            if layer.endswith(READ_AS_WEIGHTS):
                raise UsageError(
                    f"the adapter changes {layer!r}, whose weight is read without a call, so that rows cannot differ",
                    fix="merge the adapter into the weights",
                )
        weight = self.model.head_weight
        placed = {
            layer: LowRank(pair.down.to(weight.device, weight.dtype), pair.up.to(weight.device, weight.dtype))
            for layer, pair in lora.items()
        }
        packed = PackedAdapter(self.model, lora) if supports(self.model.spec) is None else None
        for layer in placed.keys() - self._hooked:
            self.model.get_submodule(layer).register_forward_hook(partial(self._add_to, layer))
            self._hooked.add(layer)
        self._loaded[name] = Adapter(name, placed, packed, b"adapter %d" % next(_serials))

    def drop(self, name: str) -> None:
        """Forget an adapter; requests that have it keep it. Raises UsageError for a name that is not loaded."""
        self.find(name)
        del self._loaded[name]

    def find(self, name: str) -> Adapter:
        """Return an adapter; raises UsageError for a name that is not loaded."""
        if name not in self._loaded:
            raise UsageError(f"no adapter named {name!r}.{nearest(name, self.names)}", accepted=", ".join(self.names))
        return self._loaded[name]

    @contextmanager
    def applied(self, rows: Sequence[Adapter | None]) -> Iterator[None]:
        """Let the rows of the model's next forward have these adapters."""
        device = self.model.head_weight.device
        self._groups = [
            (adapter, torch.tensor([row for row, other in enumerate(rows) if other is adapter], device=device))
            for adapter in dict.fromkeys(rows)
            if adapter is not None
        ]
        try:
            yield
        finally:
            self._groups = []

    def _add_to(self, layer: str, _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """Add to a layer's output (B, T, out) what the applied adapters make of its input (B, T, in)."""
        for adapter, rows in self._groups:
            if (pair := adapter.lora.get(layer)) is not None:
                output = output.index_add(0, rows, inputs[0][rows] @ pair.down.mT @ pair.up.mT)
        return output


class PackedAdapter:
    """An adapter as the fused step reads it: of each matrix of a layer its rank, and where its halves lie.

    `down` is a row of fp32 a rank, filled up as activations are; `up` lies as the matrix does, in blocks of 16 outputs
    with a vector a rank. Of a matrix that is made of several layers, each has ranks of its own.
    """

    def __init__(self, model: Transformer, lora: Lora) -> None:
        self._table = np.zeros((len(model.blocks), PHASES, 3), np.int64)
        self._kept: list[Any] = []
        for number, block in enumerate(model.blocks):
            for phase in MATRICES:
                layers = linears(block, phase)
                pairs = [lora.get(f"blocks.{number}.{name}") for name in layers]
                if any(pairs):
                    self._table[number, phase] = self._halves(pairs, list(layers.values()), interleaved=phase == UP)

    @property
    def address(self) -> int:
        """Return where the table lies; only while this object lives."""
        return int(self._table.ctypes.data)

    def _halves(
        self, pairs: list[LowRank | None], layers: list[nn.Linear], *, interleaved: bool
    ) -> tuple[int, int, int]:
        """Return the rank of a matrix of several layers, and where its halves lie."""
        rank = sum(pair.rank for pair in pairs if pair is not None)
        places, num_blocks = block_places([layer.out_features for layer in layers], interleaved=interleaved)
        down = self._zeros(rank, round_up(layers[0].in_features, GROUP))
        up, first = self._zeros(num_blocks, rank, LANES), 0
        for pair, layer, place in zip(pairs, layers, places, strict=True):
            if pair is not None:
                own = slice(first, first + pair.rank)
                down[own, : layer.in_features] = pair.down.float().numpy()
                rows = functional.pad(pair.up.float(), (0, 0, 0, -layer.out_features % LANES))
                up[place, own] = rows.view(-1, LANES, pair.rank).mT.numpy()
                first += pair.rank
        return rank, down.ctypes.data, up.ctypes.data

    def _zeros(self, *shape: int) -> npt.NDArray[np.float32]:
        cells = aligned_bytes(4 * math.prod(shape)).view(np.float32).reshape(shape)
        self._kept.append(cells)
        return cells
