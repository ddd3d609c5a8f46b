"""What trains: patterns, blocks, rates, and methods that add to a base; checkpoints that are adapters, and going on."""

import pytest
import torch

from smelt.core.errors import ConfigError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.optim.build import OptimizerRecipe, build_optimizers, set_learning_rate
from smelt.train.tuning import Penalized, TuneRecipe, blocks_above, tune


def tiny():
    return build(spec_for("llama", Shape(32, 16, 3, 2, 16)), seed=0)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def tuned(model, **recipe):
    return tune(model, TuneRecipe(**recipe), seed=0, base=None)


def test_everything_trains_where_nothing_is_said():
    model = tiny()
    tuned(model)
    assert trained(model) == {name for name, _ in model.named_parameters()}


def test_the_last_blocks_train_with_what_stands_above_them():
    model = tiny()
    tuned(model, last_blocks=1)
    names = {name for name, _ in model.named_parameters()}
    assert trained(model) == {name for name in names if name.startswith(("blocks.2.", "norm.", "head."))}
    tuned(model, last_blocks=0)
    assert trained(model) == {name for name in names if name.startswith(("norm.", "head."))}


def test_patterns_choose_parameters_and_modules():
    model = tiny()
    tuned(model, train=("*norm", "blocks.1.attention", "token_embedding"))
    names = {name for name, _ in model.named_parameters()}
    wanted = {name for name in names if "norm" in name or name.startswith(("blocks.1.attention.", "token_embedding"))}
    assert trained(model) == wanted


def test_rates_fall_from_block_to_block_and_follow_patterns():
    model = tiny()
    tuning = tuned(model, layer_decay=0.5, rates={"norm": 2.0})
    factors = {name: tuning.factor(name) for name, _ in model.named_parameters()}
    assert factors["norm.weight"] == 2.0
    assert factors["blocks.2.attention.query.weight"] == 1.0
    assert factors["blocks.0.attention.query.weight"] == 0.25
    assert factors["token_embedding.weight"] == 0.125
    optimizers = build_optimizers(model, OptimizerRecipe(name="adamw"), factor=tuning.factor)
    set_learning_rate(optimizers, 0.1)
    owners = {id(p): group["lr"] for opt in optimizers for group in opt.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert owners[id(parameter)] == pytest.approx(0.1 * factors[name])


def test_embeddings_are_below_the_first_block():
    names = ("token_embedding.weight", "blocks.0.x", "blocks.2.x", "head.weight")
    assert [blocks_above(name, 3) for name in names] == [3, 2, 0, 0]


@pytest.mark.parametrize(
    "recipe, message",
    [
        (dict(train=("querry",)), "tune.train: 'querry' matches nothing in this model. Did you mean 'query'?"),
        (dict(rates={"nrm": 2.0}), "tune.rates: 'nrm' matches nothing that trains. Did you mean 'norm'?"),
        (dict(rates={"token_embedding": 2.0}, last_blocks=1), "tune.rates: 'token_embedding' matches nothing that"),
        (dict(last_blocks=4), "tune.last_blocks=4"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(recipe, message):
    with pytest.raises(ConfigError) as caught:
        tuned(tiny(), **recipe)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "recipe, message",
    [
        (dict(method="lorra"), "no method 'lorra'"),
        (dict(train=("norm",), last_blocks=1), "give one of train and last_blocks"),
        (dict(method="lora", last_blocks=1), "train names what trains beside lora"),
        (dict(whole=False), "whole=false is for what a method adds"),
        (dict(method="lora", ia3={"targets": ("query",)}), "ia3 has settings, and the method is lora"),
        (dict(base_bits=4), "base_bits is for a base that stays as it is"),
    ],
)
def test_settings_that_say_two_things_are_refused(recipe, message):
    with pytest.raises(ValueError, match=message):
        TuneRecipe(**recipe)


def test_a_penalty_is_added_to_the_mean_and_not_to_a_measurement():
    class Objective:
        def weight(self, batch):
            return float(batch)

        def __call__(self, model, batch):
            return torch.tensor(batch * 3.0), {}

    penalized = Penalized(Objective(), lambda model: torch.tensor(0.5))
    sums, _ = penalized(None, 4)
    assert sums.item() == 4 * 3.5
    with torch.no_grad():
        assert penalized(None, 4)[0].item() == 12.0


def test_own_parts_train_beside_a_method(tmp_path):
    model = tiny()
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    recipe = TuneRecipe(
        method="lora", train=("token_embedding", "blocks.1.attention_norm"), rates={"token_embedding": 0.5}
    )
    tuning = tune(model, recipe, seed=0, base=str(tmp_path), new=("head",))
    own = {"token_embedding.weight", "blocks.1.attention_norm.weight", "head.weight"}
    assert {name for name in trained(model) if not name.endswith((".up", ".down"))} == own
    assert tuning.factor("token_embedding.weight") == 0.5
    assert tuning.num_parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("bits, how", [(None, "lora changes"), (4, "lora changes or 4 bits hold")])
def test_parts_that_a_method_changes_do_not_train_beside_it(tmp_path, bits, how):
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    recipe = TuneRecipe(method="lora", train=("blocks.1",), base_bits=bits)
    with pytest.raises(ConfigError, match=rf"'blocks\.1' matches blocks\.1\.attention\.key, which {how}\n"):
        tune(tiny(), recipe, seed=0, base=str(tmp_path))


@pytest.mark.parametrize("recipe", [dict(last_blocks=1), dict(layer_decay=0.9)])
def test_blocks_of_two_networks_are_not_counted(recipe):
    model = build(spec_for("t5", Shape(32, 16, 2, 2, 16)), seed=0)
    with pytest.raises(ConfigError, match=rf"tune\.{next(iter(recipe))}=.* on an encoder-decoder"):
        tuned(model, **recipe)
    tuned(model, train=("decoder.blocks.1",))
    assert trained(model) == {name for name, _ in model.named_parameters() if name.startswith("decoder.blocks.1.")}
