"""Labels of words and answers in a text: which tokens count, how spans are put together, what is refused."""

from dataclasses import replace
from itertools import chain

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.data.spans import Span, spans_of
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.families.encoder_layout import Top, with_top
from smelt.models.span_readings import answer, best_pair
from smelt.models.word_readings import cut_words, tag
from smelt.nn.spec import TaskSpec

from .conftest import scrambled
from .test_readings import TEXTS, wordpiece

__all__ = ["wordpiece"]
NAMES = ("O", "B-PER", "I-PER")


def make(tokenizer, *tasks: TaskSpec, **changes):
    spec = with_top(spec_for("bert", Shape(tokenizer.vocab_size, 24, 2, 6, 40)), Top(tasks=tasks), None)
    return scrambled(build(replace(spec, **changes), seed=5))


@pytest.mark.parametrize("crf", [False, True])
def test_a_word_s_label_is_that_of_its_first_token(wordpiece, crf):
    model = make(wordpiece, TaskSpec("token", 3, crf=crf, label_names=NAMES))
    if crf:
        with torch.no_grad():
            model.tasks["token"].crf.transitions.normal_(0, 5, generator=torch.Generator().manual_seed(0))
    sentences = [[*text.split(), "matin"] for text in TEXTS] * 12  # more than one batch
    found = tag(model, wordpiece, sentences)
    assert [len(labels) for labels in found] == [len(words) for words in sentences]
    assert any(len(wordpiece.encode(word)) > 1 for word in sentences[0])
    for words, labels in zip(sentences[:3], found, strict=False):
        pieces = [wordpiece.encode(word) for word in words]
        cls, sep = wordpiece.special["[CLS]"], wordpiece.special["[SEP]"]
        scores = model(torch.tensor([[cls, *chain.from_iterable(pieces), sep]])).tasks["token"]
        places = [1 + sum(map(len, pieces[:number])) for number in range(len(words))]
        if crf:
            kept = scores[:, places]
            best = model.tasks["token"].crf.decode(kept, torch.ones(1, len(words), dtype=torch.bool))[0]
        else:
            best = scores[0, places].argmax(-1)
        assert labels == [NAMES[label] for label in best]


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("O I-PER I-PER", [("PER", 1, 3)]),
        ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
        ("B-X M-X E-X S-X E-X I-X", [("X", 0, 3), ("X", 3, 4), ("X", 4, 5), ("X", 5, 6)]),
        ("NOUN NOUN O VERB", [("NOUN", 0, 1), ("NOUN", 1, 2), ("VERB", 3, 4)]),
        ("B-A-B I-A-B", [("A-B", 0, 2)]),
        ("O O", []),
        ("", []),
    ],
)
def test_labels_make_spans(labels, spans):
    assert spans_of(labels.split()) == [Span(*span) for span in spans]


def test_words_are_letters_in_a_row_or_single_characters():
    text = "It's 3 河流, naïve\u0301 x_y"
    words = ["It", "'", "s", "3", "河", "流", ",", "naïve\u0301", "x", "_", "y"]
    assert [text[start:stop] for start, stop in cut_words(text)] == words
    assert cut_words(" \n") == []


@pytest.mark.parametrize("max_tokens", [1, 2, 5, 30])
def test_the_best_span_is_the_best_of_all_that_are_allowed(max_tokens):
    for seed in range(20):
        scores = torch.randn(9, 2, generator=torch.Generator().manual_seed(seed))
        shares = scores.softmax(0)
        allowed = {
            (first, last): (shares[first, 0] * shares[last, 1]).item()
            for first in range(9)
            for last in range(first, min(9, first + max_tokens))
        }
        first, last, score = best_pair(scores.log_softmax(0), max_tokens)
        assert (first, last) == max(allowed, key=lambda pair: allowed[pair])
        assert score.exp().item() == pytest.approx(allowed[first, last])


def test_an_answer_is_a_piece_of_the_context_where_the_head_points(wordpiece):
    model, context = make(wordpiece, TaskSpec("span", 2)), "The cat sat\n  by the OLD mill, river"
    found = answer(model, wordpiece, "the mat", context)
    assert found.text == context[found.start : found.stop]
    question, tokens = wordpiece.encode("the mat"), wordpiece.encode(context)
    cls, sep = wordpiece.special["[CLS]"], wordpiece.special["[SEP]"]
    ids = torch.tensor([[cls, *question, sep, *tokens, sep]])
    types = torch.tensor([[0] * (len(question) + 2) + [1] * (len(tokens) + 1)])
    scores = model(ids, types=types).tasks["span"][0, len(question) + 2 : -1]
    first, last, score = best_pair(scores.log_softmax(0), 30)
    assert found.probability == pytest.approx(score.exp().item(), rel=1e-4)
    words = [wordpiece.encode(context[start:stop]) for start, stop in cut_words(context)]
    owner = [number for number, word in enumerate(words) for _ in word]
    places = cut_words(context)
    assert (found.start, found.stop) == (places[owner[first]][0], places[owner[last]][1])


def test_what_cannot_be_read_is_refused(wordpiece):
    model = make(wordpiece, TaskSpec("span", 2))
    with pytest.raises(UsageError, match="lacks a head that labels words; it has layers that read both ways, 2 labels"):
        tag(model, wordpiece, [["a"]])
    with pytest.raises(UsageError, match="a context without a word"):
        answer(model, wordpiece, "who?", " \n ")
    tagger = make(wordpiece, TaskSpec("token", 3))
    with pytest.raises(UsageError, match="lacks a head that points at answers; it has"):
        answer(tagger, wordpiece, "who?", "the cat")
    with pytest.raises(UsageError, match=r"the word '\\u200b' has no token"):
        tag(tagger, wordpiece, [["the", "\u200b"]])
    assert tag(tagger, wordpiece, [[]]) == [[]]
    assert tag(tagger, wordpiece, [["cat"]])[0][0].startswith("LABEL_")
