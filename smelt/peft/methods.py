"""The table of methods: a line for each way of tuning, by the name that recipes give it."""

from __future__ import annotations

from smelt.peft import adalora, bottleneck, gated_prompts, ia3, lora_method, prompt_methods
from smelt.peft.method import Method

_ALL = (
    lora_method.METHOD,
    adalora.METHOD,
    ia3.METHOD,
    bottleneck.METHOD,
    prompt_methods.PROMPT,
    prompt_methods.P_TUNING,
    prompt_methods.PREFIX,
    gated_prompts.METHOD,
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
