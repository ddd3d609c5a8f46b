"""A network described by frozen values: what a reader, a checkpoint and a builder all agree on.

Layers are a tuple of LayerSpec, not a count and flags, so that a pattern of different layers is written down
directly. A spec holds no tensors and no file names; `family` says only which published layout a checkpoint of it
is saved in. Costs nothing: specs hash, compare and print, and `dataclasses.replace` makes variants.
"""

from dataclasses import dataclass, replace
from typing import Literal

from smelt.core.errors import UsageError
from smelt.nn.scaling import RotaryScaling

Activation = Literal["swiglu", "geglu", "silu", "gelu", "gelu_tanh", "relu", "relu_squared", "tanh"]
NormKind = Literal["rms", "layer"]
Positions = Literal["none", "learned", "sinusoidal", "sinusoidal_halves"]
Placement = Literal["pre", "post", "sandwich", "parallel", "scaled"]
Reads = Literal["token", "first", "last", "mean", "pooled"]
Cell = Literal["rnn", "lstm", "gru"]


@dataclass(frozen=True)
class RotarySpec:
    """Describe rotary positions over the first `dim` entries of each head, the rest left as it is.

    Pairs are half-split, (i, i + dim / 2), or `interleaved`, (2 i, 2 i + 1). With two `axes` a head is two halves, each
    with pairs of its own: the first is turned by one position of a token, the second by another.
    """

    dim: int
    theta: float = 10_000.0
    interleaved: bool = False
    scaling: RotaryScaling | None = None
    axes: int = 1

    def __post_init__(self) -> None:
        if self.dim <= 0 or self.dim % 2:
            raise UsageError(f"rotary size {self.dim}", accepted="a positive even head size")
        if self.axes not in (1, 2) or self.dim % (2 * self.axes):
            raise UsageError(f"rotary size {self.dim} over {self.axes} axes", accepted="1 or 2 axes of an even size")


@dataclass(frozen=True)
class NormSpec:
    """Describe a normalisation: `rms` has a weight, `layer` a weight and a bias.

    With `unit_offset` an `rms` weight is stored less one, so that decaying it to 0 leaves the norm neutral.
    """

    kind: NormKind
    eps: float
    unit_offset: bool = False

    def __post_init__(self) -> None:
        if self.unit_offset and self.kind != "rms":
            raise UsageError("a layer norm with a unit offset", accepted="a unit offset on an rms norm")


@dataclass(frozen=True)
class BlocksSpec:
    """Describe attention among blocks of `size` tokens: a block sees near ones, the first ones and random ones.

    Near are `window` blocks, itself and those before it, or as many on either side where attention is not causal; the
    first `num_global` are seen by all and, where it is not, see all; `num_random` more are drawn for each by the seed.
    Blocks are cut in slots of a row, whatever segments it holds.
    """

    size: int = 64
    window: int = 3
    num_global: int = 2
    num_random: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size <= 0 or self.window <= 0 or self.num_global < 0 or self.num_random < 0:
            raise UsageError(
                f"blocks of {self.size} tokens, {self.window} near, {self.num_global} first, {self.num_random} random",
                accepted="a positive size, at least the own block near, no negative number",
            )


@dataclass(frozen=True)
class LatentSpec:
    """Describe keys and values made of one narrow vector a token, the latent, of `kv_rank` numbers.

    Values have `value_dim` numbers a head. Of a query or key head, the last entries, as many as the rotary size, are
    turned, and those of keys are shared by all heads; the others are made of the latent. Queries are made of a vector
    of `query_rank` numbers of their own, or of the stream if None. Both narrow vectors are normed.
    """

    kv_rank: int
    value_dim: int
    query_rank: int | None = None
    norm: NormSpec = NormSpec("rms", 1e-6)

    def __post_init__(self) -> None:
        for name in ("kv_rank", "value_dim", "query_rank"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"latent attention with {name} {value}", accepted="a positive number")


