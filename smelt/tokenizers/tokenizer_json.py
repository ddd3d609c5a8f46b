"""tokenizer.json, as Hugging Face's `tokenizers` reads and writes it, key for key, in both directions.

One file says everything that decides the ids: added tokens, normalizers, splitters, the model, the template, the
decoder. Most entries are values of ours whose class is the "type" and whose fields are the keys, so reading and
writing is one table. What smelt would do differently is refused with the reason, because almost the same ids ruin a
model silently. The canonical content is also what a tokenizer's fingerprint is taken from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from smelt.core.errors import TokenizerError
from smelt.tokenizers import normalize, splitters
from smelt.tokenizers.added import AddedToken
from smelt.tokenizers.bert import BertPreTokenizer
from smelt.tokenizers.charsmap import Precompiled
from smelt.tokenizers.decoders import ByteLevelDecoder, Decoder, MetaspaceDecoder, SuffixDecoder, WordPieceDecoder
from smelt.tokenizers.json_models import model_from_json, model_to_json, typed
from smelt.tokenizers.pipeline import Pipeline, Template
from smelt.tokenizers.splitters import ByteLevel, Metaspace
from smelt.tokenizers.unigram import Unigram
from smelt.tokenizers.wordpiece import WordPiece

# The pair of a template that adds nothing.
_PAIR = ({"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}})
_NORMALIZERS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        normalize.NFC, normalize.NFD, normalize.NFKC, normalize.NFKD, normalize.Lowercase, normalize.StripAccents,
        normalize.Strip, normalize.Prepend, normalize.Replace, normalize.BertNormalizer, normalize.Nmt, Precompiled,
    )
}  # fmt: skip
_SPLITTERS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        splitters.Split, ByteLevel, Metaspace, BertPreTokenizer, splitters.Whitespace, splitters.WhitespaceSplit,
        splitters.Digits, splitters.Punctuation,
    )
}  # fmt: skip


def to_json(tokenizer: Pipeline) -> dict[str, Any]:
    """Return the content of tokenizer.json.

    Raises:
        TokenizerError: a step has no form there.
    """
    for table, steps in ((_NORMALIZERS, tokenizer.normalizers), (_SPLITTERS, tokenizer.splitters)):
        if strange := [step for step in steps if table.get(type(step).__name__) is not type(step)]:
            raise TokenizerError(
                f"{type(strange[0]).__name__} has no form in tokenizer.json", accepted=", ".join(table),
                fix="keep the file that the tokenizer came from",
            )  # fmt: skip
    if isinstance(tokenizer.model, Unigram) and tokenizer.model.user_defined:
        raise TokenizerError(
            "user-defined symbols of SentencePiece have no form in tokenizer.json", fix="keep the .model file"
        )
    return describe(tokenizer)


def describe(tokenizer: Pipeline) -> dict[str, Any]:
    """Return everything that decides the ids, in the form of tokenizer.json even where that has no such step."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.id, **added_token(token)} for token in tokenizer.added],
        "normalizer": _steps_to_json(tokenizer.normalizers, "normalizers"),
        "pre_tokenizer": _steps_to_json(tokenizer.splitters, "pretokenizers"),
        "post_processor": _template_to_json(tokenizer),
        "decoder": _decoder_to_json(tokenizer.decoder),
        "model": model_to_json(tokenizer.model, tokenizer.spelling),
    }


def added_token(token: AddedToken) -> dict[str, str | bool]:
    """Return the description of an added token, without its id."""
    values = asdict(token)
    values.pop("id")
    return values


