"""Give a model the rows of another vocabulary: keep some, drop the others, add new ones.

A token has a row in the embedding and, where the head is not tied to it, a row and maybe a bias in the head. A row that
is kept is copied, so old tokens keep their logits. A new row is the mean of the rows of the tokens that stood for its
text so far, or of all kept rows where there were none: no new direction, and a logit among the others. In the second
case the loss on old text rises by log(1 + new / old) at most, since the exponential of a mean is below the mean of the
exponentials; a row of random numbers knows no such bound, and one of zeros may outweigh all others.

    kept [0, 1, 2], new [[0, 2], []]    rows  r0, r1, r2, (r0 + r2) / 2, (r0 + r1 + r2) / 3

Ref: Initializing new word embeddings for pretrained language models, Hewitt 2021 (nlp.stanford.edu/~johnhew).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from smelt.core.errors import UsageError
from smelt.models.encoder_decoder import Network
from smelt.models.transformer import Transformer
from smelt.nn.spec import TokenIds


def resize_embeddings(model: Network, kept: Sequence[int], new: Sequence[Sequence[int]] = ()) -> None:
    """Change a model's vocabulary in place; an optimizer that holds its parameters must be made anew.

    The ids that its spec names follow; those that are dropped are named no more.

    Args:
        model: any model, its head tied or not.
        kept: the old ids of the first rows, in order.
        new: for each row behind those, the old ids (of any rows) whose mean it becomes; none for all kept rows.

    Raises:
        UsageError: an id is not in the model's vocabulary, or is kept twice, or no row would be left.
    """
    old_size, network = model.spec.vocab_size, model if isinstance(model, Transformer) else model.decoder
    if wrong := [number for row in (kept, *new) for number in row if not 0 <= number < old_size]:
        raise UsageError(f"id {wrong[0]} is not in the model's vocabulary", accepted=f"0 to {old_size - 1}")
    if not kept or len(set(kept)) < len(kept):
        raise UsageError("no row would be kept" if not kept else "an id is kept twice", accepted="distinct ids")
    network.token_embedding.weight = _rows(network.token_embedding.weight, kept, new)
    size = network.token_embedding.num_embeddings = len(kept) + len(new)
    head = network.head
    if head is not None:
        head.weight, head.out_features = _rows(head.weight, kept, new), size
        if head.bias is not None:
            head.bias = _rows(head.bias, kept, new)
    elif network.tied_bias is not None:
        network.tied_bias = _rows(network.tied_bias, kept, new)
    new_id = {old: number for number, old in enumerate(kept)}
    ids = model.spec.token_ids
    token_ids = TokenIds(
        begin=_renamed(ids.begin, new_id),
        end=tuple(new_id[number] for number in ids.end if number in new_id),
        padding=_renamed(ids.padding, new_id),
        decoder_start=_renamed(ids.decoder_start, new_id),
    )
    model.spec = replace(model.spec.resized(vocab_size=size), token_ids=token_ids)
    network.spec = model.spec
    if not isinstance(model, Transformer) and model.spec.encoder is not None:
        model.encoder.spec = model.spec.encoder


def _rows(old: Tensor, kept: Sequence[int], new: Sequence[Sequence[int]]) -> nn.Parameter:
    """Return kept and new rows, (len(kept) + len(new), ..); means are taken in fp32."""
    with torch.no_grad():
        whole = old[torch.tensor(kept, device=old.device)]
        mean = whole.float().mean(0)
        means = [old[torch.tensor(row, device=old.device)].float().mean(0) if row else mean for row in new]
        rows = torch.cat([whole, torch.stack(means).to(old.dtype)]) if means else whole
    return nn.Parameter(rows, requires_grad=old.requires_grad)


def _renamed(number: int | None, new_id: dict[int, int]) -> int | None:
    return None if number is None else new_id.get(number)
