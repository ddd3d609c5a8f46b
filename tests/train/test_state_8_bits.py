"""A run whose moments take 8 bits: resumed bit for bit through files, and refused where the state is another's."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from smelt.core.errors import CheckpointError
from smelt.data.packing import pack_rows
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.train.loop import FitSettings, fit
from smelt.train.objectives import TokenCrossEntropy
from smelt.train.sources import ArrayRows, RowSource
from smelt.train.state import TrainState

RECIPE = OptimizerRecipe(name="adamw8bit", learning_rate=1e-2)
SETTINGS = FitSettings(6, 4, 4, RECIPE)


def new_state(name: str = "adamw8bit") -> TrainState:
    model = build(spec_for("llama", Shape(70, 64, 1, 2, 16, tied=True)), seed=0)  # matrices of 4,096 numbers and more
    rows, _ = pack_rows([([(n * 7 + k) % 70 for k in range(12)], [1] * 12) for n in range(40)], 16)
    recipe = RECIPE.model_copy(update={"name": name})
    return TrainState(model, build_optimizers(model, recipe), RowSource(ArrayRows(rows), seed=3))


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = fit(new_state(), TokenCrossEntropy(), SETTINGS)
    first = fit(new_state(), TokenCrossEntropy(), SETTINGS, [lambda state, _: setattr(state, "stop", state.step == 3)])
    save_file(first.tensors(), tmp_path / "state.safetensors")
    second = new_state()
    second.model.load_state_dict(first.model.state_dict())
    second.load_tensors(load_file(tmp_path / "state.safetensors"))
    second.load_counters(first.counters())
    fit(second, TokenCrossEntropy(), SETTINGS)
    assert any(value.dtype is torch.uint8 and value.ndim == 2 for value in first.tensors().values())
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, second.model.get_parameter(name)), name
    ours, theirs = second.tensors(), whole.tensors()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("saved", "resumed"), [("adamw", "adamw8bit"), ("adamw8bit", "adamw")])
def test_the_state_of_another_optimizer_is_refused(saved: str, resumed: str) -> None:
    state = fit(new_state(saved), TokenCrossEntropy(), SETTINGS)
    with pytest.raises(CheckpointError, match=r"the optimizer state of '.*' is not what AdamW8? keeps for it"):
        new_state(resumed).load_tensors(state.tensors())


def test_a_state_of_another_size_is_refused() -> None:
    tensors = fit(new_state(), TokenCrossEntropy(), SETTINGS).tensors()
    name = next(name for name in tensors if name.endswith("mean_scales"))
    tensors[name] = tensors[name][:-1].clone()
    with pytest.raises(CheckpointError, match="is not what AdamW8 keeps for it"):
        new_state().load_tensors(tensors)
