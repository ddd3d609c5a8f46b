"""What is to be written: the settings on which the rows depend, kept beside them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from smelt.core.config import Config

Name = Literal["self-instruct", "evol-instruct", "explain", "textbook"]


class SynthRecipe(Config):
    """What the teacher is asked for; how it is reached is no part of it."""

    method: Name
    """self-instruct: new tasks like some seeds; evol-instruct: harder and rarer ones made from seeds; explain: answers
    with their reasons to given instructions; textbook: sections about topics for kinds of readers."""
    data: str
    """Seeds or instructions: chats or texts. For textbook: a plain text file with one topic a line."""
    teacher: str = ""
    """The one that answers; --model or --checkpoint says it."""
    count: int | None = Field(default=None, gt=0)
    """self-instruct: rows to make (100 unless said); else how many instructions, or pairs of topic and reader, are used
    (all unless said)."""
    generations: int = Field(default=4, gt=0)
    """evol-instruct: how often each instruction is evolved; four in the paper."""
    audiences: tuple[str, ...] = Field(
        default=("children of ten", "beginners", "students of the subject"), min_length=1
    )
    """textbook: the readers; each topic is written for each of them."""
    format: Literal["messages", "alpaca"] = "messages"
    """The keys of the rows; sft reads both."""
    max_tokens: int = Field(default=1024, gt=0)
    """The most tokens of a reply; an answer that is cut off there is refused."""
    temperature: float = Field(default=0.7, ge=0)
    """0: always the likeliest token; higher: livelier."""
    near_duplicate: float = Field(default=0.7, gt=0, le=1)
    """An instruction (textbook: an answer) as much like an earlier one by ROUGE-L is refused; 1: only the same."""
    seed: int = Field(default=0, ge=0)
    """Decides what is drawn, and the seed of each request."""
    prompts: str = ""
    """A file of prompts of your own; empty takes those of smelt."""
