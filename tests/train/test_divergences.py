"""Divergences by hand and against torch's, sums in chunks against all logits at once, and the two objectives."""

import functools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from smelt.core.errors import ConfigError
from smelt.data.packing import IGNORED
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, preset, spec_for
from smelt.train.objectives import divergences
from smelt.train.objectives.cross_entropy import TokenCrossEntropy, vocabulary_loss
from smelt.train.objectives.distillation import soft_cross_entropy
from smelt.train.objectives.divergences import DIVERGENCES, Divergence, forward_kl, jensen_shannon, reverse_kl, softened
from smelt.train.objectives.hidden_match import HiddenMatch, mean_square, spread
from smelt.train.objectives.token_distillation import TokenDistillation, reference
from smelt.train.plan import make_plan
from smelt.train.sources import TokenBatch

SHARP = functools.partial(jensen_shannon, beta=0.2)


def logs(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def random_logs(seed: int) -> Tensor:
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(-1)


def network(vocab: int = 50, dim: int = 16, layers: int = 2, *, seed: int = 0, **changes: object) -> Network:
    spec = replace(spec_for("llama", Shape(vocab, dim, layers, 2, 32, tied=True)), **changes)
    return build(spec, seed=seed)


def batch_of(rows: int = 3, *, own: bool = False) -> TokenBatch:
    generator = torch.Generator().manual_seed(0)
    ids, labels = (torch.randint(0, 50, (rows, 20), generator=generator) for _ in range(2))
    labels[:, ::3] = IGNORED
    return TokenBatch(ids, labels, None, None, row_labels=torch.arange(rows) % 2 if own else None)


def test_divergences_by_hand() -> None:
    # teacher (1/2, 1/2), student (1/4, 3/4): KL(t || s) = 1/2 ln 2 + 1/2 ln 2/3, KL(s || t) = 1/4 ln 1/2 + 3/4 ln 3/2
    teacher, student = logs((0.5, 0.5)), logs((0.25, 0.75))
    assert forward_kl(student, teacher).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert reverse_kl(student, teacher).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    # beta 0.2: m = 0.2 (1/2, 1/2) + 0.8 (1/4, 3/4) = (0.3, 0.7)
    to_teacher = 0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.7)
    to_student = 0.25 * math.log(0.25 / 0.3) + 0.75 * math.log(0.75 / 0.7)
    assert SHARP(student, teacher).item() == pytest.approx(0.2 * to_teacher + 0.8 * to_student)


def test_divergences_are_torchs() -> None:
    student, teacher = random_logs(0), random_logs(1)
    between = functools.partial(functional.kl_div, reduction="none", log_target=True)
    torch.testing.assert_close(forward_kl(student, teacher), between(student, teacher).sum(-1))
    torch.testing.assert_close(reverse_kl(student, teacher), between(teacher, student).sum(-1))
    middle = (0.2 * teacher.exp() + 0.8 * student.exp()).log()
    expected = 0.2 * between(middle, teacher).sum(-1) + 0.8 * between(middle, student).sum(-1)
    torch.testing.assert_close(SHARP(student, teacher), expected)


@pytest.mark.parametrize("divergence", [*DIVERGENCES.values(), SHARP])
def test_equals_have_no_divergence_and_others_have_one(divergence: Divergence) -> None:
    one, other = random_logs(0), random_logs(1)
    torch.testing.assert_close(divergence(one, one), torch.zeros(5, dtype=torch.float64))
    assert bool((divergence(one, other) > 0.01).all())


def test_jensen_shannon_lies_between_the_two() -> None:
    student, teacher = random_logs(0), random_logs(1)
    torch.testing.assert_close(
        jensen_shannon(student, teacher, 1e-6) / 1e-6, forward_kl(student, teacher), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        jensen_shannon(student, teacher, 1 - 1e-6) / 1e-6, reverse_kl(student, teacher), rtol=1e-4, atol=1e-4
    )
    assert jensen_shannon(student, teacher).max() < math.log(2)


