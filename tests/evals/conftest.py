"""A tiny model and a byte tokenizer for the evaluations."""

import pytest
import torch

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.transformer import Transformer
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.pipeline import Pipeline


@pytest.fixture(scope="session")
def tokenizer() -> Pipeline:
    return train_bpe(["the mill, the miller, the mill"] * 3, vocab_size=265)


@pytest.fixture(scope="session")
def model() -> Transformer:
    shape = Shape(vocab_size=265, dim=24, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=160)
    decoder = build(spec_for("llama", shape), seed=1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter *= 6 if parameter.ndim == 2 else 1
    return decoder.eval()
