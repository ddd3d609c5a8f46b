"""Self-attention: every token reads a weighted mean of the values of the tokens that it sees.

`attend` is the one door. It runs torch's fused kernel, whose memory is linear in length, save for short bf16 rows on
the processor, where that kernel is slow and two plain products are not, and for scores that are bounded or have a sink,
which it does not know: short rows of those are plain products, too. Long rows of those, and long rows with a mask, are
made by tiles, or of blocks where attention is among blocks. `attend_reference` is the textbook formula, and tests prove
all equal. Masks are built once a forward and shared by all layers of a kind; plain causal rows need none and the fused
kernel skips the upper triangle. K kv heads may serve H query heads in groups of H / K, which shrinks the cache.

Ref: Attention Is All You Need, arXiv:1706.03762, eq. 1. Ref: GQA, arXiv:2305.13245.
Ref: FlashAttention, arXiv:2205.14135. Ref: arXiv:2408.00118, 2 (soft cap). Ref: arXiv:2302.05442 (norms of q and k).
Ref: Efficient Streaming Language Models with Attention Sinks, arXiv:2309.17453.
"""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.nn.blocks import attend_blocks
from smelt.nn.cache import LayerCache
from smelt.nn.masks import Rules, causal_mask, uses_tiles
from smelt.nn.norms import make_norm
from smelt.nn.positions import turn
from smelt.nn.spec import AttentionSpec
from smelt.nn.tiled import attend_tiled

# Measured on two cores with AVX-512 bf16, forward and backward: products take a fifth of the fused kernel's time at 64
# tokens, a half at 512, and as much or more beyond. In fp32 the fused kernel wins from 128 on.
PRODUCTS_UP_TO = 512


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | Rules | None = None,
    *,
    causal: bool = True,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attend in the fastest way for these shapes: (B, H, T, C) over (B, K, S, C) -> (B, H, T, C).

    `mask` is additive (B or 1, 1 or H, T, S), or the rules of one. Without, all see all S, save that `causal` queries,
    T = S, see none that is later; a single query is the last. `scale` is 1 / sqrt(C) if None; `sinks` (H,) are scores
    that take weight and give no value.
    """
    num_queries, num_keys = queries.shape[2], keys.shape[2]
    plain = softcap is None and sinks is None
    if mask is None and not plain and uses_tiles(num_queries, num_keys, queries.device):
        mask = Rules(num_queries, num_keys, causal=causal)
    if isinstance(mask, Rules) and mask.blocks is not None and num_queries == num_keys:
        part = functools.partial(attend, causal=False, scale=scale, softcap=softcap, sinks=sinks)
        return attend_blocks(part, queries, keys, values, mask)
    if isinstance(mask, Rules):
        tiled: Tensor = attend_tiled(queries, keys, values, mask, scale=scale, softcap=softcap, sinks=sinks)
        return tiled
    if not plain or uses_products(num_queries, num_keys, queries.dtype, queries.device):
        return attend_products(queries, keys, values, mask, causal=causal, scale=scale, softcap=softcap, sinks=sinks)
    return functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        is_causal=causal and mask is None and num_queries > 1,
        scale=scale,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )


def uses_products(num_queries: int, num_keys: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether `attend` takes the plain products, which keep the (B, H, T, S) weights for the backward pass."""
    return device.type == "cpu" and dtype is torch.bfloat16 and 1 < num_queries <= num_keys <= PRODUCTS_UP_TO


