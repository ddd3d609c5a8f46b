"""Continue prompts with a language model: the plain loop that every faster engine is compared with.

All prompts run as one left-padded batch over one cache. Per token and batch there is one forward and a handful of
tensor operations; Python touches single rows only where text is wanted while it grows (stop strings, streaming).
Finished rows idle along until a tenth of the batch is done and are then dropped: that costs a copy of the cache, and
every later step is cheaper. On 600 prompts with answers of 2 to 60 tokens it saves a third of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from smelt.core.errors import UsageError
from smelt.infer.beam import beam_search
from smelt.infer.rows import CachedRows, PromptBatch, seen_tokens, token_budgets
from smelt.infer.sampling import Sampling, next_ids, row_seeds, uniforms
from smelt.infer.visible import VisibleText
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.base import Tokenizer

FinishReason = Literal["stop", "length"]
OnText = Callable[[int, str], None]
IDLE_SHARE = 0.1  # of the batch; from 0.05 to 0.25 makes no measurable difference


@dataclass(frozen=True)
class Generation:
    """One answer.

    `ids` are all chosen tokens, including the stop id or the tokens of the stop string that ended it; `text` has
    neither, nor any special token. `finish_reason` is "stop" for those two, "length" for a full budget or context.
    """

    ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason


@torch.inference_mode()
def generate(
    model: Network,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int] = (),
    on_text: OnText | None = None,
) -> list[Generation]:
    """Continue each prompt, all in one batch, and return one answer a prompt, in order.

    A model with an encoder reads the prompts as sources and begins its answers with the token that its spec names.
    `on_text(row, text)` is called as soon as text is certain; a row's pieces joined are its `text` (beam search gives
    one piece at the end). Prompt and answer together never exceed the model's context, of an encoder-decoder each has
    its own; a prompt that fills it gets an empty answer. Raises UsageError for a prompt that is empty or longer than
    the context, for an encoder, which cannot go on, and for an encoder-decoder whose spec names no first token.
    """
    if not model.spec.is_causal:
        raise UsageError(
            f"a {model.spec.family} model fills in masked tokens and has no next one",
            accepted="a decoder, or an encoder-decoder",
        )
    sources = prompts if model.spec.encoder is not None else None
    if model.spec.encoder is not None:
        token_budgets(prompts, 0, model.spec.encoder.max_seq_len)  # refuses those that do not fit
        prompts = [[decoder_start(model.spec)]] * len(prompts)
    budgets = token_budgets(prompts, sampling.max_new_tokens, model.spec.max_seq_len)
    answers = [
        _Answer(row, budget, frozenset(stop_ids), VisibleText(tokenizer, sampling.stop), on_text)
        for row, budget in enumerate(budgets)
    ]
    working = [row for row, budget in enumerate(budgets) if budget > 0]
    if not working:
        return [answer.result() for answer in answers]
    seeds = row_seeds(sampling.seed, len(prompts))
    batch = PromptBatch(
        model=model,
        prompts=[prompts[row] for row in working],
        budgets=[budgets[row] for row in working],
        seeds=[seeds[row] for row in working],
        sampling=sampling,
        stop_ids=tuple(stop_ids),
        vocab_size=min(tokenizer.vocab_size, model.spec.vocab_size),
        sources=None if sources is None else [sources[row] for row in working],
    )
    if sampling.num_beams > 1:
        found = beam_search(batch)
    elif on_text is not None or sampling.stop:
        return _watched(batch, answers, working)
    else:
        found = sample_rows(batch)
    for row, ids in zip(working, found, strict=True):
        for token_id in ids:
            if answers[row].push(token_id):
                break
    return [answer.result() for answer in answers]


def decoder_start(spec: ModelSpec) -> int:
    """Return the token with which an encoder-decoder begins its answers; raises UsageError where the spec has none."""
    start = spec.token_ids.decoder_start
    if start is None:
        raise UsageError(
            f"this {spec.family} model does not say with which token an answer begins",
            accepted="a checkpoint whose config.json has decoder_start_token_id",
            fix="add it; most models of this kind begin with their padding token",
        )
    return start


def _watched(batch: PromptBatch, answers: list[_Answer], working: list[int]) -> list[Generation]:
    """Run the loop with each token shown to its answer at once."""
    sample_rows(batch, lambda index, token_id: answers[working[index]].push(token_id))
    return [answer.result() for answer in answers]


def sample_rows(batch: PromptBatch, watch: Callable[[int, int], bool] | None = None) -> list[list[int]]:
    """Choose token after token for every prompt; return the ids of each, meaningless behind its stop id or budget.

    `watch(prompt, id)` is told each token of each prompt and returns True to end that prompt; it costs Python a row.
    """
    sampling, num_steps = batch.sampling, max(batch.budgets)
    rows = CachedRows(batch.model, batch.prompts, num_steps, batch.sources)
    device = rows.logits.device
    stop, budgets = (
        torch.tensor(values, dtype=torch.long, device=device) for values in (batch.stop_ids, batch.budgets)
    )
    seen = seen_tokens(batch.prompts, batch.vocab_size, device) if sampling.repetition_penalty != 1 else None
    numbers = None if sampling.greedy else uniforms(batch.seeds, num_steps).to(device)
    chosen = torch.zeros(len(batch.prompts), num_steps, dtype=torch.long, device=device)
    prompt = torch.arange(len(batch.prompts), device=device)  # which prompt each row of the batch belongs to
    active = torch.ones_like(prompt, dtype=torch.bool)
    for step in range(num_steps):
        logits = rows.logits[:, : batch.vocab_size]
        ids = next_ids(logits, sampling, seen, None if numbers is None else numbers[prompt, step])
        chosen[prompt, step] = ids  # an idle row writes behind its end, where nobody reads
        done = torch.isin(ids, stop) | (budgets[prompt] <= step + 1)
        if watch is not None:
            pairs = zip(active.tolist(), prompt.tolist(), ids.tolist(), strict=True)
            done |= torch.tensor([on and watch(index, token_id) for on, index, token_id in pairs], device=device)
        active &= ~done
        num_active = int(active.sum())
        if num_active == 0:
            break
        if len(active) - num_active >= IDLE_SHARE * len(active):
            kept = active.nonzero().squeeze(1)
            rows.keep(kept)
            prompt, active, ids = prompt[kept], active[kept], ids[kept]
            seen = seen[kept] if seen is not None else None
        if seen is not None:
            seen.scatter_(1, ids[:, None], True)
        rows.step(ids)
    return chosen.tolist()


class _Answer:
    """What one prompt has been answered so far: takes ids, shows text, knows when it is over."""

    def __init__(
        self, row: int, budget: int, stop_ids: frozenset[int], visible: VisibleText, on_text: OnText | None
    ) -> None:
        self.row, self.budget, self.stop_ids, self.visible, self.on_text = row, budget, stop_ids, visible, on_text
        self.ids: list[int] = []
        self.finish_reason: FinishReason = "length"

    def push(self, token_id: int) -> bool:
        """Take the next id; return True when the answer is complete."""
        self.ids.append(token_id)
        stopped = token_id in self.stop_ids
        over = stopped or len(self.ids) == self.budget
        text = "" if stopped else self.visible.push(token_id)
        if over:
            text += self.visible.finish()
        if text and self.on_text is not None:
            self.on_text(self.row, text)
        if stopped or self.visible.stopped:
            self.finish_reason = "stop"
        return over or self.visible.stopped

    def result(self) -> Generation:
        """Return the answer as a value."""
        return Generation(tuple(self.ids), self.visible.text, self.finish_reason)
