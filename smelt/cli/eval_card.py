"""`smelt eval AFTER --before BEFORE`: both measured alike, side by side on a page, and a gate for what must not drop.

One model is in memory at a time. The answers on the page are to prompts that a seed picks: questions of the gold file,
else of the answers, else beginnings of documents of the text. Metrics of the same rows are compared row by row.
"""

from __future__ import annotations

import random
import shlex
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smelt.cli.common import open_checkpoint, print_json, print_table
from smelt.cli.eval import Request, measure
from smelt.cli.eval_marks import shown_rows
from smelt.core.errors import UsageError
from smelt.core.log import say

if TYPE_CHECKING:
    from smelt.evals.card import Answered, Drop, Reading
    from smelt.evals.resampling import Score
    from smelt.models.encoder_decoder import Network
    from smelt.tokenizers.pipeline import Pipeline

NUM_ANSWERS = 10
DOCUMENTS_LOOKED_AT = 1000
PROMPT_CHARACTERS, NEW_TOKENS = 100, 48


@dataclass(frozen=True)
class Prompt:
    """What is answered, what the answer should be, and which row of the questions it is, if it is one."""

    text: str
    gold: str = ""
    row: int | None = None


@dataclass(frozen=True)
class Side:
    """What was found of one checkpoint."""

    values: dict[str, Any]
    readings: dict[str, Reading]
    answers: list[str]
    tokenizer: str
    scores: dict[str, Score]


def compare(after: str, before: str, request: Request, must_not_drop: str | None, out: Path, *, as_json: bool) -> None:
    """Measure two checkpoints, show and write how they differ; raises RegressionError where a gate fails."""
    from smelt.evals.card import failed, parse_gates, refuse_drops
    from smelt.evals.card_page import REPORT, check_out, write_page

    check_out(out)
    kinds, prompts = gold_questions(request) if request.gold is not None else ([], other_prompts(request))
    measured = [*request.measured(), *(f"answers:{metric}" for metric in request.metrics)]
    measured += ["judge"] * (request.judge is not None)
    gates = [] if must_not_drop is None else parse_gates(must_not_drop, measured, kinds)
    old = side_of(before, request, prompts)
    new = side_of(after, request, prompts)
    drops = failed(gates, old.readings, new.readings)
    notes = []
    if old.tokenizer != new.tokenizer and "perplexity" in new.readings:
        notes.append("The tokenizers differ, and perplexity is a token's: only bits per byte compare the two on text.")
    answers = answered(prompts, old, new)
    gains = {name: score.gain(old.scores[name], request.seed) for name, score in new.scores.items()}
    page = write_page(
        out,
        (before, after),
        old.readings,
        new.readings,
        command=command(after, before, request, must_not_drop),
        gains=gains,
        gates=gates,
        drops=drops,
        answers=answers,
        notes=notes,
    )
    if as_json:
        paired = {"change_intervals": {name: list(gain) for name, gain in gains.items()}} if gains else {}
        print_json({**new.values, **as_dict(old, new, drops), **paired, "report": str(out / REPORT)})
    else:
        show(old, new, gains, notes)
        print(f"report  {page}")
    if notes and any(gate.metric == "perplexity" for gate in gates):
        raise UsageError("--must-not-drop perplexity: the tokenizers differ", accepted="bits_per_byte")
    refuse_drops(drops, str(page))


def command(after: str, before: str, request: Request, must_not_drop: str | None) -> str:
    """Return the command that measures the same again."""
    words = ["smelt", "eval", after, "--before", before]
    for name, source in request.measured().items():
        words += [f"--{name}", source]
    words += ["--metric", ",".join(request.metrics)] if request.metrics else []
    for name in ("judge", "judge_model", "judge_key_variable"):
        if getattr(request, name) is not None:
            words += [f"--{name.replace('_', '-')}", getattr(request, name)]
    if request.answers is not None:
        words += ["--temperature", f"{request.temperature:g}", "--num-beams", str(request.num_beams)]
        words += [] if request.max_new_tokens is None else ["--max-new-tokens", str(request.max_new_tokens)]
    if request.retrieval is not None or request.similarity is not None:
        words += ["--pooling", request.pooling]
    for name in ("stride", "num_samples", "span_tokens", "seed"):
        if getattr(request, name) is not None:
            words += [f"--{name.replace('_', '-')}", str(getattr(request, name))]
    return shlex.join([*words, *([] if must_not_drop is None else ["--must-not-drop", must_not_drop])])


