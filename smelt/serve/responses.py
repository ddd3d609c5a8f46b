"""What /v1/responses reads: items become the messages of a chat, which then takes the same way as any other.

An item is a message, a call of a function or what the function returned. Calls stand in the assistant's message before
them, as chat has them. What chat nests, tools and formats, is flat here. Instructions and tools are of one request and
not carried on to the next.

Ref: OpenAI's API reference, responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationError

from smelt.serve.errors import ApiError, invalid
from smelt.serve.prepare import Served, Wanted, arguments_in, chat_prompts
from smelt.serve.protocol import (
    MAX_MESSAGES,
    MAX_NAME_CHARACTERS,
    MAX_TOOLS,
    NAME,
    Absent,
    ChatRequest,
    Content,
    Fields,
    Named,
    Parameters,
    Schema,
    check_forms,
    explained,
)

MAX_METADATA = 16
NAMES_HERE = {"messages": "input", "response_format": "text.format"}
Json = dict[str, Any]


def items_of(value: object) -> tuple[Json, ...]:
    """Return the items of an input; a text is a user's message."""
    if isinstance(value, str):
        return ({"type": "message", "role": "user", "content": value},)
    fits = isinstance(value, list) and 0 < len(value) <= MAX_MESSAGES
    if not fits or not all(isinstance(item, dict) for item in value):  # type: ignore[attr-defined]
        raise ValueError(f"a text or a list of up to {MAX_MESSAGES} items is expected")
    return tuple(value)  # type: ignore[arg-type]


def choice_of(value: object) -> Named | str | None:
    """Return how a tool is chosen: "none", "auto", "required", or a named one."""
    if value is None or value in ("none", "auto", "required"):
        return value
    name = value.get("name") if isinstance(value, dict) and value.get("type") == "function" else None
    if not isinstance(name, str):
        raise ValueError("'none', 'auto', 'required' or {'type': 'function', 'name': ...} is expected")
    return Named(name)


def object_text(value: str) -> str:
    """Let an object of JSON in a string pass, and an empty string, which means one without keys."""
    if arguments_in(value or "{}") is None:
        raise ValueError("an object of JSON in a string is expected")
    return value


Items = Annotated[tuple[Json, ...], PlainValidator(items_of, json_schema_input_type=str | list[Json])]
Choice = Annotated[Named | str | None, PlainValidator(choice_of, json_schema_input_type=str | Json | None)]
Arguments = Annotated[str, AfterValidator(object_text)]
MetadataText = Annotated[str, Field(max_length=512)]
MetadataName = Annotated[str, Field(max_length=64)]


class ResponseTool(Fields):
    """A function that the model may call; without parameters it takes none."""

    type: Literal["function"]
    name: str = Field(pattern=NAME)
    description: str | None = None
    parameters: Parameters | None = None
    strict: bool | None = None


class TextFormat(Fields):
    """The form of an answer: any text, any object of JSON, or what a schema describes."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, pattern=NAME)
    description: str | None = None
    schema_: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(Fields):
    """What the text of an answer is like."""

    format: TextFormat | None = None


class ResponseRequest(Fields):
    """The body of /v1/responses."""

    model: str = Field(max_length=512)
    input: Items
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stream: bool | None = None
    store: bool | None = None
    metadata: dict[MetadataName, MetadataText] | None = Field(default=None, max_length=MAX_METADATA)
    previous_response_id: str | None = Field(default=None, max_length=128)
    text: TextOptions | None = None
    tools: list[ResponseTool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: Choice = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    conversation: Absent = None
    prompt: Absent = None

    @property
    def form(self) -> TextFormat:
        """Return the form of the answer."""
        return (self.text and self.text.format) or TextFormat(type="text")


class MessageItem(Fields):
    """A message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class CallItem(Fields):
    """A call of a function, with its arguments as JSON."""

    call_id: str = Field(max_length=256)
    name: str = Field(max_length=256)
    arguments: Arguments


class ReturnItem(Fields):
    """What a function returned."""

    call_id: str = Field(max_length=256)
    output: Content


