"""What the teacher is told: the texts of `prompts.yaml`, or of a user's own file of the same keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from smelt.core.config import Config, read_yaml, validate
from smelt.core.errors import ConfigError

FILE = Path(__file__).with_name("prompts.yaml")
BLANK = re.compile(r"\{(\w+)\}")
BLANKS = {
    "propose": {"tasks", "count"},
    "evolve": {"instruction"},
    "compare": {"first", "second"},
    "section": {"topic", "audience"},
}
"""What is filled into each text."""


class Prompts(Config):
    """The texts; `prompts.yaml` says what each is for."""

    propose: str
    evolve: dict[str, str] = Field(min_length=1)
    compare: str
    marks: tuple[str, ...]
    systems: tuple[str, ...] = Field(min_length=1)
    section: str
    manner: str

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield the dotted key, the first part of it and the text of all that have something filled in."""
        for key in BLANKS:
            if key == "evolve":
                yield from ((f"evolve.{way}", key, text) for way, text in self.evolve.items())
            else:
                yield key, key, getattr(self, key)


def load_prompts(path: str = "") -> Prompts:
    """Return the prompts of a file, or ours.

    Raises:
        ConfigError: the file is missing, a key is unknown or missing, or a text lacks or misspells what is filled in.
    """
    file = Path(path) if path else FILE
    prompts = validate(Prompts, read_yaml(file), source=str(file))
    for key, kind, text in prompts.texts():
        found = set(BLANK.findall(text))
        if found != BLANKS[kind]:
            shown = " and ".join(f"{{{name}}}" for name in sorted(BLANKS[kind]))
            has = ", ".join(f"{{{name}}}" for name in sorted(found)) or "none"
            raise ConfigError(f"{file}: '{key}' has {has} to fill in", accepted=f"{shown}, and no other word in braces")
    return prompts


def fill(text: str, **values: object) -> str:
    """Return a text with its blanks filled in; braces in what is filled in stay as they are."""
    return BLANK.sub(lambda match: str(values[match[1]]), text).strip()
