"""The table of methods: a line for each way of tuning, by the name that recipes give it."""

from __future__ import annotations

from smelt.peft.method import Method

_ALL: tuple[Method, ...] = ()
METHODS = {method.name: method for method in _ALL}
