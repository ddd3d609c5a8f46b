"""Exact match with answers that are known, so that every count is."""

import pytest

from smelt.core.errors import DataError, UsageError
from smelt.data.records import ChatRow, Message
from smelt.evals import exact_match, gold
from smelt.infer import Generation
from smelt.tokenizers.chat import ChatTemplate


@pytest.fixture
def parrot(model, tokenizer, monkeypatch):
    """Answer every question with what stands between its last "=" and the end of the turn."""

    def repeat(model, tokenizer, prompts, sampling, *, stop_ids):
        assert sampling.greedy and stop_ids == ChatTemplate(tokenizer).stop_ids
        texts = [tokenizer.decode(prompt).rpartition("=")[2].partition("<|im_end|>")[0] for prompt in prompts]
        return [Generation((), text[: sampling.max_new_tokens], "stop") for text in texts]

    monkeypatch.setattr(gold, "generate", repeat)
    return model


def row(question: str, answer: str, kind: str = "", number: int = 1) -> ChatRow:
    return ChatRow((Message("user", question), Message("assistant", answer)), f"gold.jsonl:{number}", kind, answer)


ROWS = [
    row("say it ever so slowly: a=blue", "blue", "copy", 1),
    row("a=red", "red", "copy", 2),
    row("b=red", "green", "copy", 3),
    row("c= seven ", "seven", "count", 4),
    row("what?=x", "y", "", 5),
]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_rates_by_kind_and_answers_in_order(parrot, tokenizer, batch_size):
    progress = []
    score = exact_match(
        parrot,
        tokenizer,
        ChatTemplate(tokenizer),
        ROWS,
        batch_size=batch_size,
        on_progress=lambda *done: progress.append(done),
    )
    assert (score.overall.correct, score.overall.total) == (3, 5)
    assert {kind: (rate.correct, rate.total) for kind, rate in score.by_kind.items()} == {
        "copy": (2, 3),
        "count": (1, 1),
        "other": (0, 1),
    }
    assert score.answers == ("blue", "red", "red", "seven", "x")
    assert score.by_kind["copy"].low == pytest.approx(0.20766, abs=1e-5)
    assert [(miss.where, miss.question, miss.gold, miss.answer) for miss in score.wrong["copy"]] == [
        ("gold.jsonl:3", "b=red", "green", "red")
    ]
    assert set(score.wrong) == {"copy", "other"}
    assert progress[-1] == (5, 5) and len(progress) == -(-5 // batch_size)


def test_at_most_three_wrong_examples_a_kind(parrot, tokenizer):
    rows = [row("a=red", "blue", "copy", number) for number in range(5)]
    score = exact_match(parrot, tokenizer, ChatTemplate(tokenizer), rows)
    assert [miss.where for miss in score.wrong["copy"]] == ["gold.jsonl:0", "gold.jsonl:1", "gold.jsonl:2"]


def test_only_the_last_turn_is_answered(parrot, tokenizer):
    messages = (
        Message("user", "a=red"),
        Message("assistant", "red"),
        Message("user", "now b=pink"),
        Message("assistant", "pink"),
    )
    score = exact_match(parrot, tokenizer, ChatTemplate(tokenizer), [ChatRow(messages, "gold.jsonl:1")])
    assert score.overall.correct == 1 and score.answers == ("pink",)
    # Without an assistant message at the end, the gold text comes from the row.
    asked = ChatRow((Message("user", "c=sun"),), "gold.jsonl:2", gold="sun")
    assert exact_match(parrot, tokenizer, ChatTemplate(tokenizer), [asked]).overall.correct == 1


def test_answers_are_cut_some_tokens_after_the_longest_gold_answer(parrot, tokenizer):
    rambling = row("a=" + "z" * 60, "ok", "copy")
    assert exact_match(parrot, tokenizer, ChatTemplate(tokenizer), [rambling]).answers == ("z" * 18,)
    limited = exact_match(parrot, tokenizer, ChatTemplate(tokenizer), [rambling], max_new_tokens=4)
    assert limited.answers == ("zzzz",)


def test_no_rows_are_refused(model, tokenizer):
    with pytest.raises(UsageError) as error:
        exact_match(model, tokenizer, ChatTemplate(tokenizer), [])
    assert str(error.value) == "there is no row to evaluate\naccepted: at least one row with a gold answer"


def test_a_row_without_gold_is_named(model, tokenizer):
    with pytest.raises(DataError) as error:
        exact_match(model, tokenizer, ChatTemplate(tokenizer), [ChatRow((Message("user", "hm"),), "gold.jsonl:9")])
    assert str(error.value) == (
        "gold.jsonl:9: there is no gold answer\naccepted: a gold text or a last assistant message"
    )


def test_a_prompt_that_leaves_no_room_is_named(model, tokenizer):
    long = row("x" * 200, "y", "", 7)
    size = len(ChatTemplate(tokenizer).render(long.messages[:1], add_reply=True)[0])
    with pytest.raises(DataError) as error:
        exact_match(model, tokenizer, ChatTemplate(tokenizer), [long])
    assert str(error.value) == (
        f"gold.jsonl:7: the prompt has {size} tokens, but the model's context holds 160\n"
        "accepted: prompts of at most 159 tokens\n"
        "try: shorten the row, leave it out, or use a model with a longer context"
    )


def test_a_real_model_gives_the_same_answers_in_any_batch(model, tokenizer):
    rows = [row(f"question {number} " * number, "x", "copy", number) for number in range(1, 7)]
    scores = [exact_match(model, tokenizer, ChatTemplate(tokenizer), rows, batch_size=size).answers for size in (1, 4)]
    assert scores[0] == scores[1]
