"""What a run will cost, said before it starts: parameters, tokens, FLOPs, memory, time.

Memory is estimated from shapes alone: fp32 weights, gradients and optimizer state, also of an objective's own heads,
the weights of a teacher, the activations that the backward pass needs, and one chunk of logits. A run that would take
more than 90 % of the free memory is refused together with the smallest change that fits, because a killed process
explains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from smelt.core import runtime
from smelt.core.errors import ResourceError
from smelt.models.encoder_decoder import Network
from smelt.models.sizes import forward_flops, networks
from smelt.nn.attention import uses_products
from smelt.nn.masks import uses_tiles
from smelt.nn.spec import LayerSpec, ModelSpec, MoESpec
from smelt.train.objectives.cross_entropy import CHUNK_ROWS
from smelt.train.objectives.distillation import Distillation

FLOAT_BYTES = 4
MEMORY_LIMIT = 0.9  # share of the free memory that a run may take
BASE_BYTES = 400 * 2**20  # interpreter, torch and its kernels, measured


@dataclass(frozen=True)
class Plan:
    """The expected cost of a run; `flops` counts forward and backward of the whole run."""

    parameters: int
    tokens: int
    flops: float
    memory_bytes: int
    free_bytes: int
    micro_rows: int
    max_seq_len: int
    gradient_checkpointing: bool
    dtype: torch.dtype

    def lines(self) -> list[str]:
        """Return the plan as lines for people."""
        return [
            f"parameters {self.parameters:,} · tokens {self.tokens:,} "
            f"({self.tokens / max(1, self.parameters):.1f} per parameter) · {self.flops:.2e} FLOPs",
            f"memory about {gigabytes(self.memory_bytes)} of {gigabytes(self.free_bytes)} free",
        ]


def make_plan(
    model: Network,
    *,
    tokens: int,
    micro_rows: int,
    max_seq_len: int,
    gradient_checkpointing: bool,
    optimizer: str,
    dtype: torch.dtype,
    objective: object = None,
) -> Plan:
    """Estimate a run's cost from its shapes, and from the parameters that its objective holds."""
    spec = model.spec
    own = list(model.parameters())
    parameters, idle = sum(p.numel() for p in own), sum(p.numel() for p in own if not p.requires_grad)
    state_copies = 4 if optimizer == "adamw" else 3.2  # weight, gradient, mean, square; Muon keeps no square
    activations = activation_bytes(spec, micro_rows, max_seq_len, gradient_checkpointing, dtype)
    trained, frozen = held_by(objective)
    numbers = (parameters - idle + trained) * state_copies + idle + frozen
    memory = BASE_BYTES + int(numbers * FLOAT_BYTES) + activations
    return Plan(
        parameters,
        tokens,
        tokens * 3 * forward_flops(spec, max_seq_len),
        memory,
        runtime.free_memory_bytes(),
        micro_rows,
        max_seq_len,
        gradient_checkpointing,
        dtype,
    )


def held_by(objective: object) -> tuple[int, int]:
    """Return how many parameters an objective trains beside the model's, as heads, and how many it only uses."""
    parts = (objective, objective.teacher if isinstance(objective, Distillation) else None)
    trained, frozen = (
        sum(parameter.numel() for parameter in part.parameters()) if isinstance(part, nn.Module) else 0
        for part in parts
    )
    return trained, frozen


def activation_bytes(
    spec: ModelSpec, micro_rows: int, max_seq_len: int, gradient_checkpointing: bool, dtype: torch.dtype
) -> int:
    """Return the bytes kept for backward: about 11 D + 4 F values a token and layer, the mask, a chunk of logits.

    Where attention is made of plain products, its weights are kept too: 3 T values a token and head; so they are under
    learned biases, whose mask has a row for each head. Cross-attention keeps about 7 D values a token, and its weights
    likewise. With an encoder, rows have as many tokens of the source. A recurrent layer keeps gates, states and
    outputs, and has another copy of the gates on the way.
    """
    tokens = micro_rows * max_seq_len
    device = torch.device(runtime.device())
    products = uses_products(max_seq_len, max_seq_len, dtype, device)
    tiled = uses_tiles(max_seq_len, max_seq_len, device)
    per_layer, mask = [], 0
    if (recurrent := spec.recurrent) is not None:
        per_layer += [(2 * recurrent.num_gates + 5) * spec.dim] * recurrent.num_layers
    for part in networks(spec):
        for layer in part.layers:
            kind = layer.attention
            # The fused kernel knows neither bounds nor sinks, and has no gradient for its mask.
            unknown = kind.softcap is not None or kind.sinks or part.relative is not None
            keeps_weights = products or (unknown and not tiled)
            weights = keeps_weights * kind.num_heads + (layer.cross is not None and products) * kind.num_heads
            width = 11 * spec.dim if layer.cross is None else 18 * spec.dim
            per_layer.append(width + 4 * hidden_per_token(layer) + 3 * max_seq_len * weights)
        if part.layers and not tiled:
            heads = part.layers[0].attention.num_heads if part.relative is not None else 1
            mask += (heads + (part.encoder is not None)) * micro_rows * max_seq_len * max_seq_len
    kept = len(per_layer) * spec.dim + max(per_layer) if gradient_checkpointing else sum(per_layer)
    logits = 3 * min(CHUNK_ROWS, tokens) * spec.vocab_size
    return int(FLOAT_BYTES * 1.2 * (tokens * kept + mask + logits))


def hidden_per_token(layer: LayerSpec) -> int:
    """Return the inner width that a token goes through: F, or of a mixture that of all experts it takes."""
    forward = layer.feed_forward
    if not isinstance(forward, MoESpec):
        return forward.hidden_dim
    return forward.experts_per_token * forward.expert.hidden_dim + (forward.shared.hidden_dim if forward.shared else 0)


def refuse_what_does_not_fit(plan: Plan, spec: ModelSpec) -> None:
    """Raise when a plan needs more than its share of the free memory.

    Raises:
        ResourceError: names the smallest change that fits.
    """
    limit = int(MEMORY_LIMIT * plan.free_bytes)
    if plan.memory_bytes <= limit:
        return
    kept = bytes_of(plan, spec)
    needed, allowed = gigabytes(plan.memory_bytes), gigabytes(limit)
    raise ResourceError(
        f"the run needs about {needed}, {MEMORY_LIMIT:.0%} of the free memory is {allowed}",
        fix=smallest_change(plan, spec, limit - (plan.memory_bytes - kept)),
    )


def smallest_change(plan: Plan, spec: ModelSpec, room_bytes: int) -> str:
    """Return the mildest setting under which the activations fit into `room_bytes`."""
    trial = plan
    while trial.micro_rows > 1:
        trial = replace(trial, micro_rows=trial.micro_rows // 2)
        if bytes_of(trial, spec) <= room_bytes:
            return f"micro_rows={trial.micro_rows} (the same training, in smaller pieces)"
    if bytes_of(replace(trial, gradient_checkpointing=True), spec) <= room_bytes:
        return "micro_rows=1 gradient_checkpointing=true (the same training, about a third slower)"
    return "a smaller model, or a machine with more memory: weights and optimizer state alone leave no room"


def bytes_of(plan: Plan, spec: ModelSpec) -> int:
    """Return the activations' share of a plan's memory."""
    return activation_bytes(spec, plan.micro_rows, plan.max_seq_len, plan.gradient_checkpointing, plan.dtype)


def gigabytes(num_bytes: float) -> str:
    """Write a number of bytes for people."""
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
