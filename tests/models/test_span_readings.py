"""Windows over long texts, and what is read off them: places of tokens, answers, pieces, triples in two hops."""

import json
from typing import ClassVar

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.data.label_rows import BEGINS, ENDS
from smelt.data.packing import IGNORED
from smelt.data.triple_prompts import Schema
from smelt.models.readings import surround
from smelt.models.span_readings import (
    Answer,
    Asked,
    Reader,
    answer,
    kept_schema,
    pairs_above,
    pieces_of,
    schema_of,
    triples,
)
from smelt.models.text_windows import cut_pieces, marks, windows
from smelt.nn.spec import TaskSpec
from smelt.tokenizers.bpe_train import byte_tokenizer

from .test_readings import wordpiece
from .test_word_readings import make

__all__ = ["wordpiece"]
SPANS = TaskSpec("span", 2)


def test_pieces_are_whole_words_at_their_characters():
    pieces = cut_pieces(byte_tokenizer(), "a mill,  泵12")
    words = ["a", *["mill"] * 5, ",", *["泵"] * 5, "12", "12"]  # a token a byte, the space before a word too
    assert [pieces.text[slice(*place)] for place in pieces.places] == words
    assert pieces.characters(1, 6) == (2, 7)
    assert pieces.tokens(2, 6) == (1, 5) and pieces.tokens(3, 4) == (1, 5)  # inside a word: all of it
    assert pieces.tokens(0, 7) == (0, 6)
    assert pieces.tokens(7, 9) is None  # white space


@pytest.mark.parametrize(("room", "stride"), [(3, 2), (3, 3), (3, 99), (4, 1), (20, 5)])
def test_windows_show_every_token_and_no_place_is_lost(room, stride):
    tokenizer = byte_tokenizer()
    pieces = cut_pieces(tokenizer, "abcdefgh i")
    found = windows(tokenizer, "q?", pieces, 2 + room, stride)
    assert {number for window in found for number in range(window.start, window.stop)} == set(range(len(pieces.ids)))
    assert all(len(window.slots) <= room for window in found)
    assert found[-1].stop == len(pieces.ids) and found[0].start == 0
    for window in found:
        shown = [window.row.ids[slot] for slot in window.slots]
        assert tuple(shown) == pieces.ids[window.start : window.stop]
        assert window.row.ids[:2] == tokenizer.encode("q?")


def test_marks_of_pieces_that_a_window_holds_whole(wordpiece):
    pieces = cut_pieces(wordpiece, "the cat sat on the mat")
    row_length = len(surround(wordpiece, wordpiece.encode("on"), pieces.ids[:4]).ids)
    first, *_, last = windows(wordpiece, "on", pieces, row_length, 2)
    labels = marks(first, [(1, 2), (3, 3), (3, 5)], or_nothing=False)
    assert [labels[slot] for slot in first.slots] == [0, BEGINS, ENDS, BEGINS | ENDS]
    assert {labels[slot] for slot in range(len(labels)) if slot not in first.slots} == {IGNORED}
    assert marks(first, [(1, 2)], or_nothing=True)[0] == 0
    empty = marks(last, [(0, 1)], or_nothing=True)
    assert empty[0] == BEGINS | ENDS and not any(empty[slot] for slot in last.slots)


def test_a_long_text_is_answered_as_its_best_window_says(wordpiece):
    model = make(wordpiece, SPANS)
    context = "the cat sat on the old mat by the mill and the river in the town " * 3
    pieces = cut_pieces(wordpiece, context)
    assert len(pieces.ids) > model.spec.max_seq_len
    reader = Reader(model, wordpiece, stride_tokens=16)
    [entries] = reader.scores([Asked("where?", pieces)])
    assert len(entries) > 2
    best, total = [], torch.zeros(2, dtype=torch.float64)
    for window, scores, nothing in entries:
        row = torch.tensor([window.row.ids])
        alone = model(row, types=torch.tensor([window.row.types])).tasks["span"][0]
        torch.testing.assert_close(alone[list(window.slots)], scores, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone[0], nothing, atol=1e-5, rtol=1e-4)
        shares = (scores - nothing).double().exp()
        total += shares.sum(0)
        best += [
            ((shares[a, 0] * shares[b, 1]).item(), pieces.characters(window.start + a, window.start + b))
            for a in range(len(shares))
            for b in range(a, min(len(shares), a + 5))
        ]
    score, (start, stop) = max(best)
    [found] = reader.answers([Asked("where?", pieces)], 5)
    assert (found.start, found.stop) == (start, stop)
    assert found.probability == pytest.approx(score / total.prod().item(), rel=1e-3)
    assert answer(model, wordpiece, "where?", context).text in context


