"""The expected memory of a run: what each part adds to it, in bytes."""

import pytest
import torch

from smelt.models.build import build, count_parameters
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, spec_for
from smelt.quant.linear import NF4Linear
from smelt.quant.model import quantize_base
from smelt.train.objectives.distillation import Distillation
from smelt.train.objectives.future_tokens import FutureTokens
from smelt.train.plan import make_plan


def memory_of(model: Network, objective: object = None, optimizer: str = "adamw") -> int:
    settings = {"tokens": 0, "micro_rows": 2, "max_seq_len": 16, "gradient_checkpointing": False}
    return make_plan(model, **settings, optimizer=optimizer, dtype=torch.float32, objective=objective).memory_bytes  # type: ignore[arg-type]


def test_heads_of_an_objective_are_trained_like_the_model() -> None:
    model = build(spec_for("llama", Shape(61, 16, 2, 2, 16)), seed=1)
    heads = FutureTokens(model, 3)
    added = sum(parameter.numel() for parameter in heads.parameters())
    assert added == 3 * sum(parameter.numel() for parameter in model.blocks[-1].parameters())
    assert memory_of(model, heads) - memory_of(model) == 16 * added  # weight, gradient and two averages in fp32


def test_a_teacher_costs_its_weights() -> None:
    student, teacher = (build(spec_for("bert", Shape(61, 16, layers, 2, 16)), seed=1) for layers in (1, 3))
    added = memory_of(student, Distillation(teacher, student.spec)) - memory_of(student)
    assert added == 4 * count_parameters(teacher.spec)


def test_moments_in_8_bits_take_a_quarter() -> None:
    model = build(spec_for("llama", Shape(61, 16, 2, 2, 16)), seed=1)
    saved = memory_of(model) - memory_of(model, optimizer="adamw8bit")
    assert saved == pytest.approx((8 - 2 * (1 + 4 / 256)) * count_parameters(model.spec), abs=1)


def test_frozen_weights_cost_what_they_take_and_nothing_more() -> None:
    model = build(spec_for("llama", Shape(61, 64, 2, 2, 16)), seed=1)
    count = count_parameters(model.spec)
    trained = memory_of(model)
    frozen = memory_of(model.requires_grad_(False))
    assert trained - frozen == 12 * count  # gradient and two averages
    narrow = memory_of(model.bfloat16())
    assert frozen - narrow == 2 * count
    quantize_base(model)
    in_blocks = sum(module.out_features * module.in_features for module in model.modules() if is_quantized(module))
    assert narrow - memory_of(model) == pytest.approx((2 - 4.13 / 8) * in_blocks, rel=0.01)


def is_quantized(module: object) -> bool:
    return isinstance(module, NF4Linear)
