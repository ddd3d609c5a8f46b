"""The items of a response while they are written, each with the events that tell of it.

An event is its name, without "response." before it, and what it says besides the item's place.

Ref: OpenAI's API reference, responses, streaming events.
"""

from __future__ import annotations

import uuid
from typing import Any

from smelt.serve.prepare import arguments_in

Json = dict[str, Any]
Event = tuple[str, Json]


class WrittenMessage:
    """A message of the assistant."""

    def __init__(self) -> None:
        self.id, self.status, self.text = f"msg_{uuid.uuid4().hex}", "in_progress", ""

    def begin(self) -> list[Event]:
        """Return the events of a message without text."""
        return [("output_item.added", {"item": self.item()}), self._of_part("content_part.added", part=self.part())]

    def add(self, text: str) -> list[Event]:
        """Add text."""
        self.text += text
        return [self._of_part("output_text.delta", delta=text, logprobs=[])]

    def end(self, *, cut: bool) -> list[Event]:
        """End it; `cut` where tokens ran out."""
        self.status = "incomplete" if cut else "completed"
        return [
            self._of_part("output_text.done", text=self.text, logprobs=[]),
            self._of_part("content_part.done", part=self.part()),
            ("output_item.done", {"item": self.item()}),
        ]

    def part(self) -> Json:
        """Return the text so far."""
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def item(self) -> Json:
        """Return the message, which has its text when it has ended."""
        content = [] if self.status == "in_progress" else [self.part()]
        return {"id": self.id, "type": "message", "status": self.status, "role": "assistant", "content": content}

    def _of_part(self, name: str, **values: Any) -> Event:
        return name, {"item_id": self.id, "content_index": 0, **values}


class WrittenCall:
    """A call of a function.

    Args:
        call_id: what the client names when it sends back what the function returned.
        name: the function's.
    """

    def __init__(self, call_id: str, name: str) -> None:
        self.id, self.status, self.arguments = f"fc_{uuid.uuid4().hex}", "in_progress", ""
        self.call_id, self.name = call_id, name

    def begin(self) -> list[Event]:
        """Return the event of a call without arguments."""
        return [("output_item.added", {"item": self.item()})]

    def add(self, text: str) -> list[Event]:
        """Add to the arguments."""
        self.arguments += text
        return [("function_call_arguments.delta", {"item_id": self.id, "delta": text})]

    def end(self, *, cut: bool) -> list[Event]:
        """End it; where tokens ran out behind whole arguments it is complete all the same."""
        self.status = "incomplete" if cut and arguments_in(self.arguments) is None else "completed"
        done = {"item_id": self.id, "name": self.name, "arguments": self.arguments}
        return [("function_call_arguments.done", done), ("output_item.done", {"item": self.item()})]

    def item(self) -> Json:
        """Return the call as it stands."""
        return {
            "id": self.id,
            "type": "function_call",
            "status": self.status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
        }
