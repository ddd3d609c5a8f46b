"""Write a tokenizer as the JSON that Hugging Face's `tokenizers` reads and writes, key for key.

One file says everything that decides the ids: added tokens, how text is split, the vocabulary and the merges. Its
canonical content is also what a tokenizer's fingerprint is taken from, so two tokenizers are the same exactly when
they give the same ids. The reading side is `formats`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smelt.tokenizers.bytelevel import to_visible
from smelt.tokenizers.pretokenize import PATTERNS

if TYPE_CHECKING:
    from smelt.tokenizers.bpe import ByteBPE

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def to_json(tokenizer: ByteBPE) -> dict[str, Any]:
    """Return the content of tokenizer.json."""
    added = {number: text for text, number in (tokenizer.special | tokenizer.literal).items()}
    visible = [added[number] if number in added else to_visible(token) for number, token in enumerate(tokenizer.tokens)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, **added_token(added[number], tokenizer.special)} for number in sorted(added)],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(tokenizer.pattern),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: number for number, text in enumerate(visible)},
            "merges": [[visible[left], visible[right]] for left, right in tokenizer.merges],
        },
    }


def added_token(text: str, special: Mapping[str, int]) -> dict[str, str | bool]:
    """Return the description of an added token: found exactly as written, wherever it stands."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"content": text, **plain, "special": text in special}


def _pre_tokenizer(pattern: str) -> dict[str, Any]:
    if pattern == "gpt2":  # the split that ByteLevel has built in
        return {**_BYTE_LEVEL, "use_regex": True}
    expression = {"Regex": PATTERNS.get(pattern, pattern)}
    split = {"type": "Split", "pattern": expression, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**_BYTE_LEVEL, "use_regex": False}]}
