"""Fit L(N, D) to finished runs, with intervals, by a Gauss-Newton search from a grid of starts.

The residual is log L predicted minus log L measured, with log L as a log-sum-exp of the three terms, so that their
sizes stay positive; the loss is Huber's, so that one odd run does not bend the law. All starts, and later all bootstrap
samples, are solved side by side as one batch of small problems. Five constants from a handful of runs are loosely held:
alone they mean little, and what the law says far from its runs has a wide interval, which is the reason to print it.

The intervals draw new losses around the fit and refit. Resampling the runs themselves, as one does with hundreds, would
lose whole sizes here; in simulations of 7 to 12 runs these intervals of 90 % hold the next loss about that often.

Ref: Hoffmann et al. 2022, arXiv:2203.15556, appendix D.2. Ref: Efron, Tibshirani 1993, An Introduction to the
Bootstrap, 6.5 (the parametric bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import UsageError
from smelt.models.scaling_laws import ScalingLaw

Floats = NDArray[np.float64]

NUM_CONSTANTS = 5
MIN_RUNS = NUM_CONSTANTS + 1  # one more than constants, so that something is left to judge the fit by
MAX_CORRELATION = 0.98  # of log N with log D; beyond it the two terms cannot be told apart
HUBER_DELTA = 1e-3
NUM_STEPS = 300
NUM_SAMPLES = 400
EXPONENTS = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
LOWEST, HIGHEST = np.array([[-12.0, -12.0, -12.0, 0.02, 0.02], [12.0, 12.0, 12.0, 2.0, 2.0]])
"""Bounds of the search, in logarithms of nats and in exponents: far outside of what language models show."""
FLOOR_SHARES = np.array([0.1, 0.4, 0.7, 0.9])  # of the smallest loss, as starts of E


@dataclass(frozen=True)
class Observation:
    """One finished run: parameters, tokens seen (those that count as new), held-out loss."""

    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class FittedLaw:
    """A law, the same fitted to bootstrap samples, and for each the deviation of a run's log L from it `(S,)`."""

    law: ScalingLaw
    samples: tuple[ScalingLaw, ...]
    deviations: Floats

    def interval(self, quantity: Callable[[ScalingLaw], float], share: float = 0.9) -> tuple[float, float]:
        """Return where the middle `share` of the samples puts a quantity."""
        return _middle(np.array([quantity(law) for law in self.samples]), share)

    def loss_interval(self, parameters: float, tokens: float, share: float = 0.9) -> tuple[float, float]:
        """Return the same for the loss of one more run, which scatters around the law as the fitted ones do."""
        losses = np.array([law.loss(parameters, tokens) for law in self.samples])
        scatter = self.deviations * np.random.default_rng(1).standard_normal((64, len(losses)))
        return _middle((losses * np.exp(scatter)).ravel(), share)


def fit(runs: Sequence[Observation], *, num_samples: int = NUM_SAMPLES, seed: int = 0) -> FittedLaw:
    """Fit the law to finished runs.

    Raises:
        UsageError: too few runs, or all of one size, one length or one ratio of the two.
    """
    refuse_degenerate(runs)
    table = np.array([(run.parameters, run.tokens, run.loss) for run in runs])
    logs = np.log(table)
    centre = logs[:, :2].mean(axis=0)
    places, targets = logs[:, :2] - centre, logs[:, 2]
    found, losses = _search(_starts(targets), places, targets[None])
    best = found[np.argmin(losses)]
    predicted = _predict(best[None], places)[0]
    random, freedom = np.random.default_rng(seed), len(runs) - NUM_CONSTANTS
    # A few residuals hardly say how large the scatter is; drawing it from chi-square makes the intervals Student's.
    deviations = np.sqrt(((targets - predicted) ** 2).sum() / random.chisquare(freedom, (num_samples, 1)))
    drawn = predicted + deviations * random.standard_normal((num_samples, len(runs)))
    thetas, _ = _search(np.repeat(best[None], num_samples, axis=0), places, drawn)
    return FittedLaw(_law(best, centre), tuple(_law(theta, centre) for theta in thetas), deviations[:, 0])


