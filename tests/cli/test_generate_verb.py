"""`smelt generate`: ids, text, streaming, every sampling setting."""

from dataclasses import fields
from pathlib import Path

import pytest

from smelt.infer.answer import Generation
from smelt.infer.engine import Engine
from smelt.infer.generate import generate
from smelt.infer.sampling import Sampling
from smelt.models.build import build
from smelt.models.families import Shape
from smelt.models.families.chatglm6b import make
from smelt.models.hub import load, save
from smelt.nn.spec import ContextSpec
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.surgery import add_tokens

from .conftest import Smelt

GREEDY = ("--temperature", 0, "--max-new-tokens", 12)


def test_json_has_the_stable_keys_and_the_function_s_answer(smelt: Smelt, checkpoint: Path) -> None:
    result = smelt("generate", checkpoint, "--prompt", "Once", *GREEDY, "--json")
    assert result.code == 0 and len(result.out.splitlines()) == 1
    assert set(result.json) == {"text", "ids", "prompt_ids", "finish_reason", "tokens_per_second"}
    model, tokenizer = load(checkpoint)
    prompt = [tokenizer.special["<|endoftext|>"], *tokenizer.encode("Once")]
    sampling = Sampling(max_new_tokens=12, temperature=0)
    expected = generate(model, tokenizer, [prompt], sampling, stop_ids=model.spec.token_ids.end)[0]
    assert result.json["prompt_ids"] == prompt
    assert (result.json["ids"], result.json["text"]) == (list(expected.ids), expected.text)
    assert result.json["finish_reason"] == expected.finish_reason


def test_text_is_all_that_stdout_gets_streamed_or_not(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    text = smelt("generate", checkpoint, "--prompt", "Once", *GREEDY, "--json").json["text"]
    assert smelt("generate", checkpoint, "--prompt", "Once", *GREEDY).out == text + "\n"
    assert smelt("generate", checkpoint, "--prompt", "Once", *GREEDY, "--stream").out == text + "\n"
    both = smelt("generate", checkpoint, "--prompt", "Once", *GREEDY, "--stream", "--json")
    assert both.out.startswith(text) and both.json["text"] == text
    (tmp_path / "p.txt").write_text("Once")
    assert smelt("generate", checkpoint, "--prompt-file", tmp_path / "p.txt", *GREEDY).out == text + "\n"
    assert smelt("generate", checkpoint, *GREEDY, stdin="Once").out == text + "\n"


def test_every_sampling_setting_is_an_option(smelt: Smelt, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(engine: Engine, prompts: object, sampling: Sampling, on_text: object) -> list[Generation]:
        seen.append(sampling)
        return [Generation((1,), "x", "length")]

    monkeypatch.setattr(Engine, "generate", record)
    wanted = {
        "max_new_tokens": 3, "temperature": 0.5, "top_k": 4, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.2,
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "num_beams": 1, "stop": ("a", "b"), "seed": 9,
    }  # fmt: skip
    by_python_alone = {"logit_bias", "logprobs"}
    assert set(wanted) | by_python_alone == {field.name for field in fields(Sampling)}
    words: list[object] = []
    for name, value in wanted.items():
        for one in value if isinstance(value, tuple) else (value,):
            words += ["--" + name.replace("_", "-"), one]
    assert smelt("generate", checkpoint, "--prompt", "x", *words).code == 0
    assert seen == [Sampling(**wanted)]  # type: ignore[arg-type]


def test_chat_renders_the_prompt_as_a_question(smelt: Smelt, checkpoint: Path) -> None:
    found = smelt("generate", checkpoint, "--prompt", "Hi", "--chat", *GREEDY, "--json").json
    template = ChatTemplate(load(checkpoint)[1])
    assert found["prompt_ids"] == template.render([{"role": "user", "content": "Hi"}], add_reply=True)[0]


@pytest.mark.parametrize("marks", [("[gMASK]", "<sop>"), ("[a]", "[b]")])
def test_a_context_ends_with_the_blank_that_the_tokenizer_has(
    marks: tuple[str, str], smelt: Smelt, tmp_path: Path
) -> None:
    tokenizer = add_tokens(byte_tokenizer(), marks)
    blank, begin = (tokenizer.special[mark] for mark in marks)
    spec = make(Shape(tokenizer.vocab_size + 3, 16, 1, 2, 64), context=ContextSpec(begin, (blank, blank)))
    save(build(spec, seed=1), tokenizer, tmp_path / "model")
    found = smelt("generate", tmp_path / "model", "--prompt", "Once", *GREEDY, "--json").json["prompt_ids"]
    text, end = tokenizer.encode("Once"), tokenizer.special["<|endoftext|>"]
    assert found == ([*text, blank, begin] if marks[0] == "[gMASK]" else [end, *text])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--temperature", "-1"), "temperature: -1.0 is not possible"),
        (("--num-beams", "2", "--top-k", "3"), "beam search does not sample"),
        (("--stop", ""), "stop: ('',) is not possible"),
    ],
)
def test_impossible_settings(smelt: Smelt, checkpoint: Path, words: tuple[str, ...], what: str) -> None:
    result = smelt("generate", checkpoint, "--prompt", "x", *words)
    assert result.code == 2 and what in result.err


def test_a_run_directory_works_as_a_checkpoint(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    steps = tmp_path / "run" / "checkpoints"
    shutil.copytree(checkpoint, steps / "step-0000001")
    (steps / "latest").write_text("step-0000001\n")
    by_run = smelt("generate", tmp_path / "run", "--prompt", "x", *GREEDY)
    assert by_run.code == 0 and by_run.out == smelt("generate", checkpoint, "--prompt", "x", *GREEDY).out
