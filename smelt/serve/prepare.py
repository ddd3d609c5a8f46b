"""A request becomes prompts: template and tokenizer are applied, and what is asked is checked against the model.

This is the work that grows with a request, so it runs in a thread, never on the event loop. What a user writes never
becomes a control token: only the chat template, or a caller that sends ids, can write one.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smelt.core.errors import SmeltError, nearest
from smelt.infer import Engine, EngineSettings
from smelt.infer.adapters import Adapters
from smelt.infer.constrain import Constraint, Grammars, json_rule
from smelt.infer.sampling import Sampling
from smelt.serve.errors import ApiError, from_smelt, invalid
from smelt.serve.protocol import ChatRequest, CompletionRequest, Function, Generating, Message, Named, Tool
from smelt.serve.tool_calls import Calling
from smelt.serve.tool_forms import calls_grammar, form_of
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.pipeline import Pipeline

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's
SEEDS = 1 << 63
GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


@dataclass(frozen=True)
class Served:
    """The model that answers.

    Args:
        name: what requests call it.
        created: when it was written, in seconds since 1970.
        template: how it reads conversations; None where its tokenizer cannot write one.
        max_seq_len: tokens of prompt and answer together; no more than the engine's cache holds.
        stop_ids: tokens that end an answer.
        new_engine: makes an engine over the loaded model; again after a fault.
        adapters: those that are loaded, each a model of its own name; of all engines that follow one another.
        adapter_root: the directory with those that may be loaded while the server runs; None: none may.
        dim: numbers of its hidden states, and so of its embeddings.
    """

    name: str
    created: int
    tokenizer: Pipeline
    template: ChatTemplate | None
    vocab_size: int
    max_seq_len: int
    stop_ids: tuple[int, ...]
    new_engine: Callable[[EngineSettings], Engine]
    adapters: Adapters
    adapter_root: Path | None
    dim: int

    @functools.cached_property
    def grammars(self) -> Grammars:
        """Return what makes constraints for the model's answers."""
        return Grammars(self.tokenizer, self.vocab_size, self.stop_ids)


@dataclass(frozen=True)
class Wanted:
    """One prompt for the engine, as its `submit` takes it, and what calls of tools to look for in the answer."""

    prompt: tuple[int, ...]
    sampling: Sampling
    prompt_logprobs: int | None = None
    constraint: Constraint | None = None
    shown: tuple[int, ...] = ()
    calling: Calling | None = None
    adapter: str | None = None


def check_model(served: Served, name: str | None) -> None:
    """Raise ApiError (404) for a model that is not served."""
    known = [served.name, *served.adapters.names]
    if name is not None and name not in known:
        raise ApiError(
            404,
            f"there is no model {name[:128]!r}.{nearest(name[:128], known)} Served here: {', '.join(known[:16])}",
            param="model",
            code="model_not_found",
        )


def adapter_of(served: Served, name: str) -> str | None:
    """Return the adapter that a model's name means, None for the base; raises ApiError (404)."""
    check_model(served, name)
    return None if name == served.name else name


def chat_prompts(served: Served, request: ChatRequest) -> list[Wanted]:
    """Return one prompt an answer; raises ApiError for what the model cannot read or has no room for."""
    adapter = adapter_of(served, request.model)
    if served.template is None:
        raise invalid("this model has no chat template; /v1/completions continues texts", "messages")
    calling = calling_of(served.template, request)
    tools = [told_tool(tool) for tool in request.tools or ()] if calling else None
    messages = [told_message(message, place) for place, message in enumerate(request.messages)]
    try:
        ids, _ = served.template.render(messages, add_reply=True, tools=tools, options=request.chat_template_kwargs)
    except SmeltError as error:
        raise from_smelt(error) from error
    room = room_after(served, ids, "messages")
    top = (request.top_logprobs or 0) if request.logprobs else None
    sampling = sampling_of(served, request, request.max_tokens or request.max_completion_tokens or room, top, room)
    constraint = constraint_of(served, request, calling)
    shown = tuple(calling.form.marks(served.tokenizer.special)) if calling else ()
    return [
        Wanted(tuple(ids), seeded(sampling, place), None, constraint and constraint.copy(), shown, calling, adapter)
        for place in range(request.n or 1)
    ]


def told_message(message: Message, place: int) -> dict[str, Any]:
    """Return a message as a template reads it; raises ApiError for a call whose arguments are no object of JSON."""
    told: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
    told["content"] = message.content
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    for number, call in enumerate(message.tool_calls or ()):
        arguments = arguments_in(call.function.arguments or "{}")
        if arguments is None:
            where = f"messages[{place}].tool_calls[{number}].function.arguments"
            raise invalid(f"{where}: an object of JSON in a string is expected", where)
        function = {"name": call.function.name, "arguments": arguments}
        told.setdefault("tool_calls", []).append({"id": call.id, "type": call.type, "function": function})
    return told


