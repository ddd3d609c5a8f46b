"""AdaLoRA: the budget's numbers by hand, the least important triplets let go, a run that goes on where it stopped."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from smelt.core.config import validate
from smelt.core.errors import CheckpointError, ConfigError, UsageError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.peft.adalora import METHOD
from smelt.peft.adalora_budget import (
    Allocator,
    Progress,
    Schedule,
    choose,
    mean_rank,
    phases,
    progress_of,
    prune,
    ranks,
    update_means,
)
from smelt.peft.adalora_layer import AdaLoraLinear, Triplets, by_triplets, orthogonality
from smelt.peft.adalora_settings import AdaLoraSettings

SHAPES = {
    "llama": Shape(61, 24, 2, 6, 40, num_kv_heads=2, hidden_dim=36),
    "gpt2": Shape(61, 20, 2, 5, 40, hidden_dim=28),
}
SETTINGS = AdaLoraSettings(initial_rank=4, target_rank=2, choose_every=3, warmup_fraction=0.2, final_fraction=0.4)
STEPS = 10
IDS = torch.randint(61, (STEPS, 2, 9), generator=torch.Generator().manual_seed(3))


def model_of(family, settings=SETTINGS, seed=0):
    model = build(spec_for(family, SHAPES[family]), seed=7)
    METHOD.attach(model, settings, seed)
    return model


def train(model, optimizers, steps):
    """Take these steps of a run as the loop does, each optimizer's gradients cleared as soon as it has stepped."""
    means = []
    for ids in IDS[steps]:
        logits = model(ids).logits[:, :-1].flatten(0, 1)
        (functional.cross_entropy(logits, ids[:, 1:].flatten()) + METHOD.penalty(model)).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        means.append(mean_rank(model))
    return means


def watched(model, name="adamw"):
    optimizers = build_optimizers(model, OptimizerRecipe(name=name, learning_rate=1e-2))
    METHOD.watch(model, SETTINGS, optimizers, STEPS)
    return optimizers


def test_the_budget_falls_by_the_cubic_curve():
    schedule = Schedule(steps=10, warmup=2, final=4, every=2, initial=24, target=8)
    # 16 (3/4)^3 + 8 = 14.75, 16 (2/4)^3 + 8 = 10, 16 (1/4)^3 + 8 = 8.25
    assert [schedule.budget(step) for step in range(1, 11)] == [24, 24, 14, 10, 8, 8, 8, 8, 8, 8]
    assert [step for step in range(1, 11) if schedule.chooses(step)] == [4, 6]
    odd = Schedule(steps=10, warmup=2, final=3, every=4, initial=24, target=8)
    assert [step for step in range(1, 11) if odd.chooses(step)] == [4, 7]  # a last time, whatever the period


@pytest.mark.parametrize(
    ("steps", "fractions", "expected"),
    [(100, (0.1, 0.3), (10, 30)), (1000, (0.07, 0.29), (70, 290)), (1, (0.9, 0.05), (0, 0)), (2, (0.5, 0.4), (1, 0))],
)
def test_shares_of_a_run_leave_a_step_in_between(steps, fractions, expected):
    assert phases(steps, *fractions) == expected


def test_importance_is_the_mean_sensitivity_times_how_far_it_strays():
    parameter = nn.Parameter(torch.tensor([2.0, -1.0]))
    sensitivity, uncertainty = torch.zeros(2), torch.zeros(2)
    parameter.grad = torch.tensor([3.0, 4.0])  # |w g| = 6, 4
    update_means(parameter, sensitivity, uncertainty, 0.5, 0.75)
    assert sensitivity.tolist() == [3.0, 2.0]  # 0.5 x 0 + 0.5 x 6
    assert uncertainty.tolist() == [0.75, 0.5]  # 0.75 x 0 + 0.25 |6 - 3|
    parameter.grad = torch.tensor([-1.0, 0.0])  # |w g| = 2, 0
    update_means(parameter, sensitivity, uncertainty, 0.5, 0.75)
    assert sensitivity.tolist() == [2.5, 1.0]
    assert uncertainty.tolist() == [0.6875, 0.625]  # 0.75 x 0.75 + 0.25 x 0.5, 0.75 x 0.5 + 0.25 x 1
    parameter.grad = None
    update_means(parameter, sensitivity, uncertainty, 0.5, 0.75)
    assert sensitivity.tolist() == [1.25, 0.5]


