"""Sums of adapters: exact by their stacks, and the nearest of a lower rank."""

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.peft.combine import combine_adapters, cut_to_rank, sum_factors
from smelt.peft.lora import LowRank


def pair(up, down):
    return LowRank(torch.tensor(down), torch.tensor(up))


ONE = {"a": pair([[1.0], [2.0]], [[3.0, 0.0]]), "b": pair([[1.0]], [[1.0]])}
TWO = {"a": pair([[0.0], [1.0]], [[1.0, 1.0]])}


def test_the_sum_is_a_stack_and_ranks_add_up():
    found = combine_adapters([ONE, TWO], [0.5, 2.0])
    assert found["a"].down.tolist() == [[3.0, 0.0], [1.0, 1.0]]
    assert found["a"].up.tolist() == [[0.5, 0.0], [1.0, 2.0]]
    assert (found["a"].up @ found["a"].down).tolist() == [[1.5, 0.0], [5.0, 2.0]]
    assert (found["b"].up @ found["b"].down).tolist() == [[0.5]]


def test_an_adapter_less_itself_is_nothing():
    found = combine_adapters([ONE, ONE], [1.0, -1.0])["a"]
    assert not (found.up @ found.down).any()


def test_cut_to_a_rank_it_is_the_nearest_of_that_rank():
    generator = torch.Generator().manual_seed(1)
    wide = LowRank(torch.randn(6, 9, generator=generator), torch.randn(7, 6, generator=generator))
    rows, values, columns = torch.linalg.svd(wide.up @ wide.down)
    nearest = rows[:, :2] * values[:2] @ columns[:2]
    cut = cut_to_rank(wide, 2)
    assert (cut.up.shape, cut.down.shape) == ((7, 2), (2, 9))
    torch.testing.assert_close(cut.up @ cut.down, nearest, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cut.up.norm(), cut.down.norm())


def test_a_rank_that_is_enough_leaves_the_sum_exact():
    exact = combine_adapters([ONE, TWO], [1.0, 1.0])["a"]
    for rank in (2, 5):
        found = combine_adapters([ONE, TWO], [1.0, 1.0], rank=rank)["a"]
        assert torch.equal(found.up, exact.up)
    assert combine_adapters([ONE, TWO], [1.0, 1.0], rank=1)["a"].rank == 1


def test_a_sum_higher_in_rank_than_its_matrix_is_cut_all_the_same():
    many = combine_adapters([ONE, TWO, TWO], [1.0, 1.0, 1.0])["a"]  # rank 3 in a matrix of 2 by 2
    cut = cut_to_rank(many, 2)
    torch.testing.assert_close(cut.up @ cut.down, many.up @ many.down)


@pytest.mark.parametrize(
    ("adapters", "weights", "rank", "said"),
    [
        ([], [], None, "0 adapters and 0 weights"),
        ([ONE], [1.0, 2.0], None, "1 adapters and 2 weights"),
        ([ONE], [1.0], 0, "rank 0 of a combination"),
        ([ONE, {"a": pair([[1.0]], [[1.0]])}], [1.0, 1.0], None, r"a is of different sizes: \[\(1, 1\), \(2, 2\)\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_summed_is_told(adapters, weights, rank, said):
    with pytest.raises(UsageError, match=said):
        combine_adapters(adapters, weights, rank=rank)


def test_sums_of_factors_by_hand():
    """Weight 0.5 and scale 2 make a root of 1; weight -2 and scale 2 one of 2, whose sign `down` takes."""
    one = {"a": pair([[2.0], [4.0]], [[3.0, 0.0]])}  # up, which has the scale in it
    two = {"a": pair([[0.0], [2.0]], [[1.0, 1.0]])}
    found = sum_factors([one, two], [0.5, -2.0], [{"a": 2.0}, {"a": 2.0}])["a"]
    assert found.down.tolist() == [[3.0 - 2.0, -2.0]]
    assert found.up.tolist() == [[1.0], [2.0 + 2.0]]


def test_factors_of_different_ranks_have_no_sum():
    two = {"a": pair([[0.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]])}
    with pytest.raises(UsageError, match="a has ranks 1, 2, and factors add up only at one rank"):
        sum_factors([{"a": ONE["a"]}, two], [1.0, 1.0], [{"a": 1.0}, {"a": 1.0}])
