"""A checkpoint as teacher: alone or among others it says the same, and what is too long is refused."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from smelt.data.records import Message
from smelt.data.synth.teacher import Settings
from smelt.infer import teacher as teachers
from smelt.infer.teacher import CheckpointTeacher
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import save
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.chat import ChatTemplate

CONTEXT = 128


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_bpe([], vocab_size=259)
    model = build(spec_for("llama", Shape(tokenizer.vocab_size, 16, 1, 2, CONTEXT)), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3 if parameter.ndim == 2 else 1
    directory = tmp_path_factory.mktemp("teacher") / "t"
    save(model, tokenizer, directory, lineage={"stage": "sft", "step": 1})
    return directory


QUESTIONS = [(Message("user", f"Question {number}?"),) for number in range(6)]


@pytest.mark.parametrize("engine", [True, False])
def test_alone_or_together_the_same_is_said(path: Path, engine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not engine:
        monkeypatch.setattr(teachers, "reason_against", lambda model: "no keys and values")
    teacher = CheckpointTeacher(path, parallel=3)
    assert teacher.name == str(path)
    settings = [Settings(12, 0.8, seed) for seed in range(6)]
    alone = [teacher.ask(*pair) for pair in zip(QUESTIONS, settings, strict=True)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(teacher.ask, QUESTIONS, settings))
    assert together == alone and len({reply.text for reply in alone}) > 3
    prompt = ChatTemplate(train_bpe([], vocab_size=259)).render(QUESTIONS[0], add_reply=True)[0]
    assert alone[0].prompt_tokens == len(prompt) and alone[0].reply_tokens == 12 and alone[0].finish == "length"


def test_what_is_too_long_is_refused(path: Path) -> None:
    reply = CheckpointTeacher(path, parallel=1).ask((Message("user", "long " * CONTEXT),), Settings(4, 0.0, 0))
    assert reply.finish == "refused" and str(CONTEXT) in reply.text and reply.reply_tokens is None
