"""Run directories as `smelt pretrain` leaves them, with a loss of our choice and no training."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smelt.core.config import load_recipe, to_yaml
from smelt.core.storage import seal, write_json
from smelt.data.shards import META, VERSION, ShardsMeta
from smelt.train.stages.pretrain import PretrainRecipe

BATCH_ROWS, MAX_SEQ_LEN, VOCABULARY = 16, 64, 512
TRAIN_TOKENS = 10**9


def make_shards(path: Path, *, num_tokens: int, tokenizer: str = "t" * 64, sources: str = "a" * 64) -> None:
    """Write what describes token shards, without the tokens."""
    path.mkdir(parents=True)
    numbers = {"num_tokens": num_tokens, "num_documents": 3, "num_text_bytes": 30_000, "vocab_size": VOCABULARY}
    meta = ShardsMeta(
        version=VERSION,
        dtype="<u2",
        tokens_per_file=(num_tokens,),
        tokenizer_fingerprint=tokenizer,
        sources={"book.txt": sources},
        **numbers,
    )
    write_json(path / META, asdict(meta))
    seal(path)


def make_run(
    path: Path,
    *,
    dim: int,
    steps: int,
    loss: float,
    done: int | None = None,
    settings: Sequence[str] = (),
    held_out_tokens: int = 10_000,
    **shards: Any,
) -> None:
    """Write the files of a run that ended with this held-out loss after `done` of its steps, at 1,000 tokens/s."""
    sizes = (f"model.dim={dim}", "model.num_layers=2", "model.num_heads=2", f"steps={steps}")
    rows = (f"batch_rows={BATCH_ROWS}", f"max_seq_len={MAX_SEQ_LEN}")
    words = (f"name={path.name}", "data=book.txt", "tokenizer=tokenizer", *sizes, *rows, *settings)
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(to_yaml(load_recipe(PretrainRecipe, None, words)))
    last = steps if done is None else done
    tokens = last * BATCH_ROWS * MAX_SEQ_LEN
    line = {"step": last, "tokens": tokens, "loss": loss + 0.1, "seconds": tokens / 1000}
    (path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (path / "events.jsonl").write_text(json.dumps({"event": "validation", "step": last, "loss": loss}) + "\n")
    make_shards(path / "data" / "train", num_tokens=TRAIN_TOKENS, **shards)
    make_shards(path / "data" / "validation", num_tokens=held_out_tokens, **shards)
