"""`smelt keys`: make, list and revoke the keys of a server, in its store.

A key is shown once, when it is made: the store keeps its hash.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from smelt.cli.common import Json, make_app, print_json, print_table

Name = Annotated[str, typer.Argument(metavar="NAME", help="Who has the key, or what for.")]
Place = Annotated[str, typer.Option("--store", help="The file of the store, or a URL of PostgreSQL.")]
app = make_app(help="Make, list and revoke the keys of a server.")


@app.command()
def create(
    name: Name,
    store: Place,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it opens: models, metrics, admin (of a studio); repeat [models and metrics]"),
    ] = None,
    json: Json = False,
) -> None:
    """Make a key and show it, for the only time.

    Example: smelt keys create ann --store smelt.db
    """
    from smelt.serve.keys import USUAL_SCOPES
    from smelt.serve.store.database import Store
    from smelt.serve.store.keys import create_key

    with closing(Store.open(store)) as opened:
        key = create_key(opened, name, scope or USUAL_SCOPES)  # type: ignore[arg-type]  # checked there
    if json:
        print_json({"name": name, "key": key})
    else:
        print(key)


@app.command(name="list")
def list_all(store: Place, json: Json = False) -> None:
    """List the keys, those that are revoked too.

    Example: smelt keys list --store smelt.db
    """
    from smelt.serve.store.database import Store
    from smelt.serve.store.keys import list_keys

    with closing(Store.open(store)) as opened:
        found = list_keys(opened)
    if json:
        print_json({"keys": [asdict(key) for key in found]})
        return
    rows = [(key.name, ", ".join(key.scopes), when(key.created), when(key.revoked)) for key in found]
    print_table(("name", "opens", "made", "revoked"), rows)
    if not rows:
        print(f"no key in {store}")


@app.command()
def revoke(name: Name, store: Place) -> None:
    """Let a key open nothing any more, at once.

    Example: smelt keys revoke ann --store smelt.db
    """
    from smelt.serve.store.database import Store
    from smelt.serve.store.keys import revoke_key

    with closing(Store.open(store)) as opened:
        revoke_key(opened, name)
    print(f"{name} is revoked")


def when(seconds: float | None) -> str:
    """Return a time for people, a dash for none."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
