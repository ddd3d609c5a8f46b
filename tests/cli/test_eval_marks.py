"""`smelt eval` with answers, retrieval and similarity: figures with intervals, gates, and what cannot be compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smelt.evals.likeness import vectors_of
from smelt.evals.marks import FIGURES
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.nn.spec import TokenIds
from smelt.tokenizers.bpe_train import train_bpe

from .conftest import Smelt, write_chats

METRICS = ",".join(FIGURES)
GREEDY = ("--temperature", 0, "--max-new-tokens", 8, "--json")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def asked(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> Path:
    """Four conversations; of two the reference is what the model says."""
    chats = []
    for number in range(4):
        said = smelt("generate", checkpoint, "--prompt", f"q{number}", "--chat", *GREEDY).json["text"].strip()
        chats.append([("user", f"q{number}"), ("assistant", said if number < 2 else "no such words")])
    return write_chats(tmp_path / "asked.jsonl", chats)


def test_answers_to_conversations(smelt: Smelt, checkpoint: Path, asked: Path) -> None:
    words = ("--answers", asked, "--metric", METRICS, "--max-new-tokens", 8)
    result = smelt("eval", checkpoint, *words, "--json")
    assert result.code == 0, result.err
    names = [figure for figures in FIGURES.values() for figure in figures]
    assert list(result.json) == [*names, "intervals"] and list(result.json["intervals"]) == names
    assert result.json["match"] == 0.5 and result.json["chrf"] >= 0.2
    low, high = result.json["intervals"]["match"]
    assert low == 0 and high == 1
    shown = smelt("eval", checkpoint, *words, "--show-wrong")
    assert ["match", "50.0%", "0.0%", "to", "100.0%", "4"] in [line.split() for line in shown.out.splitlines()]
    assert "wanted no such words" in shown.err
    assert smelt("eval", checkpoint, *words, "--batch-size", 1, "--json").json == result.json
    drawn = [smelt("eval", checkpoint, *words, "--temperature", 1, "--batch-size", size, "--json") for size in (1, 64)]
    assert drawn[0].json == drawn[1].json != result.json


def test_a_decoder_goes_on_with_the_source_of_a_pair(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    said = smelt("generate", checkpoint, "--prompt", "The mill TL;DR:", *GREEDY).json["text"].strip()
    file = write_rows(tmp_path / "pairs.jsonl", [{"source": "The mill TL;DR:", "target": said}] * 2)
    result = smelt("eval", checkpoint, "--answers", file, "--metric", "chrf", "--max-new-tokens", 8, "--json")
    assert result.json["chrf"] == pytest.approx(1)


@pytest.fixture
def turner(tmp_path: Path) -> Path:
    """A tiny encoder-decoder."""
    tokenizer = train_bpe([], vocab_size=259)
    end = tokenizer.special["<|endoftext|>"]
    shape = Shape(vocab_size=259, dim=16, num_layers=1, num_heads=2, num_kv_heads=2, max_seq_len=32)
    model = build(replace(spec_for("t5", shape), token_ids=TokenIds(end, (end,), end, end)), seed=1)
    save(model, tokenizer, tmp_path / "turner")
    return tmp_path / "turner"


def test_an_encoder_decoder_reads_the_source(smelt: Smelt, turner: Path, asked: Path, tmp_path: Path) -> None:
    said = smelt("generate", turner, "--prompt", "mill", *GREEDY).json["text"].strip()
    file = write_rows(
        tmp_path / "pairs.jsonl", [{"source": "mill", "target": said or "x"}, {"source": "sail", "target": "b"}]
    )
    words = ("--answers", file, "--metric", "match,bleu", "--max-new-tokens", 8, "--json")
    found = smelt("eval", turner, *words)
    assert found.code == 0, found.err
    assert found.json["match"] >= (0.5 if said else 0)
    assert smelt("eval", turner, *words, "--num-beams", 2).code == 0
    result = smelt("eval", turner, "--answers", asked, "--metric", "bleu")
    assert result.code == 2 and "a conversation, for a model of pairs\naccepted: pairs {source, target}" in result.err
    long = write_rows(tmp_path / "long.jsonl", [{"source": "mill " * 20, "target": "a"}])
    result = smelt("eval", turner, "--answers", long, "--metric", "bleu")
    assert result.code == 1 and "the prompt has 101 tokens, but the model reads at most 32" in result.err


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A tiny encoder."""
    tokenizer = train_bpe([], vocab_size=259)
    shape = Shape(vocab_size=259, dim=16, num_layers=1, num_heads=2, num_kv_heads=2, max_seq_len=32)
    save(build(spec_for("bert", shape), seed=1), tokenizer, tmp_path / "reader")
    return tmp_path / "reader"


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_texts_are_found_by_their_vectors(
    kind: str, smelt: Smelt, checkpoint: Path, reader: Path, tmp_path: Path
) -> None:
    path = checkpoint if kind == "decoder" else reader
    texts = ["the mill by the river", "99 sails", "bread, and a cat", "Ada lives here"]
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"source": text, "target": text} for text in texts])
    result = smelt("eval", path, "--retrieval", pairs, "--json")
    assert result.code == 0, result.err
    assert result.json["recall_at_1"] == result.json["mrr"] == 1 and result.json["intervals"]["mrr"] == [1, 1]
    model, tokenizer = load(path)
    vectors = vectors_of(model, tokenizer, texts)
    cosines = vectors @ vectors.T
    rows = [
        {"source": texts[0], "target": text, "score": 2 * cosine}
        for text, cosine in zip(texts, cosines[0].tolist(), strict=True)
    ]
    graded = write_rows(tmp_path / "graded.jsonl", rows)
    result = smelt("eval", path, "--similarity", graded, "--json")
    assert result.json["spearman"] == pytest.approx(1)
    both = smelt("eval", path, "--similarity", graded, "--retrieval", pairs)
    assert "spearman" in both.out and "ndcg_at_10" in both.out


