"""`smelt eval`: how well a model predicts a text, what its answers are worth, what it finds, how much it copies.

Bits per byte compare models with different tokenizers; exact match comes by kind with 95 % Wilson intervals, because
few rows make wide ones; the memorization rate is the share of samples that copy 50 tokens in a row from training.
`eval_marks` compares answers with references, and vectors with pairs. With `--before` another checkpoint is measured
alike, and `eval_card` sets the two side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, print_json, print_table
from smelt.core.errors import UsageError
from smelt.core.log import LiveLine, printable, say

if TYPE_CHECKING:
    from smelt.evals.resampling import Score

app = make_app()
PARTS = ("text", "gold", "memorization", "answers", "retrieval", "similarity")
"""What can be measured, each an option that takes a file."""
Answers = Annotated[str | None, typer.Option(help="Conversations or pairs: compare answers with references.")]
Judge = Annotated[
    str | None, typer.Option(metavar="URL|CKPT", help="Who rates the answers: a server like OpenAI's, or a checkpoint.")
]
JudgeModel = Annotated[str | None, typer.Option(help="The name of the model there.")]
JudgeKey = Annotated[str | None, typer.Option(help="An environment variable that holds the server's key.")]


@dataclass(frozen=True)
class Request:
    """What is to be measured, and how; None leaves a part out.

    `metrics` are those of the answers, and the judge rates them, a server's address or a checkpoint; `temperature`,
    `num_beams` and `max_new_tokens` are how they are written.
    """

    text: str | None
    gold: str | None
    memorization: str | None
    answers: str | None
    retrieval: str | None
    similarity: str | None
    metrics: tuple[str, ...]
    judge: str | None
    judge_model: str | None
    judge_key_variable: str | None
    temperature: float
    num_beams: int
    max_new_tokens: int | None
    pooling: str
    stride: int | None
    batch_size: int
    num_samples: int
    span_tokens: int
    seed: int
    show_wrong: bool

    def measured(self) -> dict[str, str]:
        """Return the parts that are not left out, with their files."""
        return {name: getattr(self, name) for name in PARTS if getattr(self, name) is not None}


@dataclass
class Measured:
    """What was found: the figures to print, the answers to the rows of a part, and the scores that can be resampled."""

    values: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    text: Annotated[str | None, typer.Option(help="Text (file, folder or glob): bits per byte, perplexity.")] = None,
    gold: Annotated[str | None, typer.Option(help="Conversations with known answers: exact match by kind.")] = None,
    memorization: Annotated[
        str | None, typer.Option(metavar="TRAINING_TEXT", help="Training text or shards: share of copying samples.")
    ] = None,
    answers: Answers = None,
    metric: Annotated[
        str | None, typer.Option(help="Of the answers: rouge,bleu,chrf,match,token_f1,keywords,...")
    ] = None,
    judge: Judge = None,
    judge_model: JudgeModel = None,
    judge_key_variable: JudgeKey = None,
    temperature: Annotated[float, typer.Option(help="Of the answers; 0 takes the likeliest token.")] = 0.0,
    num_beams: Annotated[int, typer.Option(min=1, help="Above 1: search for the likeliest answer.")] = 1,
    max_new_tokens: Annotated[int | None, typer.Option(help="[default: the longest reference and 16 more]")] = None,
    retrieval: Annotated[str | None, typer.Option(metavar="PAIRS", help="Which target each source finds.")] = None,
    similarity: Annotated[str | None, typer.Option(help="Pairs with a score: rank correlation of cosines.")] = None,
    pooling: Annotated[str, typer.Option(help="Of an encoder's vectors: mean, cls or pooled.")] = "mean",
    stride: Annotated[int | None, typer.Option(help="Tokens scored a window [default: half the context]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions answered at a time.")] = 64,
    num_samples: Annotated[int, typer.Option(min=1, help="Samples for the memorization rate.")] = 64,
    span_tokens: Annotated[int, typer.Option(min=1, help="Tokens in a row that count as a copy.")] = 50,
    show_wrong: Annotated[bool, typer.Option("--show-wrong", help="Show some wrong answers of each kind.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides samples, for copies and of answers to show.")] = 0,
    before: Annotated[str | None, typer.Option(metavar="CKPT", help="Measure this one too, and compare.")] = None,
    must_not_drop: Annotated[
        str | None,
        typer.Option(metavar="METRICS", help="Fail when one of them got worse: exact_match,bits_per_byte:0.01"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory for the comparison's page [default: report-card]")] = None,
    json: Json = False,
) -> None:
    """Measure a model on text, on answers, on vectors or against its training text; alone or beside an earlier one.

    Example: smelt eval runs/books --text held-out.txt
    """
    from smelt.cli.eval_marks import check_judge, checked_metrics

    check_judge(judge, judge_model, judge_key_variable)
    metrics = checked_metrics(metric, judge, answers)
    request = Request(
        text, gold, memorization, answers, retrieval, similarity, metrics, judge, judge_model, judge_key_variable,
        temperature, num_beams, max_new_tokens, pooling, stride, batch_size, num_samples, span_tokens, seed, show_wrong,
    )  # fmt: skip
    if not request.measured():
        raise UsageError("nothing to measure", accepted=", ".join(f"--{name} FILE" for name in PARTS))
    if before is not None:
        from smelt.cli.eval_card import compare

        compare(checkpoint, before, request, must_not_drop, out or Path("report-card"), as_json=json)
        return
    if must_not_drop is not None or out is not None:
        given = "--out" if must_not_drop is None else "--must-not-drop"
        raise UsageError(f"{given} without a checkpoint to compare with", fix="--before CKPT")
    model, tokenizer = open_checkpoint(checkpoint)[1:]
    values = measure(model, tokenizer, request, quiet=json).values
    if json:
        print_json(values)


def measure(model: Any, tokenizer: Any, request: Request, *, quiet: bool) -> Measured:
    """Measure all that is asked for."""
    from smelt.cli.eval_marks import measure_marks

    found = Measured()
    if request.text is not None:
        found.values |= measure_text(model, tokenizer, request.text, request.stride, quiet=quiet)
    if request.gold is not None:
        figures, found.answers["gold"] = measure_gold(
            model, tokenizer, request.gold, request.batch_size, quiet=quiet, show_wrong=request.show_wrong
        )
        found.values |= figures
    if request.memorization is not None:
        names = ("num_samples", "span_tokens", "seed")
        settings = {name: getattr(request, name) for name in names}
        found.values |= measure_copies(model, tokenizer, request.memorization, settings, quiet=quiet)
    measure_marks(model, tokenizer, request, found, quiet=quiet)
    return found


def measure_text(model: Any, tokenizer: Any, source: str, stride: int | None, *, quiet: bool) -> dict[str, Any]:
    """Score a text and show the result."""
    from smelt.data.formats import read_text
    from smelt.evals.text import bits_per_byte

    score = bits_per_byte(model, tokenizer, (row.text for row in read_text(source)), stride=stride)
    if not quiet:
        print(
            f"{source}: {score.bits_per_byte:.4f} bits per byte · perplexity {score.perplexity:,.2f} a token · "
            f"{score.num_bytes:,} bytes, {score.num_tokens:,} tokens"
        )
    return {"bits_per_byte": score.bits_per_byte, "perplexity": score.perplexity, "bytes": score.num_bytes}


def measure_gold(
    model: Any, tokenizer: Any, source: str, batch_size: int, *, quiet: bool, show_wrong: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Answer gold questions and show the rates by kind; return figures and answers."""
    from smelt.data.formats import read_chats
    from smelt.evals.gold import exact_match
    from smelt.tokenizers.chat import ChatTemplate

    line = LiveLine()
    score = exact_match(
        model,
        tokenizer,
        ChatTemplate(tokenizer),
        list(read_chats(source)),
        batch_size=batch_size,
        on_progress=lambda done, total: line.update(f"answered {done:,} of {total:,}"),
    )
    line.close()
    rates = {**score.by_kind, "all": score.overall}
    if not quiet:
        rows = [
            (kind, f"{rate.value:.1%}", f"{rate.low:.1%} to {rate.high:.1%}", f"{rate.correct}/{rate.total}")
            for kind, rate in rates.items()
        ]
        numeric = ("exact match", "95 % interval", "rows")
        print_table(("kind", *numeric), rows, numeric=numeric)
    if show_wrong:
        for miss in (miss for misses in score.wrong.values() for miss in misses):
            say(printable(f"\n{miss.where}: {miss.question}\n  gold   {miss.gold}\n  answer {miss.answer}"))
    figures = {
        "exact_match": score.overall.value,
        "exact_match_by_kind": {kind: rate.value for kind, rate in score.by_kind.items()},
        "exact_match_intervals": {kind: [rate.low, rate.high] for kind, rate in rates.items()},
    }
    return figures, score.answers


