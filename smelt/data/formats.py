"""Turn the rows of a file into typed rows, whichever of the usual formats the file is in.

A file's format is that of its first row, told by its keys alone, so a path is all a user gives: no registry, no format
option. A later row of another format is an error, because a file of two formats is nearly always an accident. Every
chat format ends as the same `ChatRow`; roles are renamed to system, user, assistant and tool. Faults name file, row
and message. Rows without any text are passed over and counted by `summarize`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from smelt.core.errors import DataError, nearest
from smelt.data.readers import Value, describe, expand_paths, scan_file
from smelt.data.records import ROLES, ChatRow, Message, PairRow, PreferenceRow, TextRow
from smelt.data.tools import link_calls, parse_calls, parse_tools

Row = Mapping[str, object]
Typed = TextRow | ChatRow | PairRow | PreferenceRow
KINDS = {
    TextRow: ("plain text", "pretrain"),
    ChatRow: ("a chat", "sft"),
    PairRow: ("a pair", "seq2seq"),
    PreferenceRow: ("preference data (chosen and rejected)", "dpo"),
}
"""What each row is called, and the stage that it is for."""

TEXT_KEYS = ("text", "content", "body", "paragraphs")
ROLE_NAMES = {role: role for role in ROLES} | {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function": "tool",
}
CALL_ROLE = "function_call"  # a turn whose text is the call
SHAREGPT_NAMES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
MEANT = {"bot": "assistant", "ai": "assistant", "chatbot": "assistant", "model": "assistant", "customer": "user"}


@dataclass(frozen=True)
class Format:
    """Say how a format is recognised and read.

    Args:
        needs: keys that must all be there; a tuple inside stands for "any one of these".
        parse: the function from a row and its place to a typed row.
    """

    needs: tuple[str | tuple[str, ...], ...]
    parse: Callable[[Row, str], Typed]

    def missing(self, row: Row) -> list[str]:
        """Return the keys of `needs` that a row lacks."""
        keys = [need if isinstance(need, tuple) else (need,) for need in self.needs]
        return ["|".join(options) for options in keys if not any(key in row for key in options)]

    def __str__(self) -> str:
        keys = ["|".join(need) if isinstance(need, tuple) else need for need in self.needs]
        return "{" + ", ".join(keys) + "}"


def detect_format(row: Value, where: str = "row") -> str:
    """Return the name of the format that a row's keys belong to; a plain string is "text".

    Raises:
        DataError: no format fits; the message lists the keys found and the nearest format.
    """
    if isinstance(row, str):
        return "text"
    if "chosen" in row and "rejected" in row and "output" not in row:
        return "preferences"  # whatever its prompt is called
    for name, known in FORMATS.items():
        if not known.missing(row):
            return name
    raise unknown_format(row, where)


def unknown_format(row: Row, where: str) -> DataError:
    """Return the error for a row that fits no format."""
    keys = [str(key) for key in row]
    scores = {name: max(closeness(need, keys) for need in known.needs) for name, known in FORMATS.items()}
    best = max(scores, key=lambda name: scores[name])
    missing = ", ".join(f"'{key}'" for key in FORMATS[best].missing(row))
    hint = f"; nearest is '{best}', which lacks {missing}" if scores[best] > 0.7 else ""
    return DataError(
        f"{where}: unknown row format with keys {', '.join(repr(key) for key in keys[:12]) or 'none'}",
        accepted=", ".join(f"{name} {known}" for name, known in FORMATS.items()),
        fix=f"rename the columns{hint}",
    )


def closeness(need: str | tuple[str, ...], keys: list[str]) -> float:
    """Return how near the best of `keys` comes to a needed key, 0 to 1."""
    options = need if isinstance(need, tuple) else (need,)
    ratios = [difflib.SequenceMatcher(None, option, key.lower()).ratio() for option in options for key in keys]
    return max(ratios, default=0.0)


def read_text(spec: str | Path) -> Iterator[TextRow]:
    """Yield the documents of a file, folder or glob; rows without text are passed over.

    Raises:
        DataError: at the first row that is not a text row, or when there is no text at all.
    """
    num_rows = 0
    for _, row in scan_rows(spec):
        if isinstance(row, DataError):
            raise row
        if not isinstance(row, TextRow):
            raise wrong_kind(row, TextRow, f"text {FORMATS['text']}")
        if row.text:
            num_rows += 1
            yield row
    if num_rows == 0:
        raise DataError(f"{spec}: no row holds any text", fix="check that the file was written completely")


def read_chats(spec: str | Path) -> Iterator[ChatRow]:
    """Yield the conversations of a file, folder or glob.

    Raises:
        DataError: at the first row that is not a well-formed chat.
    """
    for _, row in scan_rows(spec):
        if isinstance(row, DataError):
            raise row
        if not isinstance(row, ChatRow):
            chats = (
                f"{name} {known}" for name, known in FORMATS.items() if name not in ("text", "pairs", "preferences")
            )
            raise wrong_kind(row, ChatRow, ", ".join(chats))
        yield row


def read_pairs(spec: str | Path) -> Iterator[PairRow]:
    """Yield the pairs of a file, folder or glob.

    Raises:
        DataError: at the first row that is not a pair of texts.
    """
    for _, row in scan_rows(spec):
        if isinstance(row, DataError):
            raise row
        if not isinstance(row, PairRow):
            raise wrong_kind(row, PairRow, f"pairs {FORMATS['pairs']}")
        yield row


def wrong_kind(row: Typed, wanted: type[Typed], accepted: str) -> DataError:
    """Return the error for a good row that another stage is for."""
    name, stage = KINDS[type(row)]
    return DataError(f"{row.where}: {name}, not {KINDS[wanted][0]}", accepted=accepted, fix=f"use it for {stage}")


def texts_of(row: Typed) -> list[str]:
    """Return all texts of a row."""
    if isinstance(row, ChatRow):
        return [message.content for message in row.messages]
    if isinstance(row, PreferenceRow):
        return [*(message.content for message in row.messages), row.chosen, row.rejected]
    return [row.source, row.target] if isinstance(row, PairRow) else [row.text]


def scan_rows(spec: str | Path) -> Iterator[tuple[str, Typed | DataError]]:
    """Yield (format, typed row), or the error in a row's place, for every row of a file, folder or glob."""
    for path in expand_paths(spec):
        expected = ""
        for where, value in scan_file(path):
            name, row = parse_row(value, where, expected)
            expected = expected or name
            yield name, row


