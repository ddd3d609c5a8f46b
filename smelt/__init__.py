"""The whole road from raw text to a language model you can talk to.

`load`, `save`, `load_tokenizer` and `Engine` are the front door; they are imported when first used, so that
`import smelt` and the command line's help cost milliseconds and never import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smelt.infer.engine import Engine
    from smelt.models.hub import save
    from smelt.peft.load import load
    from smelt.tokenizers.formats import load_tokenizer

__all__ = ["Engine", "__version__", "load", "load_tokenizer", "save"]
__version__ = "0.1.0"

_HOME = {
    "Engine": "smelt.infer.engine",
    "load": "smelt.peft.load",
    "load_tokenizer": "smelt.tokenizers.formats",
    "save": "smelt.models.hub",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'smelt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
