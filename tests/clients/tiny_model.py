"""The model that the client suites talk to: tiny, random, made in a second, and what it says without a server.

Its answers mean nothing, but they are definite: `expected.json` holds log-likelihoods by plain full forwards and greedy
texts by the naive loop, and the suites compare what comes over HTTP with them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from smelt.infer import Sampling, generate
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.nn.spec import TokenIds
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.chat import TEMPLATES, ChatTemplate
from smelt.tokenizers.pipeline import Pipeline

HERE = Path(__file__).parent
CONTEXT = 2048
NUM_WRITTEN = 24


def make_model(directory: Path) -> None:
    """Write a checkpoint of a chat model that has learned nothing."""
    text = (HERE.parents[1] / "LICENSE").read_text(encoding="utf-8")  # which nobody edits
    template = TEMPLATES["qwen"]  # which has a place for tools
    tokenizer = train_bpe([text], vocab_size=512, special=tuple(dict.fromkeys((END_OF_TEXT, *template.marks))))
    tokenizer.chat_template = template.jinja
    shape = Shape(
        vocab_size=tokenizer.vocab_size, dim=48, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=CONTEXT
    )
    ends = TokenIds(end=ChatTemplate(tokenizer).stop_ids)
    model = build(replace(spec_for("llama", shape), token_ids=ends), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 8 if parameter.ndim == 2 else 1  # else every prompt has the same dull answer
    save(model, tokenizer, directory)


def make_expected(directory: Path, path: Path) -> None:
    """Write what the model in `directory` says of the rows of lm-eval's tasks."""
    model, tokenizer = load(directory)
    lines = (HERE / "lm_eval_tasks" / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found = {
        "log_likelihoods": [
            [log_likelihood(model, tokenizer, row["question"], f" {choice}") for choice in row["choices"]]
            for row in rows
        ],
        "written": [greedy(model, tokenizer, tokenizer.encode(row["question"]), until=("e",)) for row in rows],
        "chatted": [greedy(model, tokenizer, chat_ids(tokenizer, row["question"]), until=("e",)) for row in rows],
    }
    path.write_text(json.dumps(found), encoding="utf-8")


def log_likelihood(model: Network, tokenizer: Pipeline, context: str, text: str) -> dict[str, Any]:
    """Return the log-probability of a text behind a context, and whether each token of it is the likeliest one."""
    known, ids = len(tokenizer.encode(context)), tokenizer.encode(context + text)
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)  # (T, V)
    targets = torch.tensor(ids[known:])
    given = logprobs[known - 1 : -1]
    total = given.gather(1, targets[:, None]).sum()
    return {"value": float(total), "greedy": bool((given.argmax(-1) == targets).all())}


def greedy(model: Network, tokenizer: Pipeline, ids: list[int], until: tuple[str, ...]) -> str:
    """Return the likeliest continuation by the naive loop."""
    sampling = Sampling(max_new_tokens=NUM_WRITTEN, temperature=0, stop=until)
    return generate(model, tokenizer, [ids], sampling, stop_ids=ChatTemplate(tokenizer).stop_ids)[0].text


def chat_ids(tokenizer: Pipeline, question: str) -> list[int]:
    """Return the ids of a conversation of one question."""
    return ChatTemplate(tokenizer).render([{"role": "user", "content": question}], add_reply=True)[0]
