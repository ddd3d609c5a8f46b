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
from smelt.nn.cache import KVCache
from smelt.nn.masks import memory_mask
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

    def encode(self, source: Tensor, segments: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read source ids (B, S); segment 0 is padding. Returns hidden states (B, S, D) and the mask of who is there.

        Raises UsageError for a source without a token.
        """
        if segments is not None and not bool((segments != 0).any(dim=1).all()):
            raise UsageError("a source without a token", accepted="at least one token a row")
        hidden = self.encoder(source, segments=segments).hidden
        return hidden, None if segments is None else memory_mask(segments, hidden.dtype)

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

        The other arguments are those of the target, as a transformer takes them. Raises UsageError without a source.
        """
        if source is not None:
            found = self.encode(source, source_segments)
            if cache is not None:
                cache.memory = found
        elif cache is not None and cache.memory is not None:
            found = cache.memory
        else:
            raise UsageError("an encoder-decoder without a source", accepted="source ids (B, S)")
        output: Output = self.decoder(
            ids,
            positions=positions,
            segments=segments,
            cache=cache,
            memory=found[0],
            memory_mask=found[1],
            project=project,
        )
        return output


Network = Transformer | EncoderDecoder


def make_network(spec: ModelSpec) -> Network:
    """Build the network of a spec, its parameters as torch makes them."""
    return Transformer(spec) if spec.encoder is None else EncoderDecoder(spec)


def meta_network(spec: ModelSpec, dtype: torch.dtype = torch.float32) -> Network:
    """Build the network of a spec on the meta device: names and shapes, no memory."""
    with torch.device("meta"):
        return make_network(spec).to(dtype)
