"""A network described by frozen values: what a reader, a checkpoint and a builder all agree on.

Layers are a tuple of LayerSpec, not a count and flags, so that a pattern of different layers is written down
directly. A spec holds no tensors and no file names; `family` says only which published layout a checkpoint of it
is saved in. Costs nothing: specs hash, compare and print, and `dataclasses.replace` makes variants.
"""

from dataclasses import dataclass
from typing import Literal

from smelt.core.errors import UsageError

Activation = Literal["swiglu", "gelu_tanh", "relu"]
NormKind = Literal["rms", "layer"]
Positions = Literal["none", "learned", "sinusoidal"]


@dataclass(frozen=True)
class RotarySpec:
    """Describe rotary positions over the first `dim` entries of each head; half-split pairs (i, i + dim / 2)."""

    dim: int
    theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.dim <= 0 or self.dim % 2:
            raise UsageError(f"rotary size {self.dim}", accepted="a positive even head size")


@dataclass(frozen=True)
class NormSpec:
    """Describe a normalisation: `rms` has a weight, `layer` a weight and a bias."""

    kind: NormKind
    eps: float


@dataclass(frozen=True)
class AttentionSpec:
    """Describe causal attention of H query heads over K key-value heads, each of size C."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    rotary: RotarySpec | None = None
    qkv_bias: bool = False
    output_bias: bool = False

    def __post_init__(self) -> None:
        if self.num_kv_heads <= 0 or self.num_heads % self.num_kv_heads:
            raise UsageError(
                f"{self.num_heads} query heads over {self.num_kv_heads} kv heads",
                accepted="a number of kv heads that divides the number of query heads",
            )
        if self.rotary is not None and self.rotary.dim != self.head_dim:
            raise UsageError(f"rotary size {self.rotary.dim}", accepted=f"the head size, {self.head_dim}")


@dataclass(frozen=True)
class FeedForwardSpec:
    """Describe a feed-forward part of inner width F; `swiglu` has three matrices, the others two."""

    hidden_dim: int
    activation: Activation
    bias: bool = False


@dataclass(frozen=True)
class LayerSpec:
    """Describe one pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    attention: AttentionSpec
    feed_forward: FeedForwardSpec
    norm: NormSpec


@dataclass(frozen=True)
class TokenIds:
    """Hold the token ids that a checkpoint's configuration names; the network itself does not use them."""

    begin: int | None = None
    end: tuple[int, ...] = ()
    padding: int | None = None


@dataclass(frozen=True)
class ModelSpec:
    """Describe a decoder: token and position embeddings, layers, final norm, vocabulary head."""

    family: str
    vocab_size: int
    dim: int
    max_seq_len: int
    layers: tuple[LayerSpec, ...]
    norm: NormSpec
    positions: Positions = "none"
    tied: bool = False
    head_bias: bool = False
    token_ids: TokenIds = TokenIds()

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "max_seq_len"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}", accepted="a positive number")
        if not self.layers:
            raise UsageError("a model without layers", accepted="at least one layer")
        if self.tied and self.head_bias:
            raise UsageError("a tied head with a bias", accepted="a tied head, or a head with a bias")
        if self.positions == "sinusoidal" and self.dim % 2:
            raise UsageError(f"sinusoidal positions of width {self.dim}", accepted="an even width")
