"""Errors as OpenAI's clients know them: `{"error": {"message", "type", "param", "code"}}` and a status.

The clients choose their exception by the status and retry 408, 409, 429 and 5xx, so a fault of the caller is a 400 and
never anything of those. What happened inside the server is told to nobody but the log.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from typing import Any

from smelt.core.errors import SmeltError
from smelt.core.log import printable, say


class ApiError(Exception):
    """A refusal that becomes a response.

    Args:
        status: of HTTP.
        message: what is wrong, in words for the caller.
        kind: OpenAI's name of the kind of error.
        param: where in the request, as "messages[0].role".
        code: OpenAI's name of this very error.
        retry_seconds: when to try again; becomes `Retry-After`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_seconds: float | None = None,
    ) -> None:
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.retry_seconds = retry_seconds
        super().__init__(message)

    @property
    def body(self) -> dict[str, Any]:
        """Return the object that a client reads."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that belong to it."""
        headers = {} if self.retry_seconds is None else {"retry-after": str(math.ceil(self.retry_seconds))}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error of a request that can never succeed."""
    return ApiError(400, message, param=param, code=code)


def from_smelt(error: SmeltError) -> ApiError:
    """Return a 400 for a value that a deeper layer refused, in its own words."""
    return invalid(" ".join(str(error).splitlines()))


def overloaded(message: str) -> ApiError:
    """Return the error of a server that has enough to do."""
    return ApiError(429, message, kind="rate_limit_exceeded", code="server_overloaded", retry_seconds=1)


def unavailable(message: str, *, code: str) -> ApiError:
    """Return the error of a server that does not take requests now."""
    return ApiError(503, message, kind="server_error", code=code, retry_seconds=2)


def without_store(error: SmeltError) -> ApiError:
    """Return the error of a request that needs the store while it cannot be used; the log says why."""
    log(f"the store failed: {printable(str(error))}")
    return unavailable("the store cannot be used now", code="store_unavailable")


def fault(request_id: str) -> ApiError:
    """Return what a caller is told of a fault of ours: where to look for it, and nothing else."""
    return ApiError(500, f"the server failed; its log says more under {request_id}", kind="server_error")


def traced(error: Exception) -> str:
    """Return what the log says of a fault of ours."""
    return "".join(traceback.format_exception(error))


def log(text: str) -> None:
    """Write to the log; where nobody reads it any more, go on without: a server must not fail or hang for it."""
    with contextlib.suppress(OSError):
        say(text)
