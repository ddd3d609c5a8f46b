r"""How models write calls of tools: the forms of the chat templates, and the grammar of an answer that is a call.

A family is trained on one way to write a call, which its template shows:

    Hermes, Qwen   <tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>
    Mistral        [TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}]
    GLM-4          f\n{"x": 1}
    Llama 3.1      {"name": "f", "parameters": {"x": 1}}

So the form is found by what stands in the template, a published one or a checkpoint's own. A form is told as texts
around names and arguments: a grammar takes them to the letter, a reader (`tool_calls`) lets spaces differ.

Ref: the chat templates of Qwen2.5, Mistral-7B-Instruct-v0.3, glm-4-9b-chat and Llama-3.1.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smelt.infer.constrain import json_rule
from smelt.serve.protocol import Function


@dataclass(frozen=True)
class Form:
    """A way to write calls: before NAME middle ARGUMENTS after, between NAME middle ARGUMENTS after, ..., end.

    Args:
        between: None where an answer has one call only.
        anywhere: whether `before` announces a call in the middle of a text; else an answer begins with it.
        has_ids: whether a call ends with an id of nine characters, by which its result is known.
    """

    before: str
    middle: str
    after: str
    between: str | None
    end: str = ""
    anywhere: bool = False
    has_ids: bool = False

    def marks(self, special: Mapping[str, int]) -> list[int]:
        """Return the special tokens that calls are written with."""
        texts = (self.before, self.middle, self.after, self.between or "", self.end)
        return [id_ for mark, id_ in special.items() if any(mark in text for text in texts)]

    def new_id(self) -> str:
        """Return an id for a call."""
        return secrets.token_hex(5)[:9] if self.has_ids else f"call_{secrets.token_hex(12)}"


HERMES = Form(
    '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", '\n<tool_call>\n{"name": "', anywhere=True
)
MISTRAL = Form('[TOOL_CALLS] [{"name": "', '", "arguments": ', "}", ', {"name": "', "]", anywhere=True, has_ids=True)
GLM4 = Form("", "\n", "", "<|assistant|>")
LLAMA3 = Form('{"name": "', '", "parameters": ', "}", None)


def form_of(jinja: str) -> Form | None:
    """Return the form in which a chat template writes calls, None for one that is not known here."""
    if "tools" not in jinja:
        return None
    if "<tool_call>" in jinja:
        return HERMES if re.search(r'"arguments\\?": ', jinja) else None
    marks = {"[TOOL_CALLS]": MISTRAL, "<|observation|>": GLM4, '"parameters": ': LLAMA3}
    return next((form for mark, form in marks.items() if mark in jinja), None)


def calls_grammar(form: Form, functions: Sequence[Function], special: Mapping[str, int], *, parallel: bool) -> str:
    """Return the rules of `calls`: one call of these functions or, with `parallel`, any number of them."""

    def say(text: str) -> str:
        return literal(text, special)

    id_ = r'", \"id\": \"" /[a-zA-Z0-9]{9}/ "\""'
    more = f" ({say(form.between)} call)*" if parallel and form.between is not None else ""
    named = " | ".join(f"call_{place}" for place in range(len(functions)))
    rules = [
        f"calls: {say(form.before)} call{more} {say(form.end)}",
        f"call: ({named}) {f'({id_})?' if form.has_ids else ''} {say(form.after)}",
    ]
    for place, function in enumerate(functions):
        arguments = json_rule(arguments_schema(function.parameters), lenient=not function.strict)
        rules.append(f"call_{place}: {say(function.name + form.middle)} {arguments}")
    return "\n".join(rules)


def arguments_schema(parameters: Mapping[str, object] | None) -> dict[str, object]:
    """Return what arguments must be: those that are named, and no others unless the schema says something of them."""
    given = {} if parameters is None else dict(parameters)
    closed = {"additionalProperties": False} if parameters is None or "properties" in given else {}
    return {"type": "object", **closed, **given}


def literal(text: str, special: Mapping[str, int]) -> str:
    """Return a text as a grammar says it, special tokens in it by their ids.

    literal("[A] b", {"[A]": 7}) -> '<[7]> " b"'
    """
    marks = sorted((mark for mark in special if mark in text), key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, marks))})", text) if marks else [text]
    return " ".join(f"<[{special[piece]}]>" if piece in special else json.dumps(piece) for piece in pieces if piece)
