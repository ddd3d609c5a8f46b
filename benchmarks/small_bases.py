"""Small bases for benchmarks whose texts no public base knows: an encoder and a decoder, each made once and kept.

Both are pretrained on the training texts of the benchmark alone, so nothing of its test has been seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smelt.core.storage import checkpoint_at
from smelt.data.records import Message
from smelt.infer.engine import answers_of
from smelt.infer.sampling import Sampling
from smelt.peft.load import load
from smelt.tokenizers.chat import ChatTemplate
from smelt.train.stages.pretrain import PretrainRecipe, pretrain

CONTEXT_TOKENS = 512
AT_ONCE = 16
SIZES = {"dim": 192, "num_layers": 4, "num_heads": 3}
KINDS: dict[str, dict[str, Any]] = {
    "encoder": {"objective": "masked", "model": {"family": "bert", **SIZES}},
    "decoder": {"objective": "causal", "model": {"family": "llama", **SIZES}},
}
"""What each base is, and what it predicts."""
TEMPLATE = "chatml"


def base(kind: str, texts: Sequence[str], tokenizer: str, out: Path, minutes: float) -> str:
    """Return the base of this kind, pretraining it on the texts where it is not there yet."""
    name = f"base-{kind}"
    if not (out / name / "report.md").is_file():
        file = out / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
        recipe = PretrainRecipe(
            name=name,
            out=str(out),
            data=str(file),
            tokenizer=tokenizer,
            max_seq_len=CONTEXT_TOKENS,
            batch_rows=8,
            minutes=minutes,
            save_every=0,
            keep=1,
            optimizer={"name": "muon", "learning_rate": 3e-3},
            **KINDS[kind],
        )
        pretrain(recipe, resume=(out / name).is_dir())
    return str(out / name)


def tuned(
    name: str,
    checkpoint: str,
    seed: int,
    optimizer: tuple[str, float],
    tune: dict[str, Any],
    words: argparse.Namespace,
) -> dict[str, Any]:
    """Return what a line's run is told, whatever its stage: it trains `words.minutes`, and its best weights count."""
    return {
        "name": name,
        "out": str(words.out),
        "checkpoint": checkpoint,
        "seed": seed,
        "minutes": words.minutes,
        "patience": 1_000_000,  # all the time, then the best
        "validate_every": 50,
        "save_every": 0,
        "keep": 1,
        "tune": tune,
        "optimizer": {"name": optimizer[0], "learning_rate": optimizer[1]},
    }


def written(run: str, texts: Sequence[str], max_new_tokens: int) -> tuple[list[str], int]:
    """Return what a tuned decoder answers to each text, greedily, and how many texts leave no room for an answer."""
    model, tokenizer = load(checkpoint_at(run))
    template = ChatTemplate(tokenizer)
    prompts = [template.render([Message("user", text)], add_reply=True)[0] for text in texts]
    fits = [number for number, ids in enumerate(prompts) if len(ids) + max_new_tokens <= CONTEXT_TOKENS - 32]
    fits.sort(key=lambda number: len(prompts[number]))
    answer, found = answers_of(model.eval(), tokenizer, template.stop_ids, max_running=AT_ONCE), [""] * len(texts)
    for start in range(0, len(fits), AT_ONCE):
        chosen = fits[start : start + AT_ONCE]
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=0.0)
        for number, made in zip(chosen, answer([prompts[n] for n in chosen], sampling, None), strict=True):
            found[number] = made.text
    return found, len(texts) - len(fits)
