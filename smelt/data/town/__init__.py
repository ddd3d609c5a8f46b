"""A generated town: text, instructions, preferences and labels with known answers, in English and Chinese.

Each item is a small world of its own, a pure function of (seed, split, index). Held-out worlds share no name and no
sum with training ones, so a right answer there was read or worked out, not remembered. The generator knows the
probability of all it writes and reports the entropy of its text, the floor of any model's loss.

chooser (chance and its bits) <- lexicon_*, wording_* (languages) <- split (the wall) <- world (facts) <- questions,
exercises <- stories, school, instructions <- emit (streams) <- write (files).
"""

from smelt.data.town.emit import (
    KINDS,
    LABELS,
    LANGUAGES,
    Document,
    EntropyRate,
    documents,
    entropy_rate,
    instructions,
    labels,
    preferences,
)
from smelt.data.town.lexicon import Language
from smelt.data.town.split import Split, is_heldout_name, is_heldout_sum, names_of
from smelt.data.town.write import write

__all__ = [
    "KINDS",
    "LABELS",
    "LANGUAGES",
    "Document",
    "EntropyRate",
    "Language",
    "Split",
    "documents",
    "entropy_rate",
    "instructions",
    "is_heldout_name",
    "is_heldout_sum",
    "labels",
    "names_of",
    "preferences",
    "write",
]
