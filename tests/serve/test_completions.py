"""Completions: four forms of a prompt, echo, and log-probabilities as lm-eval reads them."""

import math
from typing import Any

import pytest
import torch

from .conftest import NAME, Live

openai = pytest.importorskip("openai")


@pytest.fixture
def client(live: Live) -> Any:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def exact(model: Any, ids: list[int]) -> torch.Tensor:
    """Return the log-probabilities (T, V) of what follows each token, by one full forward."""
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].float()[:, :259].log_softmax(-1)


def test_four_forms_of_a_prompt(client: Any, tokenizer: Any) -> None:
    end = tokenizer.special["<|endoftext|>"]
    ids = [[end, *tokenizer.encode(text)] for text in ("One", "Two")]
    forms = ["One", ["One", "Two"], ids[0], ids]
    found = [client.completions.create(model=NAME, prompt=form, max_tokens=5, temperature=0) for form in forms]
    texts = [[choice.text for choice in one.choices] for one in found]
    assert texts[1] == texts[3] and texts[0] == texts[2] == texts[1][:1]
    assert [choice.index for choice in found[3].choices] == [0, 1]
    assert found[3].usage.prompt_tokens == 8 and found[3].object == "text_completion"
    assert found[0].id.startswith("cmpl-")


def test_sixteen_tokens_unless_told(client: Any) -> None:
    answer = client.completions.create(model=NAME, prompt="One", logit_bias={"256": -100, "257": -100, "258": -100})
    assert answer.usage.completion_tokens == 16 and answer.choices[0].finish_reason == "length"


def test_the_exact_call_of_lm_eval(client: Any, model: Any, tokenizer: Any) -> None:
    end = tokenizer.special["<|endoftext|>"]
    prompts = [[end, *tokenizer.encode(text)] for text in ("The mill", "by the river \u00e9")]
    answer = client.completions.create(
        model=NAME, prompt=prompts, temperature=0, max_tokens=1, logprobs=1, seed=1234, echo=True
    )
    for ids, choice in zip(prompts, sorted(answer.choices, key=lambda choice: choice.index), strict=True):
        found, scores = choice.logprobs, exact(model, ids)
        assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(ids) + 1
        assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
        for place in range(1, len(ids)):
            assert found.token_logprobs[place] == pytest.approx(float(scores[place - 1, ids[place]]), abs=1e-4)
            best = max(found.top_logprobs[place].values())
            assert best == pytest.approx(float(scores[place - 1].max()), abs=1e-4)
        assert found.token_logprobs[-1] == pytest.approx(float(scores[-1].max()), abs=1e-4)
        assert choice.text.startswith(tokenizer.decode(ids[1:]))
        assert found.text_offset[:4] == [0, 0, 1, 2], "the mark at the beginning has no text"


def test_echo_alone_and_of_nothing_more(client: Any, tokenizer: Any) -> None:
    answer = client.completions.create(model=NAME, prompt="One", max_tokens=0, echo=True, logprobs=0)
    (choice,) = answer.choices
    assert choice.text == "One" and answer.usage.completion_tokens == 0 and choice.finish_reason == "length"
    assert choice.logprobs.tokens[1:] == ["O", "n", "e"]
    assert all(len(rivals) == 1 for rivals in choice.logprobs.top_logprobs[1:]), "the token itself"


def test_a_stream_says_the_same(client: Any) -> None:
    asked = {"model": NAME, "prompt": ["One", "Two"], "max_tokens": 6, "echo": True, "logprobs": 2, "seed": 4, "n": 2}
    whole = client.completions.create(**asked)
    texts: list[str] = [""] * 4
    offsets: list[list[int]] = [[] for _ in texts]
    for chunk in client.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        offsets[choice.index] += choice.logprobs.text_offset if choice.logprobs else []
    assert texts == [choice.text for choice in whole.choices]
    assert offsets == [choice.logprobs.text_offset for choice in whole.choices]
    assert whole.usage.prompt_tokens == 8, "each prompt once"


def test_tokens_that_look_alike_keep_the_larger_value(tokenizer: Any) -> None:
    from types import SimpleNamespace

    from smelt.infer import Sampling, TokenLogprobs
    from smelt.serve.answers import TextChoice
    from smelt.serve.prepare import Wanted

    twins = SimpleNamespace(decode_bytes=lambda ids, continued: b"a", special={})
    choice = TextChoice(
        SimpleNamespace(tokenizer=twins), 0, Wanted((1,), Sampling()), SimpleNamespace(echo=0, max_tokens=1)
    )
    assert choice.rivals(TokenLogprobs(2, -3.0, ((1, -1.0),))) == {"a": -1.0}
    assert choice.rivals(TokenLogprobs(2, -math.inf, ())) == {"a": -9999.0}


REFUSED = [
    ({"suffix": "x"}, "suffix"),
    ({"best_of": 2}, "best_of"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", [1]]}, "prompt"),
    ({"prompt": [999]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": ["a"] * 129}, "prompt"),
    ({"logprobs": 21}, "logprobs"),
]


@pytest.mark.parametrize(("change", "param"), REFUSED, ids=[f"{param}-{n}" for n, (_, param) in enumerate(REFUSED)])
def test_what_cannot_be_is_refused(client: Any, change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": NAME, "prompt": "x", **change})
    assert caught.value.param == param


def test_more_prompts_than_the_server_holds(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="at most 8"):
        client.completions.create(model=NAME, prompt=["a", "b"], n=5)


def test_tokenizing_as_lm_eval_does(live: Live, tokenizer: Any) -> None:
    end = tokenizer.special["<|endoftext|>"]
    for prefix in ("", "/v1"):
        info = live.get(f"{prefix}/tokenizer_info").json
        assert info["eos_token"] == "<|im_end|>" and info["bos_token"] == "<|endoftext|>"
        assert "im_start" in info["chat_template"]
        plain = live.post(f"{prefix}/tokenize", prompt="a \u4f60", add_special_tokens=False).json
        assert plain == {"count": 5, "max_model_len": 160, "tokens": tokenizer.encode("a \u4f60")}
        assert live.post(f"{prefix}/tokenize", prompt="a").json["tokens"] == [end, *tokenizer.encode("a")]
        assert live.post(f"{prefix}/tokenize", prompt="<|endoftext|>", add_special_tokens=False).json["tokens"] == [end]
        assert (
            len(live.post(f"{prefix}/tokenize", prompt="<|endoftext|>!", add_special_tokens=False).json["tokens"]) > 2
        )
        assert live.post(f"{prefix}/detokenize", tokens=plain["tokens"]).json == {"prompt": "a \u4f60"}
    assert live.post("/detokenize", tokens=[259]).error["message"].startswith("id 259")
    assert live.post("/detokenize", tokens=[True]).error["param"] == "tokens"
    assert live.post("/tokenize", prompt="a", model="other").status == 404
