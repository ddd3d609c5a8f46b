"""Trainable tokens against TRL: on the same chats, tools and thoughts among them, the same tokens carry a loss."""

import json
from pathlib import Path
from typing import Any

import pytest

from smelt.data.formats import read_chats
from smelt.data.records import ChatRow
from smelt.data.rendering import render
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import publish
from smelt.tokenizers.base import SPECIAL
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.chat import TEMPLATES, ChatTemplate
from smelt.train.chats import Layout, lay_out

trl = pytest.importorskip("trl", reason="trl is not installed (pip install trl)")
datasets = pytest.importorskip("datasets", reason="datasets is not installed (pip install datasets)")
transformers = pytest.importorskip("transformers", reason="extra interop is not installed")

pytestmark = pytest.mark.interop

CALL = {"name": "find", "arguments": {"what": 'the "mill"', "n": 3}}
ROWS = [
    {
        "messages": [
            {"role": "user", "content": "Where is the mill?"},
            {"role": "assistant", "content": "By the river."},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Where is it? 磨坊"},
            {"role": "assistant", "content": "By the river, 河边。"},
        ]
    },
]
WITH_TOOLS = [
    {
        "messages": [
            {"role": "user", "content": "Where is the mill?"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function", "function": CALL}]},
            {"role": "tool", "content": '{"at": "river"}', "tool_call_id": "a"},
            {"role": "assistant", "content": "By the river."},
        ],
        "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}],
    }
]
WITH_THOUGHTS = [
    {
        "messages": [
            {"role": "user", "content": "Where is the mill?"},
            {"role": "assistant", "content": "By the river.", "reasoning_content": "Water turns it."},
        ]
    }
]
CASES = {
    "chatml": ROWS,
    "llama3": ROWS,
    "llama3.1": ROWS + WITH_TOOLS,
    "mistral": ROWS + WITH_TOOLS,
    "qwen": ROWS + WITH_TOOLS,
    "qwen3": ROWS + WITH_TOOLS + WITH_THOUGHTS,
    "glm4": ROWS + WITH_TOOLS,
    "gemma": ROWS,
    "vicuna": ROWS,
}


def checkpoint(name: str, folder: Path) -> ChatTemplate:
    """Write a tiny Llama with a published template, as transformers reads it."""
    published = TEMPLATES[name]
    marks = (*SPECIAL, *published.marks, *published.begin, *published.end, *published.stops)
    special = tuple(dict.fromkeys(marks))
    tokenizer = train_bpe(["the mill by the river"] * 3, vocab_size=280 + len(special), special=special)
    template = ChatTemplate(tokenizer, published.jinja)
    model = build(spec_for("llama", Shape(tokenizer.vocab_size, 16, 2, 2, 1024, tied=True)), seed=1)
    folder.mkdir()
    publish(model, tokenizer, folder, template=template)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")) | template.tokens
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return template


def as_trl_reads(row: ChatRow) -> dict[str, Any]:
    """Return a row with the fields that TRL takes; what is absent is left out, as Arrow would fill it with null."""
    messages = []
    for message in row.messages:
        fields = {name: getattr(message, name) for name in ("reasoning_content", "tool_calls", "tool_call_id")}
        messages.append(
            {"role": message.role, "content": message.content} | {k: v for k, v in fields.items() if v is not None}
        )
    return {"messages": messages, "tools": json.dumps(list(row.tools)) if row.tools else None}


def masks_of_trl(rows: list[ChatRow], folder: Path, out: Path) -> list[tuple[list[int], int]]:
    """Return ids and the number of labels of every row, as TRL's own trainer prepares them."""
    trainer = trl.SFTTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(folder),
        args=trl.SFTConfig(
            output_dir=str(out),
            assistant_only_loss=True,
            max_length=None,
            packing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
        ),
        train_dataset=datasets.Dataset.from_list([as_trl_reads(row) for row in rows], on_mixed_types="use_json"),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
    )
    found = []
    for example in trainer.train_dataset:
        batch = trainer.data_collator([example])
        found.append((batch["input_ids"][0].tolist(), int((batch["labels"] != -100).sum())))
    return found


def compare(rows: list[ChatRow], template: ChatTemplate, folder: Path, tmp_path: Path) -> None:
    theirs = masks_of_trl(rows, folder, tmp_path / "out")
    for row, (ids, num_labels) in zip(rows, theirs, strict=True):
        our_ids, mask = render(row, template)
        assert our_ids == ids, row.where
        assert sum(mask[1:]) == num_labels, row.where
    total = sum(num_labels for _, num_labels in theirs)
    for packing in (True, False):
        longest = max(len(ids) for ids, _ in theirs)
        laid = lay_out([("rows", rows)], template, Layout(longest, packing, "error", 0), "training")
        assert laid.trainable.sum() == total


@pytest.mark.parametrize("name", CASES)
def test_the_same_tokens_carry_a_loss(name: str, tmp_path: Path) -> None:
    template = checkpoint(name, tmp_path / "model")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in CASES[name]), encoding="utf-8")
    compare(list(read_chats(path)), template, tmp_path / "model", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"), [("qwen", "tools/glaive_toolcall_en_demo.json"), ("chatml", "instruct/raschka-1100.json")]
)
def test_real_chats(name: str, file: str, shared_data: Path, tmp_path: Path) -> None:
    template = checkpoint(name, tmp_path / "model")
    compare(list(read_chats(shared_data / file))[:100], template, tmp_path / "model", tmp_path)