def parse_row(value: Value | DataError, where: str, expected: str = "") -> tuple[str, Typed | DataError]:
    """Return format and typed row of what a reader found, or its error; `expected` is the format of the rows before."""
    if isinstance(value, DataError):
        return expected, value
    name = expected
    try:
        found = detect_format(value, where)
        name = expected or found
        if found != name:
            raise DataError(f"{where}: a row of format '{found}' in a file of '{name}'", fix="split the file")
        return name, TextRow(value, where) if isinstance(value, str) else FORMATS[name].parse(value, where)
    except DataError as error:
        return name, error


def parse_text(row: Row, where: str) -> TextRow:
    """Read a document; a list of strings is joined by line breaks."""
    present = [key for key in TEXT_KEYS if key in row]
    key = next((key for key in present if row[key] is not None), present[0])
    value = row[key]
    if isinstance(value, list):
        parts = [as_text(part, f"{where}: '{key}' item {number}") for number, part in enumerate(value, start=1)]
        value = "\n".join(parts)
    text = as_text(value, f"{where}: '{key}'")
    return TextRow(text if text.strip() else "", where)


def parse_pair(row: Row, where: str) -> PairRow:
    """Read a source and its target, neither of them empty."""
    texts = [as_text(row[key], f"{where}: '{key}'") for key in ("source", "target")]
    for key, text in zip(("source", "target"), texts, strict=True):
        if not text.strip():
            raise DataError(f"{where}: empty '{key}'", fix="remove the row")
    return PairRow(texts[0], texts[1], where)


def parse_preference(row: Row, where: str) -> PreferenceRow:
    """Read a prompt and two replies, each a text or a list of messages; what stands before a reply is its prompt."""
    keys, lead = ("role", "content"), list[Message]()
    if (told := row.get("prompt", row.get("messages"))) is not None:
        lead = parse_turns(told, keys, where) if isinstance(told, list) else [Message("user", as_text(told, where))]
    replies, before = [], []
    for key in ("chosen", "rejected"):
        value, place = row[key], f"{where}: '{key}'"
        turns = (
            parse_turns(value, keys, place)
            if isinstance(value, list)
            else [Message("assistant", as_text(value, place))]
        )
        if not turns or turns[-1].role != "assistant" or not turns[-1].content.strip():
            raise DataError(f"{place} does not end with what the assistant says", fix="remove the row")
        replies.append(turns[-1].content)
        before.append(turns[:-1])
    if before[0] != before[1]:
        raise DataError(f"{where}: 'chosen' and 'rejected' answer two different conversations", fix="remove the row")
    messages = before[0] or lead
    if not any(message.role == "user" and message.content.strip() for message in messages):
        raise DataError(f"{where}: no prompt for the two replies", accepted="a text or messages under 'prompt'")
    return PreferenceRow(tuple(messages), replies[0], replies[1], where)