def test_softened_forward_divergence_has_the_gradient_of_the_soft_cross_entropy() -> None:
    student, teacher = (torch.randn(5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours = softened(forward_kl, student, teacher.detach(), 3.0).sum()
    theirs = soft_cross_entropy(student, teacher.detach(), 3.0)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, student)[0] for loss in (ours, theirs)), rtol=1e-5, atol=1e-6
    )


def gradients(model: Network, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl, SHARP])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ({}, {}),
        ({"tied": False, "head_bias": True, "logit_softcap": 3.0}, {"tied": False, "logit_scale": 2.0}),
        ({"vocab": 56}, {"dim": 24, "layers": 3, "tied": False, "head_bias": True, "logit_softcap": 5.0}),
        ({}, {"vocab": 64}),
    ],
)
def test_chunked_equals_reference(
    monkeypatch: pytest.MonkeyPatch, divergence: Divergence, student: dict, teacher: dict, own: bool
) -> None:
    monkeypatch.setattr(divergences, "CHUNK_ROWS", 7)  # chunks that do not divide the rows
    model, batch = network(**student).double(), batch_of(own=own)
    objective = TokenDistillation(network(**teacher, seed=5).double(), divergence, temperature=2.0, hard_weight=0.3)
    for parameter in (*model.parameters(), *objective.teacher.parameters()):
        parameter.data *= 3  # so that the distributions differ
    expected, (found, metrics) = reference(objective, model, batch), objective(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    theirs, ours = gradients(model, expected), gradients(model, found)
    assert theirs.keys() == ours.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-7, msg=name)
    assert set(metrics) == {"soft", "hard"}
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


def test_the_mixture_by_its_parts() -> None:
    model, batch = network(), batch_of(2, own=True)
    objective = TokenDistillation(network(seed=5), forward_kl, temperature=1.0, hard_weight=0.3)
    loss, metrics = objective(model, batch)
    first, second = (TokenBatch(batch.ids[[row]], batch.labels[[row]], None, None) for row in range(2))
    hard = vocabulary_loss(model, model(first.ids).hidden, first.labels)
    soft = [
        TokenDistillation(objective.teacher, forward_kl, temperature=1.0, hard_weight=0.0)(model, part)[0]
        for part in (first, second)
    ]
    # The second row is the student's own: its labels are no truth.
    torch.testing.assert_close(loss, 0.3 * hard + 0.7 * soft[0] + soft[1])
    assert metrics["hard"] == pytest.approx(hard.item(), rel=1e-5)
    assert metrics["soft"] == pytest.approx(sum(soft).item(), rel=1e-5)


def test_a_student_like_its_teacher_has_nothing_to_learn_but_the_text() -> None:
    model, batch = network(), batch_of()
    objective = TokenDistillation(network(), reverse_kl, temperature=1.0, hard_weight=0.25)
    loss, metrics = objective(model, batch)
    torch.testing.assert_close(loss, 0.25 * TokenCrossEntropy()(model, batch)[0])
    assert metrics["soft"] == pytest.approx(0.0, abs=1e-4)


def test_a_measurement_asks_no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = network(), batch_of()
    with torch.no_grad():
        for objective in (
            TokenDistillation(network(), forward_kl, temperature=1.0, hard_weight=0.5),
            HiddenMatch(network(), model.spec, hard_weight=0.5),
        ):
            monkeypatch.setattr(objective.teacher, "forward", None)
            torch.testing.assert_close(objective(model, batch), TokenCrossEntropy()(model, batch))


