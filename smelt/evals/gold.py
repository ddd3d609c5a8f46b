"""Exact match on questions with known answers, by kind, each rate with its 95 % interval.

The model answers greedily and the answer counts when it equals the gold text, but for white space at the ends. No
judge, no partial credit: the figure is strict and anyone can recompute it. Prompts are sorted by length and answered
in batches, so little of a batch is padding, and answers are cut some tokens after the longest gold answer, because a
longer one is wrong anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smelt.core.errors import DataError, UsageError
from smelt.data.records import ChatRow, Message
from smelt.evals.metrics import Rate
from smelt.infer.generate import generate
from smelt.infer.sampling import Sampling
from smelt.models.encoder_decoder import Network
from smelt.tokenizers.base import Tokenizer
from smelt.tokenizers.chat import ChatTemplate

SPARE_TOKENS = 16  # an answer may spell the gold text in more tokens than the tokenizer would
EXAMPLES_A_KIND = 3
NO_KIND = "other"


@dataclass(frozen=True)
class WrongAnswer:
    """One miss, for the report: where the row stands, the last question, the gold answer and the model's."""

    where: str
    question: str
    gold: str
    answer: str


@dataclass(frozen=True)
class GoldScore:
    """Rates over all rows and by kind; `answers` in the order of the rows; up to three wrong answers a kind."""

    overall: Rate
    by_kind: dict[str, Rate]
    answers: tuple[str, ...]
    wrong: dict[str, tuple[WrongAnswer, ...]]


@dataclass(frozen=True)
class Question:
    """A row, its gold text, and the ids of its prompt."""

    row: ChatRow
    gold: str
    ids: list[int]


def exact_match(
    model: Network,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    rows: Sequence[ChatRow],
    *,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> GoldScore:
    """Answer the last turn of each row and compare with its gold text.

    A row's gold text is `row.gold`, else its last assistant message. `max_new_tokens` is by default the longest gold
    answer and 16 more. `on_progress(done, total)` is called after each batch. Raises UsageError without rows, DataError
    for a row without gold text or with a prompt that leaves no room in the model's context.
    """
    if not rows:
        raise UsageError("there is no row to evaluate", accepted="at least one row with a gold answer")
    questions = [question_of(row, template, model.max_text_tokens) for row in rows]
    if max_new_tokens is None:
        gold_ids = tokenizer.encode_batch([question.gold for question in questions])
        max_new_tokens = SPARE_TOKENS + max(len(ids) for ids in gold_ids)
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=0)
    answers = [""] * len(rows)
    by_length = sorted(range(len(rows)), key=lambda index: len(questions[index].ids))
    for begin in range(0, len(rows), batch_size):
        batch = by_length[begin : begin + batch_size]
        prompts = [questions[index].ids for index in batch]
        found = generate(model, tokenizer, prompts, sampling, stop_ids=template.stop_ids)
        for index, generation in zip(batch, found, strict=True):
            answers[index] = generation.text.strip()
        if on_progress is not None:
            on_progress(min(begin + batch_size, len(rows)), len(rows))
    return _score(questions, answers)


def question_of(row: ChatRow, template: ChatTemplate, max_seq_len: int) -> Question:
    """Split a row into the prompt, rendered up to the reply, and the gold text; raises DataError as `exact_match`."""
    messages = row.messages
    replied = bool(messages) and messages[-1].role == "assistant"
    gold = row.gold or (messages[-1].content if replied else "")
    if not gold.strip():
        raise DataError(f"{row.where}: there is no gold answer", accepted="a gold text or a last assistant message")
    ids, _ = template.render(messages[:-1] if replied else messages, add_reply=True, tools=row.tools)
    if len(ids) >= max_seq_len:
        raise DataError(
            f"{row.where}: the prompt has {len(ids)} tokens, but the model's context holds {max_seq_len}",
            accepted=f"prompts of at most {max_seq_len - 1} tokens",
            fix="shorten the row, leave it out, or use a model with a longer context",
        )
    return Question(row, gold.strip(), ids)


def _score(questions: Sequence[Question], answers: Sequence[str]) -> GoldScore:
    hits: dict[str, list[bool]] = {}
    wrong: dict[str, list[WrongAnswer]] = {}
    for question, answer in zip(questions, answers, strict=True):
        kind = question.row.kind or NO_KIND
        hit = answer == question.gold
        hits.setdefault(kind, []).append(hit)
        if not hit and len(wrong.setdefault(kind, [])) < EXAMPLES_A_KIND:
            asked = last_user_message(question.row.messages)
            wrong[kind].append(WrongAnswer(question.row.where, asked, question.gold, answer))
    by_kind = {kind: Rate.of(sum(found), len(found)) for kind, found in sorted(hits.items())}
    overall = Rate.of(sum(rate.correct for rate in by_kind.values()), len(questions))
    examples = {kind: tuple(found) for kind, found in sorted(wrong.items())}
    return GoldScore(overall, by_kind, tuple(answers), examples)


def last_user_message(messages: Sequence[Message]) -> str:
    """Return what was asked last, "" where nothing was."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")