def parse_alpaca(row: Row, where: str) -> ChatRow:
    """Read instruction, input and output, with optional earlier turns in `history`."""
    turns: list[Message] = []
    history = row.get("history") or []
    for number, pair in enumerate(cast(list[object], history) if isinstance(history, list) else [history], start=1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"{where}: 'history' item {number} is {describe(pair)}", accepted="[question, answer]")
        question, answer = (as_text(part, f"{where}: 'history' item {number}") for part in pair)
        turns += [Message("user", question), Message("assistant", answer)]
    parts = [optional_text(row, "instruction", where), optional_text(row, "input", where)]
    turns.append(Message("user", "\n".join(part for part in parts if part.strip())))
    turns.append(Message("assistant", optional_text(row, "output", where)))
    return checked_chat(turns, row, where)


def parse_prompt_completion(row: Row, where: str) -> ChatRow:
    """Read a prompt and its completion, both strings or both lists of messages."""
    turns: list[Message] = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = row[key]
        if isinstance(value, list):
            turns += parse_turns(value, ("role", "content"), where, start=len(turns) + 1)
        else:
            turns.append(Message(role, as_text(value, f"{where}: '{key}'")))
    return checked_chat(turns, row, where)


def parse_messages(row: Row, where: str) -> ChatRow:
    """Read a list of {role, content}."""
    return checked_chat(parse_turns(row["messages"], ("role", "content"), where), row, where)


def parse_sharegpt(row: Row, where: str) -> ChatRow:
    """Read a list of {from, value}; lists of {role, content} under this name occur as well."""
    turns = row["conversations"]
    first = turns[0] if isinstance(turns, list) and turns else None
    keys = ("role", "content") if isinstance(first, dict) and "role" in first else ("from", "value")
    return checked_chat(parse_turns(turns, keys, where), row, where)


def parse_turns(turns: object, keys: tuple[str, str], where: str, start: int = 1) -> list[Message]:
    """Read a list of messages whose role and text stand under the two `keys`; messages count from `start`.

    Raises:
        DataError: a wrong type, a role that is unknown, or a message without content.
    """
    role_key, content_key = keys
    shape = f"{{{role_key}, {content_key}}}"
    if not isinstance(turns, list):
        raise DataError(f"{where}: {describe(turns)} in place of the messages", accepted=f"a list of {shape}")
    messages = []
    for number, turn in enumerate(turns, start=start):
        place = f"{where}, message {number}"
        if not isinstance(turn, dict):
            raise DataError(f"{place}: {describe(turn)}", accepted=f"an object {shape}")
        if turn.get(role_key) is None:
            raise DataError(f"{place}: no '{role_key}'", accepted=f"an object {shape}")
        role = ROLE_NAMES.get(str(turn[role_key]))
        if role is None:
            raise unknown_role(str(turn[role_key]), role_key, place)
        messages.append(parse_turn(turn, role, keys, place))
    return messages


def parse_turn(turn: Row, role: str, keys: tuple[str, str], place: str) -> Message:
    """Read a message whose role is known; it has a text, or calls of tools, or both."""
    role_key, content_key = keys
    content, name = turn.get(content_key), str(turn[role_key])
    calls = turn.get("tool_calls") or turn.get("function_call")
    if name == CALL_ROLE:
        calls, content = content, ""
    if calls and role != "assistant":
        raise DataError(f"{place}: {name} message with calls of tools", accepted="calls by the assistant")
    if content is None and not calls:
        raise DataError(f"{place}: {name} message without content", accepted=f"text under '{content_key}'")
    return Message(
        role,
        "" if content is None else content_text(content, f"{place}: '{content_key}'"),
        optional_text(turn, "reasoning_content", place) or None,
        parse_calls(calls, f"{place}: its call") if calls else None,
        optional_text(turn, "tool_call_id", place) or None,
    )


def unknown_role(role: str, role_key: str, place: str) -> DataError:
    """Return the error for a role that is not in the table, with the nearest that is."""
    names = SHAREGPT_NAMES if role_key == "from" else {name: name for name in ROLES}
    meant = MEANT.get(role.lower()) or ROLE_NAMES.get(role.lower(), "")
    hint = f" Did you mean '{names[meant]}'?" if meant else nearest(role, names.values())
    hint = hint.replace(" Did", "; did")
    return DataError(f"{place}: role {role!r} unknown{hint}", accepted=", ".join(names.values()))


