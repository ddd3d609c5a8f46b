"""Gold answers, worked out again from nothing but the words of the prompt.

The solvers below share no code with the generator: they read the prompt with patterns of their own, as a person would,
and must arrive at the gold.
"""

import json
import re
from collections import Counter
from itertools import pairwise

import pytest

from smelt.data.records import ChatRow
from smelt.data.town import KINDS, instructions

NUM = 600
EN_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
ZH_DAYS = ["星期" + day for day in "一二三四五六日"]
LANGUAGES = ("en", "zh")
SPLIT = "heldout"
UNTOLD = {"en": "The story does not say.", "zh": "故事里没有说。"}


def rows_of(kind: str, language: str, num: int = NUM) -> list[ChatRow]:
    return list(instructions(num, seed=11, split=SPLIT, languages=(language,), kinds=(kind,)))


def items_of(prompt: str) -> list[str]:
    """Cut the list after the last colon."""
    body = re.split(r"[:：]\s*", prompt)[-1].rstrip("?.。？… ").rstrip(",、")
    return re.split(r", |、", body)


def solve_arithmetic(prompt: str) -> str:
    left, sign, right = re.search(r"(\d+) ([+-]) (\d+)", prompt).groups()
    result = int(left) + int(right) if sign == "+" else int(left) - int(right)
    (a, b), (c, d) = left.zfill(2), right.zfill(2)
    if sign == "+":
        ones = int(b) + int(d)
        carried = "+1" if ones > 9 else ""
        steps = f"{b}+{d}={ones}, {a}+{c}{carried}={result // 10}"
    else:
        borrowed = int(d) > int(b)
        steps = f"{'1' if borrowed else ''}{b}-{d}={result % 10}, {a}-{c}{'-1' if borrowed else ''}={result // 10}"
    return f"{steps}，所以是{result}。" if re.search("[\u4e00-\u9fff]", prompt) else f"{steps}, so {result}."


def solve_sort(prompt: str) -> str:
    items, comma = items_of(prompt), "、" if "：" in prompt else ", "
    if items[0].isdigit():
        return comma.join(sorted(items, key=int))
    return comma.join(sorted(items, key=ZH_DAYS.index if items[0] in ZH_DAYS else str.lower))


def solve_count(prompt: str) -> str:
    return str(len(items_of(prompt)))


def solve_continue(prompt: str) -> str:
    items = items_of(prompt)
    if items[0].isdigit():
        numbers = [int(item) for item in items]
        assert len({b - a for a, b in pairwise(numbers)}) == 1
        return str(numbers[-1] + numbers[1] - numbers[0])
    for days in (EN_DAYS, ZH_DAYS):
        if items[-1] in days:
            return days[(days.index(items[-1]) + 1) % 7]
    period = next(p for p in range(1, len(items)) if items[p:] == items[:-p])
    return items[len(items) - period]


def solve_passive(prompt: str) -> str:
    if found := re.search(r": ([\w-]+) (\w+) the (\w+ \w+)\.$", prompt):
        person, verb, thing = found.groups()
        return f"The {thing} was {verb} by {person}."
    person, thing, verb = re.search(r"：(\w{2})把(\w+?)(洗干净|\w\w)了。$", prompt).groups()
    return f"{thing}被{person}{verb}了。"


# Told in the story, asked in the question; the last group is what is in question, the others find the fact.
YES_EN = [
    (r"\d (?P<c>\w+) (?P<o>\w+)\.", r"Are the (?P<o>\w+) (?P<c>\w+)\?"),
    (r"(?:put|left) the \w+ (?P<o>\w+) in the (?P<l>\w+)\.", r"Is the (?P<o>\w+) in the (?P<l>\w+)\?"),
    (r"the (?P<c>\w+) (?P<o>\w+)\b", r"Is the (?P<o>\w+) (?P<c>\w+)\?"),
    (r"(?P<P>[\w-]+) works in the (?P<l>\w+)\.", r"Does (?P<P>[\w-]+) work in the (?P<l>\w+)\?"),
    (r"On (?P<d>\w+), [\w-]+ gave the \w+ (?P<o>\w+) to [\w-]+\.", r"Did [\w-]+ get the (?P<o>\w+) on (?P<d>\w+)\?"),
    (r"(?P<P>[\w-]+) will visit [\w-]+ on (?P<d>\w+)\.", r"Will (?P<P>[\w-]+) visit [\w-]+ on (?P<d>\w+)\?"),
    (r"On (?P<d>\w+), (?P<P>[\w-]+) will visit [\w-]+\.", r"Will (?P<P>[\w-]+) visit [\w-]+ on (?P<d>\w+)\?"),
    (r"(?P<P>[\w-]+ \w{3})\w* the \w+ (?P<o>\w+)\.", r"Did (?P<P>[\w-]+ \w{3})\w* the (?P<o>\w+)\?"),
]
YES_ZH = [
    (r"(?P<P>\w{2})在(?P<l>\w+)里工作。", r"(?P<P>\w{2})在(?P<l>\w+)里工作，对吗"),
    (r"把\w(?P<o>\w+)[放留]在(?P<l>\w+)里。", r"^(?P<o>\w+)在(?P<l>\w+)里，对吗"),
    (r"(?P<d>星期.)，\w{2}把\w(?P<o>\w+)送给了\w{2}。", r"\w{2}是(?P<d>星期.)收到(?P<o>\w+)的，对吗"),
    (r"(?P<P>\w{2})要在(?P<d>星期.)去看望", r"(?P<P>\w{2})要在(?P<d>星期.)去看望"),
    (r"(?P<d>星期.)，(?P<P>\w{2})要去看望", r"(?P<P>\w{2})要在(?P<d>星期.)去看望"),
]


