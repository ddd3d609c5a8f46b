"""Reading calls: in whatever pieces a text comes, nothing of it is lost, and no half of a call passes for one."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.serve.tool_calls import Calling, CallReader, loose
from smelt.serve.tool_forms import GLM4, HERMES, LLAMA3, MISTRAL, Form

from .test_tool_forms import FUNCTIONS, read

CALL = '<tool_call>\n{"name": "stop", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, "no call at all"),
        (HERMES, "a <tool_call> is a mark"),
        (HERMES, '<tool_call>\n{"name": "thunder", "arguments": {}}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "stop", "arguments": {"a": }}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "stop", "arguments": {"a": NaN}}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "stop", "arguments": [1]}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "stop", "arguments": {}\n</tool_call> so it ends'),
        (HERMES, '<tool_call>\n{"name": "stop", "arguments": {}} so it ends'),
        (HERMES, '<tool_call>\n{"name": "stop", "arguments": {"a": "}'),
        (HERMES, '<tool_call>\n{"name": "st'),
        (HERMES, f'<tool_call>\n{{"name": "stop", "arguments": {"[" * 5000}'),
        (MISTRAL, '[{"name": "stop", "arguments": {}}]'),
        (MISTRAL, '[TOOL_CALLS] [{"name": "stop", "arguments": {}}'),
        (MISTRAL, '[TOOL_CALLS] [{"name": "stop", "arguments": {}}}]'),
        (GLM4, "\nstop\n{}"),
        (GLM4, "\nHello, stop\n{}"),
        (GLM4, "stopped"),
        (LLAMA3, 'See: {"name": "stop", "parameters": {}}'),
        (LLAMA3, '{"name": "stop"}'),
    ],
)
def test_what_is_no_call_is_content_to_the_letter(form: Form, text: str) -> None:
    for size in (1, 2, 7, 10000):
        assert read(form, text, size) == (text, [])


def test_spaces_may_differ() -> None:
    text = '<tool_call>{ "name":"stop" ,"arguments" : { } }</tool_call>'
    assert read(HERMES, text) == ("", [("stop", "{ }")])
    assert read(MISTRAL, '[TOOL_CALLS][{"name":"stop","arguments":{}},{"name":"stop","arguments":{}}]')[0] == ""
    assert read(LLAMA3, '\n{"name": "stop",\n "parameters": {}}') == ("", [("stop", "{}")])


def test_a_call_after_one_that_was_none() -> None:
    broken = CALL.replace("1", "one")
    assert read(HERMES, f"{broken}\nSorry.\n{CALL}\n") == (f"{broken}\nSorry.", [("stop", '{"a": 1}')])


def test_a_second_call_is_content_where_one_is_wanted() -> None:
    assert read(HERMES, f"{CALL}\n{CALL}", parallel=False) == (f"\n{CALL}", [("stop", '{"a": 1}')])


def test_certain_arguments_pass_as_they_come_and_free_ones_when_they_are_whole() -> None:
    names = [function.name for function in FUNCTIONS]
    for certain in (True, False):
        reader = CallReader(Calling(HERMES, names, certain=certain, parallel=True))
        early = reader.push(CALL[:-20])
        assert bool(early) is certain
        late = reader.push(CALL[-20:]) + reader.push("", last=True)
        pieces = [delta["tool_calls"][0] for delta in early + late]
        assert [set(piece) for piece in pieces[:2]] == [{"index", "id", "type", "function"}, {"index", "function"}]
        assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a": 1}'


def test_a_certain_call_that_is_cut_keeps_the_arguments_so_far() -> None:
    assert read(HERMES, CALL[: CALL.index("1")], certain=True) == ("", [("stop", '{"a": ')])
    assert read(HERMES, CALL[:-4], certain=True) == ("", [("stop", '{"a": 1}')])


@given(
    text=st.lists(
        st.sampled_from([
            "<tool_call>", "</tool_call>", "\n", '{"name": "', "stop", '", "arguments": ', "{}", '{"a": "}"}', "}",
            '"', "\\", "[TOOL_CALLS] [", "]", ", ", "weather", '", "parameters": ', "<|assistant|>", "x", "{",
        ]),
        max_size=14,
    ).map("".join),
    form=st.sampled_from([HERMES, MISTRAL, GLM4, LLAMA3]),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    parallel=st.booleans(),
)  # fmt: skip
def test_the_pieces_make_no_difference(text: str, form: Form, cuts: list[int], parallel: bool) -> None:
    names = [function.name for function in FUNCTIONS]
    reader = CallReader(Calling(form, names, certain=False, parallel=parallel))
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    deltas: list[dict[str, Any]] = []
    for begin, end in itertools.pairwise(places):
        deltas += reader.push(text[begin:end])
    deltas += reader.push("", last=True)
    content = "".join(delta.get("content", "") for delta in deltas)
    whole, calls = read(form, text, max(1, len(text)), parallel=parallel)
    assert (content, reader.num_calls) == (whole, len(calls))
    assert all(json.loads(arguments) is not None for _, arguments in calls)
    if not calls:
        assert content == text


def test_a_loose_text() -> None:
    assert loose('{"a": ') == r'\{\s{0,8}"a"\s{0,8}:'
    assert loose("") == "" and loose("\n") == ""
