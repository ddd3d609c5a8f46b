"""Numbers out of metrics.jsonl at the speed of the disk: a kernel for the usual line, `json` for every other.

A line as a run writes it is a flat object of numbers. The kernel reads those, and leaves any other line (a word, a
list, NaN, a number of 20 digits, something torn) to `json`, which says whether it is sound. What the kernel reads is
what `float(text)` is, to the last bit: a number's digits are an integer, which two floats hold exactly, and the power
of ten is two floats as well, so the one division has 106 bits before it is rounded to 53.

Costs 5 to 10 ms for 10,000 lines of 200 bytes; `json` takes 60, pyarrow's reader 20 (and it knows no lines: what is
torn would be joined with what follows).
Ref: How to Read Floating Point Numbers Accurately, Clinger 1990; Dekker 1971 for arithmetic in two floats.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.train.reading import Broken, as_object

Doubles = NDArray[np.float64]
Bytes = NDArray[np.uint8]
MOST_POWER = 60  # of ten; beyond it `json` reads the number
MOST_DIGITS = 18  # so many always fit in 63 bits
POWERS = np.array([(float(10**k), float(10**k - int(float(10**k)))) for k in range(MOST_POWER + 1)])
"""Powers of ten, each as the nearest float and the float nearest to what is left."""
_SPLIT = 134217729.0  # 2**27 + 1
_SPACE, _QUOTE, _PLUS, _COMMA, _MINUS, _POINT, _ZERO, _NINE, _COLON = (ord(sign) for sign in ' "+,-.09:')
_OPEN, _CLOSE, _NEWLINE, _SMALL_E, _LARGE_E = (ord(sign) for sign in "{}\neE")


class Lines(NamedTuple):
    """What some whole lines hold: a column a name, NaN where a line has no such number; broken lines are no rows."""

    columns: dict[str, Doubles]
    num_lines: int
    broken: tuple[Broken, ...]


def read_numbers(data: bytes, first_row: int = 1) -> Lines:
    """Return the numbers of whole lines; `data` is empty or ends with a newline."""
    array = np.frombuffer(data, dtype=np.uint8)
    num_lines = int(np.count_nonzero(array == _NEWLINE))
    names = names_of(data)
    encoded = [name.encode() for name in names]
    bounds = np.cumsum([0, *map(len, encoded)])
    ends = np.zeros(num_lines, dtype=np.int64)
    values = np.full((num_lines, len(names)), np.nan)
    usual = np.zeros(num_lines, dtype=np.bool_)
    _read(array, np.frombuffer(b"".join(encoded), dtype=np.uint8), bounds, POWERS, ends, values, usual)
    columns = {name: np.ascontiguousarray(values[:, place]) for place, name in enumerate(names)}
    broken = []
    for row in np.flatnonzero(~usual):
        line = data[ends[row - 1] + 1 if row else 0 : ends[row]]
        found = numbers_in(line)
        if "step" not in found:
            broken.append(Broken.of(first_row + int(row), line))
            found = {}
        else:
            usual[row] = True
        values[row] = np.nan  # what the kernel had read before it gave up
        for name, value in found.items():
            if name not in columns:
                columns[name] = np.full(num_lines, np.nan)
            columns[name][row] = value
    if broken:
        columns = {name: column[usual] for name, column in columns.items()}
    return Lines(columns, num_lines, tuple(broken))


def names_of(data: bytes) -> list[str]:
    """Return the names of the numbers of the first and the last line; a step is always among them."""
    ends = data[: data.find(b"\n") + 1], data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]
    return list(dict.fromkeys(["step", *(name for line in ends for name in numbers_in(line))]))


def numbers_in(line: bytes) -> dict[str, float]:
    """Return the numbers of a line, none where it is no object."""
    values = as_object(line) or {}
    return {name: float(value) for name, value in values.items() if type(value) in (int, float)}


@inline
def _number(data: Bytes, place: int, powers: Doubles) -> tuple[int, float]:
    """Return where a number ends and what it is; -1 where it is not one that can be read here."""
    negative = data[place] == _MINUS
    place += negative
    whole, digits, power, start = 0, 0, 0, place
    while _ZERO <= data[place] <= _NINE:
        whole = whole * 10 + (data[place] - _ZERO)
        digits += whole > 0
        place += 1
    if place == start or digits > MOST_DIGITS:
        return -1, 0.0
    if data[place] == _POINT:
        place += 1
        start = place
        while _ZERO <= data[place] <= _NINE:
            whole = whole * 10 + (data[place] - _ZERO)
            digits += whole > 0
            place += 1
        power = start - place
        if power == 0 or digits > MOST_DIGITS:
            return -1, 0.0
    if data[place] == _SMALL_E or data[place] == _LARGE_E:
        place += 1
        sign = -1 if data[place] == _MINUS else 1
        place += data[place] == _MINUS or data[place] == _PLUS
        start, given = place, 0
        while _ZERO <= data[place] <= _NINE and place - start < 4:
            given = given * 10 + (data[place] - _ZERO)
            place += 1
        if place == start:
            return -1, 0.0
        power += sign * given
    if abs(power) > MOST_POWER:
        return -1, 0.0
    value = _scaled(whole, power, powers)
    return place, -value if negative else value


@inline
def _scaled(whole: int, power: int, powers: Any) -> Any:
    """Return whole * 10**power, rounded once."""
    high = float(whole)
    low = float(whole - np.int64(high))
    ten, rest = powers[abs(power), 0], powers[abs(power), 1]
    if power < 0:
        quotient = high / ten
        product, error = _product(quotient, ten)
        return quotient + (((high - product) - error) + low - quotient * rest) / ten
    product, error = _product(high, ten)
    return product + (error + low * ten + high * rest)


@inline
def _product(one: float, other: float) -> tuple[float, float]:
    """Return a product as the nearest float and what is left, exactly."""
    product = one * other
    large_one, large_other = one * _SPLIT, other * _SPLIT
    top_one, top_other = large_one - (large_one - one), large_other - (large_other - other)
    low_one, low_other = one - top_one, other - top_other
    error = ((top_one * top_other - product) + top_one * low_other + low_one * top_other) + low_one * low_other
    return product, error


@inline
def _column(data: Bytes, place: int, names: Bytes, bounds: NDArray[np.int64], guess: int) -> int:
    """Return whose name and closing quote stand at a place, looking first at the one that usually does; else -1."""
    num = len(bounds) - 1
    for turn in range(num):
        column = guess + turn if guess + turn < num else guess + turn - num
        first, length = bounds[column], bounds[column + 1] - bounds[column]
        if place + length >= len(data) or data[place + length] != _QUOTE:
            continue
        same = True
        for k in range(length):
            if data[place + k] != names[first + k]:
                same = False
                break
        if same:
            return column
    return -1


@inline
def _after_spaces(data: Bytes, place: int) -> int:
    """Return the next place that is no space."""
    while data[place] == _SPACE:
        place += 1
    return place


@inline
def _line(data: Bytes, place: int, names: Bytes, bounds: NDArray[np.int64], powers: Doubles, values: Doubles) -> bool:
    """Read a flat object of numbers that ends its line; tell whether it was one."""
    if data[place] != _OPEN:
        return False
    guess = 0
    while True:
        place = _after_spaces(data, place + 1)
        if data[place] != _QUOTE:
            return False
        column = _column(data, place + 1, names, bounds, guess)
        if column < 0:
            return False
        place = _after_spaces(data, place + 2 + bounds[column + 1] - bounds[column])
        if data[place] != _COLON:
            return False
        place, value = _number(data, _after_spaces(data, place + 1), powers)
        if place < 0:
            return False
        values[column] = value
        guess = column + 1
        place = _after_spaces(data, place)
        if data[place] == _CLOSE:
            return bool(data[place + 1] == _NEWLINE and not np.isnan(values[0]))
        if data[place] != _COMMA:
            return False


def _loop(
    data: Bytes,
    names: Bytes,
    bounds: NDArray[np.int64],
    powers: Doubles,
    ends: NDArray[np.int64],
    values: Doubles,
    usual: NDArray[np.bool_],
) -> None:
    """Read every line, note where it ends and whether it was a usual one."""
    place = 0
    for row in range(len(ends)):
        usual[row] = _line(data, place, names, bounds, powers, values[row])
        while data[place] != _NEWLINE:
            place += 1
        ends[row] = place
        place += 1


def _smooth_loop(values: Doubles, weight: float, smooth: Doubles) -> None:
    """Write the running average, corrected for its start; a NaN changes nothing and stays."""
    average, share = 0.0, 0.0
    for place in range(len(values)):
        if np.isnan(values[place]):
            smooth[place] = np.nan
            continue
        average = weight * average + (1 - weight) * values[place]
        share = weight * share + (1 - weight)
        smooth[place] = average / share


_read, _smooth = kernel(_loop), kernel(_smooth_loop)


def smoothed(values: Doubles, weight: float) -> Doubles:
    """Return an exponential average: a value `k` steps back counts weight**k, and all weights together are 1.

    So the first value is itself, and the average does not lag at its start. Ref: Adam, arXiv:1412.6980, section 3.
    """
    found = np.empty(len(values))
    _smooth(values, weight, found)
    return found


def decimated(values: Doubles, most: int) -> NDArray[np.int64]:
    """Return which of some values to draw, at most `most`: all, or the least and the largest of each bucket.

    The first and the last are always among them, so no spike is lost and the curve does not end early. NaN is left out.
    """
    sound = np.flatnonzero(~np.isnan(values))
    if len(sound) <= most:
        return sound
    edges = np.linspace(0, len(sound), max(1, (most - 2) // 2) + 1).astype(np.int64)
    places: NDArray[np.int64] = np.unique(np.concatenate([[0, len(sound) - 1], extremes(values[sound], edges)]))
    return sound[places]


def extremes(values: Doubles, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of the least and the largest value between each two edges."""
    width = int(np.diff(edges).max())
    index = edges[:-1, None] + np.arange(width)
    inside = index < edges[1:, None]
    table = values[np.minimum(index, len(values) - 1)]
    low = edges[:-1] + np.where(inside, table, np.inf).argmin(axis=1)
    high = edges[:-1] + np.where(inside, table, -np.inf).argmax(axis=1)
    return np.concatenate([low, high])