def test_narrow_products_are_close_to_wide_ones() -> None:
    model, batch = network(), batch_of()
    objective = TokenDistillation(network(seed=5), forward_kl, temperature=1.0, hard_weight=0.5)
    expected = gradients(model, objective(model, batch)[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = objective(model, batch)
    assert loss.dtype == torch.float32
    found = gradients(model, loss)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0.1, atol=0.05, msg=name)


def test_a_frozen_head_gets_no_gradient() -> None:
    model, batch = network(tied=False), batch_of()
    model.head.weight.requires_grad_(False)
    objective = TokenDistillation(network(seed=5), forward_kl, temperature=1.0, hard_weight=0.5)
    objective(model, batch)[0].backward()
    assert model.head.weight.grad is None and model.norm.weight.grad is not None


def test_mixtures_of_experts_keep_their_balance() -> None:
    model = build(preset("mixtral-nano"), seed=0)
    teacher = build(preset("mixtral-nano"), seed=1)
    loss, metrics = TokenDistillation(teacher, forward_kl, temperature=1.0, hard_weight=1.0)(model, batch_of())
    torch.testing.assert_close(loss, TokenCrossEntropy()(model, batch_of())[0])
    assert {"router_balance", "router_z"} <= set(metrics)


def test_blocks_are_matched_at_even_distances() -> None:
    assert spread(3, 6) == (1, 3, 5)
    assert spread(2, 2) == (0, 1)
    assert spread(3, 2) == (0, 1, 1)


def test_mean_square_by_hand() -> None:
    assert mean_square(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 4.0], [3.0, 1.0]])).item() == 7.0


def test_hidden_states_of_the_same_width_need_no_matrix() -> None:
    model, batch = network(layers=1), batch_of()
    objective = HiddenMatch(network(layers=2, seed=5), model.spec, hard_weight=0.25)
    assert list(objective.parameters()) == [] and objective.match == (1,)
    loss, metrics = objective(model, batch)
    places = batch.labels != IGNORED
    ours = model(batch.ids, keep_states=True)
    theirs = objective.teacher(batch.ids, keep_states=True)
    near = (ours.states[0][places] - theirs.states[1][places]).square().mean(-1).sum()
    hard = functional.cross_entropy(
        ours.logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    torch.testing.assert_close(loss, 0.75 * near + 0.25 * hard)
    assert metrics == pytest.approx({"hidden": near.item(), "hard": hard.item()}, rel=1e-5)
    torch.testing.assert_close(model.norm(ours.states[-1]), ours.hidden)


def test_the_matrix_between_widths_trains_and_the_teacher_does_not() -> None:
    model, batch = network(), batch_of()
    objective = HiddenMatch(network(dim=24, layers=4, seed=5), model.spec, hard_weight=0.5, match=(0, 3))
    names = [name for name, _ in objective.named_parameters()]
    assert names == ["blocks.0.weight", "blocks.1.weight"] and objective.blocks[0].weight.shape == (24, 16)
    objective(model, batch)[0].backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    again = HiddenMatch(network(dim=24, layers=4, seed=5), model.spec, hard_weight=0.5, match=(0, 3))
    assert torch.equal(again.blocks[1].weight, objective.blocks[1].weight)


@pytest.mark.parametrize("match", [(0,), (0, 4), (-1, 0)])
def test_blocks_that_are_not_there(match: tuple[int, ...]) -> None:
    with pytest.raises(
        ConfigError, match=r"for a student of 2 blocks and a teacher of 4\naccepted: 2 numbers from 0 to 3"
    ):
        HiddenMatch(network(layers=4), network().spec, hard_weight=0.5, match=match)


def test_a_teacher_costs_its_weights() -> None:
    model, teacher = network(), network(dim=24, layers=3)
    settings = {"tokens": 0, "micro_rows": 2, "max_seq_len": 16, "gradient_checkpointing": False}

    def memory(objective: object) -> int:
        return make_plan(model, **settings, optimizer="adamw", dtype=torch.float32, objective=objective).memory_bytes  # type: ignore[arg-type]

    plain, size = memory(None), sum(parameter.numel() for parameter in teacher.parameters())
    assert memory(TokenDistillation(teacher, forward_kl, temperature=1.0, hard_weight=0.5)) == plain + 4 * size
    projected = HiddenMatch(teacher, model.spec, hard_weight=0.5)
    assert memory(projected) == plain + 4 * size + 16 * sum(p.numel() for p in projected.parameters())
