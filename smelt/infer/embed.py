"""One vector a text, from a decoder: the mean of the last hidden states over the text's tokens, scaled to length 1.

Reading is cut into steps of bounded size, so that those who decode in the same thread need not wait long. Short texts
stand together in one row, each a segment of its own, so nothing is spent on padding; a long text is read in pieces over
a cache. A decoder's token sees only what stands before it, so its vectors tell less than those of an encoder that was
trained for them.

Ref: Sentence-BERT, arXiv:1908.10084, 3 (the mean of the tokens' states).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from smelt.core.errors import SmeltError
from smelt.models.transformer import Transformer
from smelt.nn.cache import KVCache


@torch.inference_mode()
def embed(model: Transformer, texts: Sequence[Sequence[int]], *, step_tokens: int) -> Iterator[dict[int, Tensor]]:
    """Yield, after each step of at most `step_tokens` tokens, the vectors (D,) that are complete, by the text's place.

    The texts are ids, none empty, none longer than the model's context; vectors are in fp32 on the CPU. Raises
    SmeltError for hidden states that are not finite.
    """
    place = 0
    while place < len(texts):
        if len(texts[place]) > step_tokens:
            for vector in _in_pieces(model, texts[place], step_tokens):
                yield {} if vector is None else {place: vector}
            place += 1
            continue
        end, num_tokens = place, 0
        while end < len(texts) and num_tokens + len(texts[end]) <= step_tokens:
            num_tokens += len(texts[end])
            end += 1
        yield dict(zip(range(place, end), _together(model, texts[place:end]), strict=True))
        place = end


def _together(model: Transformer, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the vectors of texts that are read in one row."""
    lengths = [len(text) for text in texts]
    device = model.head_weight.device
    ids = torch.tensor([[token for text in texts for token in text]], device=device)
    segments = torch.arange(1, len(texts) + 1).repeat_interleave(torch.tensor(lengths))[None].to(device)
    # Said, not left to the model: a row of several texts may be longer than the context of one.
    positions = torch.cat([torch.arange(length) for length in lengths])[None].to(device)
    hidden = model(ids, positions=positions, segments=segments, project=False).hidden[0].float()  # (N, D)
    return [_unit(states.sum(0)) for states in hidden.split(lengths)]


def _in_pieces(model: Transformer, text: Sequence[int], step_tokens: int) -> Iterator[Tensor | None]:
    """Yield None after each piece of a text, and its vector after the last."""
    weight = model.head_weight
    cache = KVCache.allocate(model.spec, 1, len(text), dtype=weight.dtype, device=weight.device)
    total = torch.zeros(model.spec.dim, device=weight.device)
    for start in range(0, len(text), step_tokens):
        ids = torch.tensor([text[start : start + step_tokens]], device=weight.device)
        total = total + model(ids, cache=cache, project=False).hidden[0].float().sum(0)
        yield _unit(total) if start + step_tokens >= len(text) else None


def _unit(states: Tensor) -> Tensor:
    """Return the vector of a sum of states: length takes no notice of how many there were."""
    if not bool(states.isfinite().all()):
        raise SmeltError(
            "the model's hidden states are not finite numbers", fix="use an earlier checkpoint; this one has diverged"
        )
    return functional.normalize(states, dim=-1).cpu()
