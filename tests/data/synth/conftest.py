"""Teachers that say what a test tells them: in this process, and behind an address on loopback."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from smelt.data.records import Message
from smelt.data.synth.teacher import Reply, Settings

VERBS = ("sort", "count", "rewrite", "explain", "compare", "translate", "plan", "invent", "check", "describe", "rank")
THINGS = ("rivers", "engines", "recipes", "treaties", "sonnets", "planets", "bridges", "vaccines", "harbours")


def say(prompt: str, seed: int) -> str:
    """Answer as a teacher might: tasks, a comparison, an evolved instruction, or words."""
    chance = random.Random(f"{prompt}/{seed}")
    if "more tasks" in prompt:
        return "\n\n".join(f"Task {number}: {task(chance)}" for number in range(9, 17))
    if "Reply with one letter" in prompt:
        return chance.choice("ABBBB")
    if "nothing else." in prompt:
        return task(chance)
    return " ".join(f"{chance.choice(THINGS)} {chance.randrange(10**6)}" for _ in range(5)) + "."


def task(chance: random.Random) -> str:
    """Return an instruction."""
    words = [chance.choice(THINGS) for _ in range(4)]
    return (
        f"{chance.choice(VERBS).title()} {words[0]} and {words[1]}, then {chance.choice(VERBS)} {words[2]}, {words[3]}."
    )


@dataclass
class Scripted:
    """A teacher whose answers are a function of prompt and seed; `heard` are the prompts it was asked."""

    say: Callable[[str, int], str] = say
    name: str = "scripted"
    heard: list[str] = field(default_factory=list)

    def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
        prompt = messages[-1].content
        self.heard.append(prompt)
        return Reply(self.say(prompt, settings.seed), len(prompt), 7)


def completion(text: str, finish: str = "stop", **usage: int) -> tuple[int, dict[str, str], bytes]:
    """Return a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()


def answering(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Answer as `say` does."""
    return completion(say(body["messages"][-1]["content"], body["seed"]), prompt_tokens=10, completion_tokens=5)


@pytest.fixture
def server(scripted_server: Any) -> Any:
    """A server that answers as `say` does, until its `script` is set to something else."""
    scripted_server.script = answering
    return scripted_server


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Twelve seed tasks as Alpaca rows."""
    chance = random.Random(5)
    path = tmp_path / "seeds.jsonl"
    rows = [{"instruction": task(chance), "input": "", "output": "Done."} for _ in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_in(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
