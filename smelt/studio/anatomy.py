"""What a model is made of, from its files' headers alone: its parts, the shape and the cost of each weight, its cache.

Nothing is loaded, so that a model of any kind and size can be looked at. A format's cost is that of all matrices in it,
vectors as they are stored; that of int8 and int4 includes the scale of each group, as in `infer.packing`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from smelt.core.storage import checkpoint_at
from smelt.infer.absmax import GROUP, SCALE_BYTES
from smelt.infer.paged_cache import Pool
from smelt.models.build import count_active
from smelt.models.hub import open_mapped
from smelt.models.loading import stored_dtypes
from smelt.models.shards import read_json
from smelt.models.sizes import forward_flops, networks, state_bytes
from smelt.models.weights import mapped
from smelt.nn.spec import LayerSpec, ModelSpec, MoESpec
from smelt.peft.files import CONFIG
from smelt.peft.load import base_of, is_adapter

Json = dict[str, Any]
SCALE_BITS = 16 / GROUP  # of a number, for the scale of its group
FORMATS = {"float32": 32.0, "bfloat16": 16.0, "int8": 8 + SCALE_BITS, "int4": 4 + SCALE_BITS}
"""Bits of a number of a matrix."""


def anatomy(path: Path) -> Json:
    """Describe the model of a checkpoint, a run or an adapter, whose base is described."""
    directory = checkpoint_at(path)
    adapter = is_adapter(directory)
    if adapter:
        directory = checkpoint_at(base_of(directory, read_json(directory / CONFIG)))
    network, rules, shards = open_mapped(directory)
    stored = stored_dtypes(mapped(rules), shards)
    parameters = []
    for name, parameter in network.named_parameters():
        kind, shape = stored[name], list(parameter.shape)
        one = {"name": name, "shape": shape, "numbers": parameter.numel(), "dtype": str(kind).removeprefix("torch.")}
        parameters.append({**one, "bytes": parameter.numel() * kind.itemsize})
    spec = network.spec
    return {
        "family": spec.family,
        "adapter": adapter,
        "numbers": sum(one["numbers"] for one in parameters),
        "active": count_active(spec),
        "bytes": sum(one["bytes"] for one in parameters),
        "flops_per_token": forward_flops(spec, spec.max_seq_len),
        "parameters": parameters,
        "formats": [weights_in(parameters, name, bits) for name, bits in FORMATS.items()],
        "cache": list(caches(spec)),
        "state_bytes": state_bytes(spec),
        **outline(spec),
    }


def outline(spec: ModelSpec) -> Json:
    """Describe the parts of a network in the order of a forward pass."""
    return {
        "vocab_size": spec.vocab_size,
        "dim": spec.dim,
        "context": spec.max_seq_len,
        "tied": spec.tied,
        "positions": spec.positions,
        "norm": None if spec.norm is None else spec.norm.kind,
        "causal": spec.is_causal,
        "head": spec.language_head,
        "tasks": [task.name for task in spec.tasks],
        "recurrent": None if spec.recurrent is None else asdict(spec.recurrent),
        "shared_layers": spec.shared_layers,
        "layers": [layer_of(layer) for layer in spec.layers],
        "encoder": None if spec.encoder is None else outline(spec.encoder),
    }


def layer_of(layer: LayerSpec) -> Json:
    """Describe a block."""
    kind, feed = layer.attention, layer.feed_forward
    attention = {
        "heads": kind.num_heads,
        "kv_heads": kind.num_kv_heads,
        "head_dim": kind.head_dim,
        "window": kind.window,
        "softcap": kind.softcap,
        "rotary": None if kind.rotary is None else kind.rotary.theta,
        "head_norms": kind.qk_norm is not None,
        "sinks": kind.sinks,
        "alibi": kind.alibi,
        "latent": None if kind.latent is None else kind.latent.kv_rank,
    }
    experts = {"experts": feed.num_experts, "taken": feed.experts_per_token} if isinstance(feed, MoESpec) else {}
    inner = {"hidden": layer.dense.hidden_dim, "activation": layer.dense.activation, **experts}
    placed = {"placement": layer.placement, "norm": layer.norm.kind, "cross": layer.cross is not None}
    return {"attention": attention, "feed_forward": inner, **placed}


def weights_in(parameters: list[Json], name: str, bits: float) -> Json:
    """Return the bytes of all weights with their matrices in a format."""
    matrices = sum(one["numbers"] for one in parameters if len(one["shape"]) > 1)
    vectors = sum(one["bytes"] for one in parameters if len(one["shape"]) < 2)
    return {"format": name, "bytes": math.ceil(matrices * bits / 8) + vectors}


def caches(spec: ModelSpec) -> Iterator[Json]:
    """Yield the bytes of a token's keys and values in each format, none for a model that keeps none.

    The engine keeps none in int4: that is what two numbers a byte and a scale a head would take.
    """
    if not spec.layers or not spec.is_causal or len(networks(spec)) > 1:
        return
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        name = str(dtype).removeprefix("torch.")
        yield {"format": name, "bytes": Pool.bytes_per_token(spec, dtype), "offered": True}
    sizes = [(heads, size) for layer in spec.layers for heads, size in layer.attention.cached if size]
    yield {
        "format": "int4",
        "bytes": sum(heads * (-(-size // 2) + SCALE_BYTES) for heads, size in sizes),
        "offered": False,
    }
