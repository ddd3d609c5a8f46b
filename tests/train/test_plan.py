"""The expected memory of a run: what each part adds to it, in bytes."""

import torch

from smelt.models.build import build, count_parameters
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, spec_for
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
