import math

import pytest

from smelt.optim.schedules import SCHEDULES, constant, cosine, warmup, warmup_stable_decay

SHAPE = {"steps": 100, "warmup_steps": 10, "decay_steps": 40, "final_fraction": 0.1}


def test_warmup_rises_from_the_first_step_on() -> None:
    assert [warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmup(0, 0) == 1.0


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup_steps", [0, 1, 10])
@pytest.mark.parametrize("decay_steps", [0, 1, 40, 100])
@pytest.mark.parametrize("steps", [1, 2, 100])
def test_every_factor_lies_between_nought_and_one(name: str, warmup_steps: int, decay_steps: int, steps: int) -> None:
    shape = {"steps": steps, "warmup_steps": warmup_steps, "decay_steps": decay_steps, "final_fraction": 0.0}
    factors = [SCHEDULES[name](step, **shape) for step in range(2 * steps)]
    assert all(0.0 <= factor <= 1.0 for factor in factors)
    assert factors[0] > 0 or steps <= decay_steps  # the first step moves


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_beginning_is_the_warmup(name: str) -> None:
    assert [SCHEDULES[name](step, **SHAPE) for step in range(10)] == [(step + 1) / 10 for step in range(10)]


def test_cosine_in_closed_form() -> None:
    for step in range(10, 100):
        expected = 0.1 + 0.9 * math.cos(math.pi / 2 * (step - 10) / 89) ** 2
        assert cosine(step, **SHAPE) == pytest.approx(expected, abs=1e-12)
    assert cosine(10, **SHAPE) == 1.0
    assert cosine(99, **SHAPE) == cosine(1000, **SHAPE) == pytest.approx(0.1)
    middle = cosine(50, steps=101, warmup_steps=0, decay_steps=0, final_fraction=0.2)
    assert middle == pytest.approx(0.6)


def test_warmup_stable_decay_in_closed_form() -> None:
    factors = [warmup_stable_decay(step, **SHAPE) for step in range(100)]
    assert factors[9:60] == [1.0] * 51
    assert factors[60:] == pytest.approx([0.1 + 0.9 * (40 - passed) / 40 for passed in range(1, 41)])
    assert factors[99] == warmup_stable_decay(500, **SHAPE) == pytest.approx(0.1)


def test_warmup_and_decay_may_overlap() -> None:
    factors = [
        warmup_stable_decay(step, steps=10, warmup_steps=8, decay_steps=8, final_fraction=0.0) for step in range(10)
    ]
    assert factors == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0])


def test_without_decay_the_plateau_lasts() -> None:
    assert warmup_stable_decay(99, **SHAPE | {"decay_steps": 0}) == 1.0
    assert {constant(step, **SHAPE) for step in range(10, 200)} == {1.0}
