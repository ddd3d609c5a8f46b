"""What a network costs, from its shapes alone: work, cache and memory a token, before anything is allocated.

Work counts a multiply and an add as two FLOPs and only what grows with width: matrix products, and attention's two
products with the keys a token sees, on average over a causal row. A backward pass costs twice the forward.

Ref: Scaling Laws for Neural Language Models, arXiv:2001.08361, 2.1. Ref: PaLM, arXiv:2204.02311, appendix B.
"""

from smelt.models.build import count_active
from smelt.nn.masks import seen_blocks
from smelt.nn.spec import LayerSpec, ModelSpec

STATE_BYTES = 16  # a parameter in training: fp32 weight, gradient, and AdamW's two averages


def keys_seen(layer: LayerSpec, seq_len: int) -> float:
    """Return how many keys a token sees on average in a row of so many."""
    kind = layer.attention
    if kind.blocks is not None:
        seen = seen_blocks(kind.blocks, -(-seq_len // kind.blocks.size), kind.causal)
        own = (kind.blocks.size - 1) / 2 if kind.causal else 0  # of its own block a token sees half
        return min(sum(map(len, seen)) / len(seen) * kind.blocks.size - own, seq_len)
    if not kind.causal:
        return seq_len
    window = min(kind.window or seq_len, seq_len)
    return window - window * (window - 1) / (2 * seq_len)


def forward_flops(spec: ModelSpec, seq_len: int) -> float:
    """Return FLOPs of the forward pass a token, in rows of so many tokens; with an encoder, of one token of each."""
    width = spec.embedding_dim or spec.dim
    is_used = spec.tied and spec.language_head
    looked_up = 0 if is_used else spec.vocab_size * width  # an embedding row is copied, not multiplied
    placed = spec.max_seq_len * width if spec.positions == "learned" else 0
    biases = sum(
        part.relative.num_buckets * part.layers[0].attention.num_heads for part in networks(spec) if part.relative
    )
    products = sum(attention_flops(layer, seq_len) for part in networks(spec) for layer in part.layers)
    return 2.0 * (count_active(spec) - looked_up - placed - biases) + products


def attention_flops(layer: LayerSpec, seq_len: int) -> float:
    """Return the FLOPs a token of the two products with the keys it sees, of an encoder's output too."""
    kind = layer.attention
    value_dim = kind.head_dim if kind.latent is None else kind.latent.value_dim
    own = 2 * kind.num_heads * (kind.head_dim + value_dim) * keys_seen(layer, seq_len)
    return own if layer.cross is None else own + 4 * layer.cross.num_heads * layer.cross.head_dim * seq_len


def networks(spec: ModelSpec) -> tuple[ModelSpec, ...]:
    """Return the networks of a spec: its encoder, where it has one, and itself."""
    return (spec,) if spec.encoder is None else (spec.encoder, spec)


def cache_bytes(spec: ModelSpec, bytes_per_number: int = 2) -> int:
    """Return the bytes that `nn.cache` keeps of a token; layers with a window keep those of its last tokens alone.

    With an encoder they are of one token of each text. A recurrent layer's state does not grow with the text.
    """
    kinds = [kind for layer in spec.layers for kind in (layer.attention, layer.cross) if kind is not None]
    return sum(heads * size for kind in kinds for heads, size in kind.cached) * bytes_per_number


def state_bytes(spec: ModelSpec, bytes_per_number: int = 2) -> int:
    """Return the bytes that recurrent layers remember of a text, however long it is."""
    if spec.recurrent is None:
        return 0
    return spec.recurrent.num_layers * spec.recurrent.num_states * spec.dim * bytes_per_number
