"""The routes: OpenAI's models, chat completions and completions, and what tokenizers, balancers and people ask for.

Bodies are read and checked by `protocol`, not by the framework, whose refusals have another shape and another status.
Until a job's first token is on its way its client gets a plain error, and from then on an event; in both cases the job
ends when the client goes. What a request costs before the engine has it, parsing, templates and tokenizing, is done in
a few threads beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from smelt import __version__
from smelt.core.errors import SmeltError
from smelt.core.extras import need
from smelt.serve import response_events, streaming
from smelt.serve.adapters import AdapterRequest, check_loaded, stored_adapter
from smelt.serve.answers import Answers
from smelt.serve.embeddings import embeddings, texts_of
from smelt.serve.errors import ApiError, fault, from_smelt
from smelt.serve.guard import Guard
from smelt.serve.kept import earlier_items, keeper
from smelt.serve.keys import Keys, Scope
from smelt.serve.loop import EngineLoop, Job
from smelt.serve.metrics import Metrics
from smelt.serve.openapi import described
from smelt.serve.prepare import (
    Served,
    Wanted,
    adapter_of,
    chat_prompts,
    check_model,
    completion_prompts,
    plain_jinja,
    token_ids,
)
from smelt.serve.protocol import (
    MAX_BODY_BYTES,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    Fields,
    TokenizeRequest,
    parse,
    unknown_fields,
)
from smelt.serve.response_events import Reply
from smelt.serve.responses import ResponseRequest, response_prompts
from smelt.serve.store.database import Store
from smelt.serve.streaming import EventStream, Gone, to_json, unless_gone
from smelt.tokenizers.base import END_OF_TEXT

if TYPE_CHECKING:
    from fastapi import Request, Response
else:
    Request, Response = (getattr(need("fastapi", extra="serve"), name) for name in ("Request", "Response"))

BODY_SECONDS = 30.0
PREPARING_THREADS = 2
PAGE = {
    "/": ("index.html", "text/html"),
    "/chat.css": ("chat.css", "text/css"),
    "/chat.js": ("chat.js", "text/javascript"),
}
Result = TypeVar("Result")


class Api:
    """The answers to all routes, over one engine.

    Args:
        engine: does the work; the application's lifespan starts and stops it.
        metrics: is told of it.
        keys: those that open the routes that cost something; None: nobody needs one.
        store: keeps responses; None: nothing is kept.
    """

    def __init__(self, engine: EngineLoop, metrics: Metrics, keys: Keys | None, store: Store | None) -> None:
        self.engine, self.metrics, self.keys, self.store = engine, metrics, keys, store
        self._changing = asyncio.Lock()
        self.pool = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="prepare")

    async def authorize(self, request: Request) -> None:
        """Note who asks; raises ApiError (401, 403) for a request without the right key where one is needed."""
        scope: Scope = "metrics" if request.scope["path"] == "/metrics" else "models"
        request.state.owner = ""
        if self.keys is not None:
            request.state.owner = await self.keys.check(request.headers.getlist("authorization"), scope)

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        return await self._complete(request, ChatRequest)

    async def completions(self, request: Request) -> Response:
        """Continue texts."""
        return await self._complete(request, CompletionRequest)

    async def responses(self, request: Request) -> Response:
        """Answer a conversation in the form of a response."""
        served, body = self.engine.served, await read_body(request)
        job = self.engine.open(id_of(request))
        stream = False
        try:
            begin = self._begin_response(served, job, request.state.owner, body)
            reply, headers = await unless_gone(request.receive, begin)
            note = self.metrics.follow(job, 1)
            stream = bool(reply.request.stream)
            if stream:
                return EventStream(job, response_events.sent(reply, job, note), headers)

            async def collect() -> None:
                async for _ in reply.events(job, note):
                    continue

            await unless_gone(request.receive, collect())
            return answer(reply.response(reply.status), headers)
        finally:
            if not stream:
                job.close()

    async def embeddings(self, request: Request) -> Response:
        """Turn texts into vectors."""
        served, body = self.engine.served, await read_body(request)
        job = self.engine.open(id_of(request))

        def begin() -> tuple[EmbeddingRequest, list[tuple[int, ...]]]:
            asked = parse(EmbeddingRequest, body)
            return asked, texts_of(served, asked)

        async def work() -> Response:
            asked, texts = await self._aside(begin)
            vectors = await job.embed(texts, adapter_of(served, asked.model))
            self.metrics.on_embedded(sum(map(len, texts)))
            return await self._aside(lambda: answer(embeddings(served, asked, texts, vectors), warning(asked)))

        try:
            return await unless_gone(request.receive, work())
        finally:
            job.close()

    async def tokenize(self, request: Request) -> Response:
        """Return the ids of a text."""

        def work(served: Served, body: bytes) -> dict[str, Any]:
            asked = parse(TokenizeRequest, body)
            check_model(served, asked.model)
            ids = token_ids(served, asked.prompt, asked.add_special_tokens)
            return {"count": len(ids), "max_model_len": served.max_seq_len, "tokens": ids}

        return await self._light(request, work)

    async def detokenize(self, request: Request) -> Response:
        """Return the text of some ids."""

        def work(served: Served, body: bytes) -> dict[str, Any]:
            asked = parse(DetokenizeRequest, body)
            check_model(served, asked.model)
            return {"prompt": served.tokenizer.decode(asked.tokens)}

        return await self._light(request, work)

    async def tokenizer_info(self) -> Response:
        """Describe the tokenizer, as far as a client needs it to work with ids."""
        served = self.engine.served
        begin = {"bos_token": END_OF_TEXT} if END_OF_TEXT in served.tokenizer.special else {}
        named = {**begin, **(served.template.tokens if served.template else {}), **served.tokenizer.named_tokens}
        marks = {name: named.get(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
        jinja = plain_jinja(served.template.jinja) if served.template else None
        return answer({**marks, "vocab_size": served.vocab_size, "chat_template": jinja})

    async def models(self) -> Response:
        """List the model, and its adapters."""
        served = self.engine.served
        return answer(
            {"object": "list", "data": [card(served, name) for name in (served.name, *served.adapters.names)]}
        )

    async def model(self, model_id: str) -> Response:
        """Describe a model."""
        check_model(self.engine.served, model_id)
        return answer(card(self.engine.served, model_id))

    async def load_adapter(self, request: Request) -> Response:
        """Load an adapter, from then on a model of its own name."""

        async def work(served: Served, asked: AdapterRequest) -> None:
            lora = await self._aside(lambda: stored_adapter(served, asked))
            await self.engine.order(lambda engine: engine.adapters.add(asked.lora_name, lora))

        return await self._change(request, work)

    async def drop_adapter(self, request: Request) -> Response:
        """Drop an adapter; answers under way keep it."""

        async def work(served: Served, asked: AdapterRequest) -> None:
            check_loaded(served, asked.lora_name)
            await self.engine.order(lambda engine: engine.adapters.drop(asked.lora_name))

        return await self._change(request, work)

    async def health(self) -> Response:
        """Say that the process lives."""
        return answer({"status": self.engine.state})

    async def ready(self) -> Response:
        """Say whether requests are taken; raises ApiError (503) while they are not."""
        self.engine.served  # noqa: B018  # raises
        return answer({"status": "ready"})

    async def show_metrics(self) -> Response:
        """Return what Prometheus reads."""
        text, media_type = self.metrics.text()
        return Response(text, media_type=media_type)

    async def version(self) -> Response:
        """Return smelt's version."""
        return answer({"version": __version__})

    async def _aside(self, work: Callable[[], Result]) -> Result:
        """Do work in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    async def _light(self, request: Request, work: Callable[[Served, bytes], dict[str, Any]]) -> Response:
        """Answer what needs the tokenizer alone; it counts as a job, so that there is a bound."""
        served, body = self.engine.served, await read_body(request)
        job = self.engine.open(id_of(request))
        try:
            return answer(await self._aside(lambda: work(served, body)))
        finally:
            job.close()

    async def _change(self, request: Request, work: Callable[[Served, AdapterRequest], Awaitable[None]]) -> Response:
        """Change which adapters there are, one at a time, and list the models."""
        served, body = self.engine.served, await read_body(request)
        job = self.engine.open(id_of(request))
        try:
            async with self._changing:
                await work(served, parse(AdapterRequest, body))
        finally:
            job.close()
        return await self.models()

    async def _complete(self, request: Request, kind: type[ChatRequest] | type[CompletionRequest]) -> Response:
        served, body = self.engine.served, await read_body(request)
        job = self.engine.open(id_of(request))
        stream = False
        try:
            answers, headers = await unless_gone(request.receive, self._begin(served, job, kind, body))
            note = self.metrics.follow(job, answers.num_each)
            stream = bool(answers.request.stream)
            if stream:
                return EventStream(job, streaming.sent(job, answers, note), headers)

            async def collect() -> dict[str, Any]:
                pieces: list[list[dict[str, Any]]] = [[] for _ in answers.choices]
                while not answers.done:
                    steps = await job.next()
                    note(steps)
                    for place, update in steps:
                        pieces[place] += answers.take((place, update))
                return answers.whole(pieces)

            return answer(await unless_gone(request.receive, collect()), headers)
        finally:
            if not stream:
                job.close()

    async def _begin_response(self, served: Served, job: Job, owner: str, body: bytes) -> tuple[Reply, dict[str, str]]:
        """Hand a conversation to the engine; return what will make a response of it, and its headers."""
        asked = await self._aside(lambda: parse(ResponseRequest, body))
        earlier = await earlier_items(self.store, owner, asked)
        chat, wanted = await self._aside(lambda: response_prompts(served, asked, earlier))
        await job.submit(wanted)
        answers = Answers(served, chat, wanted, job.request_id)
        return Reply(asked, answers, keeper(self.store, owner, asked)), warning(asked)

    async def _begin(
        self, served: Served, job: Job, kind: type[ChatRequest] | type[CompletionRequest], body: bytes
    ) -> tuple[Answers, dict[str, str]]:
        """Hand a request to the engine; return what will make its answers, and the headers of the response."""

        def work() -> tuple[ChatRequest | CompletionRequest, list[Wanted]]:
            asked = parse(kind, body)
            if isinstance(asked, ChatRequest):
                return asked, chat_prompts(served, asked)
            return asked, completion_prompts(served, asked)

        asked, wanted = await self._aside(work)
        await job.submit(wanted)
        return Answers(served, asked, wanted, job.request_id), warning(asked)


def answer(value: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return a response of JSON."""
    return Response(to_json(value), media_type="application/json", headers=headers)


