"""What `smelt eval` measures by comparing: answers with references, and vectors with pairs; all with intervals.

Conversations are asked by the chat template, up to the last thing that the assistant said; of pairs an encoder-decoder
reads the source, and a decoder goes on with it as with the beginning of a document.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from smelt.cli.common import print_table
from smelt.core.errors import DataError, UsageError
from smelt.core.log import LiveLine, printable, say

if TYPE_CHECKING:
    from smelt.cli.eval import Measured, Request
    from smelt.data.records import ChatRow, PairRow
    from smelt.evals.answering import Asked
    from smelt.evals.resampling import Score
    from smelt.models.encoder_decoder import Network
    from smelt.tokenizers.pipeline import Pipeline

SHOWN_ANSWERS = 3
JUDGED_AT_ONCE = 4


def checked_metrics(names: str | None, judge: str | None, answers: str | None) -> tuple[str, ...]:
    """Return the metrics of answers; raises UsageError where nothing rates the answers, or there are none to rate."""
    from smelt.evals.marks import WRITTEN, metrics_named

    if answers is None and (names is not None or judge is not None):
        given = f"--judge {judge}" if names is None else f"--metric {names}"
        raise UsageError(f"{given} without answers", fix="--answers FILE")
    if answers is not None and names is None and judge is None:
        accepted = ", ".join(WRITTEN)
        raise UsageError(
            "--answers without a metric", accepted=f"{accepted}; or --judge", fix="--metric rouge,token_f1"
        )
    return () if names is None else metrics_named(names)


def check_judge(judge: str | None, model: str | None, key_variable: str | None) -> None:
    """Raise UsageError where the options of a judge do not fit together."""
    is_server = judge is not None and judge.startswith(("http://", "https://"))
    if is_server == (model is None) or (key_variable is not None and not is_server):
        words = {"--judge": judge, "--judge-model": model, "--judge-key-variable": key_variable}
        given = " ".join(f"{option} {value}" for option, value in words.items() if value is not None)
        accepted = "--judge http://ADDRESS/v1 --judge-model NAME, or --judge CHECKPOINT alone"
        raise UsageError(f"{given}: who is the judge?", accepted=accepted)


def measure_marks(model: Network, tokenizer: Pipeline, request: Request, found: Measured, *, quiet: bool) -> None:
    """Add what compares to what was found: scores, their figures and intervals, and answers."""
    from smelt.evals.marks import score_texts

    if request.answers is not None:
        asked, answers = written(model, tokenizer, request)
        found.answers["answers"] = tuple(answers)
        found.scores |= score_texts(answers, [one.wanted for one in asked], request.metrics)
        if request.judge is not None:
            found.scores["judged"], found.values["unjudged"] = rated(asked, answers, request)
        if request.show_wrong:
            show_answers(asked, answers)
    if request.retrieval is not None or request.similarity is not None:
        from smelt.cli.embed import pooling_named
        from smelt.data.formats import read_pairs
        from smelt.data.graded import read_graded
        from smelt.evals.likeness import retrieval_scores, similarity_scores

        pooling = pooling_named(request.pooling)
        if request.retrieval is not None:
            pairs = ((row.source, row.target, row.where) for row in read_pairs(request.retrieval))
            found.scores |= retrieval_scores(model, tokenizer, pairs, pooling=pooling)
        if request.similarity is not None:
            rows = [(row.source, row.target, row.score, row.where) for row in read_graded(request.similarity)]
            found.scores |= similarity_scores(model, tokenizer, rows, pooling=pooling)
    if not found.scores:
        return
    intervals = {name: list(score.interval(request.seed)) for name, score in found.scores.items()}
    found.values |= {name: score.value for name, score in found.scores.items()} | {"intervals": intervals}
    if not quiet:
        rows_shown = [
            (name, f"{score.value:.1%}", "{:.1%} to {:.1%}".format(*intervals[name]), f"{len(score.rows):,}")
            for name, score in found.scores.items()
        ]
        numeric = ("value", "95 % interval", "rows")
        print_table(("metric", *numeric), rows_shown, numeric=numeric)


def written(model: Network, tokenizer: Pipeline, request: Request) -> tuple[list[Asked], list[str]]:
    """Return what was asked and what the model wrote."""
    from smelt.cli.generate import stop_ids
    from smelt.data.records import ChatRow
    from smelt.evals.answering import enough_tokens, write_answers
    from smelt.infer.sampling import Sampling

    assert request.answers is not None
    rows = answer_rows(request.answers)
    asked = [asked_of(model, tokenizer, row) for row in rows]
    sampling = Sampling(
        max_new_tokens=request.max_new_tokens or enough_tokens(tokenizer, asked),
        temperature=request.temperature,
        num_beams=request.num_beams,
        seed=request.seed,
    )
    line = LiveLine()
    answers = write_answers(
        model,
        tokenizer,
        asked,
        sampling,
        stop_ids=stop_ids(model, tokenizer, chat=isinstance(rows[0], ChatRow)),
        batch_size=request.batch_size,
        on_progress=lambda done, total: line.update(f"answered {done:,} of {total:,}"),
    )
    line.close()
    return asked, answers


def rated(asked: list[Asked], answers: list[str], request: Request) -> tuple[Score, int]:
    """Return what the judge says of the answers, and how many it did not rate."""
    from smelt.cli.data_synth import key_from, teacher_of
    from smelt.evals.judge import judged

    assert request.judge is not None
    key = key_from(None, request.judge_key_variable)
    server, checkpoint = (None, request.judge) if request.judge_model is None else (request.judge, None)
    line, count = LiveLine(), itertools.count(1)
    score = judged(
        teacher_of(server, request.judge_model, checkpoint, key, JUDGED_AT_ONCE),
        [one.shown for one in asked],
        [one.wanted for one in asked],
        answers,
        parallel=JUDGED_AT_ONCE,
        seed=request.seed,
        on_reply=lambda: line.update(f"judged {next(count):,} of {len(answers):,}"),
    )
    line.close()
    num_missing = len(answers) - int(score.rows[:, 1].sum())
    if num_missing:
        say(f"the judge gave no rating to {num_missing} of {len(answers)} answers, which are left out")
    return score, num_missing


def answer_rows(source: str) -> list[ChatRow] | list[PairRow]:
    """Read conversations or pairs; raises DataError for other rows, or none."""
    from smelt.data.formats import read_chats, read_pairs, scan_rows
    from smelt.data.records import PairRow

    first = next((row for _, row in scan_rows(source)), None)
    if first is None:
        raise DataError(f"{source}: there is no row to answer", accepted="conversations, or pairs {source, target}")
    return list(read_pairs(source)) if isinstance(first, PairRow) else list(read_chats(source))


def asked_of(model: Network, tokenizer: Pipeline, row: ChatRow | PairRow) -> Asked:
    """Return a row as a prompt of this model; raises UsageError for a conversation with an encoder-decoder."""
    from smelt.cli.generate import prompt_ids
    from smelt.data.records import PairRow
    from smelt.evals.answering import Asked
    from smelt.evals.gold import last_user_message, question_of
    from smelt.tokenizers.chat import ChatTemplate

    if isinstance(row, PairRow):
        return Asked(prompt_ids(model, tokenizer, row.source, chat=False), row.target.strip(), row.source, row.where)
    if model.spec.writes_answers or model.spec.encoder is not None:
        raise UsageError(f"{row.where}: a conversation, for a model of pairs", accepted="pairs {source, target}")
    question = question_of(row, ChatTemplate(tokenizer), model.max_text_tokens)
    return Asked(question.ids, question.gold, last_user_message(row.messages), row.where)


def show_answers(asked: list[Asked], answers: list[str]) -> None:
    """Show the first answers that differ from their references."""
    wrong = [(one, text) for one, text in zip(asked, answers, strict=True) if text != one.wanted]
    for one, text in wrong[:SHOWN_ANSWERS]:
        say(printable(f"\n{one.where}: {one.shown}\n  wanted {one.wanted}\n  answer {text}"))


def shown_rows(source: str) -> list[tuple[str, str]]:
    """Return what each row of answers asks, and its reference."""
    from smelt.data.records import PairRow
    from smelt.evals.gold import last_user_message

    found = []
    for row in answer_rows(source):
        if isinstance(row, PairRow):
            found.append((row.source, row.target))
        else:
            said = row.messages[-1].content if row.messages[-1].role == "assistant" else ""
            found.append((last_user_message(row.messages), row.gold or said))
    return found
