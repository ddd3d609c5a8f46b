"""The CRF against a sum over every sequence of labels: probability, gradient, best path, whatever is left out."""

from itertools import pairwise, product

import pytest
import torch

from smelt.nn.crf import LinearChainCRF

NUM_LABELS, NUM_TOKENS = 3, 5
MASKS = {
    "all": [1, 1, 1, 1, 1],
    "end": [1, 1, 1, 0, 0],
    "start": [0, 0, 1, 1, 1],
    "holes": [0, 1, 0, 1, 1],
    "one": [0, 0, 1, 0, 0],
}


def make(num_labels: int = NUM_LABELS) -> LinearChainCRF:
    crf, generator = LinearChainCRF(num_labels), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(generator=generator)
    return crf


def draw(num_rows: int = 1, seed: int = 4) -> torch.Tensor:
    return torch.randn(num_rows, NUM_TOKENS, NUM_LABELS, generator=torch.Generator().manual_seed(seed))


def sequences(crf: LinearChainCRF, scores: torch.Tensor) -> dict[tuple[int, ...], torch.Tensor]:
    """Return the score of every sequence of labels of scores (T, N): the definition."""
    found = {}
    for labels in product(range(scores.shape[1]), repeat=len(scores)):
        total = crf.start_transitions[labels[0]] + crf.end_transitions[labels[-1]]
        total = total + sum(scores[place, label] for place, label in enumerate(labels))
        found[labels] = total + sum(crf.transitions[pair] for pair in pairwise(labels))
    return found


@pytest.mark.parametrize("name", MASKS)
def test_probability_and_gradients_equal_the_sum_over_all_sequences(name):
    crf, scores, mask = make(), draw().requires_grad_(), torch.tensor([MASKS[name]], dtype=torch.bool)
    labels = torch.tensor([[2, 0, 1, 1, 2]])
    everything = sequences(crf, scores[0, mask[0]])
    expected = everything[tuple(labels[mask].tolist())] - torch.stack([*everything.values()]).logsumexp(0)
    [found] = crf(scores, torch.where(mask, labels, -100), mask)
    torch.testing.assert_close(found, expected)
    inputs = (scores, *crf.parameters())
    gradients = [torch.autograd.grad(total, inputs, materialize_grads=True) for total in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MASKS)
def test_the_best_path_is_the_best_of_all(name):
    crf, mask = make(), torch.tensor([MASKS[name]], dtype=torch.bool)
    for seed in range(8):
        scores = draw(seed=seed)
        everything = sequences(crf, scores[0, mask[0]])
        found = crf.decode(scores, mask)
        assert tuple(found[mask].tolist()) == max(everything, key=lambda labels: everything[labels])
        assert (found[~mask] == 0).all()


def test_rows_of_all_lengths_in_one_batch_equal_rows_alone():
    crf, scores = make(), draw(len(MASKS) + 1)
    mask = torch.tensor([*MASKS.values(), [0] * NUM_TOKENS], dtype=torch.bool)
    labels = torch.randint(NUM_LABELS, mask.shape, generator=torch.Generator().manual_seed(5))
    together, best = crf(scores, labels, mask), crf.decode(scores, mask)
    for row in range(len(MASKS)):
        one = slice(row, row + 1)
        kept = mask[row].nonzero().squeeze(1)
        alone = crf(scores[one, kept], labels[one, kept], torch.ones(1, len(kept), dtype=torch.bool))
        torch.testing.assert_close(together[one], alone)
        alone = crf.decode(scores[one, kept], torch.ones(1, len(kept), dtype=torch.bool))
        assert torch.equal(best[one, kept], alone)
    assert together[-1] == 0 and (best[-1] == 0).all()


def test_a_row_without_labels_has_no_gradient_and_no_nan():
    crf, scores = make(), draw(2).requires_grad_()
    mask = torch.tensor([MASKS["all"], [0] * NUM_TOKENS], dtype=torch.bool)
    crf(scores, torch.zeros(2, NUM_TOKENS, dtype=torch.long), mask).sum().backward()
    assert torch.isfinite(scores.grad).all() and (scores.grad[1] == 0).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in crf.parameters())


def test_at_zero_transitions_every_label_is_a_choice_of_its_own():
    crf, scores = LinearChainCRF(NUM_LABELS), draw(2)
    labels, mask = torch.tensor([[2, 0, 1, 1, 2], [0, 0, 0, 2, 1]]), torch.ones(2, NUM_TOKENS, dtype=torch.bool)
    expected = scores.log_softmax(-1).gather(2, labels[:, :, None]).sum((1, 2))
    torch.testing.assert_close(crf(scores, labels, mask), expected)
    assert torch.equal(crf.decode(scores, mask), scores.argmax(-1))


def test_probabilities_of_all_sequences_sum_to_one_in_narrow_types_too():
    crf, scores = make(), draw().to(torch.bfloat16)
    every = torch.tensor(list(product(range(NUM_LABELS), repeat=NUM_TOKENS)))
    found = crf(scores.expand(len(every), -1, -1), every, torch.ones_like(every, dtype=torch.bool))
    torch.testing.assert_close(found.exp().sum().item(), 1.0, atol=1e-5, rtol=0)