def side_of(checkpoint: str, request: Request, prompts: list[Prompt]) -> Side:
    """Measure one checkpoint and answer the prompts with it."""
    from smelt.evals.card import readings

    say(f"measuring {checkpoint}")
    model, tokenizer = open_checkpoint(checkpoint)[1:]
    found = measure(model, tokenizer, request, quiet=True)
    rows = [prompt.row for prompt in prompts if prompt.row is not None]
    if rows:
        every = found.answers["gold" if request.gold is not None else "answers"]
        answers = [every[row] for row in rows]
    else:
        answers = continued(model, tokenizer, prompts)
    return Side(found.values, readings(found.values), answers, tokenizer.fingerprint, found.scores)


def gold_questions(request: Request) -> tuple[list[str], list[Prompt]]:
    """Return the kinds of the gold file's questions, and some of its rows."""
    from smelt.data.formats import read_chats
    from smelt.evals.gold import NO_KIND

    assert request.gold is not None
    rows = list(read_chats(request.gold))
    picked = sorted(random.Random(request.seed).sample(range(len(rows)), min(NUM_ANSWERS, len(rows))))
    prompts = []
    for number in picked:
        messages, gold = list(rows[number].messages), rows[number].gold
        if messages and messages[-1].role == "assistant":
            gold = gold or messages[-1].content
            messages.pop()
        asked = messages[-1].content if messages else ""
        prompts.append(Prompt(asked, gold or "", number))
    return sorted({row.kind or NO_KIND for row in rows}), prompts


def other_prompts(request: Request) -> list[Prompt]:
    """Return some rows of the answers, or beginnings of the text where there are none."""
    if request.answers is None:
        return beginnings(request)
    rows = shown_rows(request.answers)
    picked = sorted(random.Random(request.seed).sample(range(len(rows)), min(NUM_ANSWERS, len(rows))))
    return [Prompt(*rows[number], number) for number in picked]


def beginnings(request: Request) -> list[Prompt]:
    """Return beginnings of documents of the text, or pieces of few, each with how it goes on; none without a text."""
    from smelt.data.formats import read_text

    if request.text is None:
        return []
    texts = [row.text for row in islice(read_text(request.text), DOCUMENTS_LOOKED_AT)]
    generator, prompts = random.Random(request.seed), []
    is_few = len(texts) < NUM_ANSWERS  # such as one book: then the prompts come from within
    for text in generator.choices(texts, k=NUM_ANSWERS) if is_few else generator.sample(texts, NUM_ANSWERS):
        start = generator.randrange(max(1, len(text) - 2 * PROMPT_CHARACTERS)) if is_few else 0
        middle = start + min(PROMPT_CHARACTERS, len(text) // 2)
        prompts.append(Prompt(text[start:middle], text[middle : middle + 2 * PROMPT_CHARACTERS]))
    return prompts


def continued(model: Network, tokenizer: Pipeline, prompts: list[Prompt]) -> list[str]:
    """Return how a model goes on after each prompt, by the likeliest tokens."""
    from smelt.infer.generate import generate
    from smelt.infer.sampling import Sampling
    from smelt.tokenizers.base import END_OF_TEXT

    if not prompts:
        return []
    end = tokenizer.special[END_OF_TEXT]
    room = model.spec.max_seq_len // 2
    ids = [[end, *tokenizer.encode(prompt.text)[-room:]] for prompt in prompts]
    found = generate(model, tokenizer, ids, Sampling(max_new_tokens=NEW_TOKENS, temperature=0), stop_ids=(end,))
    return [generation.text for generation in found]


def answered(prompts: list[Prompt], old: Side, new: Side) -> list[Answered]:
    """Return each prompt with both answers."""
    from smelt.evals.card import Answered

    rows = zip(prompts, old.answers, new.answers, strict=True)
    return [Answered(prompt.text, prompt.gold, before, after) for prompt, before, after in rows]


def as_dict(old: Side, new: Side, drops: list[Drop]) -> dict[str, Any]:
    """Return what is printed as JSON beside the new checkpoint's own figures."""
    return {
        "before": old.values,
        "changes": {name: new.readings[name].value - reading.value for name, reading in old.readings.items()},
        "dropped": [
            {"metric": drop.gate.metric, "before": drop.before, "after": drop.after, "allowed": drop.gate.allowed}
            for drop in drops
        ],
    }


def show(old: Side, new: Side, gains: dict[str, tuple[float, float]], notes: list[str]) -> None:
    """Print both sides as a table."""
    from smelt.evals.card_page import verdict

    rows = [
        (name, str(one), str(new.readings[name]), verdict(name, one, new.readings[name], gains.get(name)))
        for name, one in old.readings.items()
    ]
    print_table(("metric", "before", "after", ""), rows, numeric=("before", "after"))
    for note in notes:
        print(note)
