"""Networks that label tokens: their specs, where a label stands, how a text is cut, entities against the slow way."""

import pytest
import torch

from smelt.core.errors import ConfigError, UsageError
from smelt.data.records import Entity
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.models.readings import surround
from smelt.models.token_labels import Stretch, find_entities, for_token_labels, stretches_of
from smelt.tokenizers.bpe_train import byte_tokenizer

from .conftest import scrambled
from .test_readings import TEXTS, wordpiece

__all__ = ["wordpiece"]
NAMES = ("O", "B-X", "I-X", "B-Y", "I-Y")


def make(family, tokenizer, *, crf=True):
    spec = spec_for(family, Shape(tokenizer.vocab_size, 24, 2, 2, 40))
    model = scrambled(build(for_token_labels(spec, NAMES, crf=crf), seed=5))
    if crf:
        with torch.no_grad():
            model.tasks["token"].crf.transitions.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("crf", [True, False])
@pytest.mark.parametrize(
    "family", ["gpt2", "llama", "qwen2", "mistral", "qwen3", "bert", "roberta", "xlm_roberta", "albert", "distilbert"]
)
def test_a_network_with_labels_is_kept(tmp_path, family, crf):
    tokenizer = byte_tokenizer()
    model = make(family, tokenizer, crf=crf)
    [task] = model.spec.tasks
    assert (task.name, task.reads, task.crf, task.label_names) == ("token", "token", crf, NAMES)
    save(model, tokenizer, tmp_path)
    again, _ = load(tmp_path)
    assert again.spec.tasks == model.spec.tasks
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_families_without_such_a_layout_are_refused():
    with pytest.raises(ConfigError, match="a gemma network has no published layout that labels tokens"):
        for_token_labels(spec_for("gemma", Shape(70, 24, 1, 2, 16)), NAMES, crf=False)


def test_a_label_stands_at_the_first_token_or_at_the_last_of_what_reads_forwards():
    stretch = Stretch([(0, 1), (1, 2), (2, 3)], [[7, 8], [9], [1, 2, 3]])
    assert stretch.label_places(False) == [0, 2, 3] and stretch.label_places(True) == [1, 2, 5]
    assert stretch.ids == [7, 8, 9, 1, 2, 3]


def cut(text, most):
    tokenizer = byte_tokenizer()
    around = len(surround(tokenizer, []).ids)
    found = stretches_of(tokenizer, text, most + around)
    assert all(len(stretch.ids) <= most for stretch in found)
    return [text[stretch.places[0][0] : stretch.places[-1][1]] for stretch in found]


def test_long_texts_are_cut_behind_sentences_and_else_behind_words():
    assert cut("ab cd. ef gh", 20) == ["ab cd. ef gh"]
    assert cut("ab cd. ef gh", 9) == ["ab cd.", "ef gh"]
    assert cut("a. bcd efg hi", 9) == ["a. bcd", "efg hi"]  # the sentence ends in the first half
    assert cut("ab 1.5 kg is", 7) == ["ab 1.5", "kg is"]  # a point in a number ends nothing
    assert cut("ab cd\nef gh ij", 9) == ["ab cd", "ef gh ij"]
    assert cut("abcdefghijkl m", 5) == ["abcdefghijkl", "m"]  # of the word five bytes are read
    assert cut("abcd. ef gh ij kl", 9) == ["abcd.", "ef gh ij", "kl"]
    assert cut("abcd. ef dddddddd", 9) == ["abcd.", "ef", "dddddddd"]
    assert cut(" \n", 5) == []


def test_every_word_is_in_one_stretch_in_order():
    text = " ".join(TEXTS) * 7
    for most in (8, 13, 40):
        stretches = stretches_of(byte_tokenizer(), text, most)
        places = [place for stretch in stretches for place in stretch.places]
        assert places == sorted(set(places)) and places == stretches_of(byte_tokenizer(), text, 10**6)[0].places


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_entities_are_those_of_each_stretch_by_itself(wordpiece, family):
    model = make(family, wordpiece)
    texts = [*TEXTS, " ".join(TEXTS) * 3, ""]
    found = find_entities(model, wordpiece, texts, max_tokens=20)
    assert found[-1] == [] and any(found)
    for text, entities in zip(texts, found, strict=True):
        expected = []
        for stretch in stretches_of(wordpiece, text, 20):
            row = surround(wordpiece, stretch.ids)
            places = [row.places[0].start + place for place in stretch.label_places(family == "gpt2")]
            scores = model(torch.tensor([row.ids])).tasks["token"][:, places]
            best = model.tasks["token"].crf.decode(scores, torch.ones(1, len(places), dtype=torch.bool))[0]
            for (start, stop), label in zip(stretch.places, [NAMES[number] for number in best], strict=True):
                if label.startswith("I") and expected and expected[-1][3] and expected[-1][0] == label[2:]:
                    expected[-1][2] = stop
                elif label != "O":
                    expected.append([label[2:], start, stop, True])
                if label == "O" and expected:
                    expected[-1][3] = False
            if expected:
                expected[-1][3] = False
        assert entities == [Entity(*one[:3]) for one in expected]


def test_a_model_without_such_a_head_is_refused(wordpiece):
    with pytest.raises(UsageError, match="lacks a head that labels words"):
        find_entities(build(spec_for("gpt2", Shape(wordpiece.vocab_size, 24, 1, 2, 40)), seed=0), wordpiece, ["a"])