def solve_yes_no(prompt: str) -> str:
    body, question = re.match(r"(?s)(.*)\n(?:Question: |问题：)?(.+)$", prompt).groups()
    chinese = question.endswith("对吗？")
    for base, past in (("sell", "sold"), ("lose", "lost"), ("find", "found")):
        question = question.replace(f" {base} ", f" {past} ")
    no, yes = "no", "yes"
    if colour := re.search(r"^(\w+)是(\w)的，对吗", question):
        return yes if f"{colour[2]}{colour[1]}" in body else no
    if deed := re.search(r"^(\w{2})把(\w+)了，对吗", question):
        thing_and_verb = {found[1] for found in re.finditer(rf"{deed[1]}把\w(\w+)了。", body)}
        return yes if deed[2] in thing_and_verb else no
    if count := re.search(r"Does ([\w-]+) have (\d) (\w+)\?", question):
        return yes if re.search(rf"{count[1]} (?:has|owns) {count[2]} \w+ {count[3]}\.", body) else no
    if (count := re.search(r"^(\w{2})有(\d)(\w+)，对吗", question)) and (measure := count[3][0]):
        return yes if re.search(rf"{count[1]}(?:家里)?有{count[2]}{measure}\w{count[3][1:]}。", body) else no
    for told, asked in YES_ZH if chinese else YES_EN:
        claim = re.search(asked, question)
        for fact in re.finditer(told, body) if claim else ():
            *found_by, questioned = sorted(claim.groupdict(), key="Pocld".index)
            if all(fact[key] == claim[key] for key in found_by):
                return yes if fact[questioned] == claim[questioned] else no
    raise AssertionError(f"not understood: {prompt}")


SOLVERS = {
    "arithmetic": solve_arithmetic,
    "sort": solve_sort,
    "count": solve_count,
    "continue": solve_continue,
    "passive": solve_passive,
}
VERDICTS = {"yes.": "yes", "no.": "no", "对。": "yes", "不对。": "no"}


def compared_in(gold: str) -> tuple[str, str, str]:
    """Cut an answer to yes or no into what was asked, what was told, and the verdict."""
    pattern = r"(?:Asked |问)(.+?)(?:, told |，说)(.+?)(?: too: | instead: |相同：|不同：)(.+)"
    asked, told, verdict = re.fullmatch(pattern, gold).groups()
    return asked, told, VERDICTS[verdict]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", SOLVERS)
def test_golds_follow_from_the_prompt_alone(kind: str, language: str):
    for row in rows_of(kind, language):
        assert SOLVERS[kind](row.messages[0].content) == row.gold, row.messages[0].content


@pytest.mark.parametrize("language", LANGUAGES)
def test_yes_and_no_follow_from_the_prompt_after_what_the_story_told(language: str):
    for row in rows_of("yes_no", language):
        prompt = row.messages[0].content
        asked, told, verdict = compared_in(row.gold)
        body, question = re.match(r"(?s)(.*)\n(.+)$", prompt).groups()
        assert verdict == solve_yes_no(prompt) == ("yes" if asked == told else "no"), prompt
        assert asked in question and told in body, prompt


