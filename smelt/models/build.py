"""From a spec to a model: memory first, then values drawn as the family says.

Modules are made on the meta device, which costs nothing, and get memory once; so building never draws numbers that a
rule or a checkpoint then overwrites, and counting the parameters of a 7B model takes a moment. Values come from one
seeded generator in parameter order: the same spec and seed give the same bits.
"""

import math
import re
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor, nn

from smelt.models.encoder_decoder import Network, meta_network
from smelt.models.families import FAMILIES
from smelt.models.families.base import Init
from smelt.models.transformer import Transformer
from smelt.nn.attention import Attention
from smelt.nn.crf import LinearChainCRF
from smelt.nn.cross_attention import CrossAttention
from smelt.nn.moe import MixtureOfExperts
from smelt.nn.norms import RMSNorm
from smelt.nn.recurrent import RecurrentLayer
from smelt.nn.spec import ModelSpec, MoESpec

BLOCK = re.compile(r"(?:decoder\.)?blocks\.(\d+)\.")  # of an encoder-decoder the spec's layers are the decoder's


def blank(spec: ModelSpec, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Network:
    """Make a model whose parameters have memory but no values yet; on "meta", not even memory."""
    model = meta_network(spec, dtype)
    return model if torch.device(device).type == "meta" else model.to_empty(device=device)


def build(spec: ModelSpec, *, seed: int) -> Network:
    """Make a model with new parameters, in fp32 on the CPU, reproducible from the seed."""
    model = blank(spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in model.named_modules():
            initialise(name, module, FAMILIES[spec.family].init, spec.num_layers, generator)
        if FAMILIES[spec.family].init.scale_queries:
            for module in model.modules():
                if isinstance(module, Attention | CrossAttention):
                    module.query.weight /= math.sqrt(module.spec.head_dim)
    return model


def initialise(name: str, module: nn.Module, init: Init, num_layers: int, generator: torch.Generator) -> None:
    """Draw the parameters of one module, its children's not, as a family says."""
    if isinstance(module, nn.Embedding):
        is_place = name.endswith(("position_embedding", "relative_bias"))
        std = init.position_std if is_place else init.embedding_std
        module.weight.normal_(0.0, std, generator=generator)
    elif isinstance(module, nn.Linear):
        _initialise_linear(name, module, init, num_layers, generator)
    elif isinstance(module, RMSNorm):
        module.weight.fill_(1.0 - module.offset)
    elif isinstance(module, nn.LayerNorm):
        module.weight.fill_(1.0)
        module.bias.zero_()
    elif isinstance(module, MixtureOfExperts):
        for kind in ("gate_up", "down"):
            matrices: Tensor = getattr(module, kind)
            residual = init.scale_residual and kind == "down"
            matrices.normal_(0.0, _deviation(init, matrices.shape[-1], residual, num_layers), generator=generator)
    elif isinstance(module, Attention):
        if module.sinks is not None:
            module.sinks.zero_()
    elif isinstance(module, LinearChainCRF):
        for scores in module.parameters():  # at 0, every token's label is a choice of its own
            scores.zero_()
    elif isinstance(module, RecurrentLayer):
        bound = 1.0 / math.sqrt(module.weight.shape[1])
        module.weight.uniform_(-bound, bound, generator=generator)
        module.bias.uniform_(-bound, bound, generator=generator)
        if (forget := module.spec.forget_gate) is not None:
            module.bias.chunk(module.spec.num_gates)[forget].fill_(1.0)  # a new cell remembers
    elif isinstance(module, Transformer):
        if module.tied_bias is not None:
            module.tied_bias.zero_()
    elif any(True for _ in module.parameters(recurse=False)):
        raise TypeError(f"no initialisation for {name}, a {type(module).__name__}")


def _deviation(init: Init, fan_in: int, residual: bool, num_layers: int) -> float:
    """Return the deviation of a matrix of experts; that of the uniform default where a family has none."""
    std = 1.0 / math.sqrt(3 * fan_in) if init.linear_std is None else init.linear_std
    return std / math.sqrt(2 * num_layers) if residual else std


def _initialise_linear(name: str, module: nn.Linear, init: Init, num_layers: int, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(module.in_features)
    if init.linear_std is None:
        module.weight.uniform_(-bound, bound, generator=generator)
    else:
        residual = init.scale_residual and name.endswith(("attention.output", "cross.output", "feed_forward.down"))
        std = init.linear_std / math.sqrt(module.in_features) if init.by_fan_in else init.linear_std
        module.weight.normal_(0.0, std / math.sqrt(2 * num_layers) if residual else std, generator=generator)
    bias: Tensor | None = module.bias
    if bias is not None:
        bias.uniform_(-bound, bound, generator=generator) if init.linear_std is None else bias.zero_()


def describe(spec: ModelSpec) -> list[tuple[str, tuple[int, ...], int]]:
    """List (name, shape, number of parameters) of every parameter, in order, without allocating any."""
    parameters = blank(spec, device="meta").named_parameters()
    return [(name, tuple(parameter.shape), parameter.numel()) for name, parameter in parameters]


def count_parameters(spec: ModelSpec) -> int:
    """Count the parameters of a spec; a tied head counts once. Of layers that are alike one is made."""
    kinds = Counter(spec.layers)
    times = [1] if spec.shared_layers else list(kinds.values())
    total = 0
    for name, _, count in describe(replace(spec, layers=tuple(kinds))):
        block = BLOCK.match(name)
        total += count if block is None else count * times[int(block[1])]
    return total


def count_active(spec: ModelSpec) -> int:
    """Count the parameters that one token goes through: of a mixture, those of the experts it takes."""
    idle = 0
    for layer in spec.layers:
        if isinstance(layer.feed_forward, MoESpec):
            each = 3 * spec.dim * layer.dense.hidden_dim
            idle += each * (layer.feed_forward.num_experts - layer.feed_forward.experts_per_token)
    return count_parameters(spec) - idle