def measure_copies(model: Any, tokenizer: Any, source: str, settings: dict[str, int], *, quiet: bool) -> dict[str, Any]:
    """Compare samples with the training text and show how many copy from it."""
    from smelt.evals.memorization import measure_memorization

    found = measure_memorization(model, tokenizer, training_ids(source, tokenizer), **settings)
    if not quiet:
        print(f"samples that copy {found.span_tokens} or more training tokens in a row:")
        print(f"  after the beginning of a training passage  {found.from_prefixes}")
        print(f"  from nothing                               {found.from_nothing}")
    rates = {"from_prefixes": found.from_prefixes, "from_nothing": found.from_nothing}
    shares: dict[str, Any] = {name: rate.value for name, rate in rates.items()}
    intervals = {name: [rate.low, rate.high] for name, rate in rates.items()}
    return {"memorization": {**shares, "span_tokens": found.span_tokens, "intervals": intervals}}


def training_ids(source: str, tokenizer: Any) -> Any:
    """Return the ids of a training text (N,), read from its shards or tokenized now."""
    from smelt.data.formats import read_text
    from smelt.data.shards import META, TokenShards
    from smelt.tokenizers.base import END_OF_TEXT

    if (Path(source) / META).is_file():
        shards = TokenShards.open(source, tokenizer_fingerprint=tokenizer.fingerprint)
        return shards.read(0, shards.meta.num_tokens)
    texts = (row.text for row in read_text(source))
    return tokenizer.encode_to_array(texts, end_id=tokenizer.special[END_OF_TEXT])[0]