def from_json(content: Any) -> Pipeline:
    """Build a tokenizer from the content of a tokenizer.json.

    Truncation and padding in it are habits of one caller, not part of the tokenizer, and are left out.

    Raises:
        TokenizerError: it is malformed, or asks for what smelt cannot reproduce.
    """
    document = typed(content, dict, "the file")
    model = typed(document.get("model"), dict, "model")
    steps = _steps(document.get("pre_tokenizer"), _SPLITTERS, "pre_tokenizer", "pretokenizers")
    entries = typed(document.get("added_tokens") or [], list, "added_tokens")
    added = [_read_added_token(entry, f"added_tokens[{place}]") for place, entry in enumerate(entries)]
    byte_level = any(isinstance(step, ByteLevel) for step in steps)
    if byte_level and not isinstance(steps[-1], ByteLevel):
        refuse("a pre_tokenizer with something behind ByteLevel")
    decoder = _read_decoder(document.get("decoder"))
    if byte_level != isinstance(decoder, ByteLevelDecoder):
        refuse("ByteLevel for one direction and not for the other")
    tokenizer = Pipeline(
        model_from_json(model, added, byte_level=byte_level),
        splitters=steps,
        decoder=decoder,
        normalizers=_steps(document.get("normalizer"), _NORMALIZERS, "normalizer", "normalizers"),
        template=_read_template(document.get("post_processor")),
        added=added,
    )
    if isinstance(tokenizer.model, WordPiece):
        for token in tokenizer.added:
            unknown = token.id == tokenizer.model.unk_id  # what text lacks a token for is no secret
            if token.special and not unknown and token.id in tokenizer.encode(token.content):
                refuse(f"the special token {token.content!r}, which plain text would become")
    return tokenizer


def _steps_to_json(steps: tuple[Any, ...], key: str) -> dict[str, Any] | None:
    written = [
        {"type": type(step).__name__, **{field.name: getattr(step, field.name) for field in fields(step)}}
        for step in steps
    ]
    if not written:
        return None
    return written[0] if len(written) == 1 else {"type": "Sequence", key: written}


def _steps(entry: Any, table: Mapping[str, type], where: str, key: str) -> tuple[Any, ...]:
    """Read one entry, or a "Sequence" of them, as our values."""
    if entry is None:
        return ()
    entry = typed(entry, dict, where)
    if entry.get("type") == "Sequence":
        parts = typed(entry.get(key), list, f"{where}.{key}")
        found: list[Any] = []
        for place, part in enumerate(parts):
            if _type_of(part) == "Sequence":  # cannot be nested without end: one level is all that exists in the wild
                refuse(f"a Sequence inside {where}.{key}[{place}]")
            found += _steps(part, table, f"{where}.{key}[{place}]", key)
        return tuple(found)
    kind = table.get(str(entry.get("type")))
    if kind is None:
        refuse(f"the {where} {entry.get('type')!r}")
    values = {field.name: entry[field.name] for field in fields(kind) if field.name in entry}
    if kind is Metaspace and "add_prefix_space" in entry and "prepend_scheme" not in entry:  # the older spelling
        values["prepend_scheme"] = "always" if entry["add_prefix_space"] else "never"
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            choices = get_args(hints[name])
            accepted = ", ".join(str(one) for one in choices) if choices else hints[name].__name__
            raise TokenizerError(f"{where}.{name} is {value!r:.60}", accepted=accepted)
    try:
        return (kind(**values),)
    except TypeError as error:  # a field is missing
        raise TokenizerError(f"{where} is {entry!r:.120}: {error}") from error


