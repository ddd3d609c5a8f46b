"""Guesses: answers are those without them, greedy or sampled, whoever guesses and however badly."""

import dataclasses
import random

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.infer import Sampling, generate
from smelt.infer.drafts import DraftModel, PromptLookup, shallow
from smelt.models.build import build
from smelt.models.families import Shape, spec_for

from .test_engine import GREEDY, LIVELY, STOP, engine_of, prompts_of, run, schedule

SAMPLED = Sampling(max_new_tokens=20, temperature=0.8, top_p=0.95, seed=5)


class Oracle:
    """Guesses rightly, but for every `wrong`-th token."""

    num_tokens = 3

    def __init__(self, answers, wrong):
        self.answers, self.wrong = answers, wrong

    def attach(self, vocab_size, num_pages, page_tokens):
        self.vocab_size = vocab_size

    def propose(self, requests, most):
        found = []
        for request, count in zip(requests, most, strict=True):
            done = len(request.ids)
            guesses = list(self.answers[request.prompt][done : done + count])
            found.append(
                [(id_ + (done + place) % self.wrong // (self.wrong - 1)) % 256 for place, id_ in enumerate(guesses)]
            )
        return found


def other_model() -> torch.nn.Module:
    """Return a draft model of another shape."""
    return build(spec_for("gpt2", Shape(vocab_size=259, dim=16, num_layers=1, num_heads=2, max_seq_len=50)), seed=3)


def drafters(model):
    return {
        "lookup": PromptLookup(num_tokens=4),
        "the model itself": DraftModel(model, num_tokens=3),
        "another model": DraftModel(other_model(), num_tokens=3),
        "its first layer": DraftModel(shallow(model, 1), num_tokens=2),
    }


WHO = ["lookup", "the model itself", "another model", "its first layer"]


@pytest.mark.parametrize("sampling", [GREEDY, LIVELY, SAMPLED], ids=["greedy", "penalties", "sampled"])
@pytest.mark.parametrize("who", WHO)
def test_answers_are_those_without_guesses(model, tokenizer, who, sampling):
    prompts = [*prompts_of(4, 6), [7, 8, 9] * 8]
    engine = engine_of(model, tokenizer, drafters(model)[who])
    assert engine.generate(prompts, sampling) == generate(model, tokenizer, prompts, sampling, stop_ids=STOP)
    assert (engine.num_guessed > 0) == (sampling is not LIVELY)
    if who == "the model itself" and sampling is not LIVELY:
        assert engine.num_accepted > 0.6 * engine.num_guessed


@pytest.mark.parametrize("wrong", [2, 3, 1000])
def test_guesses_are_taken_up_to_the_first_that_is_wrong(model, tokenizer, wrong):
    prompts = prompts_of(5, 5)
    expected = generate(model, tokenizer, prompts, GREEDY, stop_ids=STOP)
    answers = {tuple(prompt): answer.ids for prompt, answer in zip(prompts, expected, strict=True)}
    engine = engine_of(model, tokenizer, Oracle(answers, wrong))
    requests = [engine.submit(prompt, dataclasses.replace(GREEDY, logprobs=1)) for prompt in prompts]
    updates = run(engine)
    for request, answer in zip(requests, expected, strict=True):
        own = updates[request.id]
        assert request.answer.result() == answer
        assert "".join(update.text for update in own) == answer.text
        assert [id_ for update in own for id_ in update.ids] == list(answer.ids)
        assert [one.id for update in own for one in update.logprobs] == list(answer.ids)
    longest = max(len(update.ids) for own in updates.values() for update in own)
    assert longest == {2: 2, 3: 3, 1000: 4}[wrong]
    if wrong == 1000:
        assert engine.num_accepted == engine.num_guessed > 0


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("cache_tokens", [52, 400])
def test_random_schedules_with_guesses(model, tokenizer, who, cache_tokens):
    known = {}

    def solo(prompt, sampling):
        key = prompt, sampling
        if key not in known:
            (known[key],) = generate(model, tokenizer, [prompt], sampling, stop_ids=STOP)
        return known[key]

    engine = engine_of(model, tokenizer, drafters(model)[who], cache_tokens=cache_tokens, prefill_tokens=7)
    schedule(engine, random.Random(8), prompts_of(8, 10), solo)


def test_looking_up_takes_the_longest_and_the_last():
    look_up = PromptLookup(longest=3).look_up
    assert look_up([1, 2, 3, 9, 1, 2], 2) == [3, 9]
    assert look_up([5, 2, 7, 1, 2, 8, 6, 2], 1) == [8]
    assert look_up([4, 1, 2, 7, 3, 2, 8, 1, 2], 2) == [7, 3]
    assert look_up([6, 6, 6], 4) == [6]
    assert look_up([1, 2, 3], 4) == []
    assert look_up([1], 4) == []
    assert look_up([1 << 40, 3, 1 << 40], 4) == [3, 1 << 40]


def test_what_cannot_guess_is_refused(model, tokenizer):
    small = build(spec_for("gpt2", Shape(vocab_size=100, dim=16, num_layers=1, num_heads=2, max_seq_len=50)), seed=3)
    with pytest.raises(UsageError, match="a draft model of 100 tokens for a model of 259"):
        engine_of(model, tokenizer, DraftModel(small))
    with pytest.raises(UsageError, match="2 of 2 layers"):
        shallow(model, 2)
    for wrong in (lambda: PromptLookup(0), lambda: PromptLookup(longest=0), lambda: DraftModel(model, 0)):
        with pytest.raises(UsageError, match="1 or more"):
            wrong()


def test_a_models_first_layers_are_its_own_parameters(model):
    first = shallow(model, 1)
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in first.parameters()} < own
    assert len(first.blocks) == 1 and not any(parameter.is_meta for parameter in first.parameters())