def refuse_degenerate(runs: Sequence[Observation]) -> None:
    """Raise UsageError naming what the runs lack to hold five constants."""
    if len(runs) < MIN_RUNS:
        raise UsageError(
            f"{len(runs)} finished runs that can be compared",
            accepted=f"at least {MIN_RUNS}: the law has {NUM_CONSTANTS} constants",
            fix="train more small runs of different sizes and lengths, or plan by a published law without --runs",
        )
    for values, what, setting in (
        ([run.parameters for run in runs], "number of parameters", "model.dim or model.num_layers"),
        ([run.tokens for run in runs], "number of tokens", "steps"),
    ):
        if len(set(values)) == 1:
            raise UsageError(
                f"all {len(runs)} runs have the same {what}, {values[0]:,.0f}",
                accepted="runs that differ in it",
                fix=f"train some with another {setting}",
            )
    correlation = np.corrcoef(np.log([(run.parameters, run.tokens) for run in runs]).T)[0, 1]
    if abs(correlation) > MAX_CORRELATION:
        raise UsageError(
            f"parameters and tokens of the runs change together (correlation {correlation:.3f} of their logarithms)",
            accepted=f"at most {MAX_CORRELATION}: else what size and what text contribute cannot be told apart",
            fix="train a small model on much text, or a large one on little",
        )


def _predict(thetas: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Return log L `(K, R)` of K laws at R centred places, and each term's share of it `(K, 3, R)`."""
    a, b, e, alpha, beta = thetas.T[:, :, None]
    terms = np.stack([a - alpha * places[:, 0], b - beta * places[:, 1], np.broadcast_to(e, (len(e), len(places)))], 1)
    top = terms.max(axis=1, keepdims=True)
    powers = np.exp(terms - top)
    total = powers.sum(axis=1)
    return np.log(total) + top[:, 0], powers / total[:, None]


def _huber(residuals: Floats) -> Floats:
    """Return Huber's loss, summed over the runs `(K,)`."""
    size = np.abs(residuals)
    small = np.minimum(size, HUBER_DELTA)
    return np.asarray((small * (size - small / 2)).sum(axis=1))


def _search(thetas: Floats, places: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Minimise K problems at once by damped Gauss-Newton steps with Huber's weights; return (K, 5) and losses (K,)."""
    thetas, damping = thetas.copy(), np.full(len(thetas), 1e-2)
    predicted, shares = _predict(thetas, places)
    residuals = predicted - targets
    losses = _huber(residuals)
    for _ in range(NUM_STEPS):
        slopes = np.stack(
            [shares[:, 0], shares[:, 1], shares[:, 2], -places[:, 0] * shares[:, 0], -places[:, 1] * shares[:, 1]], 2
        )  # (K, R, 5)
        weights = HUBER_DELTA / np.maximum(np.abs(residuals), HUBER_DELTA)
        weighted = slopes * weights[:, :, None]
        curvature = weighted.transpose(0, 2, 1) @ slopes
        gradient = (weighted * residuals[:, :, None]).sum(axis=1)
        diagonal = np.eye(NUM_CONSTANTS) * (
            damping[:, None, None] * np.einsum("kii->ki", curvature)[:, None, :] + 1e-12
        )
        tried = (thetas - np.linalg.solve(curvature + diagonal, gradient[:, :, None])[:, :, 0]).clip(LOWEST, HIGHEST)
        predicted, tried_shares = _predict(tried, places)
        tried_residuals = predicted - targets
        tried_losses = _huber(tried_residuals)
        better = tried_losses < losses
        thetas[better], shares[better], losses[better] = tried[better], tried_shares[better], tried_losses[better]
        residuals = np.where(better[:, None], tried_residuals, residuals)
        damping = np.where(better, damping / 3, damping * 4).clip(1e-9, 1e9)
    return thetas, losses


def _starts(targets: Floats) -> Floats:
    """Return a grid of starts `(K, 5)`: exponents, and shares of E; what E leaves is halved between the terms."""
    losses = np.exp(targets)
    alpha, beta, share = (grid.ravel() for grid in np.meshgrid(EXPONENTS, EXPONENTS, FLOOR_SHARES))
    floor = share * losses.min()
    half = np.log((losses.mean() - floor) / 2)
    return np.stack([half, half, np.log(floor), alpha, beta], axis=1)


def _law(theta: Floats, centre: Floats) -> ScalingLaw:
    """Return a law from constants about centred places: exp(a) / (N / N0)^alpha = A / N^alpha."""
    a, b, e, alpha, beta = (float(value) for value in theta)
    return ScalingLaw(
        E=float(np.exp(e)),
        A=float(np.exp(a + alpha * centre[0])),
        alpha=alpha,
        B=float(np.exp(b + beta * centre[1])),
        beta=beta,
    )


def _middle(values: Floats, share: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
