"""How fast a network trains on this machine, by training it for a few seconds on random tokens.

The steps are those of the one loop, in the type that a run would use, so the rate is what `smelt pretrain` reaches
without compiling. Batches are cut to a few thousand tokens: a step of a large plan would take minutes, and beyond that
size the rate hardly changes.
"""

from __future__ import annotations

import statistics

import numpy as np
import torch

from smelt.core import runtime
from smelt.data.packing import Packed
from smelt.models.build import build
from smelt.models.sizes import forward_flops
from smelt.nn.spec import ModelSpec
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.train.loop import FitSettings, StepResult, fit
from smelt.train.objectives import OBJECTIVES
from smelt.train.plan import make_plan, refuse_what_does_not_fit
from smelt.train.sources import ArrayRows, RowSource
from smelt.train.state import TrainState

PROBE_TOKENS = 4096
PROBE_SECONDS, MIN_STEPS, MAX_STEPS = 2.0, 4, 200


def measured_flops_per_second(spec: ModelSpec, optimizer: OptimizerRecipe, dtype: torch.dtype) -> float:
    """Return the rate at which a model of this spec trains here; the first step, which warms up, does not count.

    Raises:
        ResourceError: it does not fit into the free memory.
    """
    runtime.prepare_process()
    rows = max(1, PROBE_TOKENS // spec.max_seq_len)
    model = build(spec, seed=0).to(runtime.device())
    plan = make_plan(
        model,
        tokens=0,
        micro_rows=rows,
        max_seq_len=spec.max_seq_len,
        gradient_checkpointing=False,
        optimizer=optimizer.name,
        dtype=dtype,
    )
    refuse_what_does_not_fit(plan, spec)
    source = RowSource(ArrayRows(random_rows(spec, rows)), seed=0, device=runtime.device())
    seconds: list[float] = []

    def note(state: TrainState, result: StepResult) -> None:
        seconds.append(result.seconds)
        if len(seconds) >= MIN_STEPS and sum(seconds[1:]) > PROBE_SECONDS:
            state.stop = "measured"

    state = TrainState(model, build_optimizers(model, optimizer, dtype), source)
    fit(state, OBJECTIVES["token_cross_entropy"](), FitSettings(MAX_STEPS, rows, rows, optimizer, dtype), [note])
    return 3 * forward_flops(spec, spec.max_seq_len) * rows * spec.max_seq_len / statistics.median(seconds[1:])


def random_rows(spec: ModelSpec, num_rows: int) -> Packed:
    """Return rows `(R, T)` of random tokens, each one document."""
    shape = (num_rows, spec.max_seq_len)
    ids = np.random.default_rng(0).integers(spec.vocab_size, size=shape, dtype=np.int32)
    labels = np.roll(ids, -1, axis=1)
    positions = np.broadcast_to(np.arange(spec.max_seq_len, dtype=np.int32), shape)
    return Packed(ids, labels, np.ones(shape, dtype=np.int32), positions)
