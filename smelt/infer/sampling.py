"""From logits to the next token: pure functions on `(B, V)` tensors, one after another.

Repetition penalty, temperature, top-k, top-p and min-p are applied in the order of Hugging Face transformers, so that
the same settings mean the same distribution there and here. The draw itself is inverse-CDF with one uniform number a
token. A row's numbers come from its own generator, seeded with seed + row, so its text does not depend on who else
is in the batch; and because they are drawn before the loop starts, no token costs a Python loop over the rows.
The price is a cumulative sum in float64 over the vocabulary, and a sort where top-p is used.

Ref: nucleus sampling, arXiv:1904.09751; min-p, arXiv:2407.01082; repetition penalty, arXiv:1909.05858, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smelt.core.errors import UsageError

MAX_SEED = 2**63 - 1
LOWEST_TEMPERATURE = 1e-3  # below it logits / temperature leaves float32; 0 is the exact way to say greedy
LOWEST_REPETITION_PENALTY = 1e-3  # below it logits / penalty does


def _whole(value: object, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: object) -> float:
    """Return the value as a float, or NaN, which lies in no range."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _biases(value: object) -> bool:
    """Tell whether a value is a tuple of ids and numbers."""
    if not isinstance(value, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return False
    ids = [pair[0] for pair in value]
    return len(set(ids)) == len(ids) and all(_whole(id_, 0) and -100 <= _number(bias) <= 100 for id_, bias in value)


_RULES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "max_new_tokens": ("a whole number, 1 or more", lambda v: _whole(v, 1)),
    "temperature": (
        f"0 (greedy) or {LOWEST_TEMPERATURE} to 100",
        lambda v: _number(v) == 0 or LOWEST_TEMPERATURE <= _number(v) <= 100,
    ),
    "top_k": ("a whole number, 0 (off) or more", lambda v: _whole(v, 0)),
    "top_p": ("above 0, up to 1 (off)", lambda v: 0 < _number(v) <= 1),
    "min_p": ("0 (off) to 1", lambda v: 0 <= _number(v) <= 1),
    "repetition_penalty": (
        f"{LOWEST_REPETITION_PENALTY} to 10; 1 is off",
        lambda v: LOWEST_REPETITION_PENALTY <= _number(v) <= 10,
    ),
    "presence_penalty": ("-2 to 2; 0 is off", lambda v: -2 <= _number(v) <= 2),
    "frequency_penalty": ("-2 to 2; 0 is off", lambda v: -2 <= _number(v) <= 2),
    "logit_bias": ("pairs of an id and a number from -100 to 100, each id once", lambda v: _biases(v)),
    "logprobs": ("None (off), or 0 to 20 tokens beside the chosen one", lambda v: v is None or _whole(v, 0, 20)),
    "num_beams": ("a whole number, 1 (off) to 64", lambda v: _whole(v, 1, 64)),
    "stop": (
        "a tuple of texts, none of them empty",
        lambda v: isinstance(v, tuple) and all(isinstance(text, str) and text for text in v),
    ),
    "seed": (f"a whole number, 0 to {MAX_SEED}", lambda v: _whole(v, 0, MAX_SEED)),
}


