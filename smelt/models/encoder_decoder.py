"""Two networks that work together: an encoder reads the source, a decoder writes the target and reads along.

Both are the same transformer; the decoder's layers have cross-attention to the encoder's output, and the two share one
token embedding. The source is encoded once: while a text is written, the cache keeps what cross-attention made of it.

Ref: Attention Is All You Need, arXiv:1706.03762, 3.1.
"""

import torch
from torch import Tensor, nn

from smelt.core.errors import UsageError
from smelt.models.heads import Output
from smelt.models.transformer import Transformer
from smelt.models.undrawn import Undrawn
from smelt.nn.cache import KVCache
from smelt.nn.masks import additive, visible_memory
from smelt.nn.spec import ModelSpec


class EncoderDecoder(nn.Module):
    """Predict the next token of a target at every position, given a source."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        if spec.encoder is None:
            raise UsageError("an encoder-decoder without an encoder", accepted="a spec with an encoder")
        self.spec = spec
        self.decoder = Transformer(spec)
        self.encoder = Transformer(spec.encoder, self.decoder.token_embedding)

    @property
    def gradient_checkpointing(self) -> bool:
        """Tell whether layers are run again in the backward pass instead of being kept."""
        return self.decoder.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self.decoder.gradient_checkpointing = self.encoder.gradient_checkpointing = value

    @property
    def blocks(self) -> list[nn.Module]:
        """Return the blocks of both, the encoder's first."""
        return [*self.encoder.blocks, *self.decoder.blocks]

    @property
    def max_text_tokens(self) -> int:
        """Return how many tokens a target may have."""
        return self.decoder.max_text_tokens

    @property
    def head_weight(self) -> Tensor:
        """Return the matrix of the vocabulary projection: (V, D)."""
        return self.decoder.head_weight

    @property
    def head_bias(self) -> Tensor | None:
        """Return the bias of the vocabulary projection: (V,) or None."""
        return self.decoder.head_bias

    def head_input(self, hidden: Tensor) -> Tensor:
        """Return what the vocabulary projection multiplies: (.., D) -> (.., D)."""
        return self.decoder.head_input(hidden)

    def project(self, hidden: Tensor) -> Tensor:
        """Map normalised hidden states to logits: (.., D) -> (.., V)."""
        return self.decoder.project(hidden)

    def encode(self, source: Tensor, segments: Tensor | None = None) -> Tensor:
        """Read source ids (B, S); segment 0 is padding. Returns hidden states (B, S, D)."""
        hidden: Tensor = self.encoder(source, segments=segments).hidden
        return hidden

    def forward(
        self,
        ids: Tensor,
        *,
        source: Tensor | None = None,
        source_segments: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: KVCache | None = None,
        project: bool = True,
    ) -> Output:
        """Run on target ids (B, T) after source ids (B, S); with a cache, the source is given in the first call alone.

        The other arguments are those of the target, as a transformer takes them. Where both sides have segments, a
        target reads the source of its own segment; else all that is not padding. Raises UsageError without a source
        or with a late one, and for a target whose source has no token.
        """
        if source is not None and cache is not None and cache.length:
            raise UsageError("a source behind cached tokens", accepted="a source in the first call of a cache")
        if source is not None:
            memory = self.encode(source, source_segments), source_segments
            if cache is not None:
                cache.memory = memory
        elif cache is not None and cache.memory is not None:
            memory = cache.memory
        else:
            raise UsageError("an encoder-decoder without a source", accepted="source ids (B, S)")
        hidden, found = memory
        output: Output = self.decoder(
            ids,
            positions=positions,
            segments=segments,
            cache=cache,
            memory=hidden,
            memory_mask=None if found is None else self._memory_mask(found, segments, hidden.dtype),
            project=project,
        )
        return output

    def _memory_mask(self, source: Tensor, target: Tensor | None, dtype: torch.dtype) -> Tensor:
        seen = visible_memory(source, target)
        if not bool(seen.any(dim=-1).all()):
            raise UsageError("a target without a source token", accepted="a source token for each target of a row")
        return additive(seen, dtype)


Network = Transformer | EncoderDecoder


def make_network(spec: ModelSpec) -> Network:
    """Build the network of a spec, its parameters as torch makes them."""
    return Transformer(spec) if spec.encoder is None else EncoderDecoder(spec)


def meta_network(spec: ModelSpec, dtype: torch.dtype = torch.float32) -> Network:
    """Build the network of a spec on the meta device: names and shapes, no memory."""
    with torch.device("meta"), Undrawn():
        network = make_network(spec)
        as_made = all(parameter.dtype == dtype for parameter in network.parameters())
        return network if as_made else network.to(dtype)  # which takes as long as making it
