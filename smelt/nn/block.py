"""One transformer block: attention, then a feed-forward part, each added to the residual stream.

Where the norms stand is the placement: `pre` leaves the stream itself as it is, so gradients reach every layer
undamped; `post` normalises the stream, as the first transformers did; `sandwich` normalises what each part takes and
what it gives; `parallel` runs both parts on the same normalised input; `scaled` hands on the normalised stream, times
a constant. The forward takes plain tensors and returns
them, with no data-dependent Python, so that `block.compile()` captures it whole.

Ref: On Layer Normalization in the Transformer Architecture, arXiv:2002.04745.
Ref: CogView, arXiv:2105.13290 (sandwich). Ref: PaLM, arXiv:2204.02311, 2 (parallel). Ref: DeepNet, arXiv:2203.00555
(scaled, there with norms behind).
"""

from torch import Tensor, nn

from smelt.nn.attention import Attention
from smelt.nn.cache import LayerCache
from smelt.nn.cross_attention import CrossAttention
from smelt.nn.feedforward import make_feed_forward
from smelt.nn.latent import LatentAttention
from smelt.nn.masks import Rules
from smelt.nn.moe import MixtureOfExperts
from smelt.nn.norms import make_norm
from smelt.nn.spec import LayerSpec, MoESpec


class Block(nn.Module):
    """Apply attention and feed-forward to the residual stream."""

    def __init__(self, spec: LayerSpec, dim: int) -> None:
        super().__init__()
        self.placement, self.residual_scale = spec.placement, spec.residual_scale
        is_sandwich, has_two = spec.placement == "sandwich", spec.placement != "parallel"
        self.attention_norm = make_norm(spec.norm, dim)
        kind = Attention if spec.attention.latent is None else LatentAttention
        self.attention = kind(spec.attention, dim)
        self.attention_out_norm = make_norm(spec.norm, dim) if is_sandwich else None
        self.cross_norm = None if spec.cross is None else make_norm(spec.norm, dim)
        self.cross = None if spec.cross is None else CrossAttention(spec.cross, dim)
        self.feed_forward_norm = make_norm(spec.norm, dim) if has_two else None
        self.feed_forward: nn.Module
        if isinstance(spec.feed_forward, MoESpec):
            self.feed_forward = MixtureOfExperts(spec.feed_forward, dim)
        else:
            self.feed_forward = make_feed_forward(spec.feed_forward, dim)
        self.feed_forward_out_norm = make_norm(spec.norm, dim) if is_sandwich else None

    def forward(
        self,
        x: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        mask: Tensor | Rules | None,
        cache: LayerCache | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Update the stream: (B, T, D) -> (B, T, D); cos, sin and mask as in `nn.positions` and `nn.masks`.

        `memory` (B, S, D) is an encoder's output, which cross-attention reads under its own mask. Returns the stream,
        and the router's scores (B, T, E) where the feed-forward part is a mixture of experts.
        """
        if self.placement == "post":
            x = self.attention_norm(x + self.attention(x, cos, sin, mask, cache))
            if self.cross is not None and memory is not None:
                x = _normed(self.cross_norm, x + self.cross(x, memory, memory_mask, cache))
            fed, scores = self._feed(x)
            return _normed(self.feed_forward_norm, x + fed), scores
        normed = self.attention_norm(x)
        mixed = _normed(self.attention_out_norm, self.attention(normed, cos, sin, mask, cache))
        if self.placement == "parallel":
            fed, scores = self._feed(normed)
            return x + mixed + fed, scores
        x = (x if self.residual_scale is None else normed * self.residual_scale) + mixed
        if self.cross is not None and memory is not None:
            x = x + self.cross(_normed(self.cross_norm, x), memory, memory_mask, cache)
        normed = _normed(self.feed_forward_norm, x)
        fed, scores = self._feed(normed)
        x = x if self.residual_scale is None else normed * self.residual_scale
        return x + _normed(self.feed_forward_out_norm, fed), scores

    def _feed(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.feed_forward, MixtureOfExperts):
            found: tuple[Tensor, Tensor] = self.feed_forward(x)
            return found
        return self.feed_forward(x), None


def _normed(norm: nn.Module | None, x: Tensor) -> Tensor:
    """Normalise, where there is a norm."""
    if norm is None:
        return x
    out: Tensor = norm(x)
    return out