@dataclass(frozen=True)
class AttentionSpec:
    """Describe attention of H query heads over K key-value heads, each of size C.

    A `causal` token sees itself and up to `window` - 1 tokens before it; None, all of them. One that is not sees its
    whole text. Scores are multiplied by `scale`,
    1 / sqrt(C) if None, then bounded by `softcap` as softcap * tanh(score / softcap). `qk_norm` normalises every query
    and key head before it is turned. `alibi` lowers the score of a key in proportion to its distance. `sinks` adds to
    every head a learned score that takes weight and gives no value. With `blocks` a token sees some blocks alone.
    With `latent` keys and values are made of a narrow vector, and the biases of `qkv_bias` are those of what makes it.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    rotary: RotarySpec | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    causal: bool = True
    window: int | None = None
    scale: float | None = None
    softcap: float | None = None
    qk_norm: NormSpec | None = None
    alibi: bool = False
    sinks: bool = False
    blocks: BlocksSpec | None = None
    latent: LatentSpec | None = None

    @property
    def cached(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the heads and sizes of what a cache keeps of a token as keys and as values.

        Of a latent and a turned key one row is kept, which is read as keys and, in its first part, as values.
        """
        if self.latent is not None and self.rotary is not None:
            return (1, self.latent.kv_rank + self.rotary.dim), (1, 0)
        return (self.num_kv_heads, self.head_dim), (self.num_kv_heads, self.head_dim)

    def __post_init__(self) -> None:
        if self.num_kv_heads <= 0 or self.num_heads % self.num_kv_heads:
            raise UsageError(
                f"{self.num_heads} query heads over {self.num_kv_heads} kv heads",
                accepted="a number of kv heads that divides the number of query heads",
            )
        if self.rotary is not None and self.rotary.dim > self.head_dim:
            raise UsageError(f"rotary size {self.rotary.dim}", accepted=f"at most the head size, {self.head_dim}")
        if self.rotary is not None and self.rotary.axes > 1 and self.rotary.dim != self.head_dim:
            raise UsageError(f"two axes on {self.rotary.dim} of {self.head_dim}", accepted="two axes on a whole head")
        for name in ("window", "softcap"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"attention {name} {value}", accepted="a positive number, or none")
        if not self.causal and self.window is not None:
            raise UsageError("a window on attention that is not causal", accepted="a window on causal attention")
        if self.blocks is not None and self.window is not None:
            raise UsageError("a window on attention among blocks", accepted="a window in blocks, or no blocks")
        if self.blocks is not None and not self.causal and self.blocks.window % 2 == 0:
            raise UsageError(f"a window of {self.blocks.window} blocks that looks both ways", accepted="an odd number")
        if self.latent is not None:
            self._check_latent()

    def _check_latent(self) -> None:
        if self.rotary is None or self.rotary.dim >= self.head_dim:
            raise UsageError("latent attention without a turned and an unturned part", accepted="a part of each head")
        if self.num_kv_heads != self.num_heads or self.qk_norm is not None or self.sinks:
            raise UsageError(
                "latent attention with shared kv heads, norms of heads, or sinks",
                accepted="as many kv heads as query heads, without norms of heads and sinks",
            )


@dataclass(frozen=True)
class FeedForwardSpec:
    """Describe a feed-forward part of inner width F; `swiglu` and `geglu` have three matrices, the others two."""

    hidden_dim: int
    activation: Activation
    bias: bool = False


@dataclass(frozen=True)
class MoESpec:
    """Describe a mixture of E experts, each a gated feed-forward part, of which every token takes a few.

    `normalized` makes the weights of the experts taken sum to 1. The `shared` expert, if any, takes every token; with
    `gated_shared` its output is multiplied by a learned sigmoid of the token.
    """

    expert: FeedForwardSpec
    num_experts: int
    experts_per_token: int
    normalized: bool = True
    shared: FeedForwardSpec | None = None
    gated_shared: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.experts_per_token <= self.num_experts:
            raise UsageError(
                f"{self.experts_per_token} experts a token out of {self.num_experts}",
                accepted=f"1 to {self.num_experts}",
            )
        if self.expert.activation not in ("swiglu", "geglu") or self.expert.bias:
            raise UsageError("experts that are not gated, or have biases", accepted="swiglu or geglu without biases")
        if self.gated_shared and self.shared is None:
            raise UsageError("a gate on a shared expert that is not there", accepted="a shared expert to gate")