KINDS: dict[str, type[MessageItem | CallItem | ReturnItem]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "function_call_output": ReturnItem,
}


def response_prompts(
    served: Served, request: ResponseRequest, earlier: Sequence[Json]
) -> tuple[ChatRequest, list[Wanted]]:
    """Return the chat that a request stands for, and its prompt; raises ApiError as `chat_prompts` does."""
    chat = chat_of(request, earlier)
    try:
        return chat, chat_prompts(served, chat)
    except ApiError as error:
        param, message = error.param, error.message
        if param in NAMES_HERE:
            message = message.replace(f"{param}: ", f"{NAMES_HERE[param]}: ", 1)
            param = NAMES_HERE[param]
        raise ApiError(error.status, message, param=param, code=error.code) from None


def chat_of(request: ResponseRequest, earlier: Sequence[Json]) -> ChatRequest:
    """Return the chat that a request stands for, behind the items of earlier ones; raises ApiError (400)."""
    messages: list[Json] = []
    if request.instructions is not None:
        messages.append({"role": "system", "content": request.instructions})
    for item in earlier:
        add_item(messages, read_item(item, "previous_response_id"))
    for place, item in enumerate(request.input):
        add_item(messages, read_item(item, f"input[{place}]"))
    values = {
        "model": request.model,
        "messages": messages,
        "max_completion_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stream": request.stream,
        **chat_tools(request),
        "response_format": chat_format(request.form),
    }
    try:
        chat = ChatRequest.model_validate(values)
    except ValidationError as error:
        raise invalid(f"input: {explained(error).message}", "input") from None
    check_forms(chat)
    return chat


def chat_tools(request: ResponseRequest) -> Json:
    """Return a request's tools, and how they are chosen, as chat has them."""
    functions = [tool.model_dump(exclude={"type"}, exclude_unset=True) for tool in request.tools or ()]
    choice = request.tool_choice
    return {
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": {"type": "function", "function": {"name": choice.name}} if isinstance(choice, Named) else choice,
        "parallel_tool_calls": request.parallel_tool_calls,
    }


def chat_format(form: TextFormat) -> Json:
    """Return the form of an answer as chat has it; raises ApiError (400) for a schema that is not there or nameless."""
    if form.type != "json_schema":
        return {"type": form.type}
    schema = form.model_dump(by_alias=True, exclude={"type"}, exclude_unset=True)
    for field in ("name", "schema"):
        if schema.get(field) is None:
            raise invalid(f"text.format.{field}: field required", f"text.format.{field}")
    return {"type": form.type, "json_schema": schema}


def read_item(item: Json, place: str) -> MessageItem | CallItem | ReturnItem:
    """Return what an item says; raises ApiError (400) for what is none."""
    name = item.get("type", "message")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        shown = repr(name[:MAX_NAME_CHARACTERS]) if isinstance(name, str) else "none"
        raise invalid(f"{place}.type: {shown}; items are read of type {', '.join(KINDS)}", f"{place}.type")
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        fault = explained(error)
        raise invalid(f"{place}.{fault.message}", f"{place}.{fault.param}") from None


def add_item(messages: list[Json], item: MessageItem | CallItem | ReturnItem) -> None:
    """Add an item to the messages of a chat."""
    if isinstance(item, MessageItem):
        messages.append({"role": item.role, "content": item.content})
        return
    if isinstance(item, ReturnItem):
        messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
        return
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    function = {"name": item.name, "arguments": item.arguments}
    calls = messages[-1].setdefault("tool_calls", [])
    calls.append({"id": item.call_id, "type": "function", "function": function})


def kept_form(items: Sequence[Json]) -> list[Json]:
    """Return items without the fields that are not read, of which a caller could send any amount."""
    read = [read_item(item, "item") for item in items]
    return [
        {"type": name, **{field: getattr(item, field) for field in kind.model_fields}}
        for item in read
        for name, kind in KINDS.items()
        if type(item) is kind
    ]