def test_there_are_twelve_kinds_balanced_over_any_long_slice():
    assert len(KINDS) == 12
    rows = list(instructions(4200, seed=1, start=17))
    counts = Counter(row.kind for row in rows)
    assert max(counts.values()) - min(counts.values()) <= 0.03 * 300
    chinese = sum(bool(re.search(r"[\u4e00-\u9fff]", row.messages[0].content)) for row in rows)
    assert 0.4 < chinese / len(rows) < 0.6


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_well_formed(kind: str, language: str):
    for row in rows_of(kind, language, 200):
        assert row.kind == kind
        assert re.fullmatch(rf"town:{SPLIT}:\d+", row.where)
        assert [message.role for message in row.messages] == ["user", "assistant"] * (len(row.messages) // 2)
        assert row.messages[-1].content == row.gold != ""
        text = "".join(message.content for message in row.messages)
        assert len(text.split()) <= 110 and len(text) <= (520 if language == "en" else 260)
        assert all(message.content == message.content.strip() for message in row.messages)


def test_instructions_are_a_function_of_seed_split_and_index():
    rows = list(instructions(60, seed=2))
    assert rows == list(instructions(60, seed=2))
    assert rows[13:31] == list(instructions(18, seed=2, start=13))
    assert rows != list(instructions(60, seed=3))
    only = list(instructions(6, seed=2, kinds=("count", "sort"), languages=("zh", "en")))
    assert [row.kind for row in only] == ["count", "sort"] * 3
    assert ["：" in row.messages[0].content for row in only] == [True, True, False, False, True, True]


@pytest.mark.parametrize("language", LANGUAGES)
def test_yes_and_no_are_balanced(language: str):
    answers = Counter(compared_in(row.gold)[2] for row in rows_of("yes_no", language, 2000))
    assert set(answers) == {"yes", "no"} and min(answers.values()) > 900


@pytest.mark.parametrize("language", LANGUAGES)
def test_counts_are_spread_over_two_to_six(language: str):
    answers = Counter(row.gold for row in rows_of("count", language, 2000))
    assert set(answers) == set("23456")
    assert min(answers.values()) > 320


@pytest.mark.parametrize("language", LANGUAGES)
def test_records_and_tool_calls_parse_and_come_from_the_words(language: str):
    for row in rows_of("extract", language, 300):
        record, prompt = json.loads(row.gold), row.messages[0].content
        assert tuple(record) in (("person", "object", "count", "day"), ("person", "object", "colour", "place"))
        assert all(str(value).removesuffix("es") in prompt for value in record.values())
    names = Counter()
    for row in rows_of("tool_call", language, 300):
        call, prompt = json.loads(row.gold), row.messages[0].content
        assert list(call) == ["tool", "arguments"]
        assert all(str(value) in prompt for value in call["arguments"].values())
        names[call["tool"]] += 1
    assert set(names) == {"buy", "remind", "message", "find"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["reading", "fact"])
def test_answers_are_made_of_the_words_of_the_text(kind: str, language: str):
    for row in rows_of(kind, language):
        text = row.messages[0].content
        if language == "en":
            frame = set(re.findall(r"\w+", "The In On For From Its It is was are in on from came went to by"))
            words = set(re.findall(r"\w+", row.gold)) - frame
        else:
            of_a_thing = re.fullmatch(r"(\w+)(?:被(\w\w)(\w+)了|送给了(\w\w)|是(\w+?)送?的|在(\w+)里)。", row.gold)
            said = re.sub(r"^(是|在|住在)|(里|的|人)?。$", "", row.gold)
            words = {said} if said in text else {*re.findall(r"\d+", said), re.sub(r"^\d+\w", "", said)}
            words = set(of_a_thing.groups()) - {None} if of_a_thing and of_a_thing[1] in text else words
        assert words and all(word in text for word in words), (row.gold, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_story_does_not_say_is_said_of_the_thing_or_of_the_story(language: str):
    for row in rows_of("unknowable", language):
        body, question = re.match(r"(?s)(.*)\n(.+)$", row.messages[0].content).groups()
        if row.gold == UNTOLD[language]:
            continue
        thing = re.fullmatch(r"The (\w+) (?:is|are) not mentioned\.|(\w+)没有提到。", row.gold)
        named = thing[1] or thing[2]
        assert named in question, question
        assert not re.search(rf"\b{named}\b" if thing[1] else named, body), body
    assert {row.gold for row in rows_of("unknowable", language)} > {UNTOLD[language]}
    told = {row.messages[-2].content.split("\n")[-1][:6] for row in rows_of("reading", language)}
    untold = {row.messages[-2].content.split("\n")[-1][:6] for row in rows_of("unknowable", language)}
    assert len(told & untold) > 5, "the same forms of question"


@pytest.mark.parametrize("language", LANGUAGES)
def test_small_talk_uses_the_name_that_was_given(language: str):
    for row in rows_of("small_talk", language):
        prompt = row.messages[0].content
        if language == "en":
            names = set(re.findall(r"[A-Z][a-z]+-[a-z]+", row.gold))
            assert names and all(name in prompt for name in names)
        else:
            name = re.search(r"[，]([^！，。]{2})！", row.gold)[1]
            assert name in prompt


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["reading", "fact", "yes_no", "unknowable"])
def test_chats_about_a_text_may_hold_earlier_questions(language: str, kind: str):
    rows = list(instructions(200, seed=11, split=SPLIT, languages=(language,), kinds=(kind,), max_questions=3))
    turns = Counter(len(row.messages) // 2 for row in rows)
    assert max(turns) == 3 and min(turns) == 1 and turns[2] > 20
    for row in rows:
        questions = [message.content for message in row.messages[2::2]]
        assert len(set(questions)) >= len(questions) - 1  # something untold may be asked twice
        assert row.messages[-1].content == row.gold
    assert {len(row.messages) for row in rows_of(kind, language, 50)} == {2}
