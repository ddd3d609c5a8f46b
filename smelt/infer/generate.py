"""Continue prompts with a language model: the plain loop that every faster engine is compared with.

All prompts run as one left-padded batch over one cache. Per token and batch there is one forward and a handful of
tensor operations; Python touches single rows only where text is wanted while it grows (stop strings, streaming).
Finished rows idle along until a tenth of the batch is done and are then dropped: that costs a copy of the cache, and
every later step is cheaper. On 600 prompts with answers of 2 to 60 tokens it saves a third of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from smelt.core.errors import UsageError
from smelt.infer.answer import Answer, Generation
from smelt.infer.beam import beam_search
from smelt.infer.rows import CachedRows, PromptBatch, token_budgets
from smelt.infer.sampling import Past, Sampling, check_biases, next_ids, row_seeds, uniforms
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.base import Tokenizer

OnText = Callable[[int, str], None]
IDLE_SHARE = 0.1  # of the batch; from 0.05 to 0.25 makes no measurable difference


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

    A model with an encoder reads the prompts as sources and begins its answers with the token that its spec names. An
    encoder that has learned to write (its spec names that token, too) reads the prompt, which ends with it, both ways.
    `on_text(row, text)` is called as soon as text is certain; a row's pieces joined are its `text` (beam search gives
    one piece at the end). Prompt and answer together never exceed the model's context, of an encoder-decoder each has
    its own; a prompt that fills it gets an empty answer. Raises UsageError for a prompt that is empty or longer than
    the context, for an encoder that has not learned to write, and for an encoder-decoder that names no first token.
    """
    vocab_size = min(tokenizer.vocab_size, model.spec.vocab_size)
    _check(model.spec, sampling, vocab_size)
    sources = prompts if model.spec.encoder is not None else None
    if model.spec.encoder is not None:
        token_budgets(prompts, 0, model.spec.encoder.max_seq_len)  # refuses those that do not fit
        prompts = [[decoder_start(model.spec)]] * len(prompts)
    budgets = token_budgets(prompts, sampling.max_new_tokens, model.max_text_tokens)
    answers = [Answer.begin(tokenizer, budget, frozenset(stop_ids), sampling.stop) for budget in budgets]
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
        vocab_size=vocab_size,
        sources=None if sources is None else [sources[row] for row in working],
    )

    def push(index: int, token_id: int) -> bool:
        row = working[index]
        text = answers[row].push(token_id)
        if text and on_text is not None:
            on_text(row, text)
        return answers[row].finish_reason is not None

    if sampling.num_beams == 1 and (on_text is not None or sampling.stop):
        sample_rows(batch, push)
    else:
        for index, ids in enumerate(beam_search(batch) if sampling.num_beams > 1 else sample_rows(batch)):
            for token_id in ids:
                if push(index, token_id):
                    break
    return [answer.result() for answer in answers]


def _check(spec: ModelSpec, sampling: Sampling, vocab_size: int) -> None:
    """Raise UsageError for a model that cannot go on, and for what this loop does not give."""
    if not spec.is_causal and not spec.writes_answers:
        raise UsageError(
            f"this {spec.family} model fills in masked tokens and has no next one",
            accepted="a decoder, an encoder-decoder, or an encoder that `smelt seq2seq` taught to write",
        )
    if not spec.language_head:
        raise UsageError(
            f"this {spec.family} model labels texts and has no head that writes", accepted="a model that writes"
        )
    if sampling.logprobs is not None:
        raise UsageError("logprobs of the plain loop", accepted="logprobs=None here; an Engine gives them")
    check_biases(sampling, vocab_size)


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
    past = Past.of(batch.prompts, batch.vocab_size, device) if sampling.looks_back else None
    numbers = None if sampling.greedy else uniforms(batch.seeds, num_steps).to(device)
    chosen = torch.zeros(len(batch.prompts), num_steps, dtype=torch.long, device=device)
    prompt = torch.arange(len(batch.prompts), device=device)  # which prompt each row of the batch belongs to
    active = torch.ones_like(prompt, dtype=torch.bool)
    for step in range(num_steps):
        logits = rows.logits[:, : batch.vocab_size]
        ids = next_ids(logits, sampling, past, None if numbers is None else numbers[prompt, step])
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
            past = past.rows(kept) if past is not None else None
        if past is not None:
            past.add(ids)
        rows.step(ids)
    return chosen.tolist()
