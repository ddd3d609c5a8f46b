"""What stands out in a run: each alert on the numbers that raise it, and none on a run that is well."""

import math
import random
from collections.abc import Sequence

import pytest

from smelt.studio.alerts import Alert, find_alerts


def alerts(
    losses: Sequence[float],
    validations: Sequence[tuple[int, float]] = (),
    *,
    log: str = "",
    silent_seconds: float | None = None,
) -> list[Alert]:
    steps = list(range(1, len(losses) + 1))
    return find_alerts(
        steps, losses, [0.5 * step for step in steps], validations, log=log, silent_seconds=silent_seconds
    )


def falling(num: int) -> list[float]:
    noise = random.Random(0)
    return [2 + 6 * math.exp(-step / 40) + noise.gauss(0, 0.05) for step in range(num)]


def test_a_run_that_is_well_raises_nothing() -> None:
    well = [(100, 3.0), (200, 2.8), (300, 2.81), (400, 2.7)]
    assert alerts(falling(400), well, silent_seconds=5) == []
    assert alerts([]) == [] and alerts([5.0], silent_seconds=1e6) == []


def test_a_leap_is_told_once_with_its_step_and_what_it_leapt_over() -> None:
    losses = falling(300)
    losses[199:203] = [9.0, 9.5, 9.1, 8.0]
    losses[249] = 30.0
    found = alerts(losses)
    assert [(one.kind, one.step, one.value) for one in found] == [("spike", 200, 9.0), ("spike", 250, 30.0)]
    assert found[0].limit is not None and 2.0 < found[0].limit < 3.0


def test_a_leap_in_the_first_steps_and_a_loss_that_hardly_varies_are_no_leaps() -> None:
    assert alerts([4.0] * 5 + [9.0] + [4.0] * 60) == []
    assert alerts([2.0] * 100 + [2.1] * 100) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_told_at_its_first_step(value: float) -> None:
    losses = falling(50)
    losses[30:] = [value] * 20
    assert alerts(losses) == [Alert("not finite", 31, None)]


def test_a_run_that_refused_a_step_says_so_in_its_log() -> None:
    log = "$ smelt pretrain x\nerror: step 12: loss nan, gradient norm nan; the weights were not changed\ntry: lower\n"
    assert alerts(falling(11), log=log) == [Alert("not finite", 12, None)]


def test_a_run_stalls_after_twenty_times_its_usual_step_and_a_minute() -> None:
    assert alerts(falling(100), silent_seconds=59) == []
    assert alerts(falling(100), silent_seconds=61) == [Alert("stall", 100, 61, 60.0)]
    slow = find_alerts([1, 2, 3], [3.0, 3.0, 3.0], [30.0, 60.0, 90.0], [], silent_seconds=500)
    assert slow == []
    assert find_alerts([1, 2, 3], [3.0, 3.0, 3.0], [30.0, 60.0, 90.0], [], silent_seconds=601)[0].limit == 600


def test_over_fitting_is_three_rises_while_the_training_loss_falls() -> None:
    losses = [5 - 0.01 * step for step in range(400)]
    rising = [(100, 4.0), (150, 3.5), (200, 3.6), (250, 3.7), (300, 3.8), (350, 3.9)]
    assert alerts(losses, rising) == [Alert("over-fit", 300, 3.8, 3.5)]
    assert alerts(losses, rising[:4]) == []
    assert alerts([5 + 0.01 * step for step in range(400)], rising) == []
