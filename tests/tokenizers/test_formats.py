"""Tokenizer files: what is written, that it reads back the same, and each refusal with its reason."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smelt.core.errors import TokenizerError
from smelt.tokenizers.base import END_OF_TEXT, SPECIAL, TURN_END
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.bytelevel import BYTE_ORDER
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import from_json, load_tokenizer, save_tokenizer, to_json
from smelt.tokenizers.pipeline import Pipeline, byte_level

SAMPLE = "The mill's 1234 stones\r\n\r\n  — 磨坊 🙂 " + TURN_END


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "qwen2", "han", r"\s?\S+"])
def test_saving_and_loading_keeps_every_id(pattern: str, tmp_path: Path) -> None:
    tokenizer = train_bpe([SAMPLE] * 3, vocab_size=300, pattern=pattern)
    save_tokenizer(tokenizer, tmp_path, template=None, max_seq_len=64)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = load_tokenizer(path)
        assert loaded.pattern == pattern
        assert loaded.fingerprint == tokenizer.fingerprint
        assert loaded.encode(SAMPLE, allow_special=True) == tokenizer.encode(SAMPLE, allow_special=True)


def test_saving_again_writes_the_same_bytes(tokenizer: Pipeline, tmp_path: Path) -> None:
    names = ["chat_template.jinja", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    save_tokenizer(tokenizer, tmp_path / "a", template=ChatTemplate(tokenizer), max_seq_len=64)
    loaded = load_tokenizer(tmp_path / "a")
    save_tokenizer(loaded, tmp_path / "b", template=ChatTemplate(loaded), max_seq_len=64)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert [(tmp_path / "a" / name).read_bytes() for name in names] == [
        (tmp_path / "b" / name).read_bytes() for name in names
    ]


def test_config_of_a_chat_checkpoint(tokenizer: Pipeline, tmp_path: Path) -> None:
    template = ChatTemplate(tokenizer)
    save_tokenizer(tokenizer, tmp_path, template=template, max_seq_len=512)
    config = read(tmp_path / "tokenizer_config.json")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    assert config["added_tokens_decoder"] == {
        str(tokenizer.special[text]): {"content": text, **flags} for text in SPECIAL
    }
    assert config["chat_template"] == template.jinja == (tmp_path / "chat_template.jinja").read_text(encoding="utf-8")
    assert (config["eos_token"], config["bos_token"], config["pad_token"]) == (TURN_END, END_OF_TEXT, END_OF_TEXT)
    assert (config["model_max_length"], config["tokenizer_class"]) == (512, "PreTrainedTokenizerFast")
    assert read(tmp_path / "special_tokens_map.json") == {
        "bos_token": END_OF_TEXT,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "additional_special_tokens": ["<|im_start|>"],
    }


def test_config_of_a_base_checkpoint_leaves_no_old_template(tokenizer: Pipeline, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path, template=ChatTemplate(tokenizer), max_seq_len=512)
    save_tokenizer(tokenizer, tmp_path, template=None, max_seq_len=512)
    config = read(tmp_path / "tokenizer_config.json")
    assert config["eos_token"] == END_OF_TEXT
    assert "chat_template" not in config
    assert not (tmp_path / "chat_template.jinja").exists()


def test_eos_can_be_chosen(tokenizer: Pipeline, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path, template=None, max_seq_len=512, eos=TURN_END)
    assert read(tmp_path / "tokenizer_config.json")["eos_token"] == TURN_END
    with pytest.raises(TokenizerError) as caught:
        save_tokenizer(tokenizer, tmp_path, template=None, max_seq_len=512, eos="</s>")
    assert str(caught.value) == ("eos '</s>' is not a special token\naccepted: <|endoftext|>, <|im_start|>, <|im_end|>")


def test_literal_tokens_are_kept() -> None:
    tokens = [*(bytes([byte]) for byte in BYTE_ORDER), b"<think>", b"<|endoftext|>"]
    tokenizer = byte_level(tokens, [], pattern="gpt2", special={END_OF_TEXT: 257}, literal={"<think>": 256})
    loaded = from_json(to_json(tokenizer))
    assert (loaded.special, loaded.literal) == ({END_OF_TEXT: 257}, {"<think>": 256})
    assert loaded.fingerprint == tokenizer.fingerprint


def test_older_files_spell_merges_as_one_string(tokenizer: Pipeline) -> None:
    content = to_json(tokenizer)
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    assert from_json(content).fingerprint == tokenizer.fingerprint


def test_added_tokens_may_stand_outside_the_vocabulary(tokenizer: Pipeline) -> None:
    content = to_json(tokenizer)
    for text in SPECIAL:
        del content["model"]["vocab"][text]
    assert from_json(content).fingerprint == tokenizer.fingerprint


TEXT, END = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
BARE = {"type": "TemplateProcessing", "single": [TEXT]}
ADDING = {"type": "TemplateProcessing", "single": [TEXT, END]}


@pytest.mark.parametrize("harmless", [{"type": "ByteLevel"}, BARE, {"type": "Sequence", "processors": [BARE]}])
def test_post_processors_that_add_nothing_are_fine(harmless: dict[str, object], tokenizer: Pipeline) -> None:
    assert from_json(to_json(tokenizer) | {"post_processor": harmless}).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("adding", [ADDING, {"type": "Sequence", "processors": [BARE, ADDING]}])
def test_post_processors_that_add_tokens_become_a_template(adding: dict[str, object], tokenizer: Pipeline) -> None:
    loaded = from_json(to_json(tokenizer) | {"post_processor": adding})
    assert loaded.template.single == ("$A", END_OF_TEXT)
    assert loaded.encode("a", add_special_tokens=True) == [*loaded.encode("a"), loaded.special[END_OF_TEXT]]
    assert from_json(to_json(loaded)).template == loaded.template


TWICE = {"type": "Sequence", "processors": [ADDING, ADDING]}
NO_TEXT = {"type": "TemplateProcessing", "single": [END]}
UNKNOWN = {"type": "TemplateProcessing", "single": [TEXT, {"SpecialToken": {"id": "<s>", "type_id": 0}}]}


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        ({"type": "Other"}, "not supported: the post_processor Other"),
        (TWICE, "not supported: a post_processor with more than one template"),
        (NO_TEXT, "not supported: a template that does not hold its text once"),
        (UNKNOWN, "the template names '<s>', which is not in the vocabulary"),
        ({"type": "TemplateProcessing", "single": [7]}, "a template step is 7"),
    ],
)
def test_post_processors_that_cannot_be(processor: dict[str, object], reason: str, tokenizer: Pipeline) -> None:
    with pytest.raises(TokenizerError, match=reason):
        from_json(to_json(tokenizer) | {"post_processor": processor})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"{path}: no such tokenizer file\naccepted: a tokenizer.json, or a directory that holds one"
    )


@pytest.mark.parametrize("content", [b'{"version": "1.0", ', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(path)
    assert str(caught.value).startswith(f"{path}: not valid JSON (")
    assert str(caught.value).endswith("try: copy the file again: it is cut short or damaged")


def test_a_refusal_names_file_and_reason(tokenizer: Pipeline, tmp_path: Path) -> None:
    content = to_json(tokenizer)
    content["normalizer"] = {"type": "Mystery"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"{path}: not supported: the normalizer 'Mystery'\n"
        "accepted: the parts of BPE, WordPiece and Unigram tokenizers in common use (docs/how-to/tokenizers.md)\n"
        "try: train a tokenizer of your own with `smelt tokenizer train`"
    )


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
SPLIT = {"type": "Split", "pattern": {"Regex": r"\s+"}, "behavior": "Isolated", "invert": False}
INNER = BYTE_LEVEL | {"use_regex": False}


def sequence(*steps: dict[str, object]) -> dict[str, object]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def put(*keys: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("model", "dropout", value=0.1), "not supported: model.dropout 0.1"),
        (put("model", "continuing_subword_prefix", value="##"), "not supported: model.continuing_subword_prefix '##'"),
        (put("model", "type", value="WordLevel"), "not supported: model.type 'WordLevel'"),
        (put("normalizer", value={"type": "Mystery"}), "not supported: the normalizer 'Mystery'"),
        (put("normalizer", value={"type": "Prepend"}), "normalizer is .* missing 1 required"),
        (put("decoder", value=None), "not supported: the decoder none"),
        (put("decoder", value={"type": "CTC"}), "not supported: the decoder CTC"),
        (put("pre_tokenizer", value=None), "not supported: ByteLevel for one direction and not for the other"),
        (put("pre_tokenizer", value={"type": "UnicodeScripts"}), "not supported: the pre_tokenizer 'UnicodeScripts'"),
        (put("pre_tokenizer", value=sequence(INNER, SPLIT)), "something behind ByteLevel"),
        (put("pre_tokenizer", value=sequence(sequence(SPLIT), INNER)), "a Sequence inside"),
        (
            put("pre_tokenizer", value=sequence(SPLIT | {"behavior": "Eaten"}, INNER)),
            r"behavior is 'Eaten'\naccepted: Removed, Isolated",
        ),
        (put("pre_tokenizer", value=sequence(SPLIT | {"pattern": {"Glob": " "}}, INNER)), "a Split by {'Glob': ' '}"),
        (put("normalizer", value={"type": "Prepend", "prepend": {}}), r"normalizer.prepend is {}\naccepted: str"),
        (
            put("normalizer", value={"type": "Strip", "strip_left": 1, "strip_right": True}),
            "normalizer.strip_left is 1",
        ),
        (put("model", "vocab", "!", value={}), "the id of '!' is {}, not an integer"),
        (put("pre_tokenizer", value={"type": "Sequence"}), "pre_tokenizer.pretokenizers is None, not a list"),
        (put("added_tokens", 0, "id", value=-1), r"added_tokens\[0\] has the id -1"),
        (put("added_tokens", 0, "id", value=10**9), "id 1000000000 does not fit a vocabulary of"),
        (put("added_tokens", 0, "id", value=True), r"added_tokens\[0\].id is True, not an integer"),
        (put("added_tokens", 0, "content", value=""), r"added_tokens\[0\] is empty"),
        (put("added_tokens", value=["x"]), r"added_tokens\[0\] is 'x', not an object"),
        (put("model", value=[]), r"model is \[\], not an object"),
        (put("model", "vocab", value=None), "model.vocab is None, not an object"),
        (put("model", "vocab", "!", value=1), "id 1 of '\"' is used twice"),
        (put("model", "vocab", "!", value="0"), "the id of '!' is '0', not an integer"),
        (put("model", "vocab", "磨", value=320), r"'磨' \(id 320\) is not a byte-level token"),
        (put("model", "merges", value={}), "model.merges is {}, not a list"),
        (put("model", "merges", 2, value=["a"]), r"model.merges\[2\] is \['a'\]"),
        (put("model", "merges", 0, value=["a", "zz"]), r"model.merges\[0\] uses 'zz', which is not in the vocabulary"),
        (put("model", "merges", 0, value=["z", "z"]), "merge 0 makes b'zz', which is not in the vocabulary"),
    ],
)
def test_what_cannot_be_reproduced_is_refused(tokenizer: Pipeline, change: Callable[[Any], None], reason: str) -> None:
    content = copy.deepcopy(to_json(tokenizer))
    change(content)
    with pytest.raises(TokenizerError, match=reason):
        from_json(content)


def test_a_list_is_not_a_tokenizer() -> None:
    with pytest.raises(TokenizerError, match=r"the file is \[\], not an object"):
        from_json([])


def test_half_a_character_and_a_long_value_in_a_file(tokenizer: Pipeline, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path, template=None, max_seq_len=512)
    path = tmp_path / "tokenizer.json"
    content = read(path)
    path.write_text(json.dumps(content | {"added_tokens": [{"id": 0, "content": "a\ud800"}]}), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer.json: not valid JSON .*surrogates not allowed"):
        load_tokenizer(path)
    path.write_text(json.dumps(content | {"decoder": {"type": content["model"]["vocab"]}}), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer.json: not supported: the decoder \{") as caught:
        load_tokenizer(path)
    assert len(caught.value.what) < 1000
