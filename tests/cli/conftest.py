"""A command line that runs in this process, one tiny checkpoint, and small files of text and chats."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CONTEXT = 96


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Return the object on the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


Smelt = Callable[..., Result]


@pytest.fixture
def smelt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Smelt:
    """Run one command line; `stdin` is what it reads there."""
    from smelt.cli.main import main
    from smelt.core import runtime

    monkeypatch.setattr(runtime, "prepare_process", lambda **_: None)  # it would change threads for all tests

    def call(*words: object, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model with a byte tokenizer, saved as every stage saves."""
    from dataclasses import replace

    import torch

    from smelt.models.build import build
    from smelt.models.families import Shape, spec_for
    from smelt.models.hub import save
    from smelt.nn.spec import TokenIds
    from smelt.tokenizers.bpe_train import train_bpe

    tokenizer = train_bpe([], vocab_size=259)
    shape = Shape(vocab_size=259, dim=24, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=CONTEXT)
    stops = (tokenizer.special["<|im_end|>"], tokenizer.special["<|endoftext|>"])
    model = build(replace(spec_for("llama", shape), token_ids=TokenIds(None, stops, stops[1])), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 8 if parameter.ndim == 2 else 1  # else every prompt has the same dull answer
    path = tmp_path_factory.mktemp("models") / "tiny"
    save(model, tokenizer, path, lineage={"stage": "sft", "step": 7})
    return path


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.jsonl"
    rows = [
        {"text": f"The mill by the river has {number} sails, and the miller likes each of them."}
        for number in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def chats_file(tmp_path: Path) -> Path:
    return write_chats(
        tmp_path / "chats.jsonl",
        [[("user", f"{number} and 1?"), ("assistant", f"{number + 1}.")] for number in range(12)],
    )


def write_chats(path: Path, chats: list[list[tuple[str, str]]], **extra: str) -> Path:
    """Write conversations as rows of messages."""
    rows = [{"messages": [{"role": role, "content": text} for role, text in chat], **extra} for chat in chats]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


TINY = (
    "max_seq_len=32", "batch_rows=4", "model.dim=16", "model.num_layers=1", "model.num_heads=2", "dtype=float32",
    "compile=no", "tokenizer=bytes",
)  # fmt: skip
