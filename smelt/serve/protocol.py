"""What a request may hold: its fields with their bounds, checked before any work is done for it.

A body is read as strict JSON: UTF-8, one object, no key twice, no NaN or Infinity, no half of a surrogate pair. Fields
that nobody knows are tolerated, as clients add them every month, and named in a header of the answer; those that are
known and not served here are refused, because an answer that ignores them would be another one.

Ref: OpenAI's API reference, chat/completions and completions; bounds: CVE-2026-34756 and others of their kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from smelt.core.errors import nearest
from smelt.infer.sampling import LOWEST_REPETITION_PENALTY
from smelt.serve.errors import ApiError, invalid

MAX_BODY_BYTES = 2 << 20
MAX_MESSAGES = 2048
MAX_PARTS = 256
MAX_PROMPTS = 128
MAX_TEXTS = 2048  # OpenAI's
MAX_ANSWERS = 8
MAX_STOPS, MAX_STOP_CHARACTERS = 4, 256
MAX_BIASES = 1024
MAX_LOGPROBS = 20
MAX_NAMES_SHOWN, MAX_NAME_CHARACTERS = 16, 64
MAX_TOOLS, MAX_CALLS = 128, 128
MAX_SCHEMA_CHARACTERS, MAX_SCHEMA_TEXT, MAX_SCHEMA_DEPTH = 64 << 10, 4096, 32
NAME = r"^[a-zA-Z0-9_-]{1,64}$"


def text_of(content: object) -> str:
    """Return a message's content, a string or a list of parts of text, as one string; None is an empty one."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list) or len(content) > MAX_PARTS:
        raise ValueError(f"a string or a list of at most {MAX_PARTS} parts is expected")
    texts = []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else None
        if kind not in ("text", "input_text", "output_text") or not isinstance(text, str):
            shown = kind if isinstance(kind, str) else "no type"
            raise ValueError(f"part {place} has {shown[:MAX_NAME_CHARACTERS]!r}; this model reads parts of type 'text'")
        texts.append(text)
    return "\n".join(texts)


def stops_of(value: object) -> tuple[str, ...]:
    """Return the stop texts: none, one, or a list of up to four."""
    texts: Any = [] if value is None else [value] if isinstance(value, str) else value
    fits = isinstance(texts, list) and len(texts) <= MAX_STOPS
    if not fits or not all(isinstance(text, str) and 0 < len(text) <= MAX_STOP_CHARACTERS for text in texts):
        raise ValueError(f"up to {MAX_STOPS} texts of 1 to {MAX_STOP_CHARACTERS} characters are expected")
    return tuple(texts)


def prompts_of(value: object, most: int = MAX_PROMPTS) -> tuple[str | tuple[int, ...], ...]:
    """Return the prompts, each a text or ids, of any of the four forms that a completion takes."""
    if isinstance(value, str) or is_ids(value):
        value = [value]
    if not isinstance(value, list) or not 0 < len(value) <= most:
        raise ValueError(f"a text, a list of ids, or a list of up to {most} of either is expected")
    if all(isinstance(item, str) for item in value):
        return tuple(value)
    if all(is_ids(item) for item in value):
        return tuple(tuple(item) for item in value)
    raise ValueError("all prompts must be texts, or all lists of ids (whole numbers, 0 or more)")


def texts_of(value: object) -> tuple[str | tuple[int, ...], ...]:
    """Return the texts to embed, in the same forms."""
    return prompts_of(value, MAX_TEXTS)


def is_ids(value: object) -> bool:
    """Tell a list of token ids, not an empty one."""
    return isinstance(value, list) and bool(value) and all(type(item) is int and 0 <= item < 1 << 31 for item in value)


def ids_of(value: object) -> tuple[int, ...]:
    """Return token ids."""
    if value != [] and not is_ids(value):
        raise ValueError("a list of ids (whole numbers, 0 or more) is expected")
    return tuple(value)  # type: ignore[arg-type]


