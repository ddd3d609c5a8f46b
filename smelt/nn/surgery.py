"""Find modules of a built model by the names that people give, and put others in their place.

Adapters and quantizers swap modules instead of subclassing the model, so that one model file serves all of them. A
pattern is a shell pattern over our dotted names, and may leave out the beginning: `query` or `attention.*` mean that
part of every block, `blocks.3.*` all of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from smelt.core.errors import ConfigError, nearest

IN_BLOCKS = re.compile(r"((en|de)coder\.)?blocks\.")
"""How the names of what is in blocks begin, in one network or in two."""


def matches(name: str, pattern: str) -> bool:
    """Tell whether a dotted name, or its end from some dot on, is what a pattern says.

    "blocks.0.attention.query": "query" True, "attention.*" True, "blocks.0.*" True, "uery" False
    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def inside(name: str, pattern: str) -> bool:
    """Tell whether a parameter is what a pattern says, or part of a module that is.

    "blocks.0.attention.query.weight": "attention" True, "blocks.0" True, "*.weight" True, "norm" False
    """
    parts = name.split(".")
    return any(matches(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def select(names: Iterable[str], patterns: Sequence[str], *, setting: str) -> list[str]:
    """Return the names that any pattern matches, in their own order.

    Raises ConfigError, with the nearest name, for a pattern that matches none.
    """
    known = list(names)
    for pattern in patterns:
        if not any(matches(name, pattern) for name in known):
            ends = sorted({name.rsplit(".", 1)[-1] for name in known})
            raise ConfigError(
                f"{setting}: '{pattern}' matches nothing in this model.{nearest(pattern, [*ends, *known])}",
                accepted=f"{', '.join(ends)}, or a pattern over names such as {known[0]}" if known else "",
            )
    return [name for name in known if any(matches(name, pattern) for pattern in patterns)]


def linear_names(model: nn.Module) -> list[str]:
    """Return the names of the linear layers inside a model's blocks, or those of both its networks; any may be
    quantized."""
    return [name for name, module in model.named_modules() if hasattr(module, "in_features") and IN_BLOCKS.match(name)]


def swap(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put a module in the place of the one with this name, in place; return the one that stood there."""
    parent, _, last = name.rpartition(".")
    owner = model.get_submodule(parent)
    old: nn.Module = getattr(owner, last)
    setattr(owner, last, module)
    return old
