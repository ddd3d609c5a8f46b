"""Ask a server for answers in hundreds of hostile forms: each must be refused, or be compiled in a second.

    python benchmarks/hostile_schemas.py --number 600

Half of the forms are patterns (nested and huge repetitions, unbounded ambiguity, what regular languages cannot say,
plain mistakes), half are schemas made of parts that contradict, recur, double or are none. A seed decides them, so a
form that was found is found again. The time is that of a whole request with one token of answer, which is all that a
client sees; a request without a form in between shows that the server goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from serve_client import NAME, Answer, Served, exchange, make_checkpoint, served

BAR_SECONDS = 1.0
ALLOWED = (200, 400, 413)  # answered, refused, too large a body
ATOMS = (
    "a", "ab", ".", r"\w", r"\d", r"\S", r"\p{L}", r"\P{Lu}", "[a-z]", "[^a]", "[z-a]", "[", "(", ")", "é", r"\x", "\\",
    r"\b", "^", "$", r"(a)\1", "(?=a)", "(?!a)", "(?<=a)", "(?R)", "(?i)", "(?#", "(?P<n>a)", "\n", "\0", "",
    "\U0001f642", r"\u{110000}",
)  # fmt: skip
REPEATS = ("", "*", "+", "?", "**", "+?", "{0}", "{3}", "{1,9}", "{900}", "{1,9000}", "{9,1}", "{100000}", "{,}")


def pattern(chance: random.Random, depth: int) -> str:
    """Return a regular expression of nested groups, each repeated in some way."""
    if depth == 0:
        return chance.choice(ATOMS) + chance.choice(REPEATS)
    parts = [pattern(chance, depth - 1) for _ in range(chance.randint(1, 3))]
    return f"({chance.choice(['', '|', '.*']).join(parts)}){chance.choice(REPEATS)}"


def schema(chance: random.Random, depth: int) -> Any:
    """Return a schema, or what looks like one, of parts that need not go together."""

    def below() -> Any:
        return schema(chance, depth - 1) if depth else leaf(chance)

    count = chance.choice([0, 1, 2, 5, 40])
    kinds = {
        "anyOf": lambda: {"anyOf": [below() for _ in range(count)]},
        "allOf": lambda: {"allOf": [below() for _ in range(count)]},
        "oneOf": lambda: {"oneOf": [below() for _ in range(count)]},
        "not": lambda: {"not": below()},
        "items": lambda: {"type": "array", "items": below(), "minItems": chance.choice([0, 3, 10**9, -1, "a"])},
        "properties": lambda: {
            "type": "object",
            "properties": {f"k{number}": below() for number in range(count)},
            "required": [f"k{number}" for number in range(chance.choice([0, count, count + 1]))],
            "additionalProperties": chance.choice([False, True, below()]),
        },
        "patternProperties": lambda: {"type": "object", "patternProperties": {pattern(chance, 1): below()}},
        "recursive": lambda: {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, below()]}}},
        "ladder": lambda: ladder(chance.choice([4, 16, 64])),
        "if": lambda: {"if": below(), "then": below(), "else": below()},
        "leaf": lambda: leaf(chance),
    }
    return kinds[chance.choice(list(kinds))]()


def ladder(steps: int) -> dict[str, Any]:
    """Return a schema whose references double at every step."""
    rungs = {f"s{step}": {"allOf": [{"$ref": f"#/$defs/s{step + 1}"}] * 2} for step in range(steps)}
    return {"$ref": "#/$defs/s0", "$defs": {**rungs, f"s{steps}": {"type": "integer"}}}


def leaf(chance: random.Random) -> Any:
    """Return a schema without parts."""
    number: Any = chance.choice([0, -1, 1, 3.5, 10**9, 10**12, 1e99, 1e-300, "a", None])
    kind = chance.choice(["string", "number", "integer", "array", "object", "null", "tree", 3, [], ["string", "null"]])
    return chance.choice(
        [
            {"type": kind},
            {"type": "string", "minLength": number},
            {"type": "string", "maxLength": number, "pattern": pattern(chance, 1)},
            {"type": "number", "multipleOf": number},
            {"type": "integer", "minimum": number, "maximum": chance.choice([number, 0])},
            {"type": "array", "maxItems": number, "uniqueItems": True},
            {"const": chance.choice([number, "x" * chance.choice([1, 4000, 60000]), {"a": [number]}])},
            {"enum": [f"{item:x}" * 8 for item in range(chance.choice([0, 1, 2000]))]},
            {"type": "string", "format": chance.choice(["email", "uuid", "date-time", "zzz", "regex"])},
            {"$ref": chance.choice(["#", "#/nowhere", "file:///etc/hosts", "http://127.0.0.1:1/x", ""])},
            {"x-guidance": {"whitespace_pattern": pattern(chance, 1)}},
        ]
    )


def forms(number: int, seed: int) -> list[dict[str, Any]]:
    """Return so many `response_format`s; the first half of them are patterns."""
    chance = random.Random(seed)
    found = []
    for place in range(number):
        held = (
            {"type": "string", "pattern": pattern(chance, chance.randint(0, 4))}
            if place < number // 2
            else schema(chance, chance.randint(1, 3))
        )
        asked = {"name": "answer", "schema": held, "strict": chance.choice([True, False])}
        found.append({"type": "json_schema", "json_schema": asked})
    return found


async def ask(server: Served, **body: Any) -> tuple[Answer, bytes]:
    """Ask for one token of an answer; status 0 where none comes."""
    answer, found = Answer(), b""
    asked = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, **body}
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        found = await exchange(server.port, "POST", "/v1/chat/completions", asked, answer)
    return answer, found


async def run(server: Served, number: int, seed: int) -> int:
    """Ask for every form; print those that miss the bar, then the counts; return how many missed."""
    seen: Counter[int] = Counter()
    slowest, missed = 0.0, 0
    await ask(server)
    for place, form in enumerate(forms(number, seed)):
        answer, body = await ask(server, response_format=form)
        seen[answer.status] += 1
        slowest = max(slowest, answer.seconds)
        if answer.status not in ALLOWED or answer.seconds > BAR_SECONDS:
            missed += 1
            print(f"form {place}: {answer.status} in {answer.seconds:.2f} s: {json.dumps(form)[:300]} {body[:200]!r}")
        if place % 50 == 0 and (plain := (await ask(server))[0]).status != 200:
            print(f"after form {place} a plain request got {plain.status}")
            missed += 1
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(seen.items()))
    print(f"{number} forms, seed {seed}: {counts}; slowest {slowest:.2f} s (at most {BAR_SECONDS:g}); {missed} missed")
    return missed


def main() -> int:
    """Run, and return how many forms missed the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=600, help="forms")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_checkpoint(folder / "model")
        with served(str(folder / "model"), folder, "--cache-tokens", "8192") as server:
            return asyncio.run(run(server, words.number, words.seed))


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
