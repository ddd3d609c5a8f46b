"""The engine against the plain loop: alone, in company, cancelled, short of pages, and what it tells on the way."""

import dataclasses
import random

import pytest
import torch

from smelt.core.errors import SmeltError, UsageError
from smelt.infer import Sampling, generate
from smelt.infer.engine import Engine, Piece, alike, answers_of
from smelt.infer.limits import EngineSettings, QueueFull
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.nn.spec import ModelSpec

GREEDY = Sampling(max_new_tokens=20, temperature=0)
STOP = [17, 30, 121, 200]
LIVELY = Sampling(
    max_new_tokens=20, temperature=1.2, top_k=40, top_p=0.9, min_p=0.01, repetition_penalty=1.2, presence_penalty=0.5,
    frequency_penalty=0.3, logit_bias=((65, 3.0), (66, -100.0)), seed=3,
)  # fmt: skip


def engine_of(model, tokenizer, drafter=None, **settings) -> Engine:
    chosen = {"max_running": 8, "page_tokens": 4, "cache_tokens": 400, "prefill_tokens": 16} | settings
    return Engine(model, tokenizer, stop_ids=STOP, settings=EngineSettings(**chosen), drafter=drafter)


def run(engine):
    """Work until all is answered; return each request's updates."""
    found = {}
    while engine.has_work:
        for update in engine.step():
            found.setdefault(update.request.id, []).append(update)
        engine.check_integrity()
    return found


def prompts_of(seed, count, longest=30):
    draw = random.Random(seed)
    shared = [draw.randrange(256) for _ in range(longest)]
    found = []
    for _ in range(count):
        own = [draw.randrange(256) for _ in range(draw.randint(1, longest))]
        found.append((shared[: draw.choice([0, 5, 12])] + own)[:longest])
    return found


@pytest.mark.parametrize("sampling", [GREEDY, LIVELY, dataclasses.replace(GREEDY, num_beams=3)], ids=str)
def test_answers_are_those_of_the_plain_loop(model, tokenizer, sampling):
    prompts = prompts_of(1, 12)
    expected = generate(model, tokenizer, prompts, sampling, stop_ids=STOP)
    assert engine_of(model, tokenizer).generate(prompts, sampling) == expected
    assert len({answer.finish_reason for answer in expected}) == 2


@pytest.fixture(scope="module")
def solo(model, tokenizer):
    """Return the answer that the plain loop gives to one prompt, each computed once."""
    known = {}

    def answer(prompt, sampling):
        key = tuple(prompt), sampling
        if key not in known:
            (known[key],) = generate(model, tokenizer, [prompt], sampling, stop_ids=STOP)
        return known[key]

    return answer


def schedule(engine, draw, prompts, solo):
    """Let requests arrive, wait and be cancelled at random; compare every one that ends with its answer alone."""
    waiting = [(prompt, draw.choice([GREEDY, LIVELY])) for prompt in prompts]
    live, told = {}, {}
    while waiting or engine.has_work:
        for _ in range(draw.randrange(3)):
            if waiting:
                prompt, sampling = waiting.pop()
                sampling = dataclasses.replace(sampling, max_new_tokens=draw.randint(1, 20))
                request = engine.submit(prompt, sampling, priority=draw.randrange(2))
                live[request.id], told[request.id] = request, ""
        if live and draw.random() < 0.08:
            request = live.pop(draw.choice(list(live)))
            engine.cancel(request)
            engine.cancel(request)
        for update in engine.step():
            assert update.request.id in live, "an update of a request that was cancelled"
            told[update.request.id] += update.text
            if update.finish_reason is not None:
                request = live.pop(update.request.id)
                expected = solo(request.prompt, request.sampling)
                assert request.answer.result() == expected
                assert told[request.id] == expected.text
        engine.check_integrity()
    assert not live
    assert engine.num_free_pages == engine.num_pages


@pytest.mark.parametrize("seed", range(10))
def test_random_schedules(model, tokenizer, solo, seed):
    draw = random.Random(seed)
    cache_tokens = draw.choice([52, 80, 400])
    engine = engine_of(model, tokenizer, cache_tokens=cache_tokens, prefill_tokens=draw.choice([3, 16, 100]))
    schedule(engine, draw, prompts_of(seed, 10), solo)
    if cache_tokens == 52:
        assert engine.scheduler.num_preempted > 0, "the shortage is not short enough for this test"


@pytest.mark.slow
def test_five_hundred_random_schedules(model, tokenizer, solo):
    for seed in range(500):
        draw = random.Random(1000 + seed)
        engine = engine_of(
            model,
            tokenizer,
            cache_tokens=draw.choice([52, 60, 80, 400]),
            prefill_tokens=draw.choice([1, 3, 16, 100]),
            page_tokens=draw.choice([1, 2, 4, 16]),
            max_running=draw.choice([1, 2, 8]),
        )
        schedule(engine, draw, prompts_of(seed % 20, 6), solo)


