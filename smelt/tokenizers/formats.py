"""Tokenizer files: write the four that a checkpoint directory holds, read a tokenizer from any file in use.

`tokenizers.Tokenizer.from_file` gives the same ids as ours from the `tokenizer.json` written here, and transformers'
`AutoTokenizer` takes the directory as it is. Reading is strict on purpose: a file that asks for something smelt would
do differently is refused with the reason, because almost the same ids ruin a model silently.

    tokenizer.json, or a directory with one          Hugging Face: BPE, WordPiece, Unigram
    *.model                                          SentencePiece: BPE, Unigram
    *.tiktoken                                       tiktoken: tokens in base64 with their ranks
    vocab.json + merges.txt, encoder.json + vocab.bpe   GPT-2
    vocab.txt                                        BERT
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smelt.core.errors import TokenizerError, nearest
from smelt.core.storage import atomic_write_text, write_json
from smelt.tokenizers import foreign
from smelt.tokenizers.base import END_OF_TEXT, TURN_END
from smelt.tokenizers.chat import ChatTemplate, load_template, read_template
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.tokenizer_json import added_token, from_json, to_json

__all__ = ["from_json", "load_tokenizer", "save_as", "save_tokenizer", "to_json"]

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
SPECIAL_FILE = "special_tokens_map.json"
NO_LIMIT = 10**30  # what transformers writes for a tokenizer that belongs to no model
# What a directory may hold, the fullest description first.
_NAMES = (TOKENIZER_FILE, "tokenizer.model", "vocab.json", "encoder.json", "vocab.txt")


def save_tokenizer(
    tokenizer: Pipeline,
    directory: Path | str,
    *,
    template: ChatTemplate | None,
    max_seq_len: int = NO_LIMIT,
    eos: str | None = None,
    has_types: bool = False,
) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and, with a template, chat_template.jinja.

    `eos` is the token that ends a generation: by default the end of a turn with a template, of a text without. A model
    that `has_types` tells the first text of a pair from the second, which transformers passes on only if told to.

    Raises:
        TokenizerError: `eos` is not a special token.
        ResourceError: the disk is full.
    """
    if eos is not None and eos not in tokenizer.special:
        accepted = ", ".join(tokenizer.special) or "nothing: this tokenizer has no special tokens"
        raise TokenizerError(f"eos '{eos}' is not a special token", accepted=accepted)
    named_tokens = _named_tokens(tokenizer, template) | ({"eos_token": eos} if eos else {})
    others = [text for text in tokenizer.special if text not in named_tokens.values()]
    config: dict[str, Any] = {
        "added_tokens_decoder": {str(token.id): added_token(token) for token in tokenizer.added},
        **named_tokens,
        "additional_special_tokens": others,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_seq_len,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    if has_types:
        config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
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


# What transformers calls a special token, and what it is written like in the vocabularies in use.
_SPELLINGS = {
    "bos_token": (END_OF_TEXT, "<s>", "<|begin_of_text|>", "<bos>"),
    "eos_token": (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>"),
    "pad_token": (END_OF_TEXT, "[PAD]", "<pad>", "</s>", "<|end_of_text|>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]", "<mask>"),
}


def _named_tokens(tokenizer: Pipeline, template: ChatTemplate | None) -> dict[str, str]:
    """Return which special token plays which part: as the template or the tokenizer's own files say, or by its look."""
    named = {name: text for name, texts in _SPELLINGS.items() for text in reversed(texts) if text in tokenizer.special}
    if template and TURN_END in template.jinja and TURN_END in tokenizer.special:
        named["eos_token"] = TURN_END
    said = template.tokens if template else tokenizer.named_tokens
    return named | {name: text for name, text in said.items() if text in tokenizer.special and name in _SPELLINGS}


def settings_beside(folder: Path, tokenizer: Pipeline) -> dict[str, Any]:
    """Return what a tokenizer's files say besides the tokenizer, to save another in its place: `save_tokenizer(**)`."""
    file = folder / CONFIG_FILE
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    end = config.get("eos_token")
    return {
        "template": load_template(folder, tokenizer),
        "max_seq_len": config.get("model_max_length") or NO_LIMIT,
        "eos": end if isinstance(end, str) and end in tokenizer.special else None,
        "has_types": "token_type_ids" in config.get("model_input_names", ()),
    }


def has_tokenizer(directory: Path) -> bool:
    """Tell whether a directory holds a tokenizer in any known form."""
    return any((directory / name).is_file() for name in _NAMES)


def load_tokenizer(path: Path | str) -> Pipeline:
    """Read a tokenizer from a file of any known format, or from a directory that holds one.

    Raises:
        TokenizerError: there is no such file, it is damaged, or it asks for what smelt cannot reproduce.
    """
    path = Path(path)
    file = next((path / name for name in _NAMES if (path / name).is_file()), path / TOKENIZER_FILE)
    if not path.is_dir():
        file = path
    if not file.is_file():
        raise TokenizerError(
            f"{file}: no such tokenizer file", accepted=f"a {TOKENIZER_FILE}, or a directory that holds one"
        )
    merges = [file.with_name(name) for name in ("merges.txt", "vocab.bpe") if file.with_name(name).is_file()]
    match file.suffix:
        case ".model":
            return foreign.read_sentencepiece(file)
        case ".tiktoken":
            return foreign.read_tiktoken(file)
        case ".txt":
            return foreign.read_bert(file)
        case ".json" if file.name in ("vocab.json", "encoder.json") and merges:
            return foreign.read_gpt2(file, merges[0])
    return _load_json(file)


def _load_json(file: Path) -> Pipeline:
    tokenizer = _read_json(file)
    tokenizer.chat_template, tokenizer.named_tokens = read_template(file.parent)
    return tokenizer


def _read_json(file: Path) -> Pipeline:
    try:
        text = file.read_bytes().decode("utf-8")
        content = json.loads(text)
        if "\\ud" in text or "\\uD" in text:  # half of a pair that stands alone is no text
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except (UnicodeError, json.JSONDecodeError, RecursionError) as error:
        raise TokenizerError(
            f"{file}: not valid JSON ({error})", fix="copy the file again: it is cut short or damaged"
        ) from error
    try:
        return from_json(content)
    except TokenizerError as error:
        raise TokenizerError(f"{file}: {error.what}", accepted=error.accepted, fix=error.fix) from error


KINDS = ("json", "tiktoken", "sentencepiece", "vocab", "gpt2")


def save_as(tokenizer: Pipeline, path: Path | str, kind: str) -> None:
    """Write a tokenizer as a file of one of `KINDS`; gpt2 is a directory with two files.

    Raises:
        TokenizerError: no such kind, or the format cannot hold what the tokenizer does.
    """
    path = Path(path)
    match kind:
        case "json":
            write_json(path, to_json(tokenizer))
        case "tiktoken":
            foreign.write_tiktoken(tokenizer, path)
        case "sentencepiece":
            foreign.write_sentencepiece(tokenizer, path)
        case "vocab":
            foreign.write_bert(tokenizer, path)
        case "gpt2":
            foreign.write_gpt2(tokenizer, path)
        case _:
            raise TokenizerError(f"unknown kind of file '{kind}'.{nearest(kind, KINDS)}", accepted=", ".join(KINDS))
