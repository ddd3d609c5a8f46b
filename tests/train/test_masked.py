"""An encoder learns to fill masks with the loop and the loss of all pretraining: what is masked is a matter of rows."""

import numpy as np
import pytest

from smelt.data.packing import IGNORED, Packed
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.models.readings import fill
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.tokenizers.training import train_tokenizer
from smelt.train.loop import FitSettings, StepResult, fit
from smelt.train.objectives import TokenCrossEntropy
from smelt.train.sources import ArrayRows, RowSource
from smelt.train.state import TrainState

TEXTS = (
    "the old mill stands by the river", "a grey cat sleeps on the warm stove", "rain falls on the roofs of the town",
    "my sister sells bread at the market", "the ferry leaves at nine every morning", "snow covers the road in winter",
    "two boys fish under the stone bridge", "our teacher reads a story aloud", "the baker opens before the sun is up",
    "bees live in the hollow tree", "a lamp burns in the tower all night", "the king has lost his golden ring",
)  # fmt: skip
WIDTH = 16


def rows(tokenizer, num_rows: int) -> Packed:
    """Draw texts with a fifth of their tokens masked, padded to one width."""
    generator = np.random.default_rng(0)
    ids, labels, segments = (np.zeros((num_rows, WIDTH), np.int64) for _ in range(3))
    labels[:] = IGNORED
    for row in range(num_rows):
        text = np.array(tokenizer.encode(TEXTS[generator.integers(len(TEXTS))], add_special_tokens=True))
        masked = generator.random(len(text)) < 0.2
        masked[[0, -1]] = False
        ids[row, : len(text)] = np.where(masked, tokenizer.special["[MASK]"], text)
        labels[row, : len(text)] = np.where(masked, text, IGNORED)
        segments[row, : len(text)] = 1
    return Packed(ids, labels, segments, np.broadcast_to(np.arange(WIDTH), ids.shape).copy())


def unigram_entropy(labels: np.ndarray) -> float:
    counts = np.unique(labels[labels != IGNORED], return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_masked_words_are_learned_from_both_sides(family, tmp_path):
    tokenizer = train_tokenizer(TEXTS * 3, algorithm="wordpiece", vocab_size=200, special=())
    packed, recipe = rows(tokenizer, 2048), OptimizerRecipe(name="adamw", learning_rate=1e-2)
    model = build(spec_for(family, Shape(tokenizer.vocab_size, 48, 2, 4, WIDTH)), seed=0)
    state = TrainState(model, build_optimizers(model, recipe), RowSource(ArrayRows(packed), seed=1))
    losses = list[float]()

    def note(state: TrainState, result: StepResult) -> None:
        losses.append(result.loss)

    fit(state, TokenCrossEntropy(), FitSettings(150, 32, 32, recipe), [note])
    assert losses[0] > unigram_entropy(packed.labels)
    assert np.mean(losses[-5:]) < 0.15 * unigram_entropy(packed.labels), losses[::10]
    save(model, tokenizer, tmp_path)
    texts = ["the [MASK] leaves at nine every morning", "the old mill stands by the [MASK]"]
    assert [masks[0][0].text for masks in fill(*load(tmp_path), texts)] == ["ferry", "river"]
