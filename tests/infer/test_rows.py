"""Padding, budgets and the rows inside the cache."""

import pytest
import torch

from smelt.core.errors import SmeltError, UsageError
from smelt.infer.rows import CachedRows, pad_left, token_budgets


def test_padding_stands_on_the_left_in_segment_0():
    ids, positions, segments = pad_left([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert positions.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert segments.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_budgets_end_with_the_context():
    assert token_budgets([[1] * 3, [1] * 10, [1] * 8], 4, 10) == [4, 0, 2]


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers():
    with pytest.raises(UsageError) as error:
        token_budgets([[1], [1] * 11], 4, 10)
    assert str(error.value) == (
        "prompt 1 has 11 tokens, but the model's context holds 10\n"
        "accepted: prompts of 1 to 10 tokens\n"
        "try: shorten the prompt, or use a model with a longer context"
    )


def test_an_empty_prompt_is_refused():
    with pytest.raises(UsageError) as error:
        token_budgets([[]], 4, 10)
    assert str(error.value) == ("prompt 0 has no token\naccepted: at least one\ntry: begin with the end-of-text token")


@torch.inference_mode()
def test_rows_kept_copied_and_dropped_go_on_as_if_alone(model):
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    rows = CachedRows(model, prompts, 4)
    rows.step(torch.tensor([10, 11, 12]))
    rows.keep(torch.tensor([2, 0, 2]))
    rows.step(torch.tensor([13, 14, 15]))
    for row, ids in enumerate([[5, 6, 7, 8, 9, 12, 13], [1, 2, 3, 10, 14], [5, 6, 7, 8, 9, 12, 15]]):
        alone = model(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(rows.logits[row], alone, rtol=1e-5, atol=1e-5)


def test_logits_that_are_not_finite_are_an_error(say):
    broken = say("abc")
    broken.project = lambda hidden: hidden * torch.nan
    with pytest.raises(SmeltError, match="the model's logits are not finite numbers\ntry: use an earlier checkpoint"):
        CachedRows(broken, [[1]], 4)
