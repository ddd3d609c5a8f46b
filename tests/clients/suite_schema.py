"""Schemathesis on our OpenAPI: whatever fits the schema, or nearly does, gets the answer that the schema promises.

Never a 5xx, always the documented shape. Random names would all end at the 404 of an unknown model, and random lengths
in minutes of writing, so both are put right in requests that have them.
"""

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

URL, MODEL, KEY = (os.environ[f"SMELT_{name}"] for name in ("URL", "MODEL", "KEY"))
CASES = int(os.environ["SMELT_CASES"])
POSTS = 6  # the paths that take a body; of the others there is little to vary
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
statuses: dict[int, int] = {}
schema = schemathesis.openapi.from_url(f"{URL}/openapi.json", headers={"Authorization": f"Bearer {KEY}"})


def answerable(body: Any) -> Any:
    """Return a body whose model is there, and whose answer is short."""
    if not isinstance(body, dict):
        return body
    named = {"model": MODEL} if isinstance(body.get("model"), str) else {}
    short = {name: min(body[name], 4) for name in LENGTHS if type(body.get(name)) is int}
    asks = "messages" in body or "prompt" in body
    return {**({"max_tokens": 4} if asks and not short else {}), **body, **named, **short}


@schema.parametrize()
@settings(max_examples=max(1, CASES // POSTS), deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_is_the_documented_one(case: Any) -> None:
    case.body = answerable(case.body)
    response = case.call(headers={"Authorization": f"Bearer {KEY}"})
    statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
    case.validate_response(response, checks=CHECKS)


def test_there_were_enough_and_good_ones_among_them() -> None:
    total = sum(statuses.values())
    print(f"{total} cases: {dict(sorted(statuses.items()))}")
    assert total >= CASES and statuses[200] >= total // 20 and statuses[400] > 0, statuses
    assert not [status for status in statuses if status >= 500]
