"""Chat messages to ids and a loss mask, by any chat template.

With the default template, ChatML, two messages become

    <|im_start|>user
    Where is the mill?<|im_end|>
    <|im_start|>assistant
    By the river.<|im_end|>

Two things are promised. Nothing a user writes can become a control token: rendering keeps track of what the template
wrote (`chat_text`), special tokens are looked for only there, and all text between two of them is encoded as plain
text. A role from `KNOWN_ROLES` counts as the template's word, because templates write `'<|' + role + '|>'`.

And what is generated is what is trained on. The loss mask covers what the model must learn to say, the text inside
`{% generation %}`: the assistant's content and what ends its turn. It is encoded apart from what stands before it, so
a prompt (`add_reply=True`) plus the reply's ids is exactly how the finished conversation renders. transformers encodes
across that border: its ids differ where a token would span it, as in "Response:", a line end and a reply that begins
with another.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import regex

from smelt.core.errors import TokenizerError, nearest
from smelt.tokenizers.base import END_OF_TEXT, TURN_END, Tokenizer
from smelt.tokenizers.chat_meter import MAX_TEMPLATE_CHARACTERS
from smelt.tokenizers.chat_templates import CHAT_ROLES, CHATML, TEMPLATES
from smelt.tokenizers.chat_text import Written, written

__all__ = ["CHATML", "REPLY_ROLE", "ROLES", "TEMPLATES", "ChatTemplate", "knowing", "load_template", "named_template"]

ROLES = CHAT_ROLES
REPLY_ROLE = "assistant"
# What other templates call the speakers; a role that is none of these is text like any other.
KNOWN_ROLES = {
    role: written(role) for role in (*ROLES, "developer", "function", "ipython", "model", "observation", "tool_results")
}
# What a caller may set besides messages and tools: a template sees nothing else of a request.
OPTIONS = ("enable_thinking", "open_thinking", "thinking", "reasoning_effort", "date_string", "documents")
FIELDS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")
TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"
MAX_CONFIG_BYTES = 1 << 26
_PUBLISHED = {published.jinja.strip(): published for published in TEMPLATES.values()}
_TURN_ENDS = tuple(dict.fromkeys(mark for published in TEMPLATES.values() for mark in published.stops))
# A template says the same few words in every conversation: headers, line ends, marks. They are worked out once.
_REMEMBERED_TEXTS = 4096
_SHORT = 16
# Where the learned part ends and starts, in the place of an id; at one place it ends before it starts again.
_STOP, _START = -2, -1


class MessageLike(Protocol):
    """Anything with a role and a content; a mapping with these keys does as well, and may hold more (`FIELDS`)."""

    @property
    def role(self) -> str:
        """Return who speaks."""

    @property
    def content(self) -> str:
        """Return the text."""


Messages = Sequence[MessageLike | Mapping[str, object]]


class ChatTemplate:
    """Render conversations for one tokenizer; safe to share between threads.

    Args:
        tokenizer: what encodes the text.
        jinja: the template; `TEMPLATES[name].jinja` is a published one. By default the tokenizer's own, else ChatML.
        tokens: what the template knows as `bos_token`, `eos_token` and so on; by default what suits the template.

    Raises:
        TokenizerError: the tokenizer lacks a mark that a published template writes, or the template is not one.
    """

    def __init__(
        self, tokenizer: Tokenizer, jinja: str | None = None, *, tokens: Mapping[str, str] | None = None
    ) -> None:
        from smelt.tokenizers.chat_sandbox import compiled  # only who renders waits for Jinja's import

        self.tokenizer = tokenizer
        self.jinja = jinja = jinja or getattr(tokenizer, "chat_template", None) or CHATML
        self._published = _PUBLISHED.get(jinja.strip())
        self._special = dict(tokenizer.special)
        self._check_marks()
        own = jinja == getattr(tokenizer, "chat_template", None)
        named = getattr(tokenizer, "named_tokens", {}) if own else {}
        self.tokens = self._default_tokens() | dict(named) | dict(tokens or {})
        self._script = compiled(jinja)
        longest_first = sorted(self._special, key=len, reverse=True)
        self._matcher = regex.compile("|".join(map(regex.escape, longest_first))) if longest_first else None
        self._controls = functools.lru_cache(_REMEMBERED_TEXTS)(self._find_controls)
        self._short = functools.lru_cache(_REMEMBERED_TEXTS)(self._encode_piece)

    @property
    def name(self) -> str:
        """Return the name of the published template that this is, else "the model's own"."""
        return next((name for name, known in TEMPLATES.items() if known is self._published), "the model's own")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Return the ids that end a reply: the end of the turn and, where there is one, of the text."""
        stops = self._published.stops if self._published else [mark for mark in _TURN_ENDS if mark in self.jinja]
        marks = dict.fromkeys([*stops, self.tokens.get("eos_token", END_OF_TEXT), END_OF_TEXT])
        return tuple(self._special[mark] for mark in marks if mark in self._special)

    def render(
        self,
        messages: Messages,
        *,
        add_reply: bool = False,
        tools: Sequence[Mapping[str, object]] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> tuple[list[int], list[int]]:
        """Return ids and loss mask (0 or 1), equally long; `add_reply` opens an assistant turn at the end.

        `tools` are JSON schemas; `options` are the template's own (`OPTIONS`), as `enable_thinking`.

        Raises:
            TokenizerError: there is no message, the template cannot say a message or refuses it, or, without
                `add_reply`, an assistant speaks and no word of it would be learned.
        """
        ids, mask = self._encode(self._render(messages, add_reply, tools, options))
        if not add_reply and not any(mask) and any(_field(message, "role") == REPLY_ROLE for message in messages):
            raise TokenizerError(
                "the chat template does not mark what the assistant says, so nothing would be learned"
                if not self._script.has_generation
                else "the chat template marks no word of this conversation to be learned",
                accepted="a template with {% generation %} around the assistant's part",
                fix=f"train with a published template: {', '.join(TEMPLATES)}",
            )
        return ids, mask

    def text(
        self,
        messages: Messages,
        *,
        add_reply: bool = False,
        tools: Sequence[Mapping[str, object]] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> str:
        """Return what `render` encodes, for people and other programs to read.

        Raises:
            TokenizerError: as for `render`, but for the words to learn.
        """
        return str(self._render(messages, add_reply, tools, options))

    def _check_marks(self) -> None:
        marks = self._published.marks if self._published else ()
        if missing := [mark for mark in marks if mark not in self._special]:
            *first, last = marks
            raise TokenizerError(
                f"this tokenizer has no special token {missing[0]}, which chat turns need",
                accepted=f"a tokenizer with {', '.join(first)} and {last}",
                fix="train one with the default special tokens" if self.jinja == CHATML else "train one with them",
            )

    def _default_tokens(self) -> dict[str, str]:
        if self._published:
            choices = {"bos_token": self._published.begin, "eos_token": self._published.end}
        else:
            choices = {
                "bos_token": (END_OF_TEXT,),
                "eos_token": (TURN_END, END_OF_TEXT) if TURN_END in self.jinja else (END_OF_TEXT,),
            }
        found = {}
        for name, candidates in choices.items():
            present = [text for text in candidates if text in self._special]
            if present:
                found[name] = present[0]
            elif candidates and self._published:
                raise TokenizerError(
                    f"this tokenizer has no special token {candidates[0]}, which the chat template uses as {name}",
                    accepted=f"a tokenizer with {' or '.join(candidates)}",
                )
        return found

    def _render(
        self,
        messages: Messages,
        add_reply: bool,
        tools: Sequence[Mapping[str, object]] | None,
        options: Mapping[str, object] | None,
    ) -> str:
        if not messages:
            raise TokenizerError("a conversation needs at least one message, got none")
        if tools:
            self._check_says("tools", "the request")
        for name in options or ():
            if name not in OPTIONS:
                raise TokenizerError(f"unknown option {name!r}.{nearest(name, OPTIONS)}", accepted=", ".join(OPTIONS))
        total = len(messages)
        return self._script.render(
            {
                "documents": None,
                **_plain(options or {}, "options"),
                "messages": [
                    self._message(message, f"message {number} of {total}")
                    for number, message in enumerate(messages, start=1)
                ],
                "tools": _plain(list(tools), "tools") if tools else None,
                "add_generation_prompt": add_reply,
                **{name: written(text) for name, text in self.tokens.items()},
            }
        )

    def _message(self, message: MessageLike | Mapping[str, object], where: str) -> dict[str, Any]:
        """Return a message as plain data; only its role may be the template's own text."""
        fields = message if isinstance(message, Mapping) else {name: _field(message, name) for name in FIELDS}
        role, content, calls = fields.get("role"), fields.get("content"), fields.get("tool_calls")
        roles = self._published.roles if self._published else None
        if not isinstance(role, str) or (roles and role not in roles):
            known = roles or tuple(KNOWN_ROLES)
            raise TokenizerError(
                f"{where}: unknown role {role!r}.{nearest(str(role), known)}", accepted=", ".join(known)
            )
        if calls:
            self._check_says("tool_calls", f"{where} ({role})")
        # A call may stand alone; other people's templates may also take a list of parts.
        if not isinstance(content, str) and not (content is None and calls) and not (roles is None and content):
            found = "no content" if content is None else f"content of type {type(content).__name__}"
            raise TokenizerError(f"{where} ({role}) has {found}", accepted="content as a string")
        plain = {
            name: value if type(value) is str else _plain(value, f"{where}: {name}")
            for name, value in fields.items()
            if value is not None
        }
        plain["role"] = KNOWN_ROLES.get(role, str(role))
        return plain

    def _check_says(self, what: str, where: str) -> None:
        """Refuse what the template never mentions: it would be left out without a word."""
        if what not in self.jinja:
            raise TokenizerError(
                f"{where} has {what}, for which this chat template has no place",
                accepted=f"a template with one: {', '.join(knowing(what))}",
            )

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        """Return ids and mask of a rendered text."""
        plain = str(text)
        ids: list[int] = []
        mask: list[int] = []
        position = learning = 0
        for start, stop, token in self._events(text, plain):
            if position < start:
                piece = plain[position:start]
                encode = self._short if len(piece) <= _SHORT else self._encode_piece
                ids += encode(piece, position > 0)
            if token >= 0:
                ids.append(token)
            mask += [learning] * (len(ids) - len(mask))
            if token < 0:
                learning = int(token == _START)
            position = stop
        return ids, mask

    def _encode_piece(self, piece: str, continued: bool) -> list[int]:
        return self.tokenizer.encode(piece, continued=True) if continued else self.tokenizer.encode(piece)

    def _events(self, text: str, plain: str) -> list[tuple[int, int, int]]:
        """Return start, stop and id of the template's special tokens and of the borders of learned parts, in order."""
        events = [(len(plain), len(plain), _STOP)]
        if isinstance(text, Written):
            for start, stop in text.own:
                events += [(start + a, start + b, token) for a, b, token in self._controls(plain[start:stop])]
            for start, stop in text.learned:
                events += [(start, start, _START), (stop, stop, _STOP)] if start < stop else []
            events.sort()
        return events

    def _find_controls(self, text: str) -> list[tuple[int, int, int]]:
        """Return start, stop and id of every special token in a text that the template wrote."""
        found = self._matcher.finditer(text) if self._matcher else ()
        return [(match.start(), match.end(), self._special[match.group()]) for match in found]


def knowing(what: str) -> list[str]:
    """Return the names of the published templates that mention `what`, such as tools or reasoning_content."""
    return [name for name, published in TEMPLATES.items() if what in published.jinja]


def named_template(name: str) -> str:
    """Return the Jinja text of a published template.

    Raises:
        TokenizerError: there is none of this name.
    """
    if name not in TEMPLATES:
        raise TokenizerError(f"no chat template {name!r}.{nearest(name, TEMPLATES)}", accepted=", ".join(TEMPLATES))
    return TEMPLATES[name].jinja


def load_template(directory: Path | str, tokenizer: Tokenizer) -> ChatTemplate | None:
    """Return the chat template of a model's directory, or None where there is none.

    Raises:
        TokenizerError: a file is too big, not UTF-8 or not JSON, or the template does not fit the tokenizer.
    """
    template, tokens = read_template(directory)
    if template is None:
        return None
    try:
        return ChatTemplate(tokenizer, template, tokens=tokens)
    except TokenizerError as error:
        file = Path(directory) / TEMPLATE_FILE
        where = file if file.is_file() else f"{Path(directory) / CONFIG_FILE}: chat_template"
        raise TokenizerError(f"{where}: {error.what}", accepted=error.accepted, fix=error.fix) from error


def read_template(directory: Path | str) -> tuple[str | None, dict[str, str]]:
    """Return the text of a directory's chat template, None where there is none, and the tokens that it may write.

    It stands in chat_template.jinja, else in tokenizer_config.json as a text or as a list of named ones, of which
    "default" is taken. The tokens (`bos_token`, ...) stand in tokenizer_config.json.

    Raises:
        TokenizerError: a file is too big, not UTF-8 or not JSON.
    """
    file, config_file = Path(directory) / TEMPLATE_FILE, Path(directory) / CONFIG_FILE
    config: Any = {}
    if config_file.is_file():
        try:
            config = json.loads(_read(config_file, MAX_CONFIG_BYTES))
        except (json.JSONDecodeError, RecursionError) as error:
            raise TokenizerError(f"{config_file}: not valid JSON ({error})") from error
        if not isinstance(config, dict):
            raise TokenizerError(f"{config_file} holds {type(config).__name__}, not an object")
    template = _read(file, 4 * MAX_TEMPLATE_CHARACTERS) if file.is_file() else config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default", next(iter(named.values()), None))
    if template is not None and not isinstance(template, str):
        raise TokenizerError(
            f"{config_file}: chat_template is of type {type(template).__name__}",
            accepted="a text, or a list of named ones",
        )
    tokens = {name: _token_text(value) for name, value in config.items() if name.endswith("_token")}
    return template, {name: text for name, text in tokens.items() if text}


def _read(file: Path, max_bytes: int) -> str:
    if (size := file.stat().st_size) > max_bytes:
        raise TokenizerError(f"{file} has {size:,} bytes", accepted=f"at most {max_bytes:,}")
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{file}: not UTF-8 ({error})") from error


def _token_text(value: object) -> str:
    """Return a token of tokenizer_config.json, which is a text or an object with one."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""


def _field(message: MessageLike | Mapping[str, object], name: str) -> object:
    return message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)


def _plain(value: Any, where: str) -> Any:
    """Copy JSON data as the exact built-in types, so that nothing else, marks included, reaches a template.

    Raises:
        TokenizerError: the data hold something that JSON does not.
    """
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    raise TokenizerError(f"{where} holds a value of type {type(value).__name__}", accepted="what JSON can hold")
