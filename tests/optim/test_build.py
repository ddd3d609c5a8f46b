import pytest
import torch
from torch import nn

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, TrainingError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.optim.build import OptimizerRecipe, build_optimizers, learning_rate_at, set_learning_rate
from smelt.optim.muon import Muon


class Model(nn.Module):
    """The parts that matter here: a table, blocks with matrices and vectors, a norm, a head tied to the table."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6), nn.Linear(6, 4, bias=False))])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight


def names_of(model: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter] for parameter in parameters}


def groups_of(model: nn.Module, recipe: OptimizerRecipe) -> list[tuple[str, float, set[str]]]:
    return [
        (type(optimizer).__name__, group["weight_decay"], names_of(model, group["params"]))
        for optimizer in build_optimizers(model, recipe)
        for group in optimizer.param_groups
    ]


VECTORS = {"blocks.0.0.weight", "blocks.0.0.bias", "blocks.0.1.bias", "norm.weight", "norm.bias"}
MATRICES = {"blocks.0.1.weight", "blocks.0.2.weight"}


def test_muon_takes_the_matrices_of_the_blocks() -> None:
    assert groups_of(Model(), OptimizerRecipe(name="muon", weight_decay=0.3)) == [
        ("AdamW", 0.3, {"embedding.weight"}),
        ("AdamW", 0.0, VECTORS),
        ("Muon", 0.3, MATRICES),
    ]


def test_muon_takes_the_matrices_of_recurrent_layers() -> None:
    model = build(spec_for("lstm", Shape(7, 4, 1, 1, 8, tied=True)), seed=0)
    layer = "recurrent.0."
    assert groups_of(model, OptimizerRecipe(name="muon")) == [
        ("AdamW", 0.1, {"token_embedding.weight"}),
        ("AdamW", 0.0, {layer + "input.bias", layer + "bias", "tied_bias"}),
        ("Muon", 0.1, {layer + "input.weight", layer + "weight"}),
    ]


def test_adamw_takes_all_and_decays_matrices_only() -> None:
    assert groups_of(Model(), OptimizerRecipe(name="adamw", weight_decay=0.3)) == [
        ("AdamW", 0.3, {"embedding.weight", *MATRICES}),
        ("AdamW", 0.0, VECTORS),
    ]


def test_adamw8bit_takes_what_adamw_takes() -> None:
    recipe = OptimizerRecipe(name="adamw", weight_decay=0.3)
    groups = groups_of(Model(), recipe.model_copy(update={"name": "adamw8bit"}))
    assert groups == [("AdamW8", *rest) for _, *rest in groups_of(Model(), recipe)]
    (optimizer,) = build_optimizers(Model(), OptimizerRecipe(name="adamw8bit", beta1=0.7, beta2=0.8))
    assert optimizer.param_groups[0]["betas"] == (0.7, 0.8)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "muon"])
def test_every_trainable_parameter_is_owned_once(name: str) -> None:
    model = Model()
    model.embedding.weight.requires_grad_(False)
    optimizers = build_optimizers(model, OptimizerRecipe(name=name))
    owned = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(owned) == len(set(owned))
    assert set(owned) == {p for p in model.parameters() if p.requires_grad}


def test_only_matrices_of_blocks_are_trained() -> None:
    """Adapters on a frozen model leave nothing to AdamW, which refuses an empty list."""
    model = Model().requires_grad_(False)
    model.get_submodule("blocks.0.2").requires_grad_(True)
    assert groups_of(model, OptimizerRecipe(name="muon")) == [("Muon", 0.1, {"blocks.0.2.weight"})]


def test_a_frozen_model_is_refused() -> None:
    with pytest.raises(TrainingError, match="every parameter of the model is frozen"):
        build_optimizers(Model().requires_grad_(False), OptimizerRecipe())


def test_the_recipe_reaches_the_optimizers() -> None:
    recipe = OptimizerRecipe(name="muon", learning_rate=0.5, beta1=0.7, beta2=0.8)
    adamw, muon = build_optimizers(Model(), recipe)
    assert adamw.param_groups[0]["betas"] == (0.7, 0.8)
    assert adamw.param_groups[0]["fused"] is True
    assert adamw.param_groups[0]["lr"] == muon.param_groups[0]["lr"] == 0.5
    assert isinstance(muon, Muon)


def test_the_rate_of_a_step_reaches_every_group() -> None:
    optimizers = build_optimizers(Model(), OptimizerRecipe())
    set_learning_rate(optimizers, 0.125)
    assert {group["lr"] for optimizer in optimizers for group in optimizer.param_groups} == {0.125}


def test_learning_rate_at() -> None:
    recipe = OptimizerRecipe(
        learning_rate=2.0, schedule="wsd", warmup_fraction=0.1, decay_fraction=0.2, final_fraction=0.5
    )
    rates = [learning_rate_at(recipe, step, 20) for step in range(20)]
    assert rates[:3] == [1.0, 2.0, 2.0]
    assert rates[15:] == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])
    assert learning_rate_at(recipe.model_copy(update={"schedule": "constant"}), 19, 20) == 2.0


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "muon"])
def test_the_loss_of_a_small_fit_falls(name: str) -> None:
    torch.manual_seed(0)
    model, inputs, targets = Model(), torch.arange(7), torch.arange(7).roll(1)
    optimizers = build_optimizers(model, OptimizerRecipe(name=name, learning_rate=0.05, weight_decay=0.0))
    losses = []
    for _ in range(60):
        hidden = model.norm(model.embedding(inputs) + model.blocks[0](model.embedding(inputs)))
        loss = nn.functional.cross_entropy(model.head(hidden), targets)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("name=sgd", "name='sgd': input should be 'adamw', 'adamw8bit' or 'muon'"),
        ("schedule=linear", "schedule='linear': input should be 'cosine', 'wsd' or 'constant'"),
        ("learning_rate=0", "learning_rate=0: input should be greater than 0"),
        ("warmup_fraction=2", "warmup_fraction=2: input should be less than or equal to 1"),
        ("beta2=1", "beta2=1: input should be less than 1"),
        ("lerning_rate=1", "unknown key 'lerning_rate'. Did you mean 'learning_rate'?"),
    ],
)
def test_bad_settings(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(OptimizerRecipe, None, [word])
    assert message in str(caught.value)
