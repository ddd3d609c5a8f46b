"""lm-eval over HTTP with no tokenizer but the server's: its numbers are those of a full forward in one process."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Address

TASKS = Path(__file__).parent / "lm_eval_tasks"


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, address: Address) -> Iterator[None]:
    """Keep the data sets' caches in a folder of this run, and away from the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OPENAI_API_KEY", address.key)
        yield


@pytest.fixture(scope="module")
def evaluate(address: Address) -> Any:
    """Run one task and return its answers in the order of the rows."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(TASKS), include_defaults=False)

    def call(kind: str, route: str, task: str, **more: Any) -> list[Any]:
        given = {"model": address.model, "base_url": f"{address.v1}/{route}", "max_length": 2048}
        made = simple_evaluate(
            model=kind,
            model_args={**given, "auth_token": address.key, "max_retries": 1},
            tasks=[task],
            task_manager=manager,
            bootstrap_iters=0,
            **more,
        )
        rows = sorted(made["samples"][task], key=lambda row: row["doc_id"])
        return [row["resps"] for row in rows]

    return call


@pytest.mark.parametrize("batch_size", [1, 4])
def test_log_likelihoods(evaluate: Any, expected: Any, batch_size: int) -> None:
    found = evaluate("local-completions", "completions", "choose", batch_size=batch_size)
    for answers, wanted in zip(found, expected["log_likelihoods"], strict=True):
        for ((value, greedy),), want in zip(answers, wanted, strict=True):
            assert math.isclose(value, want["value"], abs_tol=1e-4) and greedy == want["greedy"]


def test_what_is_written(evaluate: Any, expected: Any) -> None:
    found = evaluate("local-completions", "completions", "write")
    assert [answers[0][0] for answers in found] == expected["written"]


def test_what_is_written_in_a_chat(evaluate: Any, expected: Any) -> None:
    found = evaluate("local-chat-completions", "chat/completions", "write", apply_chat_template=True)
    assert [answers[0][0] for answers in found] == expected["chatted"]


def test_the_tokenizer_is_the_servers(address: Address) -> None:
    from lm_eval.utils import RemoteTokenizer

    tokenizer = RemoteTokenizer(f"{address.v1}/completions", auth_token=address.key)
    text = "naïve 猫 <|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(tokenizer.eos_token) == [tokenizer.eos_token_id]
    # Not rendered: lm-eval stops at a name that it does not give, as `tools` in a template with a place for them.
    assert "<|im_start|>" in tokenizer.tokenizer_info["chat_template"]
