"""Black-box distillation: the teacher answers questions into a file of chats, and fine-tuning reads them.

Nothing but text goes from one model to the other, so their tokenizers may differ. A question is a text, or a
conversation without its last answer. One line a question is written in order, and an answer depends on its question
and its number alone; so a run that was killed goes on behind its last whole line and ends with the same file. Beside it
lies the recipe, because a file of two recipes' answers would be nobody's.

Ref: Sequence-level knowledge distillation, arXiv:1606.07947, section 3.2 (there with beam search).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from smelt.core import runtime
from smelt.core.config import Config
from smelt.core.errors import DataError
from smelt.core.log import say
from smelt.core.storage import checkpoint_at
from smelt.data.continuing import same_recipe, whole_lines
from smelt.data.questions import Question, read_questions
from smelt.data.records import Message
from smelt.infer.answer import Generation
from smelt.infer.engine import answers_of
from smelt.infer.sampling import Sampling
from smelt.peft.load import load
from smelt.tokenizers.chat import ChatTemplate, named_template

AT_ONCE = 32
"""Questions answered together, and answers lost at most when the run is killed."""


class AnswersRecipe(Config):
    """What the teacher is asked, and how it answers."""

    teacher: str
    """The model that answers: a checkpoint or a run."""
    data: str
    """Questions: texts, or conversations, of which the last answer is left out."""
    template: str = ""
    """A published chat template by name; empty takes the teacher's own, else chatml."""
    max_new_tokens: int = Field(default=256, gt=0)
    """The most tokens of an answer; an answer that is cut off there is left out."""
    temperature: float = Field(default=0.7, ge=0)
    """0: always the likeliest token; higher: livelier."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Choose among the likeliest tokens of this total probability."""
    seed: int = Field(default=0, ge=0)
    """Decides what is sampled; question number n has this plus n."""


@dataclass(frozen=True)
class AnswersReport:
    """What a file of answers holds; `left_out` questions had none, or one that was cut off."""

    file: str
    questions: int
    answers: int
    left_out: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def write_answers(recipe: AnswersRecipe, out: Path | str) -> AnswersReport:
    """Let the teacher answer all questions into `out`, behind those that are answered there already.

    Each line is a row of messages; that of a question without an answer is blank, and readers pass over it.

    Raises:
        ConfigError: `out` was begun with another recipe.
        DataError: a question cannot be read, or `out` holds something else than answers to these.
        UsageError: a question is longer than the teacher's context.
    """
    out = Path(out)
    # A run goes on to newer checkpoints; the answers of one file are of one.
    recipe = recipe.model_copy(update={"teacher": str(checkpoint_at(recipe.teacher))})
    questions = [question for _, question in read_questions(recipe.data)]
    num_done = begin(recipe, out, questions)
    if num_done:
        say(f"{out}: {num_done:,} of {len(questions):,} questions are answered")
    if num_done < len(questions):
        model, tokenizer = load(recipe.teacher)
        template = ChatTemplate(tokenizer, named_template(recipe.template) if recipe.template else None)
        answers = answers_of(model.to(runtime.device()), tokenizer, template.stop_ids, max_running=AT_ONCE)
        sampling = Sampling(
            max_new_tokens=recipe.max_new_tokens, temperature=recipe.temperature, top_p=recipe.top_p, seed=recipe.seed
        )
        for start in range(num_done, len(questions), AT_ONCE):
            asked = questions[start : start + AT_ONCE]
            prompts = [template.render(question, add_reply=True)[0] for question in asked]
            made = answers(prompts, replace(sampling, seed=recipe.seed + start), None)
            with open(out, "a", encoding="utf-8") as file:
                file.writelines(line_of(*pair) for pair in zip(asked, map(whole_answer, made), strict=True))
            say(f"{start + len(asked):,} of {len(questions):,} questions")
    num_answers = sum(bool(line) for line in lines_of(out))
    return AnswersReport(str(out), len(questions), num_answers, len(questions) - num_answers)


def begin(recipe: AnswersRecipe, out: Path, questions: Sequence[Question]) -> int:
    """Make the file, or cut what a kill left of a line; return how many questions it has answered.

    Raises:
        ConfigError: it was begun with another recipe, or by somebody else.
        DataError: it holds answers to other questions.
    """
    if same_recipe(recipe, out):
        out.touch()
        return 0
    done = whole_lines(out)
    out.touch()
    for number, line in enumerate(done, start=1):
        known = number <= len(questions) and line in ("", line_of(questions[number - 1], answer_in(line)).strip())
        if not known:
            raise DataError(f"{out}:{number}: no answer to question {number} of {recipe.data}", fix="give another file")
    return len(done)


def whole_answer(made: Generation) -> str:
    """Return an answer's text, "" where it was cut off."""
    return made.text.strip() if made.finish_reason == "stop" else ""


def lines_of(out: Path) -> list[str]:
    """Return the lines of a file of answers."""
    return out.read_text(encoding="utf-8").split("\n")[:-1]


def answer_in(line: str) -> str:
    """Return the answer that a line holds, "" where it is no row of messages."""
    try:
        return str(json.loads(line)["messages"][-1]["content"])
    except (json.JSONDecodeError, LookupError, TypeError):
        return ""


def line_of(question: Question, answer: str) -> str:
    """Return the line of a question: a row of messages, or a blank one without an answer."""
    if not answer:
        return "\n"
    turns = [*question, Message("assistant", answer)]
    row = {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}
    return json.dumps(row, ensure_ascii=False) + "\n"