def test_before_and_after_on_the_same_rows(smelt: Smelt, checkpoint: Path, asked: Path, tmp_path: Path) -> None:
    model, tokenizer = load(checkpoint)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    save(model, tokenizer, tmp_path / "worse")
    words = ("--answers", asked, "--metric", "match,chrf", "--max-new-tokens", 8, "--before", checkpoint)
    words = (*words, "--out", tmp_path / "card")
    result = smelt("eval", tmp_path / "worse", *words, "--json", "--must-not-drop", "match,chrf:1")
    assert result.code == 1 and "match got worse: 0.5000 before, 0.0000 after, allowed drop 0" in result.err
    assert result.json["before"]["match"] == 0.5 and result.json["match"] == 0
    assert result.json["change_intervals"]["match"] == [-1, 0]
    page = (tmp_path / "card" / "report.md").read_text()
    assert (
        "| match | 50.0% (0.0% to 100.0%) | 0.0% (0.0% to 0.0%) | -50.0 points (-100.0 to +0.0) | worse, may be "
        in page
    )
    assert "| q3 | no such words | " in page and "--metric match,chrf --temperature 0 --num-beams 1" in page
    shown = smelt("eval", checkpoint, *words)
    assert shown.code == 0 and "same" in shown.out
    result = smelt("eval", checkpoint, *words, "--must-not-drop", "rouge_l")
    assert result.code == 2 and "rouge_l: it is not measured\ntry: add --answers FILE --metric rouge" in result.err


