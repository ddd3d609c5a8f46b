"""Each step of sampling against values worked out by hand, and the draw against chance."""

import math

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.infer.sampling import (
    Past,
    Sampling,
    add_biases,
    apply_temperature,
    check_biases,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_ids,
    penalize,
    penalize_repetition,
    row_seeds,
    shape_logits,
    uniforms,
)

INF = math.inf


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def kept(logits: torch.Tensor) -> list[bool]:
    return (logits > -INF)[0].tolist()


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits_of_seen_tokens():
    logits = torch.tensor([[2.0, -2.0, 3.0, -3.0]])
    seen = torch.tensor([[True, True, False, False]])
    assert penalize_repetition(logits, seen, 2.0).tolist() == [[1.0, -4.0, 3.0, -3.0]]


def test_temperature_is_a_power_of_the_probabilities():
    # p^2 of (0.2, 0.8) is (0.04, 0.64): 1/17 and 16/17.
    result = apply_temperature(logits_of(0.2, 0.8), 0.5).softmax(-1)
    torch.testing.assert_close(result, torch.tensor([[1 / 17, 16 / 17]]))


def test_lowest_temperature_stays_finite():
    result = apply_temperature(torch.tensor([[1e4, -1e4, 0.0]]), 1e-3).softmax(-1)
    assert result.tolist() == [[1.0, 0.0, 0.0]]


def test_top_k_keeps_k_and_ties():
    assert kept(keep_top_k(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), 2)) == [False, True, True, False]
    assert kept(keep_top_k(torch.tensor([[1.0, 3.0, 3.0, 3.0]]), 2)) == [False, True, True, True]
    assert kept(keep_top_k(torch.tensor([[1.0, 2.0]]), 50)) == [True, True]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.1, [False, False, True, False]),
        (0.39, [False, False, True, False]),
        (0.41, [False, True, True, False]),
        (0.65, [False, True, True, False]),
        (0.75, [True, True, True, False]),
        (0.95, [True, True, True, True]),
    ],
)
def test_top_p_keeps_the_fewest_tokens_with_that_mass(p, expected):
    assert kept(keep_top_p(logits_of(0.2, 0.3, 0.4, 0.1), p)) == expected


def test_top_p_of_equal_tokens_keeps_the_first_ones():
    assert kept(keep_top_p(torch.zeros(1, 4), 0.5)) == [True, True, False, False]


def test_min_p_is_relative_to_the_best():
    assert kept(keep_min_p(logits_of(0.5, 0.3, 0.15, 0.05), 0.25)) == [True, True, True, False]
    assert kept(keep_min_p(logits_of(0.5, 0.3, 0.15, 0.05), 1.0)) == [True, False, False, False]


def test_temperature_comes_before_top_p_and_min_p_last():
    # At temperature 0.5, (0.6, 0.3, 0.1) becomes (36, 9, 1) / 46: the first alone has 0.78 of the mass.
    shaped = shape_logits(logits_of(0.6, 0.3, 0.1), Sampling(temperature=0.5, top_p=0.7))
    assert kept(shaped) == [True, False, False]
    # top-k leaves (0.6, 0.3), renormalised to (2/3, 1/3), of which 0.7 needs both.
    assert kept(shape_logits(logits_of(0.6, 0.3, 0.1), Sampling(top_k=2, top_p=0.7))) == [True, True, False]


def test_draw_follows_the_cumulative_probabilities():
    logits = logits_of(0.2, 0.5, 0.3).expand(6, -1)
    numbers = torch.tensor([0.0, 0.199, 0.201, 0.699, 0.701, 1 - 2**-53], dtype=torch.float64)
    assert draw(logits, numbers).tolist() == [0, 0, 1, 1, 2, 2]


