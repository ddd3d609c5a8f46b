"""What is refused: functions that return a reason, or None for what may stay.

Those of an instruction are asked before the teacher answers it, so that nothing is paid for an answer that is not used.
All are cheap and look at the text alone; whether an answer is true, no filter here can tell.

Ref: Self-Instruct, arXiv:2212.10560, appendix A.2. Ref: WizardLM, arXiv:2304.12244, section 3.2, "Elimination".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from smelt.data.synth.likeness import words
from smelt.data.synth.teacher import Reply

FEWEST_WORDS, MOST_WORDS = 3, 150
APOLOGY_WORDS = 80  # longer answers may well say sorry
LOOP_WORDS, LOOP_LENGTH, LOOP_SHARE = 16, 3, 0.5
MOST_MARKS = 0.5  # of the characters
STOP_WORDS = frozenset(
    words(
        "an and are as at be but by for from has have he her his if in is it its of on or she so that the their them "
        "then there they this to was we were which will with you your 的了是在和也就与及"
    )
)
BEYOND_TEXT = re.compile(
    r"\b(images?|pictures?|photos?|photographs?|graphs?|diagrams?|flowcharts?|draw|plot|sketch|videos?|audio|"
    r"attached|attachment|screenshots?)\b|图片|照片|视频|音频|附件",
    re.IGNORECASE,
)
DECLINES = re.compile(
    r"\b(sorry|as an ai|(can't|cannot|unable to|not able to) (help|assist|fulfill|comply|provide))\b|抱歉|无法提供",
    re.IGNORECASE,
)
OPENING = "\"'¿¡"
ONE_CHARACTER = re.compile(r"(\w)\1{19}")


def too_short(instruction: str) -> str | None:
    """Refuse an instruction of one or two words."""
    return "too short" if len(words(instruction)) < FEWEST_WORDS else None


def too_long(instruction: str) -> str | None:
    """Refuse an instruction of more than 150 words."""
    return "too long" if len(words(instruction)) > MOST_WORDS else None


def begins_with_a_mark(instruction: str) -> str | None:
    """Refuse an instruction that begins in the middle of something; an opening quote or bracket may be first."""
    first = instruction[:1] or "."
    opens = unicodedata.category(first) in ("Ps", "Pi") or first in OPENING
    return "begins with a mark" if unicodedata.category(first)[0] == "P" and not opens else None


def beyond_text(instruction: str) -> str | None:
    """Refuse what a model that reads and writes text cannot do."""
    return "beyond text" if BEYOND_TEXT.search(instruction) else None


def broken(text: str) -> str | None:
    """Refuse control characters, and characters that are none."""
    bad = (
        unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") for character in text if character not in "\n\t\r"
    )
    return "broken characters" if "\N{REPLACEMENT CHARACTER}" in text or any(bad) else None


def broken_answer(instruction: str, reply: Reply) -> str | None:
    """Refuse an answer with control characters."""
    return broken(reply.text)


def not_taken(instruction: str, reply: Reply) -> str | None:
    """Refuse where the teacher would not take the request."""
    return "not taken by the teacher" if reply.finish == "refused" else None


def cut_off(instruction: str, reply: Reply) -> str | None:
    """Refuse an answer that did not come to its end."""
    return "cut off" if reply.finish == "length" else None


def says_nothing(instruction: str, reply: Reply) -> str | None:
    """Refuse an answer of marks and stop words alone."""
    return "says nothing" if all(word in STOP_WORDS for word in words(reply.text)) else None


def hardly_words(instruction: str, reply: Reply) -> str | None:
    """Refuse an answer that is mostly marks."""
    marks = sum(not (character.isalnum() or character.isspace()) for character in reply.text)
    return "hardly any words" if marks > MOST_MARKS * len(reply.text) else None


def declines(instruction: str, reply: Reply) -> str | None:
    """Refuse a short answer in which the teacher declines."""
    return "declines" if len(words(reply.text)) < APOLOGY_WORDS and DECLINES.search(reply.text) else None


def echoes(instruction: str, reply: Reply) -> str | None:
    """Refuse an answer that is the instruction again."""
    return "echoes the instruction" if words(reply.text) == words(instruction) else None


def loops(instruction: str, reply: Reply) -> str | None:
    """Refuse an answer most of whose runs of three words have been there before, or with one letter twenty times."""
    said = words(reply.text)
    runs = [tuple(said[start : start + LOOP_LENGTH]) for start in range(len(said) - LOOP_LENGTH + 1)]
    again = len(said) >= LOOP_WORDS and len(set(runs)) < LOOP_SHARE * len(runs)
    return "repeats itself" if again or ONE_CHARACTER.search(reply.text) else None


def left_open(instruction: str, reply: Reply) -> str | None:
    """Refuse an answer that ends where something should follow."""
    return "left open" if reply.text.endswith((":", "：")) else None


INSTRUCTION_FILTERS: tuple[Callable[[str], str | None], ...] = (
    broken,
    too_short,
    too_long,
    begins_with_a_mark,
    beyond_text,
)
ANSWER_FILTERS: tuple[Callable[[str, Reply], str | None], ...] = (
    not_taken,
    cut_off,
    broken_answer,
    says_nothing,
    hardly_words,
    declines,
    echoes,
    loops,
    left_open,
)


def fault_of_instruction(instruction: str) -> str:
    """Return the first reason against an instruction, "" for none."""
    return next((reason for judge in INSTRUCTION_FILTERS if (reason := judge(instruction))), "")


def fault_of_answer(instruction: str, reply: Reply) -> str:
    """Return the first reason against an answer, "" for none."""
    return next((reason for judge in ANSWER_FILTERS if (reason := judge(instruction, reply))), "")
