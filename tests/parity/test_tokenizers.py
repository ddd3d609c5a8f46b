"""Tokenizers against the libraries that others use: the same merges, the same ids, the same chat text.

`tokenizers` trains the same merges on the same text and gives the same ids from our file, `tiktoken` the same ids
from the same ranks, and transformers loads our directory without a word and renders the same conversation.
"""

import json
import logging.handlers
import queue
import random
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smelt.tokenizers.base import END_OF_TEXT, SPECIAL, TURN_END
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.bytelevel import to_visible
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import load_tokenizer, save_tokenizer, to_json
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.pretokenize import PATTERNS

pytestmark = pytest.mark.interop
tokenizers = pytest.importorskip("tokenizers", reason="extra interop is not installed")


def hugging_face(tokenizer: Pipeline) -> Any:
    return tokenizers.Tokenizer.from_str(json.dumps(to_json(tokenizer)))


def trained_by_hugging_face(texts: list[str], vocab_size: int, pattern: str) -> dict[str, Any]:
    """Return the model part of what BpeTrainer makes of the texts, without special tokens."""
    pre = tokenizers.pre_tokenizers
    splits = [pre.Split(tokenizers.Regex(cut), "isolated") for cut in PATTERNS[pattern]]
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = pre.Sequence([*splits, pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    return json.loads(trained.to_str())["model"]


def assert_trained_alike(texts: list[str], vocab_size: int, pattern: str) -> None:
    ours = train_bpe(texts, vocab_size=vocab_size, pattern=pattern, special=())
    theirs = trained_by_hugging_face(texts, vocab_size, pattern)
    visible = [to_visible(token) for token in ours.tokens]
    assert [[visible[left], visible[right]] for left, right in ours.model.merges] == theirs["merges"]
    assert {text: number for number, text in enumerate(visible)} == theirs["vocab"]


def fuzzed(num_strings: int, seed: int) -> Iterator[str]:
    """Yield odd strings: scripts, emoji with joiners, combining marks, white space and controls, mixed."""
    rng = random.Random(seed)
    characters = "aZs'sſK09٣²½Ⅻ .,!?-_()\"\\éßİıſçñåøÆΩωДжשלוםمرحباनमस्तेไทย한국어漢字かなカナ"
    spaces = "\t\n\r\v\f\x00\x1c\x1f\x7f\x85\xa0\u2028\u3000\u200b\u200d\ufeff"
    marks = "\u0301\u0308\u20e3\U0001f3fd\U00010400\ue000\uffff"
    runs = [
        "🙂",
        "👩\u200d👩\u200d👧",
        "🇫🇷",
        "'s",
        "'LL",
        "'ſ",
        "don't",
        "  ",
        "\r\n",
        "\n\n",
        "    ",
        "12345",
        "<|im_",
    ]
    parts = [*characters, *spaces, *marks, *runs]
    for _ in range(num_strings):
        text = "".join(rng.choices(parts, k=rng.randint(0, 24)))
        # Characters that one library's Unicode tables know and another's do not yet would test the tables, not us.
        yield "".join(c for c in text + chr(rng.randrange(0x3000)) if unicodedata.category(c) != "Cn")


@pytest.fixture(scope="module", params=sorted(PATTERNS))
def trained(request: pytest.FixtureRequest, shared_data: Path) -> Pipeline:
    text = (shared_data / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")[:200_000]
    return train_bpe([text, *fuzzed(200, seed=1)], vocab_size=1000, pattern=request.param)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_training_on_a_megabyte_of_books(pattern: str, shared_data: Path) -> None:
    folder = shared_data / "text" / "books-en"
    books = [path.read_text(encoding="utf-8")[:250_000] for path in sorted(folder.iterdir())[:4]]
    assert_trained_alike(books, 4096, pattern)


def test_training_on_chinese(shared_data: Path) -> None:
    path = min((shared_data / "text" / "poetry-zh").iterdir())
    assert_trained_alike([path.read_text(encoding="utf-8")[:100_000]], 2000, "qwen2")


@pytest.mark.parametrize("letters", ["a", "ab", "abcd", "-= ", "磨坊"])
def test_training_on_synthetic_text_full_of_ties(letters: str) -> None:
    rng = random.Random(letters)
    for _ in range(20):
        words = ["".join(rng.choices(letters, k=rng.randint(1, 12))) for _ in range(rng.randint(1, 80))]
        assert_trained_alike([" ".join(words)], 256 + rng.randint(1, 100), "gpt4")


def test_file_is_what_hugging_face_writes(trained: Pipeline) -> None:
    theirs = hugging_face(trained).to_str(pretty=True)
    assert theirs == json.dumps(to_json(trained), indent=2, ensure_ascii=False)


def test_ids_of_our_file_on_fuzzed_strings(trained: Pipeline) -> None:
    theirs = hugging_face(trained)
    texts = list(fuzzed(4000, seed=2))
    for text, encoding in zip(texts, theirs.encode_batch(texts), strict=True):
        assert trained.encode(text) == encoding.ids, repr(text)
        assert theirs.decode(encoding.ids) == trained.decode(encoding.ids) == text


def test_ids_with_special_tokens(trained: Pipeline) -> None:
    text = f"{SPECIAL[1]}user\nhi {TURN_END}\n{END_OF_TEXT}{END_OF_TEXT}x"
    assert trained.encode(text, allow_special=True) == hugging_face(trained).encode(text).ids


@pytest.mark.parametrize("name", ["the-verdict.txt", "wiki_demo.txt", "c4_demo.jsonl"])
def test_ids_of_our_file_on_real_text(name: str, trained: Pipeline, shared_data: Path) -> None:
    text = (shared_data / "text" / name).read_bytes().decode("utf-8")
    assert trained.encode(text) == hugging_face(trained).encode(text).ids


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["gpt4", "o200k", "deepseek"], indirect=True)
def test_ids_of_our_file_on_shared_text(trained: Pipeline, shared_data: Path) -> None:
    """In pieces, which take theirs half as long as whole files; a third of the files for each, so all for one."""
    theirs = hugging_face(trained)
    third = ("gpt4", "o200k", "deepseek").index(trained.pattern)
    for path in sorted(path for path in (shared_data / "text").rglob("*") if path.is_file())[third::3]:
        text = path.read_bytes().decode("utf-8")
        pieces = [text[start : start + 8192] for start in range(0, len(text), 8192)]
        assert trained.encode_batch(pieces) == [found.ids for found in theirs.encode_batch(pieces)], path.name


def test_gpt2_from_its_file(shared_data: Path, tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken", reason="extra interop is not installed")
    folder = shared_data / "tokenizers"
    gpt2 = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(folder / "gpt2-vocab.json"), str(folder / "gpt2-merges.txt"))
    )
    gpt2.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    gpt2.decoder = tokenizers.decoders.ByteLevel()
    gpt2.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    gpt2.add_special_tokens([END_OF_TEXT])
    gpt2.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    assert (ours.vocab_size, ours.special, ours.pattern) == (50_257, {END_OF_TEXT: 50_256}, "gpt2")
    ranks = {token: number for number, token in enumerate(ours.tokens[:-1])}
    reference = tiktoken.Encoding(
        "gpt2", pat_str=PATTERNS["gpt2"][0], mergeable_ranks=ranks, special_tokens=ours.special
    )
    real = (shared_data / "text" / "wiki_demo.txt").read_text(encoding="utf-8")[:300_000]
    for text in ["Hello world", real, *fuzzed(2000, seed=3)]:
        ids = ours.encode(text)
        assert ids == gpt2.encode(text).ids, repr(text[:80])
        assert ids == reference.encode_ordinary(text), repr(text[:80])
    assert ours.encode("Hello world") == [15496, 995]


def test_minimind_from_its_file(shared_data: Path) -> None:
    folder = shared_data / "tokenizers" / "minimind"
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = load_tokenizer(folder)
    assert (ours.vocab_size, ours.pattern) == (6400, "gpt2")
    assert (ours.special[TURN_END], ours.literal["<think>"]) == (2, 25)
    real = (shared_data / "text" / "wiki_demo.txt").read_text(encoding="utf-8")[:300_000]
    for text in [real, "a<think>\nb</think><tool_call><|im_start|x", *fuzzed(2000, seed=4)]:
        assert ours.encode(text) == theirs.encode(text).ids, repr(text[:80])
    text = "<|im_start|>user\n<think>你好<|im_end|>"
    assert ours.encode(text, allow_special=True) == theirs.encode(text).ids
    written = tokenizers.Tokenizer.from_str(json.dumps(to_json(ours)))
    assert written.encode(text + real).ids == theirs.encode(text + real).ids


CONVERSATIONS = [
    [{"role": "user", "content": "Where is the mill?"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello! It's 12345."}],
    [
        {"role": "system", "content": " Be kind.\n"},
        {"role": "user", "content": "磨坊在哪里？ 🙂\n\n{{ braces }} {% raw %} <b>&amp;</b>"},
        {"role": "assistant", "content": "在河边。\n"},
        {"role": "tool", "content": '{"a": "\\n"}'},
        {"role": "assistant", "content": ""},
    ],
]


@pytest.fixture(scope="module")
def auto_tokenizer(trained: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return transformers' tokenizer from our directory, with every warning an error."""
    transformers = pytest.importorskip("transformers", reason="extra interop is not installed")
    folder = tmp_path_factory.mktemp("checkpoint")
    save_tokenizer(trained, folder, template=ChatTemplate(trained), max_seq_len=512)
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    transformers.utils.logging.add_handler(handler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = transformers.AutoTokenizer.from_pretrained(folder)
    transformers.utils.logging.remove_handler(handler)
    assert records.empty()
    return loaded


def test_transformers_loads_our_directory(trained: Pipeline, auto_tokenizer: Any) -> None:
    assert len(auto_tokenizer) == trained.vocab_size
    assert auto_tokenizer.model_max_length == 512
    assert (auto_tokenizer.eos_token, auto_tokenizer.pad_token) == (TURN_END, END_OF_TEXT)
    assert sorted(auto_tokenizer.all_special_ids) == sorted(trained.special.values())
    for text in fuzzed(300, seed=5):
        ids = trained.encode(text)
        assert auto_tokenizer.encode(text) == ids
        assert auto_tokenizer.decode(ids) == text


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("add_reply", [False, True])
def test_chat_text_equals_transformers(messages: list, add_reply: bool, trained: Pipeline, auto_tokenizer: Any) -> None:
    ids, _ = ChatTemplate(trained).render(messages, add_reply=add_reply)
    text = auto_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_reply)
    assert text == trained.decode(ids)


@pytest.mark.parametrize("messages", CONVERSATIONS[:2])
def test_chat_ids_and_mask_equal_transformers(messages: list, trained: Pipeline, auto_tokenizer: Any) -> None:
    theirs = auto_tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = ChatTemplate(trained).render(messages)
    assert (theirs["input_ids"], theirs["assistant_masks"]) == (ids, mask)


def test_transformers_saves_what_we_load(trained: Pipeline, auto_tokenizer: Any, tmp_path: Path) -> None:
    auto_tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == trained.fingerprint
