"""`smelt serve`: answer over HTTP, in the words of OpenAI's API, and to people at `/`.

The server listens at once and loads meanwhile; `/ready` tells when it is done. On stderr stands one line of JSON a
request, without what was asked or answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import make_app
from smelt.core.errors import UsageError

if TYPE_CHECKING:
    from smelt.serve.keys import Keys
    from smelt.serve.store.database import Store

app = make_app()


@app.command()
def serve(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    host: Annotated[str, typer.Option(help="The address; beyond this machine only with keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = 8000,
    name: Annotated[str, typer.Option(help="What requests call the model; by default its directory's name.")] = "",
    keys: Annotated[Path | None, typer.Option(help="A file with the SHA-256 of one API key a line.")] = None,
    store: Annotated[str | None, typer.Option(help="Keys and responses: a file, or PostgreSQL's URL.")] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name by which this server may be called; repeat for several.")
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR: a LoRA of peft's that answers as the model NAME; repeat.")
    ] = None,
    adapter_root: Annotated[Path | None, typer.Option(help="Whose adapters may be loaded while it runs.")] = None,
    engine: Annotated[str, typer.Option(help="smelt; or vllm, which must be installed.")] = "smelt",
    max_running: Annotated[int, typer.Option(min=1, help="Prompts that are answered at the same time.")] = 64,
    max_waiting: Annotated[int, typer.Option(min=1, help="Prompts that may wait; one more gets a 429.")] = 256,
    cache_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens whose keys and values are kept; by default by the free memory.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="While decoding: fp32, bf16, int8 or int4.")] = None,
    cache_dtype: Annotated[str | None, typer.Option(help="int8: keys and values in less room.")] = None,
    drain_seconds: Annotated[float, typer.Option(min=0, help="What answers may still take after SIGTERM.")] = 30,
) -> None:
    """Serve a model to OpenAI's clients, and to people at /.

    Example: smelt serve runs/books-chat --port 8000
    """
    from smelt.core.storage import checkpoint_at
    from smelt.infer import EngineSettings
    from smelt.serve.loading import served
    from smelt.serve.run import serve as run
    from smelt.serve.store.database import Store
    from smelt.serve.vllm import become_vllm, command

    settings = EngineSettings(
        max_running=max_running,
        max_waiting=max_waiting,
        cache_tokens=cache_tokens,
        weights=weights,  # type: ignore[arg-type]  # checked there
        cache_dtype=cache_dtype,  # type: ignore[arg-type]
    )
    model_name = name or Path(checkpoint).resolve().name
    adapters = named_adapters(adapter or (), model_name)
    if engine != "smelt":
        check_engine(engine, keys=keys, store=store, allowed_host=allowed_host, adapter_root=adapter_root)
        become_vllm(command(checkpoint_at(checkpoint), model_name, host, port, settings, adapters))
    with nullcontext() if store is None else closing(Store.open(store)) as opened:
        run(
            lambda: served(checkpoint, model_name, adapters, adapter_root),
            host=host,
            port=port,
            keys=known_keys(keys, opened),
            store=opened,
            hosts=allowed_host or (),
            settings=settings,
            drain_seconds=drain_seconds,
        )


def known_keys(path: Path | None, store: Store | None) -> Keys | None:
    """Return the keys of a file and of a store; None where there has never been one, so nobody needs any."""
    from smelt.serve.keys import Keys, read_hashes
    from smelt.serve.store.keys import list_keys, valid_keys

    hashes = [] if path is None else read_hashes(path)
    if store is None or not (hashes or list_keys(store)):
        return Keys(hashes) if hashes else None
    return Keys(hashes, partial(valid_keys, store))


def named_adapters(given: Sequence[str], model_name: str) -> dict[str, Path]:
    """Return the directories of adapters by their names; raises UsageError for one that is not NAME=DIR."""
    from smelt.serve.adapters import is_free_name

    found: dict[str, Path] = {}
    for one in given:
        name, _, path = one.partition("=")
        if not path or name in found or not is_free_name(name, model_name):
            accepted = "NAME=DIR, each NAME once and not the model's, of letters, digits, '.', '_' and '-'"
            raise UsageError(f"--adapter {one}", accepted=accepted)
        found[name] = Path(path)
    return found


def check_engine(engine: str, **given: Any) -> None:
    """Raise UsageError for an engine that is not vLLM, and for options that vLLM has no word for."""
    if engine != "vllm":
        raise UsageError(f"--engine {engine}", accepted="smelt or vllm")
    for name, value in given.items():
        if value:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} with --engine vllm, which has nothing like it", fix=f"leave {option} out")
