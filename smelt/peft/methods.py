"""The table of methods: a line for each way of tuning, by the name that recipes give it."""

from __future__ import annotations

from smelt.peft import lora_method
from smelt.peft.method import Method

METHODS: dict[str, Method] = {method.name: method for method in (lora_method.METHOD,)}
