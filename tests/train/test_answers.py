"""The teacher writes data: questions of any kind, a file that is the same after a kill, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from smelt.core.errors import ConfigError, DataError, UsageError
from smelt.data.formats import read_chats
from smelt.data.questions import read_questions
from smelt.data.records import Message
from smelt.infer.answer import Generation
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import save
from smelt.tokenizers.formats import load_tokenizer
from smelt.train import answers
from smelt.train.answers import AnswersRecipe, line_of, whole_answer, write_answers


@pytest.fixture(scope="module")
def teacher(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says one word after another and ends a turn now and then."""
    tokenizer = load_tokenizer(files / "tokenizer")
    model = build(spec_for("llama", Shape(tokenizer.vocab_size, 16, 1, 2, 128)), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3 if parameter.ndim == 2 else 1
        model.head.weight[tokenizer.special["<|im_end|>"]] *= 3
    path = tmp_path_factory.mktemp("teacher") / "t"
    save(model, tokenizer, path, lineage={"stage": "sft", "step": 1})
    return path


@pytest.fixture
def recipe(files: Path, teacher: Path, tmp_path: Path) -> AnswersRecipe:
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps({"text": f"What is {number}?"}) + "\n" for number in range(9)))
    return AnswersRecipe(teacher=str(teacher), data=str(data), max_new_tokens=40, temperature=1.0)


def test_answers_are_chats_that_sft_reads(recipe: AnswersRecipe, tmp_path: Path) -> None:
    report = write_answers(recipe, tmp_path / "out" / "a.jsonl")
    chats = list(read_chats(report.file))
    assert 0 < len(chats) == report.answers == 9 - report.left_out
    lines = (tmp_path / "out" / "a.jsonl").read_text().splitlines()
    assert len(lines) == 9  # a question without an answer has a blank line
    for number, line in enumerate(lines):
        if line:
            assert json.loads(line)["messages"][0] == {"role": "user", "content": f"What is {number}?"}
    assert all(chat.messages[1].role == "assistant" for chat in chats)
    assert report.as_dict()["questions"] == 9


@pytest.mark.parametrize("left", [0, 1, 3.4, 8.999])
def test_a_killed_run_ends_with_the_same_file(
    recipe: AnswersRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    monkeypatch.setattr(answers, "AT_ONCE", 4)
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    write_answers(recipe, whole)
    text = whole.read_bytes()
    lines = text.splitlines(keepends=True)
    kept = b"".join(lines[: int(left)]) + lines[int(left)][: int((left % 1) * len(lines[int(left)]))]
    write_answers(recipe, broken)
    broken.write_bytes(kept)
    report = write_answers(recipe, broken)
    assert broken.read_bytes() == text and report.questions == 9


def test_a_finished_file_asks_no_teacher(
    recipe: AnswersRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_answers(recipe, tmp_path / "a.jsonl")
    monkeypatch.setattr(answers, "load", None)
    assert write_answers(recipe, tmp_path / "a.jsonl") == first


def test_another_recipe_or_other_questions_are_refused(recipe: AnswersRecipe, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    write_answers(recipe, out)
    with pytest.raises(ConfigError, match=r"seed=5, but .*a\.jsonl was begun with 0\ntry: the same settings"):
        write_answers(recipe.model_copy(update={"seed": 5}), out)
    Path(recipe.data).write_text("".join(json.dumps({"text": f"Who is {number}?"}) + "\n" for number in range(9)))
    with pytest.raises(DataError, match=r"a\.jsonl:\d: no answer to question \d of .*questions\.jsonl"):
        write_answers(recipe, out)
    Path(recipe.data).write_text(json.dumps({"text": "What is 0?"}) + "\n")
    with pytest.raises(DataError, match="no answer to question"):
        write_answers(recipe, out)
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"mine\.jsonl is there already, without mine\.jsonl\.recipe\.yaml"):
        write_answers(recipe, tmp_path / "mine.jsonl")


def test_questions_of_chats_end_before_the_last_answer(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "a?"), ("assistant", "A."), ("user", "b?"), ("assistant", "B.")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    ((_, question),) = read_questions(str(tmp_path / "q.jsonl"))
    assert question == tuple(Message(*turn) for turn in turns[:4])


@pytest.mark.parametrize(
    "row",
    [{"source": "a", "target": "b"}, {"text": " "}, {"messages": [{"role": "assistant", "content": "A."}]}],
)
def test_rows_without_a_question(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"q\.jsonl.*: no question\naccepted: a text, or messages before the last"):
        list(read_questions(str(tmp_path / "q.jsonl")))


def test_an_answer_that_was_cut_off_is_none() -> None:
    assert whole_answer(Generation((1,), " Yes. \n", "stop")) == "Yes."
    assert whole_answer(Generation((1,), "Yes, beca", "length")) == ""
    assert line_of((Message("user", "a?"),), "") == "\n"


def test_a_question_beyond_the_context(recipe: AnswersRecipe, tmp_path: Path) -> None:
    Path(recipe.data).write_text(json.dumps({"text": "word " * 200}) + "\n")
    with pytest.raises(UsageError, match="prompt 0 has"):
        write_answers(recipe, tmp_path / "a.jsonl")
