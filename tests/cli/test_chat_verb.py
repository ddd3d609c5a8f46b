"""`smelt chat`: turns, commands, and a history that fits the context."""

import json
from pathlib import Path

import pytest

from smelt.cli.chat import COMMANDS, fit_history
from smelt.core.errors import UsageError
from smelt.core.storage import seal
from smelt.data.records import Message
from smelt.infer.engine import Engine
from smelt.models.hub import load
from smelt.tokenizers.chat import ChatTemplate

from .conftest import CONTEXT, Smelt

SHORT = ("--max-new-tokens", 4, "--temperature", 0)


def turns(*texts: str) -> list[Message]:
    return [Message(("user", "assistant")[place % 2], text) for place, text in enumerate(texts)]


def test_each_line_gets_an_answer_on_stdout(smelt: Smelt, checkpoint: Path) -> None:
    alone = smelt("generate", checkpoint, "--prompt", "hi", "--chat", *SHORT, "--json").json["text"]
    result = smelt("chat", checkpoint, *SHORT, stdin="hi\n\n/reset\nhi\n")
    assert result.code == 0
    assert result.out == f"{alone}\n{alone}\n"


def test_the_history_is_part_of_the_next_prompt(
    smelt: Smelt, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    tokenizer = load(checkpoint)[1]

    generate = Engine.generate

    def watch(engine: Engine, asked: list[list[int]], *rest: object) -> object:
        prompts.append(tokenizer.decode(asked[0]))
        return generate(engine, asked, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "generate", watch)
    smelt("chat", checkpoint, *SHORT, "--system", "S", stdin="one\ntwo\n")
    assert prompts[0] == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
    assert prompts[1].startswith(prompts[0]) and prompts[1].endswith("user\ntwo<|im_end|>\n<|im_start|>assistant\n")


def test_old_turns_are_left_out_with_a_notice(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    result = smelt("chat", checkpoint, *SHORT, stdin=f"{'a' * 30}\n{'b' * 30}\nc\n/save {out}\n")
    assert f"(the first 2 messages no longer fit the context of {CONTEXT} tokens and are left out)" in result.err
    assert len(json.loads(out.read_text())["messages"]) == 6, "what is saved is whole"


def test_fit_history_drops_whole_turns_oldest_first(checkpoint: Path) -> None:
    template = ChatTemplate(load(checkpoint)[1])
    messages = turns("one", "1", "two", "2", "three")
    whole, last = (len(template.render(part, add_reply=True)[0]) for part in (messages, messages[4:]))
    assert fit_history(template, [], messages, whole)[1] == 0
    assert fit_history(template, [], messages, whole - 1)[1] == 2
    assert fit_history(template, [], messages, last)[1] == 4
    with pytest.raises(
        UsageError, match=f"this message takes {last} tokens with its marks; there is room for {last - 1}"
    ):
        fit_history(template, [], messages, last - 1)


def test_a_message_that_is_too_long_does_not_end_the_chat(smelt: Smelt, checkpoint: Path) -> None:
    result = smelt("chat", checkpoint, *SHORT, stdin=f"{'a' * 200}\nhi\n")
    assert result.code == 0 and "this message takes" in result.err
    assert result.out.count("\n") >= 1


def test_commands(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    lines = (
        "/help",
        "/temperature 0.5",
        "/temperature x",
        "/temperature -1",
        "/temprature 1",
        "/system Be brief.",
        "hi",
    )
    script = "\n".join((*lines, f"/save {out}", "/save", "/quit", "never read"))
    result = smelt("chat", checkpoint, *SHORT, stdin=script)
    assert result.code == 0 and result.out.count("\n") >= 1
    assert all(name in result.err for name in COMMANDS)
    assert "(temperature 0.5)" in result.err
    assert "/temperature 'x' is not a number" in result.err and "temperature: -1.0 is not possible" in result.err
    assert "no command '/temprature'. Did you mean '/temperature'?" in result.err
    assert "/save needs a file name" in result.err
    saved = [(turn["role"], turn["content"]) for turn in json.loads(out.read_text())["messages"]]
    assert saved[:2] == [("system", "Be brief."), ("user", "hi")] and saved[2][0] == "assistant"
    assert "never" not in out.read_text()


def test_save_overwrites_only_its_own_file(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    result = smelt(
        "chat",
        checkpoint,
        *SHORT,
        stdin=f"hi\n/save {tmp_path / 'mine.txt'}\n/save {tmp_path / 'a'}\n/save {tmp_path / 'a'}\n",
    )
    assert "exists already" in result.err and (tmp_path / "mine.txt").read_text() == "precious"
    assert result.err.count("(2 messages in") == 2


def test_a_base_model_is_named_as_one(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    base = tmp_path / "base"
    shutil.copytree(checkpoint, base)
    (base / "chat_template.jinja").unlink()
    config = json.loads((base / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    seal(base)
    assert "a base model, which has not learned to answer" in smelt("chat", base, stdin="").err


def test_impossible_settings_are_told_before_the_first_message(smelt: Smelt, checkpoint: Path) -> None:
    result = smelt("chat", checkpoint, "--temperature", "-3", stdin="hi\n")
    assert result.code == 2 and result.out == ""


def test_ctrl_c_cuts_an_answer_short_and_keeps_it(
    smelt: Smelt, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(engine: Engine, prompts: object, sampling: object, on_text: object) -> None:
        on_text(0, "Half an")  # type: ignore[operator]
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "generate", interrupted)
    result = smelt("chat", checkpoint, stdin=f"hi\n/save {tmp_path / 'c'}\n")
    assert result.code == 0 and result.out == "Half an\n" and "(answer cut short)" in result.err
    assert json.loads((tmp_path / "c").read_text())["messages"][1] == {"role": "assistant", "content": "Half an"}
