"""Cross-attention: the tokens of one text read a weighted mean of another text's values, in either direction of time.

Queries come from the decoder's stream, keys and values from the encoder's output, which does not change while a text
is written: with a cache they are made once. What a token may read is a row of the mask, all but the padding.

Ref: Attention Is All You Need, arXiv:1706.03762, 3.2.3.
"""

from torch import Tensor, nn

from smelt.nn.attention import attend
from smelt.nn.cache import LayerCache
from smelt.nn.spec import AttentionSpec


class CrossAttention(nn.Module):
    """Project queries from one text, keys and values from the other, attend, project back."""

    def __init__(self, spec: AttentionSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        kv_dim = spec.num_kv_heads * spec.head_dim
        self.query = nn.Linear(dim, spec.num_heads * spec.head_dim, bias=spec.qkv_bias)
        self.key = nn.Linear(dim, kv_dim, bias=spec.qkv_bias)
        self.value = nn.Linear(dim, kv_dim, bias=spec.qkv_bias)
        self.output = nn.Linear(spec.num_heads * spec.head_dim, dim, bias=spec.output_bias)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None, cache: LayerCache | None = None) -> Tensor:
        """Mix `memory` (B, S, D) into x (B, T, D) -> (B, T, D); a cache keeps the memory's keys and values."""
        queries = self.query(x).unflatten(-1, (-1, self.spec.head_dim)).transpose(1, 2)  # (B, H, T, C)
        if cache is not None and cache.memory is not None:
            keys, values = cache.memory
        else:
            keys, values = (
                part(memory).unflatten(-1, (-1, self.spec.head_dim)).transpose(1, 2) for part in (self.key, self.value)
            )  # (B, K, S, C) each
            if cache is not None:
                cache.memory = keys, values
        mixed = attend(queries, keys, values, mask, causal=False, scale=self.spec.scale)  # (B, H, T, C)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, D)
        return out
