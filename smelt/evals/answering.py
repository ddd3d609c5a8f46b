"""What a model writes for prompts whose answers are known, for a metric to compare.

Decoders that the engine knows answer with it, other models with the plain loop. Prompts are sorted by length and
answered in batches, and the seed of a prompt is that of its place in this order, so a batch may have any size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from smelt.core.errors import DataError, UsageError
from smelt.infer.engine import answers_of
from smelt.infer.sampling import Sampling
from smelt.models.encoder_decoder import Network
from smelt.tokenizers.base import Tokenizer

SPARE_TOKENS = 16  # beyond the longest reference: more than that is too long anyway


@dataclass(frozen=True)
class Asked:
    """A prompt's ids, the text that should follow, what was asked in words, and the row that it is from."""

    ids: Sequence[int]
    wanted: str
    shown: str
    where: str


def write_answers(
    model: Network,
    tokenizer: Tokenizer,
    asked: Sequence[Asked],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    batch_size: int = 64,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Answer all prompts and return the texts in order, without white space around.

    `on_progress(done, total)` is called after each batch. Raises UsageError without prompts, DataError for a prompt
    that leaves no room in the model's context.
    """
    if not asked:
        raise UsageError("there is no row to answer", accepted="at least one row with a reference")
    room = model.spec.encoder.max_seq_len + 1 if model.spec.encoder is not None else model.max_text_tokens
    for one in asked:
        if len(one.ids) >= room:
            raise DataError(
                f"{one.where}: the prompt has {len(one.ids)} tokens, but the model reads at most {room - 1}",
                fix="shorten the row, leave it out, or use a model with a longer context",
            )
    answers, found = answers_of(model, tokenizer, stop_ids, max_running=batch_size), [""] * len(asked)
    by_length = sorted(range(len(asked)), key=lambda index: len(asked[index].ids))
    for begin in range(0, len(asked), batch_size):
        batch = by_length[begin : begin + batch_size]
        made = answers([asked[index].ids for index in batch], replace(sampling, seed=sampling.seed + begin), None)
        for index, generation in zip(batch, made, strict=True):
            found[index] = generation.text.strip()
        on_progress(begin + len(batch), len(asked))
    return found


def enough_tokens(tokenizer: Tokenizer, asked: Sequence[Asked]) -> int:
    """Return the tokens of the longest reference and 16 more."""
    return SPARE_TOKENS + max((len(ids) for ids in tokenizer.encode_batch([one.wanted for one in asked])), default=0)