def triplets_of(rank):
    triplets = Triplets(torch.zeros(rank, 3), scale=1.0)
    nn.init.ones_(triplets.values)
    return triplets


def test_the_lowest_of_all_modules_are_let_go():
    parts = [triplets_of(3), triplets_of(2)]
    scores = [torch.tensor([0.5, 0.1, 0.4]), torch.tensor([0.2, 0.3])]
    choose(parts, scores, 3)
    assert [part.kept.tolist() for part in parts] == [[True, False, True], [False, True]]
    assert [part.values.tolist() for part in parts] == [[1, 0, 1], [0, 1]]
    choose(parts, scores, 5)  # those that were let go may come back
    assert all(part.kept.all() for part in parts)
    choose(parts, [torch.zeros(3), torch.zeros(2)], 2)  # alike: the budget is met all the same
    assert sum(int(part.kept.sum()) for part in parts) == 2


def test_a_triplets_score_is_of_lambda_and_the_means_of_its_vectors():
    base = nn.Linear(2, 3)
    triplets = Triplets(torch.zeros(1, 2), scale=1.0)
    layer = AdaLoraLinear(base, torch.zeros(3, 1), triplets, owns=True, dropout=0.0)
    for name, module, numbers in (
        ("values", triplets, [2.0]), ("right", triplets, [[1.0, 3.0]]), ("left", layer, [[3.0], [6.0], [0.0]])
    ):  # fmt: skip
        for mean in module.means(name):
            mean.copy_(torch.tensor(numbers))
    schedule = Schedule(steps=10, warmup=2, final=4, every=2, initial=1, target=1)
    scores = Allocator(nn.Sequential(layer), Progress(0.1), schedule, 0.85, 0.85).scores()
    assert [score.tolist() for score in scores] == [[4.0 + (1 + 9) / 2 + (9 + 36 + 0) / 3]]


def test_the_penalty_is_the_mean_distance_from_orthogonal():
    triplets = Triplets(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), scale=1.0)  # Q Q' - I = diag(0, 8)
    left = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # P' P - I = diag(3, 0), of two layers with half the rows each
    layers = [AdaLoraLinear(nn.Linear(2, 1), rows, triplets, owns=True, dropout=0.0) for rows in left.split(1)]
    assert orthogonality(nn.Sequential(*layers)).item() == pytest.approx((3 + 8) / 2)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_mean_rank_follows_its_schedule(name):
    model = model_of("llama")
    optimizers = watched(model, name)
    assert len(optimizers) == (1 if name == "adamw" else 2)
    number = len(by_triplets(model))  # 2 blocks of 7: from 56 triplets to 28
    assert number == 14
    third = int(28 * (3 / 4) ** 3 + 28) / 14  # 39 after step 3
    assert train(model, optimizers, slice(0, 4)) == [4, 4, third, third]
    means = train(model, optimizers, slice(4, None))
    assert means == [third, 2, 2, 2, 2, 2]
    for triplets, layers in by_triplets(model):  # whichever optimizer has them
        for module, part in (
            (triplets, "right"),
            (triplets, "values"),
            *((layer, "left") for layer in layers.values()),
        ):
            assert all(mean.any() for mean in module.means(part)), part
    found = ranks(model)
    assert sum(found.values()) == 28 and len(set(found.values())) > 1  # not the same for all
    for triplets, _ in by_triplets(model):
        assert not triplets.values[~triplets.kept].any() and triplets.values[triplets.kept].all()


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(family, name):
    whole = model_of(family)
    train(whole, watched(whole, name), slice(0, STEPS))
    first = model_of(family)
    optimizers = watched(first, name)
    train(first, optimizers, slice(0, 4))
    buffers = {key: buffer.clone() for key, buffer in first.named_buffers()}
    persistent = set(first.state_dict())
    assert set(buffers) <= persistent
    second = model_of(family, seed=9)
    METHOD.fill(second, {key: tensor.clone() for key, tensor in METHOD.tensors(first).items()})
    for key, buffer in second.named_buffers():
        buffer.copy_(buffers[key])
    others = watched(second, name)
    for one, other in zip(optimizers, others, strict=True):
        other.load_state_dict(one.state_dict())
    train(second, others, slice(4, STEPS))
    assert int(progress_of(second).step) == STEPS
    for (key, expected), found in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(found, expected), key