@dataclass(frozen=True)
class LayerSpec:
    """Describe one block by where its norms stand (a is attention, f the feed-forward part).

    pre: x + a(n(x)), then x + f(n(x)); post: n(x + a(x)), then n(x + f(x)); sandwich: x + n(a(n(x))), then
    x + n(f(n(x))); parallel: x + a(n(x)) + f(n(x)) with one norm; scaled: s n(x) + a(n(x)), then s n(x) + f(n(x)), with
    s the `residual_scale`. A layer with `cross` attention reads an encoder's output between the two, normed alike.
    """

    attention: AttentionSpec
    feed_forward: FeedForwardSpec | MoESpec
    norm: NormSpec
    placement: Placement = "pre"
    cross: AttentionSpec | None = None
    residual_scale: float | None = None

    def __post_init__(self) -> None:
        if (self.placement == "scaled") != (self.residual_scale is not None):
            raise UsageError("a residual scale without scaled norms, or the reverse", accepted="both, or neither")
        if self.cross is not None and self.placement not in ("pre", "post"):
            raise UsageError(f"cross-attention in a layer with {self.placement} norms", accepted="pre or post")

    @property
    def dense(self) -> FeedForwardSpec:
        """Return the feed-forward part, or of a mixture one expert."""
        return self.feed_forward.expert if isinstance(self.feed_forward, MoESpec) else self.feed_forward


@dataclass(frozen=True)
class RecurrentSpec:
    """Describe a stack of recurrent layers, each as wide as the model and reading the one below."""

    cell: Cell
    num_layers: int

    def __post_init__(self) -> None:
        if self.num_layers <= 0:
            raise UsageError(f"{self.num_layers} recurrent layers", accepted="at least one layer")

    @property
    def num_gates(self) -> int:
        """Return how many vectors a cell computes from its input and from its state."""
        return {"rnn": 1, "lstm": 4, "gru": 3}[self.cell]

    @property
    def forget_gate(self) -> int | None:
        """Return which gate says what the cell keeps, where one of its own does."""
        return 1 if self.cell == "lstm" else None

    @property
    def num_states(self) -> int:
        """Return how many vectors a cell remembers."""
        return 2 if self.cell == "lstm" else 1


@dataclass(frozen=True)
class TokenIds:
    """Hold the token ids that a checkpoint's configuration names; the network itself does not use them."""

    begin: int | None = None
    end: tuple[int, ...] = ()
    padding: int | None = None
    decoder_start: int | None = None


@dataclass(frozen=True)
class ContextSpec:
    """Describe text that is a context and an answer to it, which begins with the token `begin_id`.

    The context is read both ways, the answer is written. A token of the context has its position and 0; one of the
    answer has the position of the blank that it fills, the first of the first of `blank_ids` that the context holds,
    and its number in the answer, 1 first. Text without `begin_id` is an answer to nothing.
    """

    begin_id: int
    blank_ids: tuple[int, ...]


@dataclass(frozen=True)
class RelativeSpec:
    """Describe a learned bias of attention's scores for each head and bucket of distances, one table for all layers.

    Half of the buckets are single distances, the others grow with the logarithm up to `max_distance`.
    """

    num_buckets: int = 32
    max_distance: int = 128

    def __post_init__(self) -> None:
        if self.num_buckets < 4 or self.num_buckets % 4 or self.max_distance <= self.num_buckets:
            raise UsageError(
                f"{self.num_buckets} buckets of distances up to {self.max_distance}",
                accepted="a multiple of 4 buckets, and a longer distance",
            )


@dataclass(frozen=True)
class TransformSpec:
    """Describe what hidden states go through before the vocabulary projection: dense, activation, norm."""

    activation: Activation
    norm: NormSpec


@dataclass(frozen=True)
class TaskSpec:
    """Describe a classifier on top: its name in `Output.tasks`, and what it reads.

    `token` reads each token, `first` the first token of a row, `last` its last one, `mean` the mean of all, padding
    aside, and `pooled` the pooler's output. With `hidden` a dense layer of width D and that activation stands before
    the labels. A `crf` scores neighbouring labels together. Labels have names, or numbers alone; of a `multi_label`
    task each is true or not by itself.
    """

    name: str
    num_labels: int
    reads: Reads = "token"
    hidden: Activation | None = None
    crf: bool = False
    label_names: tuple[str, ...] = ()
    bias: bool = True
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.num_labels <= 0:
            raise UsageError(f"task {self.name} with {self.num_labels} labels", accepted="at least one label")
        if self.label_names and len(self.label_names) != self.num_labels:
            raise UsageError(
                f"task {self.name}: {len(self.label_names)} names for {self.num_labels} labels",
                accepted="a name for each label, or none",
            )
        if self.crf and self.reads != "token":
            raise UsageError(f"task {self.name}: a CRF that reads {self.reads}", accepted="a CRF over tokens")
        if self.multi_label and self.reads == "token":
            raise UsageError(f"task {self.name}: several labels of a token", accepted="several labels of a text")


