"""A request becomes prompts: template and tokenizer are applied, and what is asked is checked against the model.

This is the work that grows with a request, so it runs in a thread, never on the event loop. What a user writes never
becomes a control token: only the chat template, or a caller that sends ids, can write one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from smelt.core.errors import SmeltError, nearest
from smelt.infer import Engine, EngineSettings
from smelt.infer.sampling import Sampling
from smelt.serve.errors import ApiError, from_smelt, invalid
from smelt.serve.protocol import ChatRequest, CompletionRequest, Generating
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
        new_engine: makes an engine over the loaded model; again after a fault.
    """

    name: str
    created: int
    tokenizer: Pipeline
    template: ChatTemplate | None
    vocab_size: int
    max_seq_len: int
    new_engine: Callable[[EngineSettings], Engine]


@dataclass(frozen=True)
class Wanted:
    """One prompt for the engine; `prompt_logprobs` as the engine's `submit` takes it."""

    prompt: tuple[int, ...]
    sampling: Sampling
    prompt_logprobs: int | None = None


def check_model(served: Served, name: str | None) -> None:
    """Raise ApiError (404) for a model that is not the one that is served."""
    if name is not None and name != served.name:
        raise ApiError(
            404,
            f"there is no model {name[:128]!r}.{nearest(name[:128], [served.name])} Served here: {served.name}",
            param="model",
            code="model_not_found",
        )


def chat_prompts(served: Served, request: ChatRequest) -> list[Wanted]:
    """Return one prompt an answer; raises ApiError for what the model cannot read or has no room for."""
    check_model(served, request.model)
    if served.template is None:
        raise invalid("this model has no chat template; /v1/completions continues texts", "messages")
    messages = [
        {"role": "system" if message.role == "developer" else message.role, "content": message.content}
        for message in request.messages
    ]
    try:
        ids, _ = served.template.render(messages, add_reply=True, options=request.chat_template_kwargs)
    except SmeltError as error:
        raise from_smelt(error) from error
    room = room_after(served, ids, "messages")
    top = (request.top_logprobs or 0) if request.logprobs else None
    sampling = sampling_of(served, request, request.max_tokens or request.max_completion_tokens or room, top, room)
    return [Wanted(tuple(ids), seeded(sampling, place)) for place in range(request.n or 1)]


def completion_prompts(served: Served, request: CompletionRequest) -> list[Wanted]:
    """Return the prompts, each as often as answers are wanted; raises ApiError as `chat_prompts` does."""
    check_model(served, request.model)
    wanted = []
    limit = DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else max(1, request.max_tokens)
    for prompt in request.prompt:
        ids = tuple(beginning(served, prompt)) if isinstance(prompt, str) else prompt
        if max(ids, default=0) >= served.vocab_size:
            raise invalid(f"prompt: {max(ids)} is no token; the model has {served.vocab_size}", "prompt")
        room = room_after(served, ids, "prompt")
        sampling = sampling_of(served, request, limit, request.logprobs, room)
        scored = request.logprobs if request.echo else None
        wanted += [Wanted(ids, seeded(sampling, place), scored) for place in range(request.n or 1)]
    return wanted


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
