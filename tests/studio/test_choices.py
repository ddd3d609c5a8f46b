"""The list of models: what each is, and why one cannot answer."""

import shutil
from pathlib import Path

import smelt
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.studio.choices import list_choices
from smelt.studio.workspace import Workspace
from smelt.tokenizers.bpe_train import train_bpe

from .conftest import Live


def test_each_model_is_listed_with_what_it_is(live: Live) -> None:
    listed = {one["name"]: one for one in live.get("/studio/choices").json["models"]}
    assert {"runs/tiny", "runs/other"} <= set(listed)
    tiny = listed["runs/tiny"]
    assert (tiny["family"], tiny["max_seq_len"], tiny["adapter"], tiny["fault"]) == ("llama", 256, False, None)
    model, _ = smelt.load(live.studio.workspace.root / "runs" / "tiny")
    assert tiny["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_a_model_that_cannot_answer_says_why_and_a_template_makes_a_chat(tmp_path: Path) -> None:
    tokenizer = train_bpe(["a"], vocab_size=259)
    shape = Shape(vocab_size=259, dim=24, num_layers=1, num_heads=4, num_kv_heads=4, max_seq_len=32)
    smelt.save(build(spec_for("bert", shape), seed=0), tokenizer, tmp_path / "runs" / "masked")
    smelt.save(build(spec_for("llama", shape), seed=0), tokenizer, tmp_path / "runs" / "plain")
    shutil.copytree(tmp_path / "runs" / "plain", tmp_path / "runs" / "chatty")
    (tmp_path / "runs" / "chatty" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    shutil.copytree(tmp_path / "runs" / "plain", tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "config.json").write_text("{")
    listed = {one["name"].removeprefix("runs/"): one for one in list_choices(Workspace.at(tmp_path))}
    assert "fills in masked tokens" in listed["masked"]["fault"]
    assert (listed["plain"]["chat"], listed["chatty"]["chat"]) == (False, True)
    assert "config.json" in listed["broken"]["fault"] and listed["broken"]["family"] is None
