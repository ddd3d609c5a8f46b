"""Calls of tools, read out of what the model writes while it writes it.

Text that may yet become a call waits; whatever turns out to be none is content. Where a grammar holds the answer to
its form, a call's arguments pass on as they come. A model that is free may break off in the middle of a call, so there
a call waits until it is complete and its arguments are JSON; one that never is stays in the content, as it was written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import regex

from smelt.serve.protocol import no_number
from smelt.serve.tool_forms import Form

SPACE = r"\s{0,8}"
Json = dict[str, Any]


class Calling:
    """What to look for in an answer.

    Args:
        form: how the model writes calls.
        names: the functions that it may call; others are none.
        certain: whether a grammar holds the answer to the form.
        parallel: whether there may be several calls.
    """

    def __init__(self, form: Form, names: Sequence[str], *, certain: bool, parallel: bool) -> None:
        self.form, self.certain, self.parallel = form, certain, parallel
        head = f"(?P<name>{'|'.join(map(regex.escape, names))}){loose(form.middle)}{SPACE}{{"
        before = SPACE + loose(form.before) if form.before else ""
        between = "(?!)" if form.between is None else SPACE + loose(form.between)
        at_start = before if form.anywhere else rf"(?:\A{before}|{between})"
        after_call = rf"(?:\A{between}|{before})" if form.anywhere else between
        in_text = before if form.anywhere else between
        self.at_start, self.after_call, self.in_text = (
            regex.compile(opening + head) for opening in (at_start, after_call, in_text)
        )
        id_ = rf'(?:{SPACE},{SPACE}"id"{SPACE}:{SPACE}"[^"]{{0,64}}")?' if form.has_ids else ""
        end = rf"{SPACE}(?:{loose(form.end)}|(?=,))" if form.end else ""
        self.tail = regex.compile(id_ + SPACE + loose(form.after) + end)


class CallReader:
    """Turn the text of one answer into pieces of a message: content, and calls with their arguments."""

    def __init__(self, calling: Calling) -> None:
        self.calling, self.num_calls = calling, 0
        self._opening = calling.at_start
        self._buffer = ""
        self._call: OpenCall | None = None

    def push(self, text: str, *, last: bool = False) -> list[Json]:
        """Take the text that follows, `last` if there is no more, and return the deltas that it completes."""
        self._buffer += text
        found: list[Json] = []
        while (self._read_text if self._call is None else self._read_call)(found, last):
            continue
        return found

    def _read_text(self, found: list[Json], last: bool) -> bool:
        """Read up to a call, and tell whether there is one."""
        full = self.num_calls > 0 and not self.calling.parallel
        match = None if full else self._opening.search(self._buffer, partial=not last)
        content = self._buffer[: match.start()] if match else self._buffer
        self._buffer = self._buffer[len(content) :]
        if content and not (last and self.num_calls and content.isspace()):
            found.append({"content": content})
            self._opening = self.calling.in_text
        if match is None or match.partial:
            return False
        opening = match.group()[:-1]  # the brace belongs to the arguments
        self._buffer = self._buffer[len(opening) :]
        self._call = OpenCall(opening, match["name"])
        if self.calling.certain:
            found.append(self._begin(self._call.name))
        return True

    def _read_call(self, found: list[Json], last: bool) -> bool:
        """Read arguments and what follows them, and tell whether the call is over."""
        call, certain = self._call, self.calling.certain
        assert call is not None, "a call is open"
        piece = call.scan(self._buffer)
        self._buffer = self._buffer[len(piece) :]
        if certain and piece:
            found.append(self._arguments(piece))
        match = self.calling.tail.match(self._buffer, partial=not last) if call.is_whole else None
        if match and not match.partial:
            self._buffer = self._buffer[match.end() :]
            self._call, self._opening = None, self.calling.after_call
            if not certain and call.is_json:
                found += [self._begin(call.name), self._arguments(call.arguments)]
            elif not certain:
                self._give_up(found, call.opening + call.arguments + match.group())
            return True
        if last or (call.is_whole and not match):
            self._call = None
            if certain:
                self._buffer = ""  # what closes the call, cut short
            else:
                self._give_up(found, call.opening + call.arguments)
            return bool(self._buffer)
        return False

    def _give_up(self, found: list[Json], text: str) -> None:
        """Take what looked like a call for content."""
        found.append({"content": text})
        self._opening = self.calling.in_text

    def _begin(self, name: str) -> Json:
        self.num_calls += 1
        function = {"name": name, "arguments": ""}
        call = {"index": self.num_calls - 1, "id": self.calling.form.new_id(), "type": "function", "function": function}
        return {"tool_calls": [call]}

    def _arguments(self, text: str) -> Json:
        return {"tool_calls": [{"index": self.num_calls - 1, "function": {"arguments": text}}]}


class OpenCall:
    """A call whose arguments are being read: an object of JSON, up to the brace that closes it."""

    def __init__(self, opening: str, name: str) -> None:
        self.opening, self.name = opening, name
        self._pieces: list[str] = []
        self._depth = 0
        self._in_string = self._escaped = False

    @property
    def arguments(self) -> str:
        """Return the arguments so far."""
        return "".join(self._pieces)

    @property
    def is_whole(self) -> bool:
        """Tell whether the object is closed."""
        return bool(self._pieces) and self._depth == 0

    @property
    def is_json(self) -> bool:
        """Tell whether the arguments are JSON."""
        try:
            json.loads(self.arguments, parse_constant=no_number)
        except (ValueError, RecursionError):
            return False
        return True

    def scan(self, text: str) -> str:
        """Take what belongs to the object from the beginning of a text, and return it."""
        if self.is_whole:
            return ""
        end = next((place for place, character in enumerate(text, start=1) if self._closes(character)), len(text))
        self._pieces.append(text[:end])
        return text[:end]

    def _closes(self, character: str) -> bool:
        """Take one character, and tell whether it closes the object."""
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._in_string, self._escaped = character != '"', character == "\\"
        elif character == '"':
            self._in_string = True
        elif character in "{}":
            self._depth += 1 if character == "{" else -1
            return self._depth == 0
        return False


def loose(text: str) -> str:
    """Return a regular expression for a text in which spaces may differ, around the marks of JSON too."""
    pieces = [piece for piece in regex.split(r"\s+|(?<=[{}\[\]:,])|(?=[{}\[\]:,])", text, flags=regex.V1) if piece]
    return SPACE.join(map(regex.escape, pieces))
