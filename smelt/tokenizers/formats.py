"""Tokenizer files: write the four that a checkpoint directory holds, read byte-level BPE from anywhere.

`tokenizers.Tokenizer.from_file` gives the same ids as ours from the `tokenizer.json` written here, and transformers'
`AutoTokenizer` takes the directory as it is. The reader is strict on purpose: a file that asks for something smelt
would do differently (another algorithm, a normalizer, tokens added around the text) is refused with the reason,
because almost the same ids ruin a model silently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from smelt.core.errors import TokenizerError
from smelt.core.storage import atomic_write_text, write_json
from smelt.tokenizers.base import END_OF_TEXT, TURN_END
from smelt.tokenizers.bpe import ByteBPE
from smelt.tokenizers.bytelevel import CHARACTER_TO_BYTE, from_visible
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.merging import Pair
from smelt.tokenizers.pretokenize import PATTERNS
from smelt.tokenizers.tokenizer_json import added_token, to_json

__all__ = ["from_json", "load_tokenizer", "save_tokenizer", "to_json"]

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
SPECIAL_FILE = "special_tokens_map.json"

_NAME_OF = {expression: name for name, expression in PATTERNS.items()}


def save_tokenizer(
    tokenizer: ByteBPE,
    directory: Path | str,
    *,
    template: ChatTemplate | None,
    max_seq_len: int,
    eos: str | None = None,
) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and, with a template, chat_template.jinja.

    `eos` is the token that ends a generation: by default the end of a turn with a template, of a text without.

    Raises:
        TokenizerError: `eos` is not a special token.
        ResourceError: the disk is full.
    """
    if eos is not None and eos not in tokenizer.special:
        accepted = ", ".join(tokenizer.special) or "nothing: this tokenizer has no special tokens"
        raise TokenizerError(f"eos '{eos}' is not a special token", accepted=accepted)
    named = {
        "bos_token": END_OF_TEXT,
        "eos_token": eos or (TURN_END if template else END_OF_TEXT),
        "pad_token": END_OF_TEXT,
    }
    named_tokens: dict[str, Any] = {name: text for name, text in named.items() if text in tokenizer.special}
    others = [text for text in tokenizer.special if text not in named_tokens.values()]
    config: dict[str, Any] = {
        "added_tokens_decoder": {
            str(number): added_token(text, tokenizer.special)
            for text, number in sorted((tokenizer.special | tokenizer.literal).items(), key=lambda item: item[1])
        },
        **named_tokens,
        "additional_special_tokens": others,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_seq_len,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # The template goes in both places: newer readers want the file, older ones the key.
    if template:
        config["chat_template"] = template.jinja
        atomic_write_text(directory / TEMPLATE_FILE, template.jinja)
    else:
        (directory / TEMPLATE_FILE).unlink(missing_ok=True)
    write_json(directory / TOKENIZER_FILE, to_json(tokenizer))
    write_json(directory / CONFIG_FILE, config)
    write_json(directory / SPECIAL_FILE, {**named_tokens, "additional_special_tokens": others})


def load_tokenizer(path: Path | str) -> ByteBPE:
    """Read a tokenizer from a tokenizer.json or a directory that holds one.

    Raises:
        TokenizerError: there is no such file, it is not JSON, or it asks for what smelt cannot reproduce.
    """
    path = Path(path)
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if not file.is_file():
        raise TokenizerError(
            f"{file}: no such tokenizer file", accepted=f"a {TOKENIZER_FILE}, or a directory that holds one"
        )
    try:
        content = json.loads(file.read_bytes().decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise TokenizerError(
            f"{file}: not valid JSON ({error})", fix="copy the file again: it is cut short or damaged"
        ) from error
    try:
        return from_json(content)
    except TokenizerError as error:
        raise TokenizerError(f"{file}: {error.what}", accepted=error.accepted, fix=error.fix) from error


def from_json(content: object) -> ByteBPE:
    """Build a tokenizer from the content of a tokenizer.json.

    Truncation and padding in it are habits of one caller, not part of the tokenizer, and are left out.

    Raises:
        TokenizerError: it is malformed, or asks for what smelt cannot reproduce.
    """
    document = _typed(content, dict, "the file")
    model = _typed(document.get("model"), dict, "model")
    _check_supported(document, model)
    vocabulary = _typed(model.get("vocab"), dict, "model.vocab")
    special: dict[str, int] = {}
    literal: dict[str, int] = {}
    for place, entry in enumerate(_typed(document.get("added_tokens") or [], list, "added_tokens")):
        where = f"added_tokens[{place}]"
        text, number = _read_added_token(_typed(entry, dict, where), where)
        (special if entry.get("special") else literal)[text] = number
    tokens = _read_tokens(vocabulary, special | literal)
    merges = _read_merges(_typed(model.get("merges"), list, "model.merges"), vocabulary)
    pattern = _read_pattern(document.get("pre_tokenizer"))
    return ByteBPE(tokens, merges, pattern=pattern, special=special, literal=literal)


def _check_supported(document: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Refuse whatever would give other ids than byte-level BPE alone."""
    if model.get("type") != "BPE":
        _refuse(f"model.type {model.get('type')!r}")
    # An unk_token is harmless: with all 256 bytes in the vocabulary nothing is unknown.
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(key):
            _refuse(f"model.{key} {model[key]!r}")
    if document.get("normalizer"):
        _refuse(f"a normalizer ({_type_of(document['normalizer'])})")
    if _adds_tokens(document.get("post_processor")):
        _refuse(f"a post_processor that adds tokens ({_type_of(document['post_processor'])})")
    if _type_of(document.get("decoder")) != "ByteLevel":
        _refuse(f"the decoder {_type_of(document.get('decoder'))}")


def _adds_tokens(processor: object) -> bool:
    """Tell whether a post-processor adds tokens; ByteLevel does not, nor the bare template that transformers writes."""
    match processor:
        case None | {"type": "ByteLevel"}:
            return False
        case {"type": "TemplateProcessing", "single": list(steps)}:
            return not all(isinstance(step, dict) and list(step) == ["Sequence"] for step in steps)
        case {"type": "Sequence", "processors": list(parts)}:
            return any(_adds_tokens(part) for part in parts)
    return True


def _read_pattern(pre_tokenizer: object) -> str:
    """Return the split pattern: its name where it is a published one."""
    steps = [pre_tokenizer]
    if _type_of(pre_tokenizer) == "Sequence":
        sequence = _typed(pre_tokenizer, dict, "pre_tokenizer")
        steps = _typed(sequence.get("pretokenizers"), list, "pre_tokenizer.pretokenizers")
    match [_type_of(step) for step in steps]:
        case ["ByteLevel"]:
            split, byte_level = None, _typed(steps[0], dict, "pre_tokenizer")
        case ["Split", "ByteLevel"]:
            split, byte_level = _typed(steps[0], dict, "pre_tokenizer"), _typed(steps[1], dict, "pre_tokenizer")
        case kinds:
            _refuse(f"the pre_tokenizer {' + '.join(kinds)}")
    if byte_level.get("add_prefix_space"):
        _refuse("ByteLevel with add_prefix_space")
    if byte_level.get("use_regex", True) == (split is not None):
        _refuse("ByteLevel with use_regex beside a Split, or without one and no Split")
    if split is None:
        return "gpt2"
    expression = split.get("pattern")
    regex = expression.get("Regex") if isinstance(expression, dict) else None
    if split.get("behavior") != "Isolated" or split.get("invert") or not isinstance(regex, str):
        _refuse("a Split that is not an isolating regular expression")
    return _NAME_OF.get(regex, regex)


def _read_added_token(entry: Mapping[str, Any], where: str) -> tuple[str, int]:
    text, number = _typed(entry.get("content"), str, f"{where}.content"), _typed(entry.get("id"), int, f"{where}.id")
    if not text:
        raise TokenizerError(f"{where} is empty")
    for flag in ("single_word", "lstrip", "rstrip"):
        if entry.get(flag):
            _refuse(f"the added token '{text}' with {flag}")
    return text, number


def _read_tokens(vocabulary: Mapping[str, Any], added: Mapping[str, int]) -> list[bytes]:
    """Return the bytes of every id; ids must be 0 .. N-1, each used once."""
    added_text = {number: text for text, number in added.items()}
    by_id: dict[int, bytes] = {number: text.encode("utf-8") for number, text in added_text.items()}
    for text, number in vocabulary.items():
        if added_text.get(_typed(number, int, f"the id of '{text}'")) == text:
            continue
        if number in by_id:
            raise TokenizerError(f"id {number} of '{text}' is used twice", accepted="distinct ids")
        if not text or any(character not in CHARACTER_TO_BYTE for character in text):
            raise TokenizerError(
                f"'{text}' (id {number}) is not a byte-level token", accepted="a byte-level BPE vocabulary, as GPT-2's"
            )
        by_id[number] = from_visible(text)
    if wrong := [number for number in by_id if not 0 <= number < len(by_id)]:
        raise TokenizerError(
            f"id {wrong[0]} does not fit a vocabulary of {len(by_id)} tokens",
            accepted=f"ids 0 to {len(by_id) - 1} without gaps",
        )
    return [by_id[number] for number in range(len(by_id))]


def _read_merges(entries: list[Any], vocabulary: Mapping[str, int]) -> list[Pair]:
    """Read merges in either published form: ["a", "b"] or "a b"."""
    merges = []
    for rank, entry in enumerate(entries):
        parts = entry.split(" ") if isinstance(entry, str) else entry
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise TokenizerError(f"model.merges[{rank}] is {entry!r}", accepted='["a", "b"] or "a b"')
        for part in parts:
            if part not in vocabulary:
                raise TokenizerError(f"model.merges[{rank}] uses '{part}', which is not in the vocabulary")
        merges.append((vocabulary[parts[0]], vocabulary[parts[1]]))
    return merges


def _refuse(what: str) -> NoReturn:
    raise TokenizerError(
        f"not supported: {what}",
        accepted="byte-level BPE without normalizer, split by ByteLevel or by one regular expression",
        fix="train a tokenizer of your own with `smelt tokenizer train`",
    )


def _type_of(part: object) -> str:
    return str(part.get("type")) if isinstance(part, dict) else "none"


def _typed(value: Any, kind: type, where: str) -> Any:
    """Return the value if it has the JSON type expected of it (a boolean is not an integer)."""
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {dict: "an object", list: "a list", str: "a string", int: "an integer"}
        raise TokenizerError(
            f"{where} is {value!r:.60}, not {names[kind]}", fix="check that this is a complete tokenizer.json"
        )
    return value
