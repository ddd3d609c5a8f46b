"""The metrics of texts that a model writes, of what it finds, and of what it holds for alike: names and figures.

Each entry of WRITTEN takes the texts written and the references, one each, and returns a score for each figure of its
name. All figures are better when higher and shares from 0 to 1, but for `spearman`, which goes down to -1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smelt.core.errors import UsageError, nearest
from smelt.evals.bleu import bleu
from smelt.evals.chrf import chrf
from smelt.evals.distinct import distinct
from smelt.evals.keywords import keyword_scores
from smelt.evals.ranking import NDCG_AT, RECALL_AT
from smelt.evals.resampling import Score
from smelt.evals.rouge import rouge
from smelt.evals.short_answers import match, token_f1

WRITTEN: dict[str, Callable[[Sequence[str], Sequence[str]], dict[str, Score]]] = {
    "rouge": rouge,
    "bleu": bleu,
    "chrf": chrf,
    "match": match,
    "token_f1": token_f1,
    "keywords": keyword_scores,
    "distinct": distinct,
}
FIGURES: dict[str, tuple[str, ...]] = {
    "rouge": ("rouge_1", "rouge_2", "rouge_l"),
    "bleu": ("bleu",),
    "chrf": ("chrf",),
    "match": ("match",),
    "token_f1": ("token_f1",),
    "keywords": ("keyword_precision", "keyword_recall", "keyword_f1"),
    "distinct": ("distinct_1", "distinct_2"),
}
"""The figures of each metric of WRITTEN."""
FOUND = (*(f"recall_at_{k}" for k in RECALL_AT), "mrr", f"ndcg_at_{NDCG_AT}")
ALIKE = ("spearman",)
JUDGED = ("judged",)


def metrics_named(text: str) -> tuple[str, ...]:
    """Read names such as "rouge,bleu"; raises UsageError for an unknown one."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in WRITTEN:
            raise UsageError(f"--metric: no metric '{name}'.{nearest(name, WRITTEN)}", accepted=", ".join(WRITTEN))
    return names


def score_texts(written: Sequence[str], wanted: Sequence[str], metrics: Sequence[str]) -> dict[str, Score]:
    """Score texts against one reference each by the metrics of these names."""
    return {figure: score for name in metrics for figure, score in WRITTEN[name](written, wanted).items()}
