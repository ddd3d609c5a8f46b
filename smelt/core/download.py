"""Get a published checkpoint by its id, "org/name" or "org/name@revision", through the huggingface_hub package.

Only configuration, safetensors and tokenizer files are fetched: never pickled weights, never code. A name that might be
a mistyped path stays one: where the folder `org` exists, and under `runs/`, nothing is looked up.
"""

from __future__ import annotations

import re
from pathlib import Path

from smelt.core.errors import CheckpointError, ResourceError
from smelt.core.extras import available, need
from smelt.core.log import say

ID = re.compile(r"(?P<name>(?P<owner>\w[\w.-]*)/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)
LOCAL = ("runs",)
WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken")
UNWANTED = ("*/*", "consolidated*")  # other formats of the same weights


def is_id(text: str) -> bool:
    """Tell whether a text can only mean a published checkpoint: it looks like an id and like nothing that is here."""
    found = ID.fullmatch(text)
    return found is not None and found["owner"] not in LOCAL and not Path(found["owner"]).exists()


def download(text: str) -> Path:
    """Return the local directory of a published checkpoint, fetched unless it was before.

    Raises:
        ResourceError: huggingface_hub is not installed.
        CheckpointError: there is no such repository or revision, or no network.
    """
    found = ID.fullmatch(text)
    assert found is not None
    name, revision = found["name"], found["revision"]
    asked = f"{name} --revision {revision}" if revision else name
    by_hand = f"where there is a network: hf download {asked} --local-dir FOLDER, and give FOLDER here"
    if not available("huggingface_hub"):
        raise ResourceError(
            f"{text}: no such directory, and to download it the package huggingface_hub is missing",
            accepted="a local directory, which needs no package",
            fix=f"pip install 'smelt-lm[hub]'; or, {by_hand}",
        )
    hub = need("huggingface_hub", extra="hub")
    say(f"{text}: looking it up on the Hugging Face hub")
    try:
        folder = hub.snapshot_download(
            name, revision=revision, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED)
        )
    except Exception as error:  # the package's versions raise errors of three HTTP libraries and their own
        reason = f"{type(error).__name__}: {error}".split("\n")[0].split(". ")[0]
        raise CheckpointError(
            f"{text}: no such directory, and downloading it failed ({reason})",
            accepted="a local directory, or the id of a repository that can be reached",
            fix=by_hand,
        ) from error
    return Path(folder)