def test_sixty_four_streams_are_each_as_if_alone(model, tokenizer, solo):
    prompts = prompts_of(7, 64)
    engine = engine_of(model, tokenizer, max_running=64, cache_tokens=64 * 52, prefill_tokens=512)
    requests = [engine.submit(prompt, GREEDY) for prompt in prompts]
    run(engine)
    assert [request.answer.result() for request in requests] == [solo(prompt, GREEDY) for prompt in prompts]


def family(name: str, **changes) -> ModelSpec:
    shape = Shape(vocab_size=259, dim=32, num_layers=3, num_heads=4, max_seq_len=96)
    return dataclasses.replace(spec_for(name, shape), **changes)


@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma2", "gemma3", "qwen3", "phi", "deepseek_v2", "mixtral"])
def test_every_kind_of_attention(tokenizer, name):
    spec = family(name)
    layers = tuple(
        dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, window=7 if number % 2 else None))
        for number, layer in enumerate(spec.layers)
    )
    model = build(dataclasses.replace(spec, layers=layers), seed=2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4 if parameter.ndim == 2 else 1
    prompts = prompts_of(2, 6)
    found = engine_of(model, tokenizer).generate(prompts, GREEDY)
    assert found == generate(model, tokenizer, prompts, GREEDY, stop_ids=STOP)


def test_shared_beginnings_are_computed_once(model, tokenizer):
    engine, prompt = engine_of(model, tokenizer), list(range(20))
    first = engine.submit([*prompt, 1], GREEDY)
    run(engine)
    second = engine.submit([*prompt, 2], GREEDY)
    copies = [engine.submit([*prompt, 2], dataclasses.replace(LIVELY, seed=seed)) for seed in range(3)]
    run(engine)
    assert first.cached_tokens == 0
    assert [request.cached_tokens for request in (second, *copies)] == [20] * 4
    assert second.answer.result() == generate(model, tokenizer, [[*prompt, 2]], GREEDY, stop_ids=STOP)[0]


@pytest.mark.parametrize("prefill_tokens", [3, 100])
def test_log_probabilities_are_those_of_the_whole_text(model, tokenizer, prefill_tokens):
    engine = engine_of(model, tokenizer, prefill_tokens=prefill_tokens, cache_tokens=60)
    sampling = dataclasses.replace(LIVELY, logprobs=3)
    prompts = prompts_of(3, 4)
    requests = [engine.submit(prompt, sampling, prompt_logprobs=2) for prompt in prompts]
    updates = run(engine)
    for request in requests:
        own = updates[request.id]
        text = torch.tensor([[*request.prompt, *request.ids]])
        with torch.inference_mode():
            expected = model(text).logits[0].log_softmax(-1)
        heard = next(update.prompt_logprobs for update in own if update.prompt_logprobs)
        assert heard[0] is None and len(heard) == len(request.prompt)
        assert sum(update.prompt_logprobs is not None for update in own) == 1
        told = [*heard[1:], *(one for update in own for one in update.logprobs)]
        assert [one.id for one in told] == text[0, 1:].tolist()
        for place, one in enumerate(told):
            assert one.logprob == pytest.approx(float(expected[place, one.id]), abs=1e-4)
            top = expected[place].topk(len(one.top))
            assert [id_ for id_, _ in one.top] == top.indices.tolist()
            assert [number for _, number in one.top] == pytest.approx(top.values.tolist(), abs=1e-4)
        assert {len(one.top) for one in heard[1:]} <= {2}


def test_lower_priorities_go_first(model, tokenizer):
    engine = engine_of(model, tokenizer, max_running=1)
    order = []
    requests = [engine.submit([1, 2], GREEDY, priority=priority) for priority in (2, 0, 1)]
    for updates in run(engine).values():
        order.append(updates[-1].request.priority)
    assert order == [0, 1, 2]
    assert all(request.finish_reason for request in requests)


def test_a_full_line_refuses(model, tokenizer):
    engine = engine_of(model, tokenizer, max_waiting=2)
    for _ in range(2):
        engine.submit([1], GREEDY)
    with pytest.raises(QueueFull, match="2 requests are waiting"):
        engine.submit([1], GREEDY)
    assert len(engine.generate([[5]] * 9, GREEDY)) == 9


def test_a_prompt_that_fills_the_context_has_an_empty_answer(model, tokenizer):
    engine, prompt = engine_of(model, tokenizer), [1] * 96
    assert engine.generate([prompt, [2]], GREEDY) == generate(model, tokenizer, [prompt, [2]], GREEDY, stop_ids=STOP)
    request = engine.submit(prompt, GREEDY)
    engine.cancel(request)
    assert not engine.has_work


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        ([], {}, "has no token"),
        ([1] * 97, {}, "97 tokens, but the model's context holds 96"),
        ([1, 300], {}, "no id 300 in this vocabulary"),
        ([-1], {}, "no id -1 in this vocabulary"),
        ([1] * 60, {}, "60 tokens and 20 new ones in a cache of 52"),
        ([1], {"num_beams": 2}, "beam search in a batch"),
        ([1], {"logit_bias": ((259, 1.0),)}, "no id 259"),
    ],
)
def test_impossible_requests_are_refused(model, tokenizer, prompt, changes, message):
    engine = engine_of(model, tokenizer, cache_tokens=52)
    with pytest.raises(UsageError, match=message):
        engine.submit(prompt, dataclasses.replace(GREEDY, **changes))
    assert not engine.has_work


