"""Optional dependencies, asked for at the point of use.

`need("matplotlib", extra="report")` returns the module or says in one line how to install it. Base code
imports nothing from an extra at import time.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from smelt.core.errors import ResourceError


def need(module: str, *, extra: str) -> ModuleType:
    """Import an optional module.

    Raises:
        ResourceError: it is not installed; the message holds the install command.
    """
    if not available(module):
        raise ResourceError(
            f"this needs the package '{module}', which is not installed", fix=f"pip install 'smelt-lm[{extra}]'"
        )
    return importlib.import_module(module)


def available(module: str) -> bool:
    """Tell whether an optional module can be imported, without importing it."""
    return importlib.util.find_spec(module.split(".")[0]) is not None
