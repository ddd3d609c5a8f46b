"""Compile a function once, keep the machine code on disk, release Python's lock while it runs.

Numba's own cache looks only at the file of the function itself: after a change in another file it would go on running
the old code that was inlined from there. So ours lives in a folder named after the content of every kernel file, those
here and those beside the function, in the user's cache directory; older folders are left to whoever clears caches.
Costs 1 to 3 s a kernel the first time on a machine, about 10 ms afterwards.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from smelt.core.runtime import cache_directory

Function = TypeVar("Function", bound=Callable[..., object])


@functools.cache
def kernel_cache(beside: Path | None = None) -> str:
    """Return the folder of the compiled kernels that belong to the present sources, here and in another folder."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for folder in (here,) if beside in (None, here) else (here, beside):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
    return str(cache_directory() / f"kernels-{digest.hexdigest()[:16]}")


def kernel(function: Function, **options: Any) -> Function:
    """Compile on the first call, or load what an earlier process compiled; `options` are numba's."""
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, kernel_cache(Path(function.__code__.co_filename).parent)
    try:
        return numba.njit(function, cache=True, nogil=True, **options)  # type: ignore[no-any-return]
    finally:
        settings.CACHE_DIR = before


def float_kernel(function: Function) -> Function:
    """Compile a loop over floats: what is divided by 0 is infinite, as in numpy, so that divisions become vectors."""
    return kernel(function, error_model="numpy")


def is_compiled(function: Callable[..., object]) -> bool:
    """Tell whether the machine code of a kernel is on disk already."""
    code: Any = function.__code__
    folder = Path(kernel_cache(Path(code.co_filename).parent))
    return any(folder.rglob(f"*.{function.__name__}-*.nbi"))


def inline(function: Function) -> Function:
    """Mark a small function that kernels call: it has no machine code of its own on disk."""
    return numba.njit(function, nogil=True)  # type: ignore[no-any-return]