def test_draw_never_picks_a_removed_token():
    logits = torch.tensor([[-INF, 0.0, -INF, 0.0, -INF]]).expand(4, -1)
    numbers = torch.tensor([0.0, 0.4999, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert draw(logits, numbers).tolist() == [1, 1, 3, 3]


def test_the_largest_number_picks_the_last_token_of_any_vocabulary():
    # In float32 the probabilities of many vocabularies add up to a little less than 1.
    largest = torch.tensor([1 - 2**-53], dtype=torch.float64)
    for size in range(1, 200):
        assert draw(torch.zeros(1, size), largest).tolist() == [size - 1]


def test_frequencies_pass_a_chi_square_test():
    probabilities = torch.tensor([0.02, 0.08, 0.1, 0.15, 0.25, 0.4])
    num = 60_000
    found = draw(probabilities.log().expand(num, -1), uniforms([11], num)[0]).bincount(minlength=6)
    expected = num * probabilities
    chi_square = float(((found - expected) ** 2 / expected).sum())
    assert chi_square < 20.5  # the 99.9 % quantile with 5 degrees of freedom


def test_neighbouring_seeds_are_independent():
    # The joint frequencies of two rows' draws, on a 4 x 4 table, 9 degrees of freedom.
    numbers = uniforms(row_seeds(4, 2), 32_000)
    cells = (numbers * 4).long()
    table = (cells[0] * 4 + cells[1]).bincount(minlength=16).double()
    assert float(((table - 2000) ** 2 / 2000).sum()) < 37.7  # 99.9 % quantile with 15 degrees of freedom


def test_numbers_depend_on_the_row_seed_alone():
    assert torch.equal(uniforms(row_seeds(3, 4), 50)[2, :20], uniforms([5], 20)[0])
    assert row_seeds(2**63 - 1, 2) == [2**63 - 1, 0]


def test_greedy_takes_the_best_after_the_penalty():
    logits, seen = torch.tensor([[4.0, 3.0]]), torch.tensor([[True, False]])
    greedy = Sampling(temperature=0, repetition_penalty=2.0)
    assert next_ids(logits, Sampling(temperature=0), None, None).tolist() == [0]
    assert next_ids(logits, greedy, Past(seen, torch.zeros(seen.shape)), None).tolist() == [1]


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("max_new_tokens", 0, "a whole number, 1 or more"),
        ("max_new_tokens", 2.5, "a whole number, 1 or more"),
        ("max_new_tokens", True, "a whole number, 1 or more"),
        ("temperature", -0.1, "0 (greedy) or 0.001 to 100"),
        ("temperature", 1e-9, "0 (greedy) or 0.001 to 100"),
        ("temperature", math.nan, "0 (greedy) or 0.001 to 100"),
        ("temperature", INF, "0 (greedy) or 0.001 to 100"),
        ("temperature", "hot", "0 (greedy) or 0.001 to 100"),
        ("top_k", -1, "a whole number, 0 (off) or more"),
        ("top_p", 0, "above 0, up to 1 (off)"),
        ("top_p", 1.1, "above 0, up to 1 (off)"),
        ("min_p", -0.5, "0 (off) to 1"),
        ("repetition_penalty", 0, "0.001 to 10; 1 is off"),
        ("repetition_penalty", 5e-324, "0.001 to 10; 1 is off"),
        ("num_beams", 0, "a whole number, 1 (off) to 64"),
        ("stop", "end", "a tuple of texts, none of them empty"),
        ("stop", ("end", ""), "a tuple of texts, none of them empty"),
        ("seed", -1, "a whole number, 0 to 9223372036854775807"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_accepted(name, value, accepted):
    with pytest.raises(UsageError) as error:
        Sampling(**{name: value})
    assert str(error.value) == f"{name}: {value!r} is not possible\naccepted: {accepted}"


def test_beams_do_not_sample():
    Sampling(num_beams=4, temperature=0)
    Sampling(num_beams=4)
    with pytest.raises(UsageError) as error:
        Sampling(num_beams=4, temperature=0.7)
    assert str(error.value) == (
        "temperature: 0.7 together with num_beams: 4; beam search does not sample\n"
        "accepted: temperature 0 or 1 with beams\ntry: set num_beams=1 to sample"
    )
    with pytest.raises(UsageError, match="top_k: 5 together with num_beams: 2"):
        Sampling(num_beams=2, top_k=5)


def test_the_past_counts_the_answer_and_sees_the_prompt():
    past = Past.of([[0, 2, 2], [1]], 4)
    assert past.seen.tolist() == [[True, False, True, False], [False, True, False, False]]
    for ids in ([3, 1], [3, 0]):
        past.add(torch.tensor(ids))
    assert past.counts.tolist() == [[0, 0, 0, 2], [1, 1, 0, 0]]
    assert past.rows(torch.tensor([1])).seen.tolist() == [[True, True, False, False]]


def test_presence_and_frequency_are_taken_off_the_logits_of_the_answers_tokens():
    past = Past.of([[2]], 3)
    past.add(torch.tensor([1]))
    past.add(torch.tensor([1]))
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    assert penalize(torch.ones(1, 3), past, sampling).tolist() == [[1.0, 0.0, 1.0]]
    assert sampling.looks_back and not Sampling().looks_back


def test_biases_are_added_to_the_logits_of_their_ids():
    logits = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    assert add_biases(logits, ((0, 5.0), (2, -1.0))).tolist() == [[5.0, 1.0, 1.0], [7.0, 1.0, -1.0]]
    sampling = Sampling(temperature=0, logit_bias=((2, 100.0),))
    assert next_ids(logits, sampling, None, None).tolist() == [2, 2]
    with pytest.raises(UsageError, match="no id 2 in this vocabulary"):
        check_biases(sampling, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"presence_penalty": 2.1},
        {"frequency_penalty": "1"},
        {"logit_bias": ((1, 101.0),)},
        {"logit_bias": ((1, 1.0), (1, 2.0))},
        {"logit_bias": {1: 2.0}},
        {"logprobs": 21},
        {"num_beams": 2, "presence_penalty": 1.0},
        {"num_beams": 2, "logit_bias": ((1, 1.0),)},
    ],
)
def test_impossible_penalties_and_biases_are_refused(settings):
    with pytest.raises(UsageError, match=list(settings)[-1]):
        Sampling(**settings)
