"""Chat messages to ids and a loss mask (ChatML), and the same template as Jinja text for everybody else.

    <|im_start|>user
    Where is the mill?<|im_end|>
    <|im_start|>assistant
    By the river.<|im_end|>

The marks are placed as ids while every text goes through `encode`, so nothing a user writes can become a mark. The
loss mask covers what the model must learn to say: the assistant's content and the <|im_end|> that stops it.
An assistant's content is encoded apart from its header, so a prompt (`add_reply=True`) plus the reply's ids is
exactly how the finished conversation renders: what was generated is what is trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from smelt.core.errors import TokenizerError, nearest
from smelt.tokenizers.base import END_OF_TEXT, TURN_END, TURN_START, Tokenizer

ROLES = ("system", "user", "assistant", "tool")
REPLY_ROLE = "assistant"

# The generation marks let trl and transformers find the assistant's part. No default system prompt.
CHATML = (
    "{%- for message in messages -%}\n"
    "    {{- '<|im_start|>' + message['role'] + '\\n' -}}\n"
    "    {%- if message['role'] == 'assistant' -%}\n"
    "        {%- generation -%}\n"
    "            {{- message['content'] + '<|im_end|>' -}}\n"
    "        {%- endgeneration -%}\n"
    "    {%- else -%}\n"
    "        {{- message['content'] + '<|im_end|>' -}}\n"
    "    {%- endif -%}\n"
    "    {{- '\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "    {{- '<|im_start|>assistant\\n' -}}\n"
    "{%- endif -%}\n"
)


class MessageLike(Protocol):
    """Anything with a role and a content; a mapping with these keys does as well."""

    @property
    def role(self) -> str:
        """Return one of `ROLES`."""

    @property
    def content(self) -> str:
        """Return the text."""


class ChatTemplate:
    """Render conversations for one tokenizer.

    Raises:
        TokenizerError: the tokenizer lacks the marks around a turn.
    """

    jinja = CHATML

    def __init__(self, tokenizer: Tokenizer) -> None:
        if missing := [mark for mark in (TURN_START, TURN_END) if mark not in tokenizer.special]:
            raise TokenizerError(
                f"this tokenizer has no special token {missing[0]}, which chat turns need",
                accepted=f"a tokenizer with {TURN_START} and {TURN_END}",
                fix="train one with the default special tokens",
            )
        self.tokenizer = tokenizer
        self._start, self._end = tokenizer.special[TURN_START], tokenizer.special[TURN_END]
        self._reply_header = [self._start, *tokenizer.encode(f"{REPLY_ROLE}\n")]
        self._line_end = tokenizer.encode("\n")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Return the ids that end a reply: the end of the turn and, where there is one, of the text."""
        special = self.tokenizer.special
        return tuple(special[mark] for mark in (TURN_END, END_OF_TEXT) if mark in special)

    def render(
        self, messages: Sequence[MessageLike | Mapping[str, object]], *, add_reply: bool = False
    ) -> tuple[list[int], list[int]]:
        """Return ids and loss mask (0 or 1), equally long; `add_reply` opens an assistant turn at the end.

        Raises:
            TokenizerError: there is no message, a role is unknown, or a message has no content.
        """
        if not messages:
            raise TokenizerError("a conversation needs at least one message, got none")
        ids: list[int] = []
        mask: list[int] = []
        for number, message in enumerate(messages, start=1):
            role, content = _role_and_content(message, f"message {number} of {len(messages)}")
            if role == REPLY_ROLE:
                header, learned = self._reply_header, [*self.tokenizer.encode(content), self._end]
            else:
                header, learned = [self._start, *self.tokenizer.encode(f"{role}\n{content}"), self._end], []
            ids += header + learned + self._line_end
            mask += [0] * len(header) + [1] * len(learned) + [0] * len(self._line_end)
        if add_reply:
            ids += self._reply_header
            mask += [0] * len(self._reply_header)
        return ids, mask


def _role_and_content(message: MessageLike | Mapping[str, object], where: str) -> tuple[str, str]:
    if isinstance(message, Mapping):
        role, content = message.get("role"), message.get("content")
    else:
        role, content = getattr(message, "role", None), getattr(message, "content", None)
    if role not in ROLES:
        raise TokenizerError(f"{where}: unknown role {role!r}.{nearest(str(role), ROLES)}", accepted=", ".join(ROLES))
    if not isinstance(content, str):
        found = "no content" if content is None else f"content of type {type(content).__name__}"
        raise TokenizerError(f"{where} ({role}) has {found}", accepted="content as a string")
    return str(role), content