def test_several_questions_are_answered_as_each_alone(wordpiece):
    reader = Reader(make(wordpiece, SPANS), wordpiece)
    texts = {"a": "the cat sat", "b": "old mill " * 30, "c": "on"}
    asked = [Asked(prompt, cut_pieces(wordpiece, text)) for prompt, text in texts.items()]
    together, alone = reader.answers(asked), [reader.answers([one])[0] for one in asked]
    assert [(a.start, a.stop) for a in together] == [(a.start, a.stop) for a in alone]


def test_a_beginning_goes_with_the_nearest_end():
    shares = torch.tensor([(0.9, 0.1), (0.8, 0.1), (0.0, 0.7), (0.6, 0.6), (0.9, 0.2), (0.1, 0.9), (0.7, 0.0)])
    found = [(a, b, round(p, 4)) for a, b, p in pairs_above(shares, 0.5)]
    assert found == [(1, 2, 0.56), (3, 3, 0.36), (4, 5, 0.81)]
    assert pairs_above(torch.zeros(3, 2), 0.5) == []


class Pointer(Reader):
    """Points at the words that a table gives for each prompt."""

    shares: ClassVar[dict[str, float]] = {}
    table: ClassVar = {"fault": ["pump", "hose"], "pump: fault": ["leaks"], "hose: fault": ["leaks", "bursts"]}

    def pieces(self, asked, threshold=0.5):
        def at(one, word):
            start = one.pieces.text.index(word)
            return Answer(word, start, start + len(word), self.shares.get(word, 0.5))

        return [[at(one, w) for w in self.table.get(one.prompt, []) if w in one.pieces.text] for one in asked]


def test_triples_are_asked_for_in_two_hops(wordpiece):
    schema = Schema(("fault", "about"), "SUBJECT: RELATION")
    reader = Pointer(make(wordpiece, SPANS), wordpiece)
    texts = [cut_pieces(wordpiece, text) for text in ("pump leaks", "hose leaks and bursts", "all is well")]
    assert reader.triples(texts, schema) == [
        {("pump", "fault", "leaks"): 0.25},
        {("hose", "fault", "leaks"): 0.25, ("hose", "fault", "bursts"): 0.25},
        {},
    ]


def test_a_relation_s_likeliest_subjects_alone_are_asked_further(wordpiece, monkeypatch):
    monkeypatch.setattr("smelt.models.span_readings.MOST_SUBJECTS", 1)
    reader = Pointer(make(wordpiece, SPANS), wordpiece)
    monkeypatch.setattr(reader.__class__, "shares", {"pump": 0.6, "hose": 0.9})
    [found] = reader.triples([cut_pieces(wordpiece, "pump and hose leaks")], Schema(("fault",), "SUBJECT: RELATION"))
    assert found == {("hose", "fault", "leaks"): pytest.approx(0.9 * 0.5)}


def test_what_cannot_be_read_is_refused(wordpiece, tmp_path):
    model, schema = make(wordpiece, SPANS), Schema(("r",), "SUBJECT RELATION")
    with pytest.raises(UsageError, match="lacks a head that points at answers"):
        triples(make(wordpiece, TaskSpec("token", 3)), wordpiece, "the cat", schema)
    with pytest.raises(UsageError, match="threshold=1"):
        pieces_of(model, wordpiece, "cat", "the cat", threshold=1)
    with pytest.raises(UsageError, match="a prompt of 60 tokens leaves no room for its text in 40"):
        answer(model, wordpiece, "cat " * 60, "the cat")
    with pytest.raises(UsageError, match="was not trained on triples"):
        schema_of(tmp_path)
    (tmp_path / "smelt.json").write_text(json.dumps({"schema": kept_schema(schema)}))
    assert schema_of(tmp_path) == schema