def card(served: Served, name: str) -> dict[str, Any]:
    """Describe a model; an adapter has a parent."""
    return {
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "smelt",
        "max_model_len": served.max_seq_len,
        "parent": None if name == served.name else served.name,
    }


def warning(asked: Fields) -> dict[str, str]:
    """Return the header that names the fields that were not understood, if there are any."""
    unknown = unknown_fields(asked)
    return {"warning": f'299 smelt "ignored fields: {", ".join(unknown)}"'} if unknown else {}


def id_of(request: Request) -> str:
    """Return the request's id, which the guard gave it."""
    return str(request.scope["state"]["request_id"])


async def read_body(request: Request) -> bytes:
    """Return a body of JSON; raises ApiError for another type, one too large or too slow, Gone for half of one."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "the body must be JSON, and Content-Type say so: application/json")
    length = request.headers.get("content-length", "0")
    too_large = ApiError(413, f"the body has more than {MAX_BODY_BYTES:,} bytes", code="request_too_large")
    if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {BODY_SECONDS:g} seconds") from None
    return bytes(body)


def make_app(
    engine: EngineLoop,
    *,
    keys: Keys | None = None,
    store: Store | None = None,
    hosts: Iterable[str] = (),
    on_failure: Callable[[], None],
) -> Guard:
    """Return the ASGI application of a server; `on_failure` is called when there is no engine to be had."""
    fastapi = need("fastapi", extra="serve")
    metrics = Metrics(engine)
    api = Api(engine, metrics, keys, store)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        engine.start(on_failure)
        yield
        engine.stop()
        api.pool.shutdown(wait=False, cancel_futures=True)

    app = bare_app("smelt", lifespan)
    describe = app.openapi
    app.openapi = lambda: described(describe())
    guarded = fastapi.APIRouter(dependencies=[fastapi.Depends(api.authorize)])
    add_routes(guarded, api)
    app.include_router(guarded)
    for path, endpoint in {"/health": api.health, "/ready": api.ready, "/version": api.version}.items():
        app.add_api_route(path, endpoint, methods=["GET"], response_model=None)
    for path, (name, media_type) in PAGE.items():
        app.add_api_route(path, page(name, media_type), methods=["GET"], include_in_schema=False, response_model=None)
    return Guard(app, hosts=hosts, on_done=metrics.on_done)


def bare_app(title: str, lifespan: Callable[[Any], Any], **settings: Any) -> Any:
    """Return an application of FastAPI without routes, whose errors have OpenAI's form."""
    return need("fastapi", extra="serve").FastAPI(
        title=title,
        version=__version__,
        docs_url=None,  # its page would fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={
            ApiError: on_api_error,
            SmeltError: on_smelt_error,
            Exception: on_fault,
            404: on_other,
            405: on_other,
        },
        **settings,
    )


