"""What a teacher is asked: the texts of a file, or its conversations without their last answer."""

from __future__ import annotations

from collections.abc import Iterator

from smelt.core.errors import DataError
from smelt.data.formats import scan_rows
from smelt.data.records import ChatRow, Message, TextRow

Question = tuple[Message, ...]


def read_questions(data: str) -> Iterator[tuple[str, Question]]:
    """Yield the place and the messages of each question of a file, folder or glob.

    Raises:
        DataError: at the first row that is neither a text nor a conversation with something before its last answer.
    """
    for where, row in ((getattr(row, "where", data), row) for _, row in scan_rows(data)):
        if isinstance(row, DataError):
            raise row
        if isinstance(row, TextRow):
            question: Question = (Message("user", row.text),) if row.text else ()
        elif isinstance(row, ChatRow):
            last = max(number for number, message in enumerate(row.messages) if message.role == "assistant")
            question = row.messages[:last]
        else:
            question = ()
        if not question:
            raise DataError(f"{where}: no question", accepted="a text, or messages before the last assistant turn")
        yield where, question
