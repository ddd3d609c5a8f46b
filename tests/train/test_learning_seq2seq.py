"""An encoder-decoder learns: a tiny T5 copies and reverses strings that it has never seen."""

import random
from dataclasses import replace

import pytest
import torch

from smelt.data.pairs import pack_pairs
from smelt.infer import Sampling, generate
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.nn.spec import ModelSpec, TokenIds
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.train.loop import FitSettings, fit
from smelt.train.objectives.cross_entropy import TokenCrossEntropy
from smelt.train.sources import ArrayRows, RowSource
from smelt.train.state import TrainState

END, COPY, REVERSE = 0, 1, 2
IDS = TokenIds(END, (END,), END, END)


class Numbers:
    """A tokenizer of which only the size matters."""

    vocab_size, special = 11, {}

    def decode_bytes(self, ids: list[int], *, continued: bool = False) -> bytes:
        return bytes(ids)


def spec(family: str) -> ModelSpec:
    return replace(spec_for(family, Shape(11, 48, 2, 4, 24)), token_ids=IDS)


def draw(seed: int, num_pairs: int) -> list[tuple[list[int], list[int]]]:
    rng, found = random.Random(seed), {}
    while len(found) < num_pairs:
        kind, text = rng.choice((COPY, REVERSE)), [rng.randint(3, 10) for _ in range(rng.randint(2, 5))]
        found[kind, *text] = ([kind, *text, END], [*(text if kind == COPY else text[::-1]), END])
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "transformer2017"])
def test_strings_never_seen_are_copied_and_reversed(family: str) -> None:
    pairs = draw(0, 4000)
    train, held_out = pairs[300:], pairs[:300]
    model = build(spec(family), seed=1)
    rows = ArrayRows(pack_pairs(train, 24, start_id=END, pad_id=END)[0])
    recipe = OptimizerRecipe(learning_rate=3e-3)
    state = TrainState(model, build_optimizers(model, recipe), RowSource(rows, seed=0))
    fit(state, TokenCrossEntropy(), FitSettings(500, 32, 32, recipe, torch.float32))
    model.eval()
    sampling = Sampling(max_new_tokens=8, temperature=0)
    found = generate(model, Numbers(), [source for source, _ in held_out], sampling, stop_ids=(END,))
    exact = sum(list(answer.ids) == target for answer, (_, target) in zip(found, held_out, strict=True))
    assert exact >= 0.99 * len(held_out)
