"""Causal attention: every token reads a weighted mean of earlier tokens' values.

`attend` is the one door: it runs torch's fused kernel, whose memory is linear in length, save for short bf16 rows on
the processor, where that kernel is slow and two plain products are not. `attend_reference` is the textbook formula, and
a test proves all three equal. The mask is built once a forward and shared by all layers; without padding, segments or
cache there is none and the fused kernel skips the upper triangle.
K kv heads may serve H query heads in groups of H / K, which shrinks the cache.

Ref: Attention Is All You Need, arXiv:1706.03762, eq. 1. Ref: GQA, arXiv:2305.13245.
Ref: FlashAttention, arXiv:2205.14135.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.nn.cache import LayerCache
from smelt.nn.positions import apply_rotary
from smelt.nn.spec import AttentionSpec

# Measured on two cores with AVX-512 bf16, forward and backward: products take a fifth of the fused kernel's time at 64
# tokens, a half at 512, and as much or more beyond. In fp32 the fused kernel wins from 128 on.
PRODUCTS_UP_TO = 512


def segment_mask(queries: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """Build the additive mask from segment ids (B, T) and (B, S), the queries being the last T of S: (B, 1, T, S).

    A token sees its own slot and earlier ones of the same segment; so no row is fully masked, not even padding.
    """
    num_queries, num_keys = queries.shape[1], keys.shape[1]
    slots = torch.arange(num_keys, device=keys.device)
    earlier = slots <= slots[num_keys - num_queries :, None]  # (T, S)
    visible = earlier & (queries[:, :, None] == keys[:, None, :])  # (B, T, S)
    mask = torch.zeros(visible.shape, dtype=dtype, device=keys.device)
    return mask.masked_fill_(~visible, -math.inf)[:, None]


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend in the fastest way for these shapes: (B, H, T, C) over (B, K, S, C) -> (B, H, T, C).

    `mask` is additive (B or 1, 1, T, S). Without one, T = S means causal, and T = 1 sees all S.
    """
    if uses_products(queries.shape[2], keys.shape[2], queries.dtype, queries.device):
        return attend_products(queries, keys, values, mask)
    return functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        is_causal=mask is None and queries.shape[2] > 1,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )


def uses_products(num_queries: int, num_keys: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether `attend` takes the plain products, which keep the (B, H, T, S) weights for the backward pass."""
    return device.type == "cpu" and dtype is torch.bfloat16 and 1 < num_queries <= num_keys <= PRODUCTS_UP_TO


def attend_products(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend with one batched product a side; same arguments and result as `attend`.

    The H / K query heads of a kv head are laid one below the other, so that no key is copied.
    """
    batch, num_heads, num_queries, head_dim = queries.shape
    num_kv_heads, num_keys = keys.shape[1:3]
    if mask is None:
        mask = causal_mask(num_queries, num_keys, queries)
    stacked = (batch * num_kv_heads, num_heads // num_kv_heads * num_queries)
    biases = mask.expand(batch, num_heads, num_queries, num_keys).reshape(*stacked, num_keys)
    scores = torch.baddbmm(
        biases.to(queries.dtype),
        queries.reshape(*stacked, head_dim),
        keys.flatten(0, 1).mT,
        alpha=1 / math.sqrt(head_dim),
    )
    mixed = scores.softmax(dim=-1).to(values.dtype) @ values.flatten(0, 1)
    return mixed.view(queries.shape)


def causal_mask(num_queries: int, num_keys: int, like: Tensor) -> Tensor:
    """Build the additive mask (1, 1, T, S) under which the T last of S tokens see themselves and earlier ones."""
    mask = torch.full((num_queries, num_keys), -math.inf, dtype=like.dtype, device=like.device)
    return mask.triu(num_keys - num_queries + 1)[None, None]


def attend_reference(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend by the formula softmax(q k' / sqrt(C)) v; same arguments and result as `attend`."""
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))  # (B, H, S, C)
    scores = queries @ keys.mT / math.sqrt(queries.shape[-1])  # (B, H, T, S)
    if mask is None and queries.shape[2] > 1:
        mask = causal_mask(queries.shape[2], keys.shape[2], like=scores)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1) @ values


class Attention(nn.Module):
    """Project to queries, keys and values, turn, attend, project back.

    The three projections stay separate matrices: at width 192 one fused matrix was slower (the slices are strided),
    and adapters, quantizers and Muon all want them apart.
    """

    def __init__(self, spec: AttentionSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        kv_dim = spec.num_kv_heads * spec.head_dim
        self.query = nn.Linear(dim, spec.num_heads * spec.head_dim, bias=spec.qkv_bias)
        self.key = nn.Linear(dim, kv_dim, bias=spec.qkv_bias)
        self.value = nn.Linear(dim, kv_dim, bias=spec.qkv_bias)
        self.output = nn.Linear(spec.num_heads * spec.head_dim, dim, bias=spec.output_bias)

    def forward(
        self, x: Tensor, cos: Tensor | None, sin: Tensor | None, mask: Tensor | None, cache: LayerCache | None = None
    ) -> Tensor:
        """Mix the tokens of x (B, T, D) -> (B, T, D); appends to `cache` in place when given."""
        head_dim = self.spec.head_dim
        queries = self.query(x).unflatten(-1, (-1, head_dim))  # (B, T, H, C)
        keys = self.key(x).unflatten(-1, (-1, head_dim))  # (B, T, K, C)
        values = self.value(x).unflatten(-1, (-1, head_dim))  # (B, T, K, C)
        if cos is not None and sin is not None:
            queries, keys = apply_rotary(queries, cos, sin), apply_rotary(keys, cos, sin)
        queries, keys, values = queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
        if cache is not None:
            keys, values = cache.append(keys, values)
        mixed = attend(queries, keys, values, mask)  # (B, H, T, C)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, D)
        return out
