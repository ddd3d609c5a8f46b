"""Our own server as the teacher that writes instruction data."""

import json
from pathlib import Path

import pytest

from smelt.core.config import to_yaml
from smelt.data.formats import read_chats
from smelt.data.records import Message
from smelt.data.synth.endpoint import EndpointTeacher
from smelt.data.synth.prompts import load_prompts
from smelt.data.synth.recipe import SynthRecipe
from smelt.data.synth.teacher import Settings, TeacherError
from smelt.data.synth.write import synthesize

from .conftest import CONTEXT, NAME, Live, Watched


def test_a_run_against_our_server(live: Live, tmp_path: Path) -> None:
    Watched.says = "Paris it is."
    data, mine = tmp_path / "q.jsonl", tmp_path / "mine.yaml"
    data.write_text("".join(json.dumps({"text": f"Capital {number}?"}) + "\n" for number in range(5)))
    prompts = load_prompts().model_copy(update={"systems": ("Why?",)})  # ours are longer than this model's context
    mine.write_text(to_yaml(prompts), encoding="utf-8")
    recipe = SynthRecipe(method="evol-instruct", data=str(data), max_tokens=20, generations=1)
    with pytest.raises(TeacherError, match=r"did not take the first request: 400 .*tokens"):
        synthesize(recipe, EndpointTeacher(f"{live.url}/v1", NAME), tmp_path / "long.jsonl")
    teacher = EndpointTeacher(f"{live.url}/v1", NAME)
    recipe = SynthRecipe(method="explain", data=str(data), max_tokens=20, prompts=str(mine))
    report = synthesize(recipe, teacher, tmp_path / "short.jsonl", parallel=2)
    assert report.rows == 5 and [chat.messages[2].content for chat in read_chats(report.file)] == ["Paris it is."] * 5
    assert report.reply_tokens == 5 * 12
    reply = teacher.ask((Message("user", "Capital?"),), Settings(20, 0.0, 2))
    assert reply.text == "Paris it is." and reply.finish == "stop"
    assert reply.prompt_tokens is not None and 0 < reply.prompt_tokens < CONTEXT and reply.reply_tokens == 12


def test_a_model_that_is_not_served(live: Live) -> None:
    with pytest.raises(TeacherError, match=r"404 .*\ntry: check --endpoint"):
        EndpointTeacher(f"{live.url}/v1", "other").ask((Message("user", "Capital?"),), Settings(4, 0.0, 2))
    with pytest.raises(TeacherError, match=r"404 .*\ntry: check --endpoint"):
        EndpointTeacher(f"{live.url}/v2", NAME).ask((Message("user", "Capital?"),), Settings(4, 0.0, 2))
