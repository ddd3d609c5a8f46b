"""What a tagger is worth at the end of its run: entities found among those given, in the report and the checkpoint.

Texts are tagged with the function that `smelt label` uses. An entity that labels of words cannot say, as it overlaps a
longer one, ends inside a word or is cut by a stretch's end, still counts as one to find, and such are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smelt.core.log import say
from smelt.data.records import EntityRow
from smelt.evals.entities import ALL, entity_scores, f1_interval
from smelt.models.token_labels import find_entities
from smelt.models.transformer import Transformer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.checkpoint import add_metrics

Examined = tuple[dict[str, Any], list[str]]
"""Metrics, and lines of the report."""


@dataclass(frozen=True)
class Lost:
    """Count a part's entities, those that labels of words cannot say by reason, and the texts that were divided."""

    total: int
    overlapping: int
    inside_words: int
    across_stretches: int
    divided_texts: int

    @property
    def line(self) -> str:
        """Return the counts as words."""
        return (
            f"{self.divided_texts:,} texts divided; {self.total:,} entities, of which cannot be said: "
            f"{self.overlapping:,} (a longer one overlaps them), {self.inside_words:,} (they begin or end inside a "
            f"word), {self.across_stretches:,} (a division cuts them)"
        )


@dataclass(frozen=True)
class TagParts:
    """Hold the held-out texts of a run, what was lost in each part, and how many test texts stand in training too."""

    validation: Sequence[EntityRow]
    test: Sequence[EntityRow]
    lost: tuple[Lost, ...]
    num_seen: int


def examine(model: Transformer, tokenizer: Pipeline, parts: TagParts, checkpoint: Path, max_seq_len: int) -> Examined:
    """Tag the held-out texts with a trained model, write the figures beside its weights and into the report."""
    model.eval()
    truth = [row.entities for row in parts.test]
    given = find_entities(model, tokenizer, [row.text for row in parts.test], max_tokens=max_seq_len)
    held_out = find_entities(model, tokenizer, [row.text for row in parts.validation], max_tokens=max_seq_len)
    scores = entity_scores(truth, given)
    whole = scores.pop(ALL)
    metrics: dict[str, Any] = {
        "test_f1": whole.f1,
        "test_f1_interval": list(f1_interval(truth, given)),
        "test_precision": whole.precision,
        "test_recall": whole.recall,
        "validation_f1": entity_scores([row.entities for row in parts.validation], held_out)[ALL].f1,
        "labels": {label: asdict(score) for label, score in scores.items()},
        "test_texts": len(parts.test),
        "test_texts_in_training": parts.num_seen,
        "test_entities": parts.lost[2].total,
        "test_entities_lost": asdict(parts.lost[2]),
        "training_entities_lost": asdict(parts.lost[0]),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    add_metrics(checkpoint, metrics)
    say(f"test: F1 {whole.f1:.3f}, precision {whole.precision:.3f}, recall {whole.recall:.3f}")
    return metrics, report_lines(metrics, parts)


def report_lines(metrics: dict[str, Any], parts: TagParts) -> list[str]:
    """Return the report's part about the test."""
    low, high = metrics["test_f1_interval"]
    return [
        "## Test",
        "",
        f"F1 {metrics['test_f1']:.3f} (95 % interval {low:.3f} to {high:.3f}, over texts): precision "
        f"{metrics['test_precision']:.3f}, recall {metrics['test_recall']:.3f}. An entity is right if its place and "
        f"its label are. {metrics['test_texts_in_training']} of {metrics['test_texts']:,} texts stand in training too.",
        "",
        *(f"{name}: {lost.line}." for name, lost in zip(("Training", "Validation", "Test"), parts.lost, strict=True)),
        "",
        "| label | precision | recall | F1 | entities |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {score['precision']:.3f} | {score['recall']:.3f} | {score['f1']:.3f} | {score['rows']:,} |"
            for name, score in metrics["labels"].items()
        ),
        "",
    ]
