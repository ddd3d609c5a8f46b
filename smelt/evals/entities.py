"""How well named entities are found: one is right if its place and its label both are, anything else is a miss.

This is the rule of CoNLL-2003: a name with a letter too many counts as one not found and one invented.
Figures of all labels together are made of the summed counts (micro). They are taken over characters of the text, so
they do not depend on how it was cut into tokens, and what a tokenizer makes impossible counts as missed.

Ref: Introduction to the CoNLL-2003 Shared Task, cs/0306050, 4. Ref: github.com/chakki-works/seqeval, strict mode.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from smelt.core.errors import UsageError
from smelt.data.records import Entity
from smelt.evals.classification import ClassScore, score_of

ALL = "all"
NUM_DRAWS = 1000

Named = Sequence[Collection[Entity]]
"""What each text names."""


def entity_scores(truth: Named, given: Named) -> dict[str, ClassScore]:
    """Return precision, recall and F1 under each label that either side has, and under ALL of them together.

    One text with PER (0, 3) and LOC (8, 12), given PER (0, 3) and LOC (8, 11) -> 0.5 each of ALL, LOC 0
    """
    if len(truth) != len(given):
        raise UsageError(f"{len(truth)} texts with entities and {len(given)} with found ones", accepted="as many")
    labels = sorted({entity.label for side in (truth, given) for text in side for entity in text})
    counts = {label: _counts(_only(truth, label), _only(given, label)).sum(axis=0) for label in labels}
    counts[ALL] = _counts(truth, given).sum(axis=0)
    return {label: score_of(*(int(number) for number in numbers)) for label, numbers in counts.items()}


def f1_interval(truth: Named, given: Named, *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the micro F1 when texts are drawn anew with replacement, a thousand times.

    Texts are drawn and not entities, as those of one text are right or wrong together.
    """
    counts = _counts(truth, given)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(NUM_DRAWS, len(counts)))
    hits, claimed, there = counts[drawn].sum(axis=1).T
    low, high = np.quantile(2 * hits / np.maximum(claimed + there, 1), (0.025, 0.975))
    return float(low), float(high)


def _only(named: Named, label: str) -> list[list[Entity]]:
    return [[entity for entity in text if entity.label == label] for text in named]


def _counts(truth: Named, given: Named) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return how many entities of each text were found, given and there: (R, 3)."""
    pairs = [(set(one), set(other)) for one, other in zip(truth, given, strict=True)]
    found = [(len(there & said), len(said), len(there)) for there, said in pairs]
    return np.array(found, dtype=np.int64).reshape(-1, 3)
