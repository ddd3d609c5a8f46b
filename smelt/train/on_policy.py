"""Rows of which a share is written anew by the student: on-policy distillation as a matter of data.

A model that only ever reads good text never learns what to do behind its own mistakes. So in some rows the end of each
text, or the last answer of each chat, is sampled from the student as it is at this step, and its teacher says what it
should have done at every token. Which rows these are, and their random numbers, follow from (seed, epoch, row) alone;
with the weights of the step, which a checkpoint restores, a resumed run samples the very same tokens.

What is sampled takes the place of what stood there and is not longer, so rows keep their form. Sampling costs a forward
for each token of the longest answer, which on a CPU is most of the step.

Ref: GKD, arXiv:2306.13649, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from smelt.data.corruption.rows import Corrupted
from smelt.data.order import MASK, mix
from smelt.data.packing import IGNORED, Array, Packed
from smelt.infer.generate import sample_rows
from smelt.infer.rows import PromptBatch
from smelt.infer.sampling import MAX_SEED, Sampling
from smelt.models.encoder_decoder import Network
from smelt.train.sources import Rows

PROMPT_SHARE = 0.25
"""How much of a text is left for the student to go on from; of a chat it is all before the last answer."""


@dataclass(frozen=True)
class Place:
    """Where the student writes in a row: `start` of a segment, `begin` of its own words, `end` of their room."""

    row: int
    start: int
    begin: int
    end: int


@dataclass(frozen=True)
class OnPolicyRows:
    """Rows of text or chats, of which about `share` end in what the student says.

    Its rows carry a label: 1 where the student wrote, 0 where all is the text's own.
    """

    rows: Rows
    student: Network
    stop_ids: tuple[int, ...]
    vocab_size: int
    share: float
    seed: int

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return self.rows.num_rows

    def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Corrupted:
        """Return the rows with these numbers, some of them written by the student as it is now."""
        taken = self.rows.take(indices, epochs)
        assert isinstance(taken, Packed), "a decoder's rows"
        epochs = epochs or [0] * len(indices)
        words = [mix(mix(mix(self.seed) ^ epoch) ^ int(index)) for index, epoch in zip(indices, epochs, strict=True)]
        own = np.array([word < self.share * MASK for word in words], dtype=np.int32)
        places = [
            place
            for row in np.flatnonzero(own)
            for place in places_of(taken.labels[row], taken.segments[row], int(row))
        ]
        if not places:
            return Corrupted(taken, row_labels=np.zeros_like(own))
        seeds = [mix(words[place.row] ^ place.start) % (MAX_SEED + 1) for place in places]
        return Corrupted(replaced(taken, places, self.answers(taken, places, seeds), own), row_labels=own)

    @torch.inference_mode()
    def answers(self, taken: Packed, places: Sequence[Place], seeds: Sequence[int]) -> list[list[int]]:
        """Return what the student says at each place, up to its end of text or turn."""
        budgets = [place.end - place.begin for place in places]
        was_training = self.student.training
        self.student.eval()
        with torch.compiler.set_stance("force_eager"):
            chosen = sample_rows(
                PromptBatch(
                    model=self.student,
                    prompts=[taken.ids[place.row, place.start : place.begin].tolist() for place in places],
                    budgets=budgets,
                    seeds=seeds,
                    sampling=Sampling(max_new_tokens=max(budgets)),
                    stop_ids=self.stop_ids,
                    vocab_size=self.vocab_size,
                )
            )
        self.student.train(was_training)
        return [until_stop(ids[:budget], self.stop_ids) for ids, budget in zip(chosen, budgets, strict=True)]


def places_of(labels: Array, segments: Array, row: int) -> list[Place]:
    """Return where the student writes in a row (T,): in each segment the last run of tokens that have a label.

    A segment that is labelled throughout is a text, of which it reads the first quarter. One of a single token has no
    place.
    """
    places = []
    for segment in range(1, int(segments.max(initial=0)) + 1):
        inside = np.flatnonzero(segments == segment)
        labelled = inside[labels[inside] != IGNORED]
        if len(inside) < 2 or not len(labelled):
            continue
        start, last = int(inside[0]), int(labelled[-1])
        gaps = inside[(labels[inside] == IGNORED) & (inside < last)]
        # The token at a place is told by the label before it.
        begin = int(gaps[-1]) + 2 if len(gaps) else start + max(1, int(PROMPT_SHARE * (last - start + 1)))
        end = min(last + 1, int(inside[-1])) + 1
        places.append(Place(row, start, begin, end))
    return places


def replaced(taken: Packed, places: Sequence[Place], answers: Sequence[Sequence[int]], own: Array) -> Packed:
    """Return copies of packed rows in which the own ones hold, and have labels for, nothing but prompts and answers."""
    ids, labels, segments, positions = (
        array.copy() for array in (taken.ids, taken.labels, taken.segments, taken.positions)
    )
    labels[own == 1], segments[own == 1] = IGNORED, 0
    for place, answer in zip(places, answers, strict=True):
        end = place.begin + len(answer)
        ids[place.row, place.begin : end] = answer
        labels[place.row, place.begin - 1 : end - 1] = answer
        segments[place.row, place.start : end] = taken.segments[place.row, place.start]
        positions[place.row, place.start : end] = np.arange(end - place.start)
    return Packed(ids, labels, segments, positions)


def until_stop(ids: Sequence[int], stop_ids: Sequence[int]) -> list[int]:
    """Return ids up to the first that ends a text, with it: ([5, 6, 2, 7], [2]) -> [5, 6, 2]."""
    end = next((place + 1 for place, token in enumerate(ids) if token in stop_ids), len(ids))
    return list(ids[:end])