def add_routes(router: Any, api: Api) -> None:
    """Add the routes that a key guards."""
    posts: dict[str, tuple[Callable[..., Any], type[BaseModel]]] = {
        "/v1/chat/completions": (api.chat, ChatRequest),
        "/v1/completions": (api.completions, CompletionRequest),
        "/v1/responses": (api.responses, ResponseRequest),
        "/v1/embeddings": (api.embeddings, EmbeddingRequest),
        "/v1/load_lora_adapter": (api.load_adapter, AdapterRequest),
        "/v1/unload_lora_adapter": (api.drop_adapter, AdapterRequest),
        "/tokenize": (api.tokenize, TokenizeRequest),
        "/v1/tokenize": (api.tokenize, TokenizeRequest),
        "/detokenize": (api.detokenize, DetokenizeRequest),
        "/v1/detokenize": (api.detokenize, DetokenizeRequest),
    }
    gets: dict[str, Callable[..., Any]] = {
        "/v1/models": api.models,
        "/v1/models/{model_id:path}": api.model,
        "/tokenizer_info": api.tokenizer_info,
        "/v1/tokenizer_info": api.tokenizer_info,
        "/metrics": api.show_metrics,
    }
    for path, (endpoint, kind) in posts.items():
        content = {"application/json": {"schema": schema_of(kind)}}
        extra = {"requestBody": {"required": True, "content": content}}
        router.add_api_route(path, endpoint, methods=["POST"], response_model=None, openapi_extra=extra)
    for path, endpoint in gets.items():
        router.add_api_route(path, endpoint, methods=["GET"], response_model=None)


