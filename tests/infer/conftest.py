"""A tiny model with lively answers, a byte tokenizer, and a model that says what it is told."""

import pytest
import torch

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.heads import Output
from smelt.models.transformer import Transformer
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.pipeline import Pipeline

CONTEXT = 96


@pytest.fixture(scope="session")
def tokenizer() -> Pipeline:
    return train_bpe(["a"], vocab_size=259)


@pytest.fixture(scope="session")
def model() -> Transformer:
    shape = Shape(vocab_size=259, dim=24, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=CONTEXT)
    decoder = build(spec_for("llama", shape), seed=1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter *= 8 if parameter.ndim == 2 else 1  # else every prompt has the same dull answer
    return decoder.eval()


class Scripted:
    """Stands in for a Transformer: the token after position p is script[p], whatever came before."""

    def __init__(self, spec, script):
        self.spec, self.script, self.max_text_tokens = spec, script, spec.max_seq_len
        self.head_weight = torch.zeros(1)

    def __call__(self, ids, *, positions, segments=None, cache=None, project=True):
        table = torch.tensor(self.script + [0] * self.spec.max_seq_len)
        return Output(None, torch.nn.functional.one_hot(table[positions], self.spec.vocab_size).float())

    def project(self, hidden):
        return hidden


@pytest.fixture
def say(model, tokenizer):
    """Return a maker of models that answer a one-token prompt with the given text and end."""

    def make(text: str | bytes) -> Scripted:
        data = text if isinstance(text, bytes) else text.encode()
        order = {tokenizer.decode_bytes([number]): number for number in range(256)}
        return Scripted(model.spec, [order[bytes([byte])] for byte in data] + [end_of(tokenizer)])

    return make


def end_of(tokenizer: Pipeline) -> int:
    return tokenizer.special["<|endoftext|>"]