@dataclass(frozen=True)
class Sampling:
    """Say how tokens are chosen and when to stop; raises UsageError for a value out of its range.

    `stop` texts end a generation and are cut from it. Beam search is deterministic: with `num_beams` above 1 the
    temperature must be 0 or 1 (both mean the model's own probabilities) and top_k, top_p and min_p must be off,
    as must the penalties of `presence` and `frequency`, which count the tokens of the answer, and `logit_bias`, which
    is added to logits. `logprobs` asks for the log-probabilities of so many likeliest tokens beside the chosen one's.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    num_beams: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (accepted, fits) in _RULES.items():
            if not fits(getattr(self, name)):
                raise UsageError(f"{name}: {getattr(self, name)!r} is not possible", accepted=accepted)
        if self.num_beams > 1:
            self._check_beams()

    @property
    def looks_back(self) -> bool:
        """Say whether a choice depends on which tokens are there already."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def greedy(self) -> bool:
        """Say whether the most likely token is taken each time."""
        return self.temperature == 0

    def _check_beams(self) -> None:
        off: dict[str, tuple[object, ...]] = {"temperature": (0, 1), "top_k": (0,), "top_p": (1,), "min_p": (0,)}
        off |= {"presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ((),), "logprobs": (None,)}
        for name, neutral in off.items():
            value = getattr(self, name)
            if value not in neutral:
                raise UsageError(
                    f"{name}: {value!r} together with num_beams: {self.num_beams}; beam search does not sample",
                    accepted=f"{name} {' or '.join(map(str, neutral))} with beams",
                    fix="set num_beams=1 to sample",
                )


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits `(B, V)` of the tokens marked in `seen` (B, V) bool."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Sharpen (below 1) or flatten (above 1) the logits `(B, V)`; the best one is moved to 0 first."""
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits `(B, V)` to -inf; ties with the k-th stay."""
    return logits.masked_fill(logits < logits.topk(min(k, logits.shape[-1])).values[:, -1:], -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep, in each row of `(B, V)`, the fewest most likely tokens whose probabilities add up to at least p."""
    ordered, index = logits.sort(descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    mass_before = probabilities.cumsum(-1) - probabilities
    remove = mass_before >= p
    remove[:, 0] = False  # rounding must never leave a row empty
    return logits.masked_fill(torch.zeros_like(remove).scatter(-1, index, remove), -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Set to -inf the logits `(B, V)` of tokens less likely than p times the likeliest of their row."""
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), -math.inf)


def shape_logits(logits: Tensor, sampling: Sampling) -> Tensor:
    """Apply temperature (not 0), top-k, top-p and min-p, in this order, to logits `(B, V)`."""
    logits = apply_temperature(logits, sampling.temperature)
    if sampling.top_k:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p:
        logits = keep_min_p(logits, sampling.min_p)
    return logits


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Pick one token a row: the first whose cumulative probability exceeds the row's number.

    logits `(B, V)`, uniforms `(B,)` float64 in [0, 1) -> ids `(B,)` int64. A token of probability 0 is never picked.
    """
    mass = logits.softmax(-1).cumsum(-1, dtype=torch.float64)  # (B, V)
    # The total is not exactly 1, so the uniform number is stretched to it.
    return torch.searchsorted(mass, uniforms[:, None] * mass[:, -1:], right=True).squeeze(-1)


def row_seeds(seed: int, num_rows: int) -> list[int]:
    """Return each row's own seed: row r has seed + r."""
    return [(seed + row) % (MAX_SEED + 1) for row in range(num_rows)]


def uniforms(seeds: Sequence[int], num_tokens: int) -> Tensor:
    """Draw float64 numbers in [0, 1), one row a seed: (B, num_tokens); a longer draw begins with the shorter one."""
    numbers = torch.empty(len(seeds), num_tokens, dtype=torch.float64)
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        numbers[row] = torch.rand(num_tokens, generator=generator, dtype=torch.float64)
    return numbers


@dataclass
class Past:
    """Hold which tokens rows have: `seen` (B, V) bool in prompt and answer, `counts` (B, V) float32 in the answer."""

    seen: Tensor
    counts: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], vocab_size: int, device: torch.device | str = "cpu") -> Past:
        """Return the past of rows that have no answer yet."""
        seen = torch.zeros(len(prompts), vocab_size, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            seen[row, torch.tensor(list(prompt))] = True
        return cls(seen.to(device), torch.zeros(len(prompts), vocab_size, device=device))

    def add(self, ids: Tensor) -> None:
        """Take one chosen token a row, (B,)."""
        self.seen.scatter_(1, ids[:, None], True)
        self.counts.scatter_add_(1, ids[:, None], torch.ones_like(ids[:, None], dtype=self.counts.dtype))

    def rows(self, index: Tensor) -> Past:
        """Return the past of some rows."""
        return Past(self.seen[index], self.counts[index])


def penalize(logits: Tensor, past: Past, sampling: Sampling) -> Tensor:
    """Apply the penalties of repetition, presence and frequency to logits `(B, V)`.

    Ref: OpenAI's API, presence and frequency penalties.
    """
    if sampling.repetition_penalty != 1:
        logits = penalize_repetition(logits, past.seen, sampling.repetition_penalty)
    there = (past.counts > 0).to(logits.dtype)
    return logits - sampling.frequency_penalty * past.counts - sampling.presence_penalty * there


def add_biases(logits: Tensor, biases: Sequence[tuple[int, float]]) -> Tensor:
    """Add a number to the logits `(B, V)` of some ids."""
    ids, numbers = zip(*biases, strict=True)
    added = torch.tensor(numbers, dtype=logits.dtype, device=logits.device).expand(len(logits), -1)
    return logits.index_add(1, torch.tensor(ids, device=logits.device), added)


def next_ids(logits: Tensor, sampling: Sampling, past: Past | None, numbers: Tensor | None) -> Tensor:
    """Choose the next token of each row: logits `(B, V)` -> ids `(B,)`.

    `past` is wanted where the sampling looks back; `numbers` (B,), the rows' uniform numbers, where the temperature is
    not 0.
    """
    logits = logits.float()
    if sampling.logit_bias:
        logits = add_biases(logits, sampling.logit_bias)
    if sampling.looks_back:
        assert past is not None, "penalties need to know the tokens so far"
        logits = penalize(logits, past, sampling)
    if sampling.greedy:
        return logits.argmax(-1)
    assert numbers is not None, "sampling needs uniform numbers"
    return draw(shape_logits(logits, sampling), numbers)


def check_biases(sampling: Sampling, vocab_size: int) -> None:
    """Raise UsageError for a bias of an id that the vocabulary does not have."""
    for id_, _ in sampling.logit_bias:
        if id_ >= vocab_size:
            raise UsageError(f"logit_bias: no id {id_} in this vocabulary", accepted=f"0 to {vocab_size - 1}")
