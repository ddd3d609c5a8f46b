"""A conversation as a model learns it: ids and loss mask by a chat template, with the row named in every error.

Tools, calls and thoughts are rendered by templates that have a place for them; by one that has none they would be left
out without a word, so that is an error.
"""

from __future__ import annotations

from smelt.core.errors import DataError, TokenizerError
from smelt.data.records import ChatRow
from smelt.tokenizers.chat import ChatTemplate, knowing

ANOTHER = "choose another template (template=NAME, --template NAME)"


def render(row: ChatRow, template: ChatTemplate) -> tuple[list[int], list[int]]:
    """Return ids and loss mask of a conversation.

    Raises:
        DataError: the template cannot say it, or nothing of it would be learned; the message names both.
    """
    if "reasoning_content" not in template.jinja and any(message.reasoning_content for message in row.messages):
        raise DataError(
            f"{row.where}: the assistant thinks, for which the template {template.name} has no place",
            accepted=f"a template with one: {', '.join(knowing('reasoning_content'))}",
            fix=f"{ANOTHER}, or remove reasoning_content",
        )
    try:
        return template.render(row.messages, tools=row.tools)
    except TokenizerError as error:
        what = f"{row.where}: template {template.name}: {error.what}"
        raise DataError(what, accepted=error.accepted, fix=error.fix or f"{ANOTHER}, or remove the row") from error