def rating(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Judge: 10 for the reference's words, 4 for others, nothing for q3."""
    asked = body["messages"][-1]["content"]
    part = {name: asked.split(f"<{name}>")[1].split(f"</{name}>")[0].strip() for name in ("reference", "answer")}
    words = "No." if "q3" in asked else f"So. Rating: [[{10 if part['reference'] == part['answer'] else 4}]]"
    choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
    return 200, {}, json.dumps({"choices": [choice]}).encode()


def test_a_judge_rates_answers(
    smelt: Smelt, checkpoint: Path, asked: Path, scripted_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_server.script = rating
    monkeypatch.setenv("JUDGE_KEY", "secret")
    judge = ("--judge", scripted_server.url, "--judge-model", "wise", "--judge-key-variable", "JUDGE_KEY")
    words = ("--answers", asked, *judge, "--max-new-tokens", 8)
    result = smelt("eval", checkpoint, *words, "--json")
    assert result.code == 0, result.err
    assert result.json["judged"] == pytest.approx((10 + 10 + 4) / 30) and result.json["unjudged"] == 1
    assert "the judge gave no rating to 1 of 4 answers, which are left out" in result.err
    assert len(scripted_server.heard) == 4 + 2, "what was not rated is asked twice more"
    path, headers, body = scripted_server.heard[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret" and body["model"] == "wise"
    card = smelt(
        "eval", checkpoint, "--before", checkpoint, *words, "--must-not-drop", "judged", "--out", tmp_path / "c"
    )
    assert card.code == 0 and "judged" in card.out, card.err
    page = (tmp_path / "c" / "report.md").read_text()
    assert f"--judge {scripted_server.url} --judge-model wise --judge-key-variable JUDGE_KEY" in page
    assert "secret" not in page
    silent = rating({"messages": [{"content": "q3 <reference></reference> <answer></answer>"}]})
    scripted_server.script = lambda body: silent
    none = smelt("eval", checkpoint, *words)
    assert none.code == 1 and "wise rated none of 4 answers; its last words were: 'No.'" in none.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--judge", "J"], 2, "--judge J without answers\ntry: --answers FILE"),
        (["--judge", "http://127.0.0.1:9/v1", "--answers", "F"], 2, "/v1: who is the judge?\naccepted: --judge http"),
        (["--judge", "J", "--judge-model", "wise"], 2, "--judge J --judge-model wise: who is the judge?"),
        (["--judge-model", "wise"], 2, "who is the judge?"),
        (["--judge", "J", "--judge-key-variable", "KEY"], 2, "who is the judge?"),
        (["--answers", "F"], 2, "--answers without a metric\naccepted: rouge, bleu"),
        (["--metric", "bleu"], 2, "--metric bleu without answers\ntry: --answers FILE"),
        (["--answers", "F", "--metric", "blue"], 2, "no metric 'blue'. Did you mean 'bleu'?"),
        (["--answers", "F", "--metric", "bleu"], 1, "plain text, not a chat"),
        (["--similarity", "F"], 1, "no graded pair\naccepted: {source, target, score}"),
        (["--retrieval", "F"], 1, "plain text, not a pair"),
        (["--retrieval", "P"], 2, "1 documents to search"),
        (["--retrieval", "P", "--pooling", "max"], 2, "--pooling max"),
        (["--retrieval", "P", "--pooling", "cls"], 2, "--pooling cls of a decoder"),
        (["--similarity", "G"], 2, "2 pairs with one grade"),
        (["--similarity", "B"], 1, "'score' is 'much'\naccepted: a number"),
    ],
)
def test_what_cannot_be_compared(
    words: list[str], code: int, message: str, smelt: Smelt, checkpoint: Path, tmp_path: Path
) -> None:
    pair = {"source": "a", "target": "b"}
    two = [pair, {"source": "a", "target": "c"}] if "cls" in words else [pair]
    files = {
        "F": write_rows(tmp_path / "text.jsonl", [{"text": "the mill"}]),
        "P": write_rows(tmp_path / "pairs.jsonl", two),
        "G": write_rows(tmp_path / "graded.jsonl", [{**pair, "score": 1}] * 2),
        "B": write_rows(tmp_path / "bad.jsonl", [{**pair, "score": "much"}]),
    }
    result = smelt("eval", checkpoint, *(files.get(word, word) for word in words))
    assert result.code == code and message in result.err, result.err