def arguments_in(text: str) -> dict[str, Any] | None:
    """Return the arguments of a call; None where the text is no object of JSON."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


def told_tool(tool: Tool) -> dict[str, Any]:
    """Return a tool as a template shows it to the model: as it was sent, but for what concerns the server alone."""
    return tool.model_dump(exclude_unset=True, exclude={"function": {"strict"}})


def calling_of(template: ChatTemplate, request: ChatRequest) -> Calling | None:
    """Return what calls there may be in the answer; raises ApiError for tools that the template cannot say."""
    if not request.tools or request.tool_choice == "none":
        return None
    form = form_of(template.jinja)
    if form is None:
        raise invalid(
            "tools: the chat template of this model has no place for tools"
            if "tools" not in template.jinja
            else "tools: the chat template of this model writes calls in a form that is not known here",
            "tools",
        )
    names = [function.name for function in callable_functions(request)]
    certain = must_call(request) or wants_json(request)
    return Calling(form, names, certain=certain, parallel=request.parallel_tool_calls is not False)


def constraint_of(served: Served, request: ChatRequest, calling: Calling | None) -> Constraint | None:
    """Return what the answer is held to, None for a free one; raises ApiError for what no answer can be held to."""
    kinds, rules = [], []
    if calling is not None and calling.certain:
        special, functions = served.tokenizer.special, callable_functions(request)
        kinds.append("calls")
        rules.append(calls_grammar(calling.form, functions, special, parallel=calling.parallel))
    if wants_json(request) and not must_call(request):
        asked = request.response_format and request.response_format.json_schema
        schema = asked.schema_ if asked else {"type": "object"}
        kinds.append("answer")
        rules.append(f"answer: {json_rule(schema, lenient=not (asked and asked.strict))}")
    if not kinds:
        return None
    try:
        return served.grammars.compile("\n".join([f"start: {' | '.join(kinds)}", *rules]))
    except SmeltError as error:
        param = "response_format" if "answer" in kinds else "tools"
        raise invalid(f"{param}: {error}", param) from error


def callable_functions(request: ChatRequest) -> list[Function]:
    """Return the functions that the answer may call."""
    functions = [tool.function for tool in request.tools or ()]
    choice = request.tool_choice
    return [one for one in functions if one.name == choice.name] if isinstance(choice, Named) else functions


def must_call(request: ChatRequest) -> bool:
    """Tell whether the answer has to be a call."""
    return request.tool_choice == "required" or isinstance(request.tool_choice, Named)


def wants_json(request: ChatRequest) -> bool:
    """Tell whether the answer has to be JSON where it is no call."""
    return request.response_format is not None and request.response_format.type != "text"


def completion_prompts(served: Served, request: CompletionRequest) -> list[Wanted]:
    """Return the prompts, each as often as answers are wanted; raises ApiError as `chat_prompts` does."""
    adapter = adapter_of(served, request.model)
    wanted = []
    limit = DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else max(1, request.max_tokens)
    for prompt in request.prompt:
        ids = tuple(beginning(served, prompt)) if isinstance(prompt, str) else prompt
        check_ids(served, ids, "prompt")
        room = room_after(served, ids, "prompt")
        sampling = sampling_of(served, request, limit, request.logprobs, room)
        scored = request.logprobs if request.echo else None
        wanted += [Wanted(ids, seeded(sampling, place), scored, adapter=adapter) for place in range(request.n or 1)]
    return wanted


def check_ids(served: Served, ids: Sequence[int], param: str) -> None:
    """Raise ApiError for an id that the model does not have."""
    if max(ids, default=0) >= served.vocab_size:
        raise invalid(f"{param}: {max(ids)} is no token; the model has {served.vocab_size}", param)


def beginning(served: Served, text: str) -> Sequence[int]:
    """Return the ids of a text at the beginning of a document, as in training: behind the mark between documents."""
    tokenizer = served.tokenizer
    try:
        if END_OF_TEXT in tokenizer.special:
            return [tokenizer.special[END_OF_TEXT], *tokenizer.encode(text)]
        return tokenizer.encode(text, add_special_tokens=True)
    except SmeltError as error:
        raise from_smelt(error) from error


def room_after(served: Served, ids: Sequence[int], param: str) -> int:
    """Return how many tokens fit behind a prompt; raises ApiError for an empty prompt or one that leaves no room."""
    if not ids:
        raise invalid(f"{param}: the prompt is empty", param)
    if len(ids) >= served.max_seq_len:
        raise invalid(
            f"the prompt has {len(ids)} tokens and the context of this model {served.max_seq_len}, "
            "of which an answer needs at least one",
            param,
            "context_length_exceeded",
        )
    return served.max_seq_len - len(ids)


def sampling_of(served: Served, request: Generating, limit: int, logprobs: int | None, room: int) -> Sampling:
    """Return how tokens are chosen; raises ApiError for what cannot be."""
    for token, _ in request.logit_bias:
        if token >= served.vocab_size:
            raise invalid(f"logit_bias: {token} is no token; the model has {served.vocab_size}", "logit_bias")
    seed = secrets.randbits(62) if request.seed is None else request.seed % SEEDS
    given = {
        name: value
        for name in (
            *("temperature", "top_p", "top_k", "min_p"),
            *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        )
        if (value := getattr(request, name)) is not None
    }
    try:
        return Sampling(
            max_new_tokens=min(limit, room),
            stop=request.stop,
            seed=seed,
            logit_bias=request.logit_bias,
            logprobs=logprobs,
            **given,
        )
    except SmeltError as error:
        raise from_smelt(error) from error


def seeded(sampling: Sampling, place: int) -> Sampling:
    """Return the settings of the answer at `place` of n: seed, seed + 1, ..."""
    return replace(sampling, seed=(sampling.seed + place) % SEEDS)


def token_ids(served: Served, text: str, add_special: bool) -> list[int]:
    """Return the ids of a text for /tokenize; a text that is exactly one special token is that token.

    lm-eval asks in this way for the id of the end of text.
    """
    if text in served.tokenizer.special:
        return [served.tokenizer.special[text]]
    if add_special:
        return list(beginning(served, text))
    return served.tokenizer.encode(text)


def plain_jinja(template: str) -> str:
    """Return a chat template without its marks of what is learned, which are no part of Jinja and mean nothing here.

    `{% generation %}` becomes `{% if true %}`, so that what trims white space around it still does.
    """
    return GENERATION.sub(lambda found: f"{found[1]}{'endif' if found[2] else 'if true'}{found[3]}", template)