def content_text(value: object, place: str) -> str:
    """Return a message's content: a string, or a list of {"type": "text", "text": ...} parts."""
    if not isinstance(value, list):
        return as_text(value, place)
    texts = []
    for number, part in enumerate(value, start=1):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise DataError(f"{place} part {number} is not text", accepted='{"type": "text", "text": "..."}')
        texts.append(as_text(part.get("text"), f"{place} part {number}"))
    return "".join(texts)


def checked_chat(messages: list[Message], row: Row, where: str) -> ChatRow:
    """Return the chat if it can be learned from, led by the row's `system` text where it has one.

    Raises:
        DataError: an empty turn, no assistant turn, or columns that ask for another kind of training.
    """
    if isinstance(row.get("label"), bool) or row.get("kto_tag") is not None:
        raise DataError(
            f"{where}: a row with a thumbs up or down", fix="for sft, keep the good rows without that column"
        )
    for number, message in enumerate(messages, start=1):
        silent = not message.content.strip() and not message.tool_calls
        if message.role in ("user", "assistant") and silent:
            raise DataError(f"{where}, message {number}: empty {message.role} turn", fix="remove the row")
    if not any(message.role == "assistant" for message in messages):
        raise DataError(f"{where}: no assistant turn among {len(messages)} messages", fix="add the reply to learn")
    system = optional_text(row, "system", where)
    lead = [Message("system", system)] if system.strip() else []
    kind, gold = optional_text(row, "kind", where), optional_text(row, "gold", where)
    return ChatRow((*lead, *link_calls(messages, where)), where, kind, gold, parse_tools(row.get("tools"), where))


def optional_text(row: Row, key: str, where: str) -> str:
    """Return the text under a key, "" where it is absent or null."""
    return "" if row.get(key) is None else as_text(row[key], f"{where}: '{key}'")


def as_text(value: object, place: str) -> str:
    """Return a string that can be written as UTF-8.

    Raises:
        DataError: the value is something else, or holds half of a surrogate pair ("\\ud83d" alone, from a cut emoji).
    """
    if not isinstance(value, str):
        raise DataError(f"{place} is {describe(value)}", accepted="text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):x} at {error.start}"
        raise DataError(f"{place} holds half a character ({half})", fix="write the file again") from None
    return value


FORMATS: dict[str, Format] = {  # the first that fits wins: a row with `messages` and `prompt` is a chat
    "messages": Format(("messages",), parse_messages),
    "sharegpt": Format(("conversations",), parse_sharegpt),
    "alpaca": Format(("instruction", "output"), parse_alpaca),
    "prompt-completion": Format(("prompt", "completion"), parse_prompt_completion),
    "preferences": Format(("chosen", "rejected"), parse_preference),
    "pairs": Format(("source", "target"), parse_pair),
    "text": Format((TEXT_KEYS,), parse_text),
}


@dataclass(frozen=True)
class Summary:
    """Say what a file, folder or glob holds: the content of `smelt data inspect`.

    `formats` counts good rows, `roles` messages and `kinds` chat rows; `num_empty` rows have a known format but no text
    and are passed over in training; `num_bytes` is the UTF-8 size of all texts and messages; `first_bad` are messages.
    """

    num_files: int
    num_ok: int
    num_bad: int
    num_empty: int
    num_bytes: int
    formats: dict[str, int]
    roles: dict[str, int]
    kinds: dict[str, int]
    first_bad: tuple[str, ...]


def summarize(spec: str | Path, *, max_bad: int = 5) -> Summary:
    """Count the good and bad rows of a file, folder or glob, keeping the messages of the first `max_bad` bad ones.

    Raises:
        DataError: there is no file to look at.
    """
    return summary_of(scan_rows(spec), num_files=len(expand_paths(spec)), max_bad=max_bad)


def summary_of(rows: Iterable[tuple[str, Typed | DataError]], *, num_files: int = 1, max_bad: int = 5) -> Summary:
    """Count the good and bad ones of some rows."""
    counts, formats, roles, kinds = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    bad: list[str] = []
    for name, row in rows:
        if isinstance(row, DataError):
            counts["bad"] += 1
            bad += [str(row)] if len(bad) < max_bad else []
        elif isinstance(row, TextRow) and not row.text:
            counts["empty"] += 1
        else:
            counts["bytes"] += sum(len(text.encode()) for text in texts_of(row))
            formats[name] += 1
            if isinstance(row, ChatRow):
                roles.update(message.role for message in row.messages)
                kinds.update([row.kind] if row.kind else [])
    return Summary(
        num_files=num_files,
        num_ok=formats.total(),
        num_bad=counts["bad"],
        num_empty=counts["empty"],
        num_bytes=counts["bytes"],
        formats=dict(formats),
        roles=dict(roles),
        kinds=dict(kinds),
        first_bad=tuple(bad),
    )