def test_pruning_takes_out_what_was_let_go():
    model = model_of("gpt2")
    train(model, watched(model), slice(0, STEPS))
    before, mean = model(IDS[0]).logits, mean_rank(model)
    prune(model)
    torch.testing.assert_close(model(IDS[0]).logits, before, atol=1e-6, rtol=1e-5)
    assert mean_rank(model) == mean == 2
    assert sum(len(triplets.values) for triplets, _ in by_triplets(model)) == 2 * len(by_triplets(model))
    pattern = METHOD.config(model, SETTINGS)["rank_pattern"]
    assert sum(map(sum, pattern.values())) == 2 * len(pattern) and {len(each) for each in pattern.values()} == {4}


def test_layers_of_one_published_module_have_their_triplets_in_common():
    attention = model_of("gpt2").blocks[0].attention
    assert attention.query.triplets is attention.key.triplets is attention.value.triplets
    names = [name for name in attention.state_dict() if name.endswith(("right", "kept"))]
    assert names == [f"{name}.common.{part}" for name in ("query", "output") for part in ("right", "kept")]
    double = copy.deepcopy(attention)
    assert double.query.triplets is double.key.triplets is double.query.common is not attention.query.triplets
    apart = model_of("llama").blocks[0].attention
    assert apart.query.triplets is not apart.key.triplets


def test_a_file_may_not_change_rows_that_are_not_targeted():
    model = model_of("gpt2")
    own = {name: tensor.clone() for name, tensor in METHOD.tensors(model).items()}
    part = model_of("gpt2", SETTINGS.model_copy(update={"targets": ("query", "output", "up", "down")}))
    with pytest.raises(
        CheckpointError, match=r"c_attn is changed in more rows than those of blocks\.0\.attention\.query"
    ):
        METHOD.fill(part, own)
    METHOD.fill(model, METHOD.tensors(part))  # zeros for the others
    assert not model.blocks[0].attention.key.left.any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, name: tensors.pop(name), "missing .*lora_E"),
        (lambda tensors, name: tensors.update({"lora_E": torch.ones(1)}), "unknown lora_E"),
        (lambda tensors, name: tensors.update({name: torch.ones(5, 1)}), r"lora_E has shape \(5, 1\)"),
        (lambda tensors, name: tensors.update({name: torch.full((4, 1), torch.nan)}), "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, said):
    model = model_of("llama")
    tensors = dict(METHOD.tensors(model))
    change(tensors, next(name for name in tensors if name.endswith("lora_E")))
    with pytest.raises(CheckpointError, match=said):
        METHOD.fill(model, tensors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LORA"}, r"peft_type = 'LORA'\naccepted: 'ADALORA'"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_r": 0}, "initial_rank=0"),
        ({"init_r": "four"}, "initial_rank='four'"),
        ({"target_modules": ["q_prj"]}, "'q_prj' is no linear layer .*Did you mean 'q_proj'"),
        ({"tinit": "2"}, r"tinit, tfinal, total_step = '2', 0, 1\naccepted: numbers of steps"),
    ],
)
def test_settings_that_we_cannot_honour_are_refused(change, said):
    model = model_of("llama")
    config = METHOD.config(model, SETTINGS)
    with pytest.raises(CheckpointError, match=said):
        METHOD.read(config | change, model.spec)


def test_settings_come_back_from_the_file():
    model = model_of("llama")
    watched(model)
    assert METHOD.read(METHOD.config(model, SETTINGS), model.spec) == SETTINGS


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"target_rank": 13}, "target_rank 13 is above initial_rank 12"),
        ({"warmup_fraction": 0.5, "final_fraction": 0.5}, "leave no steps"),
        ({"beta1": 1.0}, "beta1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        validate(AdaLoraSettings, values, source="recipe")


def test_what_does_not_fit_the_model_is_refused():
    model = build(spec_for("llama", SHAPES["llama"]), seed=7)
    with pytest.raises(
        ConfigError, match=r"initial_rank 12 for blocks\.0\.attention\.key, a matrix of 8 by 24\n.*1 to 8"
    ):
        METHOD.attach(model, AdaLoraSettings(), 0)
    with pytest.raises(ConfigError, match=r"'quary' matches nothing.* Did you mean 'query'"):
        METHOD.attach(model, AdaLoraSettings(targets=("quary",)), 0)
    with pytest.raises(UsageError, match="no AdaLoRA layers"):
        METHOD.merge(model)
    METHOD.attach(model, SETTINGS, 0)
    with pytest.raises(UsageError, match="AdaLoRA layers already"):
        METHOD.attach(model, SETTINGS, 0)
