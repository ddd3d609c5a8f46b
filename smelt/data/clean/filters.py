"""Filters for rows: which ones are applied is a recipe, so that what made a data set can be read and done again."""

from __future__ import annotations

from pydantic import Field

from smelt.core.config import Config
from smelt.data.clean.duplicates import plain
from smelt.data.clean.traces import traces
from smelt.data.formats import Typed, texts_of
from smelt.data.synth.filters import broken


class FilterRecipe(Config):
    """What to leave out."""

    bad: bool = True
    """Rows that training could not read, and those without any text."""
    duplicates: bool = False
    """Rows whose text stood there before, whatever case and white space."""
    broken: bool = False
    """Rows with control characters, or with characters that are none."""
    traces: bool = False
    """Rows with what seems an e-mail address, or the number of a telephone, a card, a person or a machine."""
    min_characters: int = Field(0, ge=0)
    """Rows with less text than this."""
    max_characters: int = Field(0, ge=0)
    """Rows with more text than this; 0: no limit."""


class Filter:
    """Judge rows one after the other; it remembers what it has seen."""

    def __init__(self, recipe: FilterRecipe) -> None:
        self.recipe = recipe
        self._seen: set[int] = set()

    def reason(self, row: Typed | None) -> str:
        """Return why a row is left out, "" for one that stays; None is one that could not be read."""
        recipe = self.recipe
        texts = [] if row is None else texts_of(row)
        if not any(text.strip() for text in texts):
            return "bad" if recipe.bad else ""
        size = sum(map(len, texts))
        if size < recipe.min_characters:
            return "min_characters"
        if recipe.max_characters and size > recipe.max_characters:
            return "max_characters"
        if recipe.broken and any(broken(text) for text in texts):
            return "broken"
        if recipe.traces and any(True for text in texts for _ in traces(text)):
            return "traces"
        return "duplicates" if recipe.duplicates and self._stood_before(texts) else ""

    def _stood_before(self, texts: list[str]) -> bool:
        key = hash(tuple(map(plain, texts)))
        before = key in self._seen
        self._seen.add(key)
        return before