def biases_of(value: object) -> tuple[tuple[int, float], ...]:
    """Return pairs of id and bias; JSON has the ids as texts."""
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MAX_BIASES:
        raise ValueError(f"an object of at most {MAX_BIASES} ids and biases is expected")
    for key, bias in value.items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10):
            raise ValueError(f"{key[:MAX_NAME_CHARACTERS]!r} is not a token id")
        if isinstance(bias, bool) or not isinstance(bias, (int, float)) or not -100 <= bias <= 100:
            raise ValueError("a bias lies between -100 and 100")
    return tuple((int(key), float(bias)) for key, bias in value.items())


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema that is neither too deep nor too long to compile."""
    level: list[Any] = [schema]
    longest = 0
    for _ in range(MAX_SCHEMA_DEPTH):
        inner = [[*value, *value.values()] if isinstance(value, dict) else value for value in level]
        longest = max([longest, *(len(item) for values in inner for item in values if isinstance(item, str))])
        level = [item for values in inner for item in values if isinstance(item, (dict, list))]
    if level:
        raise ValueError(f"a schema of at most {MAX_SCHEMA_DEPTH} levels is expected")
    if longest > MAX_SCHEMA_TEXT:
        raise ValueError(f"a schema with texts of at most {MAX_SCHEMA_TEXT:,} characters is expected, not {longest:,}")
    if (length := len(json.dumps(schema, ensure_ascii=False))) > MAX_SCHEMA_CHARACTERS:
        raise ValueError(f"a schema of at most {MAX_SCHEMA_CHARACTERS:,} characters is expected, not {length:,}")
    return schema


def of_object(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a function's arguments, which are an object."""
    if schema.get("type", "object") != "object":
        raise ValueError("a schema of type 'object' is expected")
    return schema


@dataclass(frozen=True)
class Named:
    """The one tool that has to be called."""

    name: str


def choice_of(value: object) -> Named | str | None:
    """Return how a tool is chosen: "none", "auto", "required", or a named one."""
    if value is None or value in ("none", "auto", "required"):
        return value
    function = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise ValueError("'none', 'auto', 'required' or {'type': 'function', 'function': {'name': ...}} is expected")
    return Named(name)


def absent(value: object) -> object:
    """Refuse a field that asks for what is not served; empty ones ask for nothing."""
    if value not in (None, [], {}, ""):
        raise ValueError("this field is not served yet")
    return value


def no_tool(value: object) -> object:
    """Let a choice among no tools pass."""
    return absent(None if value in ("none", "auto") else value)


