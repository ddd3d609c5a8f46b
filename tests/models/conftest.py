"""Small models with odd sizes, one of each family."""

from collections.abc import Callable

import pytest
import torch

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.transformer import Transformer
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.pipeline import Pipeline

SHAPES = {
    "llama": Shape(61, 24, 3, 6, 40, num_kv_heads=2, hidden_dim=36),
    "gpt2": Shape(61, 20, 3, 5, 40, hidden_dim=28),
    "novel": Shape(61, 20, 3, 5, 40),
}


@pytest.fixture(params=sorted(SHAPES))
def model(request: pytest.FixtureRequest) -> Transformer:
    """Return a model of each family whose biases and norms are not at their initial values."""
    return scrambled(build(spec_for(request.param, SHAPES[request.param]), seed=7))


@pytest.fixture
def tiny() -> Callable[..., Transformer]:
    """Return a maker of models: tiny(family, **changes of the shape)."""

    def make(family: str = "llama", **changes: object) -> Transformer:
        sizes = {**vars(SHAPES[family]), **changes}
        return scrambled(build(spec_for(family, Shape(**sizes)), seed=7))

    return make


@pytest.fixture(scope="session")
def byte_tokenizer() -> Pipeline:
    """Return a tokenizer of the 256 bytes and three special tokens."""
    return train_bpe(["abc"], vocab_size=259)


def scrambled(model: Transformer) -> Transformer:
    """Add noise to every parameter, so that nothing stays at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model
