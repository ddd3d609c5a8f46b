"""The lexicons of the town, one value a language, built once from its word tables.

A new language is a `lexicon_xx.py`, a `wording_xx.py`, its code in `lexicon.Language` and a line in LEXICONS.
"""

from __future__ import annotations

from types import ModuleType

from smelt.data.town import lexicon_en, lexicon_zh, wording_en, wording_zh
from smelt.data.town.lexicon import Language, Lexicon


def _lexicon(language: Language, words: ModuleType, wording: ModuleType) -> Lexicon:
    plain = {"c": words.COLOURS, "l": words.PLACES, "d": words.DAYS, "r": words.ROLES, "g": words.BUILDINGS}
    pools = {slot: tuple({slot: word} for word in values) for slot, values in plain.items()}
    return Lexicon(
        language=language,
        space=wording.SPACE,
        comma=wording.COMMA,
        pools={"o": words.THINGS, "v": words.VERBS, **pools},
        facts=words.FACTS,
        tasks=wording.TASKS,
        notes=wording.NOTES,
        answers=wording.ANSWERS,
        texts=wording.TEXTS,
        labelled=wording.LABELLED,
        steps=wording.STEPS,
        yes=wording.YES,
        no=wording.NO,
        unknown=wording.UNKNOWN,
    )


LEXICONS: dict[Language, Lexicon] = {
    "en": _lexicon("en", lexicon_en, wording_en),
    "zh": _lexicon("zh", lexicon_zh, wording_zh),
}
