"""One transformer block, pre-norm: x + attention(norm(x)), then x + feed_forward(norm(x)).

The residual stream is never normalised in place, so gradients reach every layer undamped. The forward takes plain
tensors and returns one, with no data-dependent Python, so that `block.compile()` captures it whole.

Ref: On Layer Normalization in the Transformer Architecture, arXiv:2002.04745.
"""

from torch import Tensor, nn

from smelt.nn.attention import Attention
from smelt.nn.cache import LayerCache
from smelt.nn.feedforward import make_feed_forward
from smelt.nn.norms import make_norm
from smelt.nn.spec import LayerSpec


class Block(nn.Module):
    """Apply attention and feed-forward to the residual stream."""

    def __init__(self, spec: LayerSpec, dim: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(spec.norm, dim)
        self.attention = Attention(spec.attention, dim)
        self.feed_forward_norm = make_norm(spec.norm, dim)
        self.feed_forward = make_feed_forward(spec.feed_forward, dim)

    def forward(
        self, x: Tensor, cos: Tensor | None, sin: Tensor | None, mask: Tensor | None, cache: LayerCache | None = None
    ) -> Tensor:
        """Update the stream: (B, T, D) -> (B, T, D); cos, sin and mask as in `nn.positions` and `nn.attention`."""
        x = x + self.attention(self.attention_norm(x), cos, sin, mask, cache)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out
