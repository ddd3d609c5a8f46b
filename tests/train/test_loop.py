import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smelt.core.errors import CheckpointError, TrainingError
from smelt.data.packing import MemoryStream, Packed, pack_rows, pack_stream
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.transformer import Transformer
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.train.loop import FitSettings, StepResult, fit, split_rows
from smelt.train.objectives import TokenCrossEntropy
from smelt.train.sources import ArrayRows, RowSource, to_batch
from smelt.train.state import TrainState

RECIPE = OptimizerRecipe(learning_rate=1e-2, warmup_fraction=0.2)


def examples(num: int) -> list[tuple[list[int], list[int]]]:
    generator = np.random.default_rng(0)
    found = []
    for number in range(num):
        length = int(generator.integers(4, 14))
        ids = generator.integers(0, 50, length).tolist()
        mask = [0, *([1] * (length - 1))] if number % 3 else [0] * (length - 2) + [1, 1]  # uneven supervision
        found.append((ids, mask))
    return found


def new_state(optimizer: str = "muon", dtype: torch.dtype = torch.float32) -> TrainState:
    model = build(spec_for("llama", Shape(50, 16, 2, 2, 16, tied=True)), seed=0).to(dtype)
    packed, _ = pack_rows(examples(90), 16)
    recipe = RECIPE.model_copy(update={"name": optimizer})
    return TrainState(model, build_optimizers(model, recipe), RowSource(ArrayRows(packed), seed=3))


def settings(micro_rows: int, steps: int = 5) -> FitSettings:
    return FitSettings(steps, 8, micro_rows, RECIPE)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    ("dtype", "learning_rate", "tolerance"), [(torch.float32, 1e-3, 1e-6), (torch.float64, 1e-2, 1e-9)]
)
def test_micro_batches_give_one_step(
    optimizer: str, dtype: torch.dtype, learning_rate: float, tolerance: float
) -> None:
    """8x1 = 4x2 = 1x8, though supervised tokens fall unevenly."""
    finals = []
    for micro_rows in (8, 4, 1, 3):
        recipe = RECIPE.model_copy(update={"name": optimizer, "learning_rate": learning_rate})
        state = fit(new_state(optimizer, dtype), TokenCrossEntropy(), FitSettings(5, 8, micro_rows, recipe))
        finals.append(torch.cat([parameter.detach().flatten() for parameter in state.model.parameters()]))
    for other in finals[1:]:
        assert (other - finals[0]).abs().max() < tolerance


def test_loss_is_the_mean_over_supervised_tokens() -> None:
    state, results = new_state(), list[StepResult]()
    probe = new_state()
    batch = probe.source.take(8)
    loss, _ = TokenCrossEntropy()(probe.model, batch)
    expected = loss.item() / TokenCrossEntropy().weight(batch)
    fit(state, TokenCrossEntropy(), settings(2, steps=1), [lambda _, result: results.append(result)])
    assert results[0].loss == pytest.approx(expected, rel=1e-5)
    assert results[0].tokens == 8 * 16 and state.tokens == 8 * 16


def test_packed_loss_equals_separate_losses() -> None:
    rows = examples(12)
    packed, report = pack_rows(rows, 40)
    assert report.num_rows < len(rows)  # several examples share a row
    model = build(spec_for("llama", Shape(50, 16, 2, 2, 40, tied=True)), seed=0)
    together = TokenCrossEntropy()(model, to_batch(packed))[0].item()
    apart = 0.0
    for ids, mask in rows:
        single, _ = pack_rows([(ids, mask)], len(ids))
        apart += TokenCrossEntropy()(model, to_batch(single))[0].item()
    assert together == pytest.approx(apart, rel=1e-5)


def test_a_hook_can_stop_the_run() -> None:
    state = new_state()

    def stop_at_two(state: TrainState, result: StepResult) -> None:
        if state.step == 2:
            state.stop = "enough"

    fit(state, TokenCrossEntropy(), settings(8), [stop_at_two])
    assert (state.step, state.stop) == (2, "enough")


class NotANumber:
    def weight(self, batch: object) -> float:
        return 1.0

    def __call__(self, model: Transformer, batch: object) -> tuple[torch.Tensor, dict[str, float]]:
        return model.head_weight.sum() * math.nan, {}


def test_nan_never_reaches_the_weights() -> None:
    state = new_state()
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step 1: loss nan.*\n.*learning_rate"):
        fit(state, NotANumber(), settings(8))
    assert state.step == 0
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())
    assert all(parameter.grad is None for parameter in state.model.parameters())


def test_all_labels_masked_is_an_error() -> None:
    class Masked:
        num_rows = 4

        def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Packed:
            shape = (len(indices), 16)
            ones = np.ones(shape, dtype=np.int32)
            return Packed(ones, np.full(shape, -100, dtype=np.int32), ones, ones)

    state = new_state()
    state.source = RowSource(Masked(), seed=0)
    with pytest.raises(TrainingError, match="every label of the batch is masked"):
        fit(state, TokenCrossEntropy(), settings(8))


def test_split_rows() -> None:
    assert split_rows(8, 3) == [3, 3, 2]
    assert split_rows(8, 8) == [8]


def test_source_is_a_pure_function_of_its_cursor() -> None:
    stream = MemoryStream(np.arange(101, dtype=np.uint16), np.array([101]))
    rows = pack_stream(stream, 10)
    source = RowSource(rows, seed=5)
    first = [source.take(3).ids for _ in range(9)]  # almost three epochs of ten rows
    again = RowSource(rows, seed=5)
    again.load_state_dict({"cursor": 12, "seed": 5, "num_rows": 10})
    assert torch.equal(again.take(3).ids, first[4])
    epoch = torch.cat(first)[:10, 0].tolist()
    assert sorted(epoch) == list(range(0, 100, 10))


def test_source_refuses_the_place_of_other_data() -> None:
    source = new_state().source
    with pytest.raises(CheckpointError, match="num_rows=7, this run has num_rows="):
        source.load_state_dict({"cursor": 0, "seed": 3, "num_rows": 7})


def test_empty_rows_are_refused() -> None:
    empty = Packed(*(np.zeros((0, 4), dtype=np.int32) for _ in range(4)))
    with pytest.raises(TrainingError, match="not one full row"):
        RowSource(ArrayRows(empty), seed=0)
