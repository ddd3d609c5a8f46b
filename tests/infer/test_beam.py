"""Beam search against planted traps and against trying every answer."""

import itertools

import pytest
import torch

from smelt.infer import Sampling, generate
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.heads import Output


class Chain:
    """A Markov chain over the first few ids in place of a Transformer: the last token alone decides."""

    def __init__(self, spec, table):
        self.spec, self.head_weight, self.max_text_tokens = spec, torch.zeros(1), spec.max_seq_len
        self.table = torch.full((spec.vocab_size, spec.vocab_size), -30.0)
        size = len(table)
        self.table[:size, :size] = torch.tensor(table).clamp(min=1e-12).log()

    def __call__(self, ids, *, positions, segments=None, cache=None, project=True):
        return Output(None, self.table[ids])

    def project(self, hidden):
        return hidden


# From 0, token 1 looks best, but after it all is dull; token 2 leads to a certain 3.
TRAP = [[0.0, 0.55, 0.45, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0], [0.25, 0.25, 0.25, 0.25]]


def test_a_beam_escapes_the_trap_that_greedy_walks_into(model, tokenizer):
    chain = Chain(model.spec, TRAP)
    (greedy,) = generate(chain, tokenizer, [[0]], Sampling(max_new_tokens=2, temperature=0))
    (beam,) = generate(chain, tokenizer, [[0]], Sampling(max_new_tokens=2, num_beams=2))
    assert greedy.ids[0] == 1
    assert beam.ids == (2, 3) and beam.finish_reason == "length"


def test_a_wide_beam_finds_the_best_of_all_answers(model, tokenizer):
    generator = torch.Generator().manual_seed(4)
    for _ in range(5):
        table = torch.rand(4, 4, generator=generator).pow(3)
        table /= table.sum(-1, keepdim=True)
        chain = Chain(model.spec, table.tolist())
        scores = {}
        for ids in itertools.product(range(4), repeat=3):
            scores[ids] = float(sum(table[a, b].log() for a, b in itertools.pairwise((0, *ids))))
        (beam,) = generate(chain, tokenizer, [[0]], Sampling(max_new_tokens=3, num_beams=16))
        assert beam.ids == max(scores, key=scores.get)


def test_scores_are_divided_by_the_length(model, tokenizer):
    # Ending at once scores log 0.55 = -0.60 for one token; going on scores log 0.45 = -0.80 for two, -0.40 a token.
    chain = Chain(model.spec, [[0.0, 0.55, 0.45], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    (beam,) = generate(chain, tokenizer, [[0]], Sampling(max_new_tokens=4, num_beams=2), stop_ids=[1])
    assert beam.ids == (2, 1) and beam.finish_reason == "stop"


def test_stop_strings_cut_the_best_beam(say, tokenizer):
    shown = []
    sampling = Sampling(max_new_tokens=12, num_beams=2, stop=("END",))
    (answer,) = generate(say("ok END more"), tokenizer, [[1]], sampling, on_text=lambda row, text: shown.append(text))
    assert (answer.text, answer.finish_reason, "".join(shown)) == ("ok ", "stop", "ok ")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_beams_end_with_the_context(family, tokenizer):
    # The first prompt is full long before the second; learned positions have no row for what would come after.
    model = build(spec_for(family, Shape(vocab_size=259, dim=8, num_layers=1, num_heads=2, max_seq_len=24)), seed=0)
    found = generate(model, tokenizer, [[1] * 22, [2, 3]], Sampling(max_new_tokens=9, num_beams=3))
    assert [len(answer.ids) for answer in found] == [2, 9]
