"""The table of methods: a line for each way of tuning, by the name that recipes give it."""

from __future__ import annotations

from smelt.peft.gated_prompts import LLAMA_ADAPTER
from smelt.peft.method import Method
from smelt.peft.prompt_methods import P_TUNING, PREFIX, PROMPT

_ALL: tuple[Method, ...] = (PROMPT, P_TUNING, PREFIX, LLAMA_ADAPTER)
METHODS = {method.name: method for method in _ALL}