def attend_products(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = True,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attend with one batched product a side; same arguments and result as `attend`.

    The H / K query heads of a kv head are laid one below the other, so that no key is copied.
    """
    batch, num_heads, num_queries, head_dim = queries.shape
    num_kv_heads, num_keys = keys.shape[1:3]
    if mask is None:
        mask = causal_mask(num_queries, num_keys, queries) if causal else queries.new_zeros(1, 1, 1, 1)
    scale = 1 / math.sqrt(head_dim) if scale is None else scale
    stacked = (batch * num_kv_heads, num_heads // num_kv_heads * num_queries)
    biases = mask.expand(batch, num_heads, num_queries, num_keys).reshape(*stacked, num_keys).to(queries.dtype)
    rows, columns = queries.reshape(*stacked, head_dim), keys.flatten(0, 1).mT
    if softcap is None:
        scores = torch.baddbmm(biases, rows, columns, alpha=scale)
    else:
        scores = softcap * torch.tanh(rows @ columns * (scale / softcap)) + biases
    if sinks is not None:
        own = sinks.to(scores.dtype).repeat_interleave(num_queries).repeat(batch).view(*stacked, 1)
        scores = torch.cat((scores, own), dim=-1)
    weights = scores.softmax(dim=-1)[..., :num_keys].to(values.dtype)
    return (weights @ values.flatten(0, 1)).view(*queries.shape[:3], -1)


def attend_reference(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = True,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attend by the formula softmax(q k' / sqrt(C)) v; same arguments and result as `attend`."""
    weights = attention_weights(queries, keys, mask, causal=causal, scale=scale, softcap=softcap, sinks=sinks)
    return weights @ values.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)


def attention_weights(
    queries: Tensor,
    keys: Tensor,
    mask: Tensor | Rules | None = None,
    *,
    causal: bool = True,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return how much of each key a query reads, softmax(q k' / sqrt(C)): (B, H, T, C), (B, K, S, C) -> (B, H, T, S).

    Arguments are those of `attend`. A row sums to 1, or with sinks to what these leave.
    """
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)  # (B, H, S, C)
    scores = queries @ keys.mT * (1 / math.sqrt(queries.shape[-1]) if scale is None else scale)  # (B, H, T, S)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if isinstance(mask, Rules):
        mask = mask.mask(scores)
    if mask is None and causal and queries.shape[2] > 1:
        mask = causal_mask(queries.shape[2], keys.shape[2], like=scores)
    if mask is not None:
        scores = scores + mask
    exponentials = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    total = exponentials.sum(dim=-1, keepdim=True)
    if sinks is not None:
        total = total + (sinks[:, None, None] - scores.amax(dim=-1, keepdim=True)).exp()
    return exponentials / total


class Attention(nn.Module):
    """Project to queries, keys and values, turn, attend, project back.

    The three projections stay separate matrices: at width 192 one fused matrix was slower (the slices are strided),
    and adapters, quantizers and Muon all want them apart.
    """

    mix = staticmethod(attend)  # `nn.observe` puts one that takes notes in its place

    def __init__(self, spec: AttentionSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        kv_dim = spec.num_kv_heads * spec.head_dim
        self.query = nn.Linear(dim, spec.num_heads * spec.head_dim, bias=spec.qkv_bias)
        self.key = nn.Linear(dim, kv_dim, bias=spec.qkv_bias)
        self.value = nn.Linear(dim, kv_dim, bias=spec.qkv_bias)
        self.query_norm = None if spec.qk_norm is None else make_norm(spec.qk_norm, spec.head_dim)
        self.key_norm = None if spec.qk_norm is None else make_norm(spec.qk_norm, spec.head_dim)
        self.sinks = nn.Parameter(torch.zeros(spec.num_heads)) if spec.sinks else None
        self.output = nn.Linear(spec.num_heads * spec.head_dim, dim, bias=spec.output_bias)
        self.addition: nn.Module | None = None  # put on a built model: adds to what heads read, given their queries

    def forward(
        self,
        x: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        mask: Tensor | Rules | None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Mix the tokens of x (B, T, D) -> (B, T, D); appends to `cache` in place when given."""
        spec = self.spec
        queries = self.query(x).unflatten(-1, (-1, spec.head_dim))  # (B, T, H, C)
        keys = self.key(x).unflatten(-1, (-1, spec.head_dim))  # (B, T, K, C)
        values = self.value(x).unflatten(-1, (-1, spec.head_dim))  # (B, T, K, C)
        if self.query_norm is not None and self.key_norm is not None:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        if spec.rotary is not None and cos is not None and sin is not None:
            queries, keys = turn(queries, cos, sin, spec.rotary), turn(keys, cos, sin, spec.rotary)
        queries, keys, values = queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
        if cache is not None:
            keys, values = cache.append(keys, values)
        mixed = self.mix(
            queries, keys, values, mask, causal=spec.causal, scale=spec.scale, softcap=spec.softcap, sinks=self.sinks
        )  # (B, H, T, C)
        if self.addition is not None:
            mixed = mixed + self.addition(self, queries)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, D)
        return out