def _fits(value: object, hint: Any) -> bool:
    """Tell whether a JSON value is of the type that a field is annotated with."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint) if isinstance(value, str) else False
    if origin in (UnionType, Union):
        return any(_fits(value, one) for one in get_args(hint))
    if origin is not None:  # Mapping[str, str]
        return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _read_added_token(entry: Any, where: str) -> AddedToken:
    entry = typed(entry, dict, where)
    content, number = typed(entry.get("content"), str, f"{where}.content"), typed(entry.get("id"), int, f"{where}.id")
    if not content:
        raise TokenizerError(f"{where} is empty")
    if number < 0:
        raise TokenizerError(f"{where} has the id {number}", accepted="0 or more")
    flags = {name: bool(entry.get(name)) for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    return AddedToken(number, content, **flags)


def _template_to_json(tokenizer: Pipeline) -> dict[str, Any] | None:
    template = tokenizer.template
    if template == Template():
        return None
    names = sorted({step.split(":")[0] for part in (template.single, template.pair) for step in part if step[0] != "$"})
    number_of = {text: number for number, text in enumerate(tokenizer.spelling)}
    return {
        "type": "TemplateProcessing",
        "single": [_step_to_json(step) for step in template.single],
        "pair": [_step_to_json(step) for step in template.pair],
        "special_tokens": {name: {"id": name, "ids": [number_of[name]], "tokens": [name]} for name in names},
    }


def _step_to_json(step: str) -> dict[str, Any]:
    name, _, segment = step.partition(":") if step.startswith("$") or ":" in step[1:] else (step, "", "")
    kind = {"Sequence": {"id": name[1:]}} if name.startswith("$") else {"SpecialToken": {"id": name}}
    inner = next(iter(kind.values()))
    return {next(iter(kind)): {**inner, "type_id": int(segment or 0)}}


def _read_template(entry: Any) -> Template:
    """Read a post-processor; the two older forms say what a template says."""
    match entry:
        case None | {"type": "ByteLevel"}:
            return Template()
        case {"type": "TemplateProcessing", "single": list(single)}:
            pair = typed(entry.get("pair", list(_PAIR)), list, "post_processor.pair")
            template = Template(tuple(map(_read_step, single)), tuple(map(_read_step, pair)))
            if template.single.count("$A") != 1:
                refuse("a template that does not hold its text once")
            return template
        case {"type": "BertProcessing", "sep": [str(sep), _], "cls": [str(cls), _]}:
            return Template((cls, "$A", sep), (cls, "$A", sep, "$B:1", f"{sep}:1"))
        case {"type": "RobertaProcessing", "sep": [str(sep), _], "cls": [str(cls), _]}:
            return Template((cls, "$A", sep), (cls, "$A", sep, sep, "$B", sep))
        case {"type": "Sequence", "processors": list(parts)}:
            found = [template for part in parts if (template := _read_template(part)) != Template()]
            if len(found) > 1:
                refuse("a post_processor with more than one template")
            return found[0] if found else Template()
    refuse(f"the post_processor {_type_of(entry)}")


def _read_step(step: object) -> str:
    match step:
        case {"SpecialToken": {"id": str(name), "type_id": int(segment)}}:
            return f"{name}:{segment}" if segment else name
        case {"Sequence": {"id": "A" | "B" as name, "type_id": int(segment)}}:
            return f"${name}:{segment}" if segment else f"${name}"
    raise TokenizerError(f"a template step is {step!r:.80}", accepted='{"SpecialToken": ...} or {"Sequence": ...}')


def _decoder_to_json(decoder: Decoder) -> dict[str, Any]:
    match decoder:
        case ByteLevelDecoder():
            return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        case WordPieceDecoder(prefix, cleanup):
            return {"type": "WordPiece", "prefix": prefix, "cleanup": cleanup}
        case SuffixDecoder(suffix):
            return {"type": "BPEDecoder", "suffix": suffix}
        case MetaspaceDecoder(mark, False, strip):
            scheme = "always" if strip else "never"
            return {"type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": True}
        case MetaspaceDecoder(mark, True, strip):
            steps = [
                {"type": "Replace", "pattern": {"String": mark}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strip else []),
            ]
            return {"type": "Sequence", "decoders": steps}
    raise TokenizerError(f"{type(decoder).__name__} has no form in tokenizer.json")


def _read_decoder(entry: Any) -> Decoder:
    """Read a decoder; of sequences, the one that SentencePiece models are given."""
    match entry:
        case {"type": "ByteLevel"}:
            return ByteLevelDecoder()
        case {"type": "WordPiece", "prefix": str(prefix), "cleanup": bool(cleanup)}:
            return WordPieceDecoder(prefix, cleanup)
        case {"type": "BPEDecoder", "suffix": str(suffix)}:
            return SuffixDecoder(suffix)
        case {"type": "Metaspace", "replacement": str(mark)}:
            scheme = entry.get("prepend_scheme", "always" if entry.get("add_prefix_space", True) else "never")
            return MetaspaceDecoder(mark, False, scheme != "never")
        case {"type": "Sequence", "decoders": list(parts)}:
            match parts:
                case [
                    {"type": "Replace", "pattern": {"String": str(mark)}, "content": " "}, {"type": "ByteFallback"},
                    {"type": "Fuse"}, *rest,
                ] if rest in ([], [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]):  # fmt: skip
                    return MetaspaceDecoder(mark, True, bool(rest))
            refuse(f"the decoder {' + '.join(_type_of(part) for part in parts)}")
    refuse(f"the decoder {_type_of(entry)}")


def refuse(what: str) -> NoReturn:
    """Raise the error for a file that asks for something that smelt does not do."""
    raise TokenizerError(
        f"not supported: {what:.300}",
        accepted="the parts of BPE, WordPiece and Unigram tokenizers in common use (docs/how-to/tokenizers.md)",
        fix="train a tokenizer of your own with `smelt tokenizer train`",
    )


def _type_of(part: object) -> str:
    return str(part.get("type")) if isinstance(part, dict) else "none"