@pytest.mark.parametrize(
    ("name", "reason"), [("bert", "has no next one"), ("t5", "has an encoder"), ("lstm", "has recurrent layers")]
)
def test_models_that_need_more_than_keys_and_values_are_refused(tokenizer, name, reason):
    model = build(family(name), seed=1)
    with pytest.raises(UsageError, match=reason):
        Engine(model, tokenizer)


def test_settings_are_checked(tokenizer):
    with pytest.raises(UsageError, match="page_tokens: 0"):
        EngineSettings(page_tokens=0)
    with pytest.raises(UsageError, match="weights: 'int3'\naccepted: fp32, bf16, int8, int4"):
        EngineSettings(weights="int3")
    with pytest.raises(UsageError, match="weights in int8 for this mixtral model: it has a mixture of experts"):
        Engine(build(family("mixtral"), seed=1), tokenizer, settings=EngineSettings(weights="int8"))


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4"])
def test_a_request_does_not_depend_on_who_else_decodes(model, tokenizer, weights):
    prompts = prompts_of(9, 8)
    together = engine_of(model, tokenizer, weights=weights).generate(prompts, LIVELY)
    for row, prompt in enumerate(prompts):
        own = dataclasses.replace(LIVELY, seed=LIVELY.seed + row)
        assert engine_of(model, tokenizer, weights=weights).generate([prompt], own) == [together[row]]


def test_text_is_told_as_it_is_written(model, tokenizer):
    told = [""] * 12
    sampling = dataclasses.replace(LIVELY, stop=("e", "xy"))

    def hear(row, text):
        told[row] += text

    prompts = prompts_of(1, 12)
    found = engine_of(model, tokenizer).generate(prompts, sampling, hear)
    assert [answer.text for answer in found] == told
    assert found == generate(model, tokenizer, prompts, sampling, stop_ids=STOP)


def test_prompts_that_do_not_fit_are_refused_before_any_is_answered(model, tokenizer):
    engine = engine_of(model, tokenizer)
    with pytest.raises(UsageError, match="prompt 1 has 97 tokens"):
        engine.generate([[1], [1] * 97], GREEDY)
    assert not engine.has_work


def test_a_model_that_diverged_says_so(tokenizer):
    model = build(family("llama"), seed=1)
    with torch.no_grad():
        model.head_weight.fill_(float("nan"))
    engine = Engine(model, tokenizer, settings=EngineSettings(cache_tokens=64))
    engine.submit([1, 2], GREEDY)
    with pytest.raises(SmeltError, match="not finite"):
        engine.step()


def test_pieces_of_one_length_are_read_together():
    a, b, c, d = Piece(None, 10), Piece(None, 3), Piece(None, 5, [1, 2, 3]), Piece(None, 4)
    assert alike([a, b, c, d]) == [[a, c], [d, b]]


@pytest.mark.parametrize("name", ["llama", "gru"])
def test_any_model_answers(tokenizer, name):
    model = build(family(name), seed=1).eval()
    answers = answers_of(model, tokenizer, STOP)
    told = []
    found = answers([[1, 2, 3]], GREEDY, lambda row, text: told.append(text))
    assert found == generate(model, tokenizer, [[1, 2, 3]], GREEDY, stop_ids=STOP)
    assert "".join(told) == found[0].text


def test_an_interrupted_answer_leaves_nothing_behind(model, tokenizer):
    engine = engine_of(model, tokenizer)

    def interrupt(row, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(prompts_of(1, 3), GREEDY, interrupt)
    engine.check_integrity()
    assert not engine.has_work and engine.num_free_pages == engine.num_pages
