"""Attention through a latent: keys and values of all heads are made of one narrow vector a token, all that is cached.

A token's latent c (R numbers) is normed and widened to H keys without position and H values. Rotation would stand
between the two matrices, and so positions have a place of their own: each query has entries more that are turned, and
one turned key a token is shared by all heads. A cache of keys and values takes 2 H C numbers a token and layer; here it
is R + the rotary size. With U and V for the part of a head in the widening matrix,

    score = q' (U c) + r' k = (U' q)' c + r' k          output = sum of w (V c) = V (sum of w c)

so U may be absorbed into the query and V into the output: all heads then read the latents themselves, as if these were
the keys and values of a single head, and nothing is widened. That takes wider products a pair of tokens, and so it is
for a few new tokens behind a cache; both forms are equal, and the cheaper is taken.

Ref: arXiv:2405.04434, 2.1 and appendix C (absorbed matrices).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.core.errors import UsageError
from smelt.nn.attention import attend
from smelt.nn.cache import LayerCache
from smelt.nn.masks import Rules
from smelt.nn.norms import make_norm
from smelt.nn.positions import apply_rotary
from smelt.nn.spec import AttentionSpec


class LatentAttention(nn.Module):
    """Project to queries and a latent, turn, attend, project back."""

    mix = staticmethod(attend)  # `nn.observe` puts one that takes notes in its place

    def __init__(self, spec: AttentionSpec, dim: int) -> None:
        super().__init__()
        if spec.latent is None or spec.rotary is None:
            raise UsageError("latent attention without its sizes", accepted="an attention spec with latent and rotary")
        self.spec, self.latent, self.rotary = spec, spec.latent, spec.rotary
        rank, heads = spec.latent.query_rank, spec.num_heads
        self.plain_dim = spec.head_dim - spec.rotary.dim  # P: entries of a head that are not turned
        self.query_down = None if rank is None else nn.Linear(dim, rank, bias=spec.qkv_bias)
        self.query_norm = None if rank is None else make_norm(spec.latent.norm, rank)
        self.query = nn.Linear(rank or dim, heads * spec.head_dim, bias=False)
        self.kv_down = nn.Linear(dim, spec.latent.kv_rank + spec.rotary.dim, bias=spec.qkv_bias)
        self.kv_norm = make_norm(spec.latent.norm, spec.latent.kv_rank)
        self.kv_up = nn.Linear(spec.latent.kv_rank, heads * (self.plain_dim + spec.latent.value_dim), bias=False)
        self.output = nn.Linear(heads * spec.latent.value_dim, dim, bias=spec.output_bias)
        self.scale = 1 / math.sqrt(spec.head_dim) if spec.scale is None else spec.scale

    def forward(
        self,
        x: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        mask: Tensor | Rules | None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Mix the tokens of x (B, T, D) -> (B, T, D); appends to `cache` in place when given."""
        queries, kept = self._project(x, cos, sin)  # (B, H, T, C), (B, 1, T, R + rotary)
        if cache is not None:
            kept, _ = cache.append(kept, kept[..., :0])
        is_cheaper = self.absorbing_is_cheaper(queries.shape[2], kept.shape[2])
        mixed = (self.attend_absorbed if is_cheaper else self.attend_widened)(queries, kept, mask)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, D)
        return out

    def _project(self, x: Tensor, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return queries (B, H, T, C), and latent and turned key side by side, (B, 1, T, R + rotary)."""
        if cos is None or sin is None:
            raise UsageError("latent attention without positions", accepted="cos and sin of the rotary angles")
        narrow = x if self.query_down is None or self.query_norm is None else self.query_norm(self.query_down(x))
        queries = self.query(narrow).unflatten(-1, (-1, self.spec.head_dim))  # (B, T, H, C)
        plain, turned = queries.split((self.plain_dim, self.rotary.dim), dim=-1)
        turned = apply_rotary(turned, cos, sin, self.rotary.interleaved)
        latent, key = self.kv_down(x).split((self.latent.kv_rank, self.rotary.dim), dim=-1)
        key = apply_rotary(key[:, :, None], cos, sin, self.rotary.interleaved)  # (B, T, 1, rotary)
        kept = torch.cat((self.kv_norm(latent)[:, :, None], key), dim=-1)
        return torch.cat((plain, turned), dim=-1).transpose(1, 2), kept.transpose(1, 2)

    def absorbing_is_cheaper(self, num_queries: int, num_keys: int) -> bool:
        """Compare the products of both forms, a head."""
        rank, value_dim = self.latent.kv_rank, self.latent.value_dim
        widening, pairs = rank * (self.plain_dim + value_dim), num_queries * num_keys
        widened = num_keys * widening + pairs * (self.spec.head_dim + value_dim)
        absorbed = num_queries * widening + pairs * (2 * rank + self.rotary.dim)
        return absorbed < widened

    def attend_widened(self, queries: Tensor, kept: Tensor, mask: Tensor | Rules | None) -> Tensor:
        """Make all keys and values, and attend: (B, H, T, C) over (B, 1, S, R + rotary) -> (B, H, T, value size)."""
        latent, key = kept.split((self.latent.kv_rank, self.rotary.dim), dim=-1)
        wide = self.kv_up(latent[:, 0]).unflatten(-1, (self.spec.num_heads, -1)).transpose(1, 2)  # (B, H, S, P + value)
        plain, values = wide.split((self.plain_dim, self.latent.value_dim), dim=-1)
        keys = torch.cat((plain, key.expand(-1, self.spec.num_heads, -1, -1)), dim=-1)  # (B, H, S, C)
        missing = self.spec.head_dim - self.latent.value_dim
        values = functional.pad(values, (0, max(0, missing)))  # the fused kernel takes keys and values of one size
        mixed = self._attend(queries, keys, values, mask)
        return mixed[..., : self.latent.value_dim]

    def attend_absorbed(self, queries: Tensor, kept: Tensor, mask: Tensor | Rules | None) -> Tensor:
        """Attend to the latents: (B, H, T, C) over (B, 1, S, R + rotary) -> (B, H, T, value size)."""
        weight = self.kv_up.weight.unflatten(0, (self.spec.num_heads, -1))  # (H, P + value, R)
        to_key, to_value = weight.split((self.plain_dim, self.latent.value_dim), dim=1)
        plain, turned = queries.split((self.plain_dim, self.rotary.dim), dim=-1)
        absorbed = torch.cat((plain @ to_key.to(plain.dtype), turned), dim=-1)  # (B, H, T, R + rotary)
        mixed = self._attend(absorbed, kept, kept[..., : self.latent.kv_rank], mask)  # (B, H, T, R)
        out: Tensor = mixed @ to_value.mT.to(mixed.dtype)
        return out

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | Rules | None) -> Tensor:
        kind = self.spec
        return self.mix(queries, keys, values, mask, causal=kind.causal, scale=self.scale, softcap=kind.softcap)
