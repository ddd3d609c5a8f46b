"""Which language a text is in: a detector's answer, or that it is unsure. Short texts and program code mostly are.

Ref: py3langid, after langid.py (Lui and Baldwin, ACL 2012): Naive Bayes over byte n-grams, 97 languages.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from smelt.core.extras import available, need

PACKAGE, EXTRA = "py3langid", "data"
UNSURE = "unsure"
LEAST_CONFIDENCE = 0.1  # the detector's; "the cat" has 0.16, a line of Python 0.07
MOST_CHARACTERS = 4_000  # of one text: its beginning tells


def can_tell_languages() -> bool:
    """Tell whether the detector is installed."""
    return available(PACKAGE)


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of a text's language, or "unsure": "Die Mühle steht am Fluss." -> de.

    Raises ResourceError where the detector is not installed.
    """
    code, confidence = detector().classify(text[:MOST_CHARACTERS])
    return str(code) if confidence >= LEAST_CONFIDENCE else UNSURE


@cache
def detector() -> Any:
    """Return the detector, which takes half a second to load."""
    module = need(f"{PACKAGE}.langid", extra=EXTRA)
    return module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)
