"""The picture of a plan: runs with the law through them and the next one ahead, and where its budget is best spent.

On the left each size has a curve of loss over tokens and its runs as dots; the plan's own is the thick one, with its
interval. On the right the same work is split in all ways between parameters and tokens; the valley is the optimum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.core.extras import need
from smelt.models.scaling_fit import FittedLaw
from smelt.models.scaling_laws import FLOPS_PER_PARAMETER, ScalingLaw
from smelt.train.budget import Budget, RunPlan, counting, split
from smelt.train.finished import RunGroup

CURVE_POINTS = 200
SPAN = 8.0  # how far the valley is drawn to both sides of the best size
PLANNED, VALLEY, COLOURS = "#c8501e", "#1f4e9c", "viridis"
SHARE = 0.9


def draw(path: Path, plan: RunPlan, budget: Budget, law: ScalingLaw | FittedLaw, group: RunGroup | None) -> None:
    """Draw both panels into a file; `group` holds the runs that the law was fitted to."""
    figures, ticker = need("matplotlib.figure", extra="report"), need("matplotlib.ticker", extra="report")
    figure = figures.Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_runs(left, plan, budget, law, group)
    draw_valley(right, plan, budget, law)
    unit = "nats a token" if group is None else group.unit
    for axes in (left, right):
        axes.set_ylabel(f"held-out loss ({unit})")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda number, _: amount(number))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def draw_runs(axes: Any, plan: RunPlan, budget: Budget, law: ScalingLaw | FittedLaw, group: RunGroup | None) -> None:
    """Draw loss over tokens: a curve a size, dots for runs, the planned run with its interval."""
    formula = law.law if isinstance(law, FittedLaw) else law
    runs = () if group is None else group.runs
    sizes = sorted({run.parameters for run in runs} or {plan.parameters // 4, plan.parameters * 4})
    tokens = np.geomspace(min([plan.tokens / 16, *(run.tokens / 1.5 for run in runs)]), plan.tokens * 2.5, CURVE_POINTS)
    colours = need("matplotlib", extra="report").colormaps[COLOURS](np.linspace(0.05, 0.8, len(sizes)))
    for size, colour in zip(sizes, colours, strict=True):
        axes.plot(tokens, curve(formula, size, tokens, budget), color=colour, linewidth=1.2, label=amount(size))
        mine = [run for run in runs if run.parameters == size]
        losses = [group.loss(run) for run in mine] if group is not None else []
        axes.plot([run.tokens for run in mine], losses, color=colour, marker="o", markersize=6, linestyle="none")
    planned = curve(formula, plan.parameters, tokens, budget)
    axes.plot(tokens, planned, color=PLANNED, linewidth=2, label=f"{amount(plan.parameters)}, the plan")
    if isinstance(law, FittedLaw):
        band(axes, tokens, [curve(one, plan.parameters, tokens, budget) for one in law.samples], PLANNED)
    mark(axes, plan.tokens, plan)
    axes.set(xscale="log", xlabel="tokens", title="the law, and the runs it was fitted to" if group else "the law")
    axes.legend(title="parameters", frameon=False)


def draw_valley(axes: Any, plan: RunPlan, budget: Budget, law: ScalingLaw | FittedLaw) -> None:
    """Draw loss over parameters where 6 N D stays that of the plan."""
    formula = law.law if isinstance(law, FittedLaw) else law
    work = FLOPS_PER_PARAMETER * plan.parameters * plan.tokens
    best, its_tokens = split(work, formula, budget)
    sizes = np.geomspace(min(best, plan.parameters) / SPAN, max(best, plan.parameters) * SPAN, CURVE_POINTS)
    tokens = counted(work / FLOPS_PER_PARAMETER / sizes, budget)
    axes.plot(sizes, formula.loss(sizes, tokens), color=VALLEY, linewidth=2)
    if isinstance(law, FittedLaw):
        band(axes, sizes, [one.loss(sizes, tokens) for one in law.samples], VALLEY)
    label = f"best: {amount(best)} on {amount(its_tokens)} tokens"
    axes.axvline(best, color=VALLEY, linewidth=1, linestyle="--", label=label)
    mark(axes, plan.parameters, plan, label=f"plan: {amount(plan.parameters)} on {amount(plan.tokens)} tokens")
    axes.set(xscale="log", xlabel="parameters", title=f"6 N D = {work:.2g} FLOPs, split in all ways")
    axes.legend(loc="upper center", framealpha=1, edgecolor="none")


def counted(tokens: NDArray[np.float64], budget: Budget) -> NDArray[np.float64]:
    """Return how many new tokens each number of tokens is worth."""
    return np.array([counting(number, budget) for number in tokens.tolist()])


def curve(law: ScalingLaw, parameters: float, tokens: NDArray[np.float64], budget: Budget) -> NDArray[np.float64]:
    """Return the losses of a size over tokens."""
    return np.asarray(law.loss(parameters, counted(tokens, budget)))


def band(axes: Any, places: NDArray[np.float64], curves: list[NDArray[np.float64]], colour: str) -> None:
    """Shade where the middle 90 % of the curves run."""
    low, high = np.quantile(np.stack(curves), [(1 - SHARE) / 2, (1 + SHARE) / 2], axis=0)
    axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def mark(axes: Any, place: float, plan: RunPlan, label: str | None = None) -> None:
    """Mark the planned run, with its interval where there is one."""
    reach = None
    if plan.loss_interval is not None:
        low, high = plan.loss_interval
        reach = [[plan.loss - low], [high - plan.loss]]
    style = {"color": PLANNED, "marker": "D", "markersize": 8, "capsize": 4, "zorder": 5, "linestyle": "none"}
    axes.errorbar(place, plan.loss, yerr=reach, label=label, **style)


def amount(number: float) -> str:
    """Write a count with a unit: 1_234_567 -> 1.2M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"