@dataclass(frozen=True)
class ModelSpec:
    """Describe a network: embeddings, layers, final norm (none behind post-norm layers), what stands on top.

    Embeddings have `embedding_dim` numbers, as many as the layers if None, and are multiplied by `embedding_scale`;
    tokens have one of `num_types` types where there are any; learned positions begin at row `position_offset` of their
    table. With `shared_layers` all layers are one. The language head is `tied` to the embedding or its own matrix and
    reads what `head_transform` makes of the hidden states; its logits are multiplied by `logit_scale` and bounded by
    `logit_softcap` as attention's scores are. Without `language_head` there are only the `pooler` (dense and tanh, on a
    row's first token) and the `tasks`. With an `encoder`, whose token embedding is shared, layers read its output. With
    a `context` tokens say who sees whom, and have two positions. A model is
    either of `layers`, which are transformer blocks, or `recurrent`.
    """

    family: str
    vocab_size: int
    dim: int
    max_seq_len: int
    layers: tuple[LayerSpec, ...]
    norm: NormSpec | None
    positions: Positions = "none"
    tied: bool = False
    head_bias: bool = False
    embedding_scale: float | None = None
    logit_softcap: float | None = None
    token_ids: TokenIds = TokenIds()
    embedding_dim: int | None = None
    embedding_norm: NormSpec | None = None
    num_types: int = 0
    position_offset: int = 0
    relative: RelativeSpec | None = None
    shared_layers: bool = False
    language_head: bool = True
    head_transform: TransformSpec | None = None
    logit_scale: float | None = None
    pooler: bool = False
    tasks: tuple[TaskSpec, ...] = ()
    encoder: "ModelSpec | None" = None
    context: ContextSpec | None = None
    recurrent: RecurrentSpec | None = None

    @property
    def is_causal(self) -> bool:
        """Tell whether a token sees only earlier ones, so that the model can predict the next."""
        return self.recurrent is not None or self.layers[0].attention.causal

    @property
    def writes_answers(self) -> bool:
        """Tell whether it answers a source, with a token of its own that begins the answer."""
        return self.language_head and self.token_ids.decoder_start is not None

    @property
    def num_layers(self) -> int:
        """Return the number of layers, of whichever kind."""
        return len(self.layers) if self.recurrent is None else self.recurrent.num_layers

    def resized(self, *, vocab_size: int | None = None, max_seq_len: int | None = None) -> "ModelSpec":
        """Return the spec with another vocabulary or context, its encoder's too."""
        encoder = None if self.encoder is None else self.encoder.resized(vocab_size=vocab_size, max_seq_len=max_seq_len)
        size, context = vocab_size or self.vocab_size, max_seq_len or self.max_seq_len
        return replace(self, vocab_size=size, max_seq_len=context, encoder=encoder)

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "max_seq_len"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}", accepted="a positive number")
        if not self.layers and self.recurrent is None:
            raise UsageError("a model without layers", accepted="at least one layer")
        if self.layers and self.recurrent is not None:
            raise UsageError("a model of blocks and recurrent layers", accepted="one of the two")
        if self.positions.startswith("sinusoidal") and self.dim % 2:
            raise UsageError(f"sinusoidal positions of width {self.dim}", accepted="an even width")
        if self.shared_layers and len(set(self.layers)) > 1:
            raise UsageError("shared layers that differ", accepted="layers that are all alike")
        if (self.encoder is not None) != any(layer.cross for layer in self.layers):
            raise UsageError("an encoder without cross-attention, or the reverse", accepted="both, or neither")
        rotaries = [layer.attention.rotary for layer in self.layers if layer.attention.rotary is not None]
        if any((rotary.axes > 1) != (self.context is not None) for rotary in rotaries):
            raise UsageError("two axes of positions without a context, or the reverse", accepted="both, or neither")
        if not self.pooler and any(task.reads == "pooled" for task in self.tasks):
            raise UsageError("a task that reads a pooler which is not there", accepted="a pooler, or another reading")
        narrow = self.embedding_dim not in (None, self.dim) and self.head_transform is None
        if self.language_head and self.tied and narrow:
            raise UsageError(
                f"a head tied to embeddings of {self.embedding_dim} numbers under layers of {self.dim}",
                accepted="a head transform, which narrows the hidden states",
            )