def schema_of(kind: type[BaseModel]) -> Any:
    """Return the JSON schema of a body, with no reference in it: a document of OpenAPI has another root."""
    schema = kind.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(value: Any) -> Any:
        if isinstance(value, dict):
            name = value.get("$ref", "").removeprefix("#/$defs/")
            return inline(definitions[name]) if name else {key: inline(item) for key, item in value.items()}
        return [inline(item) for item in value] if isinstance(value, list) else value

    return inline(schema)


def page(name: str, media_type: str) -> Callable[[], Any]:
    """Return a route that answers with one file of the chat page, read once."""
    data = files("smelt.serve").joinpath("web", name).read_bytes()

    async def show() -> Response:
        return Response(data, media_type=f"{media_type}; charset=utf-8", headers={"cache-control": "no-cache"})

    return show


async def on_api_error(_: Request, error: ApiError) -> Response:
    """Answer with a refusal."""
    return Response(to_json(error.body), error.status, error.headers, "application/json")


async def on_smelt_error(request: Request, error: SmeltError) -> Response:
    """Answer with what a deeper layer refused."""
    return await on_api_error(request, from_smelt(error))


async def on_fault(request: Request, _: Exception) -> Response:
    """Answer to a request on which we failed; the guard writes into the log what happened."""
    return await on_api_error(request, fault(id_of(request)))


async def on_other(request: Request, error: Any) -> Response:
    """Answer to a path or a method that there is not."""
    if error.status_code == 405:
        return await on_api_error(request, ApiError(405, f"{request.method} is not served at this path"))
    return await on_api_error(request, ApiError(404, "there is nothing at this path", code="not_found"))
