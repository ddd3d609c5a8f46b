"""A teacher behind an address: any server that speaks OpenAI's chat completions.

One POST a request, without a client library. A redirect is an error and not followed, because the key would go with it.
Errors that a later try may mend (no connection, 408, 409, 425, 429, 5xx, an answer that is no JSON) are TeacherBusy;
a key or an address that is wrong ends the run; any other refusal is the reply to that one request.

Ref: OpenAI's API reference, chat/completions.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from smelt.core.errors import UsageError
from smelt.core.log import printable, say
from smelt.data.records import Message
from smelt.data.synth.teacher import Reply, Settings, TeacherBusy, TeacherError

PATH = "/chat/completions"
TIMEOUT_SECONDS = 600.0
MAX_REPLY_BYTES = 16 << 20
SHOWN_CHARACTERS = 300  # of what a server says about an error
LOCAL = ("localhost", "127.0.0.1", "::1")
PASSING = (408, 409, 425, 429)  # and all from 500 on
WRONG_KEY, WRONG_PLACE = (401, 403), (404, 405)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leave a redirect an error."""

    def redirect_request(self, *args: Any, **words: Any) -> None:
        """Follow nothing."""
        return


class EndpointTeacher:
    """Ask the model `name` at an address such as http://127.0.0.1:8000/v1.

    Raises:
        UsageError: no address, or a key that cannot be sent.
    """

    def __init__(
        self, url: str, name: str, *, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        place = urlsplit(url)
        if place.scheme not in ("http", "https") or not place.hostname or place.username or place.query:
            raise UsageError(f"--endpoint {url}", accepted="an address such as http://127.0.0.1:8000/v1")
        if key is not None and not (key.isascii() and key.isprintable() and key):
            raise UsageError("the key is empty or has characters that no header can hold")
        if key is not None and place.scheme == "http" and place.hostname not in LOCAL:
            say(f"note: the key goes to {place.hostname} unencrypted")
        self.url = url.rstrip("/").removesuffix(PATH) + PATH
        self.name, self._key, self._timeout = name, key, timeout_seconds
        self._limit, self._sends_seed = "max_tokens", True
        own = [urllib.request.ProxyHandler({})] if place.hostname in LOCAL else []  # no proxy to this machine
        self._open = urllib.request.build_opener(NoRedirect, *own).open

    def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
        """Answer one request; raises as `Teacher.ask` says."""
        while True:
            body: dict[str, Any] = {
                "model": self.name,
                "messages": [{"role": message.role, "content": message.content} for message in messages],
                self._limit: settings.max_tokens,
                "temperature": settings.temperature,
            }
            if self._sends_seed:
                body["seed"] = settings.seed
            try:
                return reply_in(self._post(body), self.url)
            except urllib.error.HTTPError as error:
                refusal = self._refusal(error)
            if not self._adapt(body, refusal.text):
                return refusal

    def _post(self, body: Mapping[str, Any]) -> bytes:
        """Send a body and return the answer's; raises HTTPError for what the server says, TeacherBusy for the rest."""
        headers = {"Content-Type": "application/json", "User-Agent": "smelt"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        try:
            with self._open(request, timeout=self._timeout) as answer:
                data: bytes = answer.read(MAX_REPLY_BYTES + 1)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise self._busy(f"no answer ({printable(str(reason)) or type(reason).__name__})") from error
        if len(data) > MAX_REPLY_BYTES:
            raise self._busy(f"an answer of more than {MAX_REPLY_BYTES:,} bytes")
        return data

    def _refusal(self, error: urllib.error.HTTPError) -> Reply:
        """Return what a server says against one request; raises TeacherBusy and TeacherError for what concerns all."""
        with error:
            said = self._without_key(message_in(error.read(MAX_REPLY_BYTES)))
        what = f"{error.code} {said or error.reason}"
        if error.code in PASSING or error.code >= 500:
            wait = error.headers.get("Retry-After", "")
            raise self._busy(what, float(wait) if wait.isdecimal() and len(wait) < 6 else 0.0)
        if error.code in WRONG_KEY:
            raise TeacherError(f"{self.url}: {what}", fix="give the key with --key-file FILE or --key-variable NAME")
        if error.code in WRONG_PLACE:
            fix = "check --endpoint (it mostly ends in /v1) and --model"
            raise TeacherError(f"{self.url}: {what}", fix=fix)
        if error.code < 400:
            raise TeacherError(f"{self.url}: moved to {error.headers.get('Location')}", fix="give that address")
        return Reply(what, finish="refused")

    def _adapt(self, body: Mapping[str, Any], refusal: str) -> bool:
        """Leave out, or call otherwise, what a server does not know; tell whether asking again may help."""
        if "max_tokens" in body and "max_completion_tokens" in refusal:
            self._limit = "max_completion_tokens"
            return True
        if "seed" in body and "seed" in refusal.lower():
            if self._sends_seed:
                say(f"note: {self.name} takes no seed; another run would get other replies")
            self._sends_seed = False
            return True
        return False

    def _busy(self, what: str, wait_seconds: float = 0.0) -> TeacherBusy:
        busy = TeacherBusy(f"{self.url}: {what}", fix="see whether the server runs, and the address")
        busy.wait_seconds = wait_seconds
        return busy

    def _without_key(self, text: str) -> str:
        """Return what a server said without the key, which some repeat."""
        return text.replace(self._key, "***") if self._key is not None else text


def reply_in(data: bytes, where: str) -> Reply:
    """Return the reply of an answer's body; raises TeacherBusy for one that is none."""
    try:
        body = json.loads(data)
        choice, usage = body["choices"][0], body.get("usage") or {}
        text = choice["message"].get("content") or ""
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        whole = [count if type(count) is int else None for count in counts]
        cut = choice.get("finish_reason") == "length"
        return Reply(text, whole[0], whole[1], "length" if cut else "stop")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise TeacherBusy(f"{where}: the answer is no chat completion ({type(error).__name__}: {error})") from error


def message_in(data: bytes) -> str:
    """Return what the body of an error says: its message, or its beginning."""
    text = data.decode("utf-8", "replace")
    try:
        found = json.loads(text)["error"]
        text = found["message"] if isinstance(found, dict) else str(found)
    except (ValueError, LookupError, TypeError, RecursionError):
        text = text.strip()
    return printable(" ".join(str(text).split()))[:SHOWN_CHARACTERS]
