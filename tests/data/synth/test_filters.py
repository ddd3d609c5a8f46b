"""Each filter refuses what it is for and lets its neighbour stay."""

import pytest

from smelt.data.synth.filters import fault_of_answer, fault_of_instruction
from smelt.data.synth.teacher import Reply

QUESTION = "Which city is the capital of France?"


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        (QUESTION, ""),
        ("List three.", "too short"),
        ("列出三个水果", ""),
        ("word " * 151, "too long"),
        ("word " * 150, ""),
        (", and then sort the list", "begins with a mark"),
        ('"To be or not to be": who says that?', ""),
        ("¿Qué hora es en Madrid?", ""),
        ("Describe the picture below in detail.", "beyond text"),
        ("请描述这张图片的内容", "beyond text"),
        ("Describe a picturesque village in Wales.", ""),
        ("Sort these \x07 words by length", "broken characters"),
        ("Sort these \ufffd words by length", "broken characters"),
        ("Sort:\n\tone\n\ttwo", ""),
    ],
)
def test_instructions(instruction: str, reason: str) -> None:
    assert fault_of_instruction(instruction) == reason


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("Paris."), ""),
        (Reply("42"), ""),
        (Reply("too long a prompt", finish="refused"), "not taken by the teacher"),
        (Reply("Paris is the", finish="length"), "cut off"),
        (Reply("Par\ufffds is it"), "broken characters"),
        (Reply(""), "says nothing"),
        (Reply("... of the, and it is!"), "says nothing"),
        (Reply("Paris }{;:,.<>/?!@#$%^&*()"), "hardly any words"),
        (Reply("I'm sorry, but I have no idea."), "declines"),
        (Reply("As an AI language model I have no capital."), "declines"),
        (Reply("I can't find my keys."), ""),
        (Reply("He said sorry. " + " ".join(f"word{number}" for number in range(80))), ""),
        (Reply("which city is the capital of france"), "echoes the instruction"),
        (Reply("Paris is nice. " * 20), "repeats itself"),
        (Reply("Paris" + "s" * 20), "repeats itself"),
        (Reply("The capital is the following:"), "left open"),
        (Reply("首都是："), "left open"),
    ],
)
def test_answers(reply: Reply, reason: str) -> None:
    assert fault_of_answer(QUESTION, reply) == reason
