"""Measure a model: how well it predicts text, how often it answers exactly, how much of its training text it copies.

`text` (bits per byte, perplexity), `gold` (exact match by kind), `memorization` (verbatim copies) and `metrics` (rates
with their uncertainty) are independent of each other but for `metrics`. Nothing here imports the training code.
"""

from smelt.evals.gold import GoldScore, exact_match
from smelt.evals.memorization import Memorization, measure_memorization, verbatim_rate
from smelt.evals.metrics import Rate, wilson_interval
from smelt.evals.text import TextScore, bits_per_byte

__all__ = [
    "GoldScore",
    "Memorization",
    "Rate",
    "TextScore",
    "bits_per_byte",
    "exact_match",
    "measure_memorization",
    "verbatim_rate",
    "wilson_interval",
]
