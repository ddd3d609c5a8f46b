"""What /openapi.json says of answers: the shape of each, and that of every error; requests are described by `protocol`.

The framework writes the document from the routes. It knows nothing of our answers, which it does not make, and
announces errors of its own that are never sent; both are put right here.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
INTEGER: Json = {"type": "integer"}
OBJECT: Json = {"type": "object"}


def record(**properties: Json) -> Json:
    """Return the schema of an object that has all of these fields, and maybe others."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def many(schema: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}


def maybe(schema: Json) -> Json:
    """Return the schema of a value or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def completion(kind: str, **choice: Json) -> Json:
    """Return the schema of a whole completion."""
    reason = {"enum": ["stop", "length", "tool_calls", "content_filter"]}
    usage = record(prompt_tokens=INTEGER, completion_tokens=INTEGER, total_tokens=INTEGER)
    return record(
        id=TEXT,
        object={"const": kind},
        created=INTEGER,
        model=TEXT,
        system_fingerprint=TEXT,
        choices=many(record(index=INTEGER, finish_reason=reason, logprobs=maybe(OBJECT), **choice)),
        usage=usage,
    )


EVENT = {"anyOf": [TEXT, record(data=TEXT)]}
"""A stream: as a whole text, or as readers of it cut it up, one event."""
ERROR = record(error=record(message=TEXT, type=TEXT, param=maybe(TEXT), code=maybe(TEXT)))
CARD = record(id=TEXT, object={"const": "model"}, created=INTEGER, owned_by=TEXT, max_model_len=INTEGER)
CARDS = record(object={"const": "list"}, data=many(CARD))
VECTOR = record(object={"const": "embedding"}, index=INTEGER, embedding={"anyOf": [many({"type": "number"}), TEXT]})
RESPONSE = record(
    id=TEXT,
    object={"const": "response"},
    created_at=INTEGER,
    status={"enum": ["completed", "incomplete"]},
    model=TEXT,
    output=many(record(id=TEXT, type=TEXT)),
    usage=record(input_tokens=INTEGER, output_tokens=INTEGER, total_tokens=INTEGER),
)
TOKENS = record(tokens=many(INTEGER), count=INTEGER, max_model_len=INTEGER)
MARKS = {name: maybe(TEXT) for name in ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")}
ANSWERS: dict[str, Json] = {
    "/v1/chat/completions": completion("chat.completion", message=record(role=TEXT, content=maybe(TEXT))),
    "/v1/completions": completion("text_completion", text=TEXT),
    "/v1/responses": RESPONSE,
    "/v1/embeddings": record(object={"const": "list"}, data=many(VECTOR), model=TEXT, usage=OBJECT),
    "/v1/models": CARDS,
    "/v1/load_lora_adapter": CARDS,
    "/v1/unload_lora_adapter": CARDS,
    "/v1/models/{model_id}": CARD,
    "/tokenize": TOKENS,
    "/detokenize": record(prompt=TEXT),
    "/tokenizer_info": record(vocab_size=INTEGER, **MARKS),
    "/health": record(status=TEXT),
    "/ready": record(status=TEXT),
    "/version": record(version=TEXT),
}
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


def content_of(path: str) -> Json:
    """Return the media types of a path's answer, each with its schema."""
    if path == "/metrics":
        return {"text/plain": {"schema": TEXT}}
    known = ANSWERS.get(path) or ANSWERS.get(path.removeprefix("/v1"), OBJECT)
    events = {"text/event-stream": {"schema": EVENT}} if path in STREAMED else {}
    return {"application/json": {"schema": known}, **events}


def described(document: Json) -> Json:
    """Return the framework's document with our answers and errors in it."""
    error = {"description": "What is wrong, and where", "content": {"application/json": {"schema": ERROR}}}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            answer = {"description": "The answer", "content": content_of(path)}
            operation["responses"] = {"200": answer, "default": error}
    return {name: value for name, value in document.items() if name != "components"}
