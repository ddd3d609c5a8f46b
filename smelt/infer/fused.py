"""Decode without torch: one call of a kernel gives the next logits of every running request.

At one token a step a model is bound by how fast its weights come from memory. So weights are kept in 32, 16, 8 or 4
bits, in the order in which they are read, and nothing stands between two reads: no dispatch, no allocation, no
intermediate tensor. Keys and values lie in the pages that a scheduler hands out. The result of a row is the same, bit
for bit, whatever other rows there are and however many threads. `supports` says which networks it knows; the model
itself, slower, is what it is tested against.

8 and 4 bits round activations, too, to 8 bits in groups of 32, as the processor multiplies bytes much faster.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smelt.core.errors import UsageError
from smelt.core.runtime import num_threads
from smelt.infer.absmax import SCALE_BYTES
from smelt.infer.crew import Crew
from smelt.infer.kernels.step import BAD_ID, BAD_POSITION, run_step
from smelt.infer.packing import Weights
from smelt.infer.prepared import ACTIVATIONS, CACHE_KINDS, Prepared
from smelt.models.encoder_decoder import meta_network
from smelt.models.transformer import Transformer
from smelt.nn.spec import AttentionSpec, LayerSpec, ModelSpec, MoESpec

Numbers = npt.NDArray[np.int64]


def supports(spec: ModelSpec) -> str | None:
    """Return why the fused step cannot run a network, or None if it can."""
    if not spec.layers or spec.encoder is not None or spec.context is not None:
        return "it is not a decoder of blocks alone"
    odd = {
        "no language head": not spec.language_head,
        "no final norm": spec.norm is None,
        "sinusoidal positions": spec.positions not in ("none", "learned"),
        "relative positions": spec.relative is not None,
        "embeddings of another width": spec.embedding_dim is not None,
        "normed, scaled or typed embeddings": bool(spec.embedding_norm or spec.embedding_scale or spec.num_types),
        "a transform before the head": spec.head_transform is not None,
        "scaled or bounded logits": spec.logit_scale is not None or spec.logit_softcap is not None,
        "layers that share weights": spec.shared_layers,
    }
    reasons = [name for name, found in odd.items() if found]
    for layer in spec.layers:
        reasons += _layer_reasons(layer)
    if len({_shape(layer) for layer in spec.layers}) > 1:
        reasons.append("layers of different sizes")
    return f"it has {reasons[0]}" if reasons else None


def _layer_reasons(layer: LayerSpec) -> list[str]:
    attention, rotary = layer.attention, layer.attention.rotary
    odd = {
        f"{layer.placement} norms": layer.placement != "pre",
        "cross-attention": layer.cross is not None,
        "a mixture of experts": isinstance(layer.feed_forward, MoESpec),
        f"{layer.dense.activation} activations": layer.dense.activation not in ACTIVATIONS,
        "attention that is not causal": not attention.causal,
        "latent attention": attention.latent is not None,
        "attention among blocks": attention.blocks is not None,
        "attention with sinks or linear biases": attention.sinks or attention.alibi,
        "interleaved or two-axis rotary positions": rotary is not None and (rotary.interleaved or rotary.axes > 1),
    }
    return [name for name, found in odd.items() if found]


def _shape(layer: LayerSpec) -> tuple[int, ...]:
    attention: AttentionSpec = layer.attention
    return attention.num_heads, attention.num_kv_heads, attention.head_dim, layer.dense.hidden_dim


def added_to(model: Transformer) -> str | None:
    """Return what a step made by the spec alone would leave out or miss, None where the model is as its spec says."""
    told = {name for name, _ in meta_network(model.spec).named_parameters()}
    odd = [name for name, _ in model.named_parameters() if name not in told]
    odd += sorted(told - {name for name, _ in model.named_parameters()})
    return f"it was tuned or changed, at {odd[0]}" if odd else None


class FusedDecoder:
    """Decode one token at a time for up to `max_rows` requests; for one thread at a time.

    Args:
        model: a network that `supports` knows, on the CPU; its weights are copied.
        weights: the type in which matrices are kept: fp32, bf16, int8 or int4.
        threads: how many threads work on a step, the caller's included; all cores if None.
        max_rows: the largest batch.

    Raises:
        UsageError: the network is not supported, or an argument is out of range.
    """

    def __init__(
        self, model: Transformer, *, weights: Weights = "bf16", threads: int | None = None, max_rows: int = 64
    ) -> None:
        reason = supports(model.spec) or added_to(model)
        if reason is not None:
            raise UsageError(f"no fused step for this network: {reason}", fix="run the model itself")
        if weights not in get_args(Weights):
            raise UsageError(f"weights in {weights!r}", accepted=", ".join(get_args(Weights)))
        threads = num_threads() if threads is None else threads
        for name, value in (("threads", threads), ("rows", max_rows)):
            if value < 1:
                raise UsageError(f"a fused step with {value} {name}", accepted="at least 1")
        self.spec, self.max_rows = model.spec, max_rows
        self._prepared = Prepared(model, weights, threads, max_rows)
        ready = self._prepared
        self._crew = Crew(threads, run_step, (ready.model, ready.layers, ready.rotaries, ready.request))
        self._logits = torch.from_numpy(ready.logits)
        self._page_tokens = 0

    def attach(self, keys: Sequence[Tensor], values: Sequence[Tensor], page_tokens: int) -> None:
        """Use a pool of keys and values, (num_slots, K, C) a layer, fp32 or bf16; slots go in pages.

        In int8 (num_slots, K, C + 4), a head's scale lies behind it, as `absmax.quantize_heads` makes it. Raises
        UsageError for tensors that are not such a pool.
        """
        attention = self.spec.layers[0].attention
        narrow = bool(keys) and keys[0].dtype is torch.int8
        shape = (len(keys[0]) if keys else 0, attention.num_kv_heads, attention.head_dim + narrow * SCALE_BYTES)
        if page_tokens < 1 or len(keys) != len(self.spec.layers) or len(values) != len(keys):
            raise UsageError(
                f"{len(keys)} layers of keys, {len(values)} of values, pages of {page_tokens} tokens",
                accepted=f"{len(self.spec.layers)} of each, pages of 1 token or more",
            )
        for tensor in (*keys, *values):
            fits = tuple(tensor.shape) == shape and tensor.dtype is keys[0].dtype and tensor.is_contiguous()
            if not fits or tensor.dtype not in CACHE_KINDS or tensor.device.type != "cpu":
                raise UsageError(
                    f"a pool with {tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}",
                    accepted=f"contiguous {shape} on the CPU, all of fp32, bf16 or int8",
                )
        self._prepared.write_pool(list(keys), list(values), page_tokens)
        self._page_tokens = page_tokens

    def decode(
        self,
        ids: npt.ArrayLike,
        positions: npt.ArrayLike,
        pages: npt.ArrayLike,
        counts: Sequence[int] | None = None,
        adapters: Sequence[int] | None = None,
    ) -> Tensor:
        """Write the keys and values of new tokens ids (B,) at positions (B,), and return the logits that follow (B, V).

        pages (B, P) are the pages, in order, of each token's text; those beyond its position are not read. `counts`
        says how many tokens in a row are of one text, in its order; one each if None. `adapters` are the addresses of
        each token's `PackedAdapter`, 0 for none. The logits are fp32 and are overwritten by the next call. Raises
        UsageError for shapes that differ and numbers out of range.
        """
        if not self._page_tokens:
            raise UsageError("a fused step without a cache", fix="attach() a pool first")
        tokens, places, table = (np.ascontiguousarray(numbers, np.int64) for numbers in (ids, positions, pages))
        count = len(tokens) if tokens.ndim == 1 else 0
        if not 0 < count <= self.max_rows or places.shape != (count,) or table.ndim != 2 or len(table) != count:
            raise UsageError(
                f"ids {tokens.shape}, positions {places.shape}, pages {table.shape}",
                accepted=f"(B,), (B,) and (B, P) with B from 1 to {self.max_rows}",
            )
        each = [1] * count if counts is None else list(counts)
        if sum(each) != count or min(each) < 1:
            raise UsageError(f"counts {each} of {count} tokens", accepted="one or more a text, all of them together")
        texts = np.array([0, *itertools.accumulate(each)], np.int64)
        addresses = (tokens.ctypes.data, places.ctypes.data, table.ctypes.data)
        added = np.array(adapters or [], np.int64)
        if len(added) not in (0, count):
            raise UsageError(f"{len(added)} adapters for {count} tokens", accepted="one a token")
        own = added.ctypes.data if added.any() else 0
        self._prepared.request[0] = (count, *addresses, table.shape[1], len(each), texts.ctypes.data, own)
        fault = self._crew.run()
        if fault:
            self._refuse(fault, tokens, places, table)
        return self._logits[:count, : self.spec.vocab_size]

    @property
    def weight_bytes(self) -> int:
        """Return the bytes of packed weights, all of which a step reads."""
        return self._prepared.weight_bytes

    def close(self) -> None:
        """Stop the threads; steps are then made by the caller's alone."""
        self._crew.close()

    def _refuse(self, fault: int, ids: Numbers, positions: Numbers, pages: Numbers) -> None:
        row, kind = divmod(fault, 4)
        if kind == BAD_ID:
            what, accepted = f"token id {ids[row]}", f"0 to {self.spec.vocab_size - 1}"
        elif kind == BAD_POSITION:
            most = min(self.spec.max_seq_len, pages.shape[1] * self._page_tokens)
            what, accepted = (
                f"position {positions[row]}",
                f"0 to {most - 1}, by the model's context and the pages given",
            )
        else:
            num_pages = int(self._prepared.model[0]["num_slots"]) // self._page_tokens
            what, accepted = f"pages {pages[row].tolist()}", f"0 to {num_pages - 1}"
        raise UsageError(f"row {row}: {what}", accepted=accepted)