Stops = Annotated[tuple[str, ...], PlainValidator(stops_of, json_schema_input_type=str | list[str] | None)]
Prompts = Annotated[
    tuple[str | tuple[int, ...], ...],
    PlainValidator(prompts_of, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]
Texts = Annotated[
    tuple[str | tuple[int, ...], ...],
    PlainValidator(texts_of, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]
Ids = Annotated[tuple[int, ...], PlainValidator(ids_of, json_schema_input_type=list[int])]
Biases = Annotated[
    tuple[tuple[int, float], ...], PlainValidator(biases_of, json_schema_input_type=dict[str, float] | None)
]
Content = Annotated[str, BeforeValidator(text_of, json_schema_input_type=str | list[dict[str, Any]] | None)]
Schema = Annotated[dict[str, Any], AfterValidator(bounded)]
Parameters = Annotated[Schema, AfterValidator(of_object)]
Choice = Annotated[Named | str | None, PlainValidator(choice_of, json_schema_input_type=str | dict[str, Any] | None)]
Absent = Annotated[Any, AfterValidator(absent)]
NoTool = Annotated[Any, AfterValidator(no_tool)]
# Fields that change nothing here and are no reason for a warning.
IGNORED = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier"})


class Fields(BaseModel):
    """An object of the API: values of the very type, unknown keys kept apart."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)


class CalledFunction(Fields):
    """What the model called, its arguments as JSON in a string."""

    name: str = Field(max_length=256)
    arguments: str


class ToolCall(Fields):
    """A call in a message of the assistant."""

    id: str = Field(max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Fields):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = ""
    name: str | None = Field(default=None, max_length=256)
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MAX_CALLS)
    tool_call_id: str | None = Field(default=None, max_length=256)


class Function(Fields):
    """A function that the model may call; without parameters it takes none."""

    name: str = Field(pattern=NAME)
    description: str | None = None
    parameters: Parameters | None = None
    strict: bool | None = None


class Tool(Fields):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class JsonSchema(Fields):
    """What an answer has to be; without `strict`, keywords that are not known here are passed over."""

    name: str = Field(pattern=NAME)
    description: str | None = None
    schema_: Schema = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class ResponseFormat(Fields):
    """The form of an answer: any text, any object of JSON, or what a schema describes."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Fields):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None


class Generating(Fields):
    """What both kinds of completion share; null means the default."""

    model: str = Field(max_length=512)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=LOWEST_REPETITION_PENALTY, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: Biases = ()
    n: int | None = Field(default=None, ge=1, le=MAX_ANSWERS)
    stop: Stops = ()
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        """Tell whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Generating):
    """The body of /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    chat_template_kwargs: dict[str, Any] | None = Field(default=None, max_length=16)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: Choice = None
    parallel_tool_calls: bool | None = None
    functions: Absent = None
    function_call: NoTool = None


class CompletionRequest(Generating):
    """The body of /v1/completions."""

    prompt: Prompts
    max_tokens: int | None = Field(default=None, ge=0)
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    echo: bool | None = None
    best_of: int | None = None
    suffix: Absent = None


class EmbeddingRequest(Fields):
    """The body of /v1/embeddings."""

    model: str = Field(max_length=512)
    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)


class TokenizeRequest(Fields):
    """The body of /tokenize."""

    model: str | None = Field(default=None, max_length=512)
    prompt: str
    add_special_tokens: bool = True


class DetokenizeRequest(Fields):
    """The body of /detokenize."""

    model: str | None = Field(default=None, max_length=512)
    tokens: Ids


Kind = TypeVar("Kind", bound=Fields)


def parse(kind: type[Kind], body: bytes) -> Kind:
    """Return the request that a body holds; raises ApiError (400) that says where it is none."""
    values = read_json(body)
    if not isinstance(values, dict):
        raise invalid(f"the body must be a JSON object, not {json_type(values)}")
    try:
        request = kind.model_validate(values)
    except ValidationError as error:
        raise explained(error) from None
    check_together(request)
    return request


def check_together(request: Fields) -> None:
    """Refuse fields that do not go together."""
    if isinstance(request, Generating) and request.stream_options is not None and not request.stream:
        raise invalid("stream_options: only with stream=true", "stream_options")
    if isinstance(request, ChatRequest):
        if request.top_logprobs is not None and not request.logprobs:
            raise invalid("top_logprobs: only with logprobs=true", "top_logprobs")
        limits = {request.max_tokens, request.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise invalid("max_tokens and max_completion_tokens differ", "max_tokens")
        check_messages(request.messages)
        check_forms(request)
    if isinstance(request, CompletionRequest):
        if request.best_of is not None and request.best_of != (request.n or 1):
            raise invalid("best_of: only the same number as n is served", "best_of")
        if request.max_tokens == 0 and not request.echo:
            raise invalid("max_tokens: 0 only with echo=true", "max_tokens")


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse a message that says nothing, and calls of others than the assistant."""
    for place, message in enumerate(messages):
        if message.tool_calls and message.role != "assistant":
            raise invalid(
                f"messages[{place}].tool_calls: only the assistant calls tools", f"messages[{place}].tool_calls"
            )
        if "content" not in message.model_fields_set and not message.tool_calls:
            raise invalid(f"messages[{place}].content: field required", f"messages[{place}].content")


def check_forms(request: ChatRequest) -> None:
    """Refuse a choice among tools that are not there, two of one name, and a format by a schema without one."""
    names = [tool.function.name for tool in request.tools or ()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise invalid(f"tools: two functions have the name {twice[0]!r}", "tools")
    choice, form = request.tool_choice, request.response_format
    if choice == "required" and not names:
        raise invalid("tool_choice: 'required' without tools to choose from", "tool_choice")
    if isinstance(choice, Named) and choice.name not in names:
        name = choice.name[:MAX_NAME_CHARACTERS]
        raise invalid(f"tool_choice: there is no tool {name!r}.{nearest(name, names)}", "tool_choice")
    if form is not None and form.type == "json_schema" and form.json_schema is None:
        raise invalid("response_format.json_schema: field required", "response_format.json_schema")


def read_json(body: bytes) -> Any:
    """Return what a body says in strict JSON; raises ApiError (400)."""
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=no_number, object_pairs_hook=no_key_twice)
        if b"\\u" in body:  # only an escape can write half of a surrogate pair
            json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise invalid("the body is not UTF-8") from None
    except UnicodeEncodeError:
        raise invalid("the body holds half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise invalid("the body is nested too deeply") from None
    except ValueError as error:
        raise invalid(f"the body is not JSON: {error}") from None
    return values


def no_number(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is not a number of JSON")


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; two readers could take different ones of two equal keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has one key twice")
    return found


def json_type(value: object) -> str:
    """Return what JSON calls a value's type."""
    names = {str: "a string", list: "an array", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def explained(error: ValidationError) -> ApiError:
    """Return the first fault of a request with its place, "messages[0].role", and no value of it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])[1:]
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return invalid(f"{param}: {message[:1].lower()}{message[1:]}{more}", param)


def unknown_fields(request: Fields) -> list[str]:
    """Return the names of the fields that were not understood, fit for a header."""
    names = [name for name in extra_of(request) if name not in IGNORED]
    return [name if plain(name) else "?" for name in names[:MAX_NAMES_SHOWN]]


def extra_of(request: Fields) -> Mapping[str, Any]:
    """Return the fields that a model does not have."""
    return request.model_extra or {}


def plain(name: str) -> bool:
    """Tell a name of letters, digits and underscores."""
    return len(name) <= MAX_NAME_CHARACTERS and name.isascii() and name.replace("_", "").isalnum()
