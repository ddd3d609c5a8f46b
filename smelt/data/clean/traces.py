"""Traces of people in a text: addresses, numbers of telephones, cards and identities, found by their form alone.

A pattern knows no names and no meaning: it misses what has another form, and a number of the right form may be
something else. Where a number carries a check digit it is checked, which leaves one in ten or eleven of the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


TELEPHONE = r"(?<![\w.])(?:\+\d{1,3}(?:[ -]?\(?\d{2,4}\)?){2,4}|\(?\d{3}\)?[ -]\d{3}-\d{4}|1[3-9]\d{9})(?!\w)"


@dataclass(frozen=True)
class Trace:
    """Hold one finding: what it seems to be, and where in the text it stands."""

    kind: str
    start: int
    stop: int


def passes_luhn(number: str) -> bool:
    """Tell whether the last digit of a card's number fits the others."""
    digits = [int(digit) for digit in reversed(number) if digit.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1


def passes_identity(number: str) -> bool:
    """Tell whether the last letter of a Chinese identity number fits the others."""
    total = sum(int(digit) * weight for digit, weight in zip(number, IDENTITY_WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == number[-1].upper()


def is_address(number: str) -> bool:
    """Tell whether four numbers with dots between them can be the address of a machine."""
    return all(int(part) < 256 for part in number.split("."))


def always(number: str) -> bool:
    """Tell nothing: the form is enough."""
    return True


KINDS: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {  # the first that fits a place wins
    "e-mail": (re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}(?![\w-])"), always),
    "identity number": (re.compile(r"(?<!\d)[1-9]\d{5}(?:19|20)\d{9}[\dXx](?!\d)", re.ASCII), passes_identity),
    "card number": (re.compile(r"(?<!\d)\d{4}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?!\d)", re.ASCII), passes_luhn),
    "IP address": (re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])", re.ASCII), is_address),
    "telephone": (re.compile(TELEPHONE, re.ASCII), always),
}


def traces(text: str) -> Iterator[Trace]:
    """Yield the traces of people in a text, kind by kind; no two overlap."""
    taken: list[tuple[int, int]] = []
    for kind, (pattern, fits) in KINDS.items():
        for match in pattern.finditer(text):
            start, stop = match.span()
            if fits(match.group()) and not any(start < end and begin < stop for begin, end in taken):
                taken.append((start, stop))
                yield Trace(kind, start, stop)
