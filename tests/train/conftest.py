"""A model small enough to train in a test, and the files to train it on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.transformer import Transformer
from smelt.tokenizers.base import SPECIAL
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.formats import save_tokenizer

WORDS = ["the", "mill", "stands", "by", "a", "river", "and", "one", "miller", "sells", "bread", "on", "market", "days"]


def sentence(number: int) -> str:
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 12)) + f" {number}."


@pytest.fixture(scope="module", autouse=True)
def no_plots() -> Iterator[None]:
    """Leave the plots of reports out: they cost more than the tiny runs; test_report.py draws them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("smelt.train.report.draw", lambda *run: None)
        yield


@pytest.fixture
def tiny_model() -> Transformer:
    return build(spec_for("llama", Shape(300, 32, 2, 2, 64, num_kv_heads=1, tied=True)), seed=1)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text.jsonl, chats.jsonl and a byte tokenizer."""
    folder = tmp_path_factory.mktemp("files")
    texts = [{"text": sentence(number)} for number in range(200)]
    (folder / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    chats = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": WORDS[n % 14]}]}
        for n in range(60)
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    tokenizer = train_bpe([], vocab_size=256 + len(SPECIAL))
    save_tokenizer(tokenizer, folder / "tokenizer", template=None, max_seq_len=64)
    return folder
