"""`smelt studio`: one web application over the runs, checkpoints and data of this machine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from smelt.cli.common import make_app

STORE = "studio.db"
app = make_app()


@app.command()
def studio(
    folder: Annotated[Path, typer.Argument(help="The studio's folder: runs are read and made in its runs/.")] = Path(),
    data: Annotated[list[Path] | None, typer.Option(help="A further folder to look into; repeat for several.")] = None,
    host: Annotated[str, typer.Option(help="The address; beyond this machine only with keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = 8420,
    store: Annotated[
        str | None, typer.Option(help="Chats, votes and keys: a file [FOLDER/studio.db], or PostgreSQL's URL.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="A file with the SHA-256 of one API key a line.")] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name by which this studio may be called; repeat for several.")
    ] = None,
    models: Annotated[int, typer.Option(min=1, help="Models that are loaded at the same time.")] = 4,
) -> None:
    """Open the studio: see, compare, judge and steer your own models in the browser.

    Example: smelt studio --port 8420
    """
    from smelt.cli.serve import known_keys
    from smelt.serve.run import Server, check_bind, make_config, run_server
    from smelt.serve.store.database import Store
    from smelt.studio.app import make_studio
    from smelt.studio.context import Studio
    from smelt.studio.pool import Pool
    from smelt.studio.workspace import Workspace

    workspace = Workspace.at(folder, data or ())
    with closing(Store.open(store or workspace.root / STORE)) as opened:
        known = known_keys(keys, opened)
        check_bind(host, known)
        pool = Pool(workspace, known, opened, models)
        made = make_studio(Studio(workspace, pool, opened, known), hosts=allowed_host or ())
        run_server(Server(make_config(made, capacity=models * 80), pool, drain_seconds=5), host, port)
