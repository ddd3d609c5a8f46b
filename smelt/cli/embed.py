"""`smelt embed`: one vector for each text, by an encoder; as numbers on stdout, or as a NumPy file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, plural, print_json
from smelt.core.errors import UsageError

if TYPE_CHECKING:
    from smelt.models.readings import Pooling

app = make_app()


@app.command()
def embed(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    text: Annotated[list[str] | None, typer.Option(help="A text; repeat for several.")] = None,
    text_file: Annotated[Path | None, typer.Option(help="Take the texts from this file (UTF-8), one a line.")] = None,
    pooling: Annotated[str, typer.Option(help="mean of the tokens, cls for the first token, or pooled.")] = "mean",
    raw: Annotated[bool, typer.Option("--raw", help="Leave the vectors' length as it is, instead of 1.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write an array (texts, width) to this .npy file.")] = None,
    json: Json = False,
) -> None:
    """Turn texts into vectors.

    Example: smelt embed runs/bert --text "by the river" --text "at the bank" --out vectors.npy
    """
    texts, kind = texts_from(text, text_file), pooling_named(pooling)
    from smelt.models.readings import embed as embed_texts

    model, tokenizer = open_checkpoint(checkpoint)[1:]
    vectors = embed_texts(model, tokenizer, texts, pooling=kind, normalized=not raw)
    if out is not None:
        import numpy as np

        with out.open("wb") as file:  # np.save itself would add an ending
            np.save(file, vectors.numpy())
    sizes = {"texts": len(texts), "dim": vectors.shape[1]}
    if json:
        print_json({**sizes, **({"embeddings": vectors.tolist()} if out is None else {"out": out})})
    elif out is not None:
        print(f"{out}: {plural(len(texts), 'vector')} of {vectors.shape[1]:,} numbers")
    else:
        for row in vectors.tolist():
            print(" ".join(f"{number:.6g}" for number in row))


def texts_from(texts: list[str] | None, file: Path | None) -> list[str]:
    """Return the texts given as words or as the lines of a file; raises UsageError for none."""
    from smelt.cli.common import text_from

    found = texts or [line for line in text_from(None, file, option="--text-file").split("\n") if line.strip()]
    if texts and file is not None:
        raise UsageError(f"--text and --text-file {file}", accepted="one of the two")
    if not found:
        raise UsageError("there is no text", accepted="at least one line that is not empty")
    return found


def pooling_named(name: str) -> Pooling:
    """Return how vectors are made; raises UsageError for an unknown way."""
    from smelt.models.readings import Pooling

    kinds: tuple[Pooling, ...] = get_args(Pooling)
    for kind in kinds:
        if kind == name:
            return kind
    raise UsageError(f"--pooling {name}", accepted=", ".join(kinds))
