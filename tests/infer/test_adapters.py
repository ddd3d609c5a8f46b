"""Adapters in one batch: each request answers as a model with its adapter merged in would, alone."""

import copy
import random

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.infer import Sampling, generate
from smelt.infer.adapters import Adapters
from smelt.infer.engine import Engine
from smelt.infer.fused import FusedDecoder, supports
from smelt.infer.limits import EngineSettings
from smelt.infer.paged_cache import Pool
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.peft.lora import LowRank

GREEDY = Sampling(max_new_tokens=16, temperature=0)
EVERY = ("attention.query", "attention.key", "attention.value", "attention.output")
FEED = ("feed_forward.gate", "feed_forward.up", "feed_forward.down")


def lora_for(model, names, rank, seed, size=0.3):
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for number in range(len(model.blocks)):
        for name in names:
            layer = model.get_submodule(f"blocks.{number}.{name}")
            down = torch.randn(rank, layer.in_features, generator=draw)
            found[f"blocks.{number}.{name}"] = LowRank(
                down, size * torch.randn(layer.out_features, rank, generator=draw)
            )
    return found


def merged(model, lora):
    whole = copy.deepcopy(model)
    for module in whole.modules():
        module._forward_hooks.clear()
    with torch.no_grad():
        for name, pair in lora.items():
            whole.get_submodule(name).weight += pair.up @ pair.down
    return whole.eval()


def lively(family):
    """Return a small model: gpt2 has biases and no gates, gemma2 is none that the fused step knows."""
    shape = Shape(vocab_size=259, dim=24, num_layers=2, num_heads=3, max_seq_len=96)
    model = build(spec_for(family, shape), seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 8 if parameter.ndim == 2 else 1
    return model.eval()


def run(engine):
    while engine.has_work:
        engine.step()
        engine.check_integrity()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_each_request_answers_with_its_adapter_and_the_others_without(model, tokenizer, family):
    base = copy.deepcopy(model) if family == "llama" else lively(family)
    assert (supports(base.spec) is None) == (family != "gemma2")
    gated = [name for name in FEED if name != "feed_forward.gate" or hasattr(base.blocks[0].feed_forward, "gate")]
    kinds = {
        "wide": lora_for(base, (*EVERY, *gated), 4, 1),
        "values": lora_for(base, ("attention.value", "feed_forward.up"), 17, 2),
        "out": lora_for(base, ("attention.output",), 1, 3),
    }
    draw = random.Random(5)
    shared = [draw.randrange(256) for _ in range(20)]
    prompts = [shared + [draw.randrange(256) for _ in range(draw.randint(1, 8))] for _ in range(12)]
    names = [draw.choice([None, *kinds]) for _ in prompts]
    models = {None: merged(base, {})} | {name: merged(base, lora) for name, lora in kinds.items()}
    settings = EngineSettings(max_running=6, page_tokens=4, cache_tokens=120, prefill_tokens=16)
    engine = Engine(base, tokenizer, settings=settings)
    for name, lora in kinds.items():
        engine.adapters.add(name, lora)
    requests = [engine.submit(prompt, GREEDY, adapter=name) for prompt, name in zip(prompts, names, strict=True)]
    run(engine)
    texts = set()
    for prompt, name, request in zip(prompts, names, requests, strict=True):
        (expected,) = generate(models[name], tokenizer, [prompt], GREEDY)
        assert request.answer.result() == expected, name
        texts.add((name, expected.text))
    assert len({name for name, _ in texts}) == 4 and engine.scheduler.num_preempted > 0


def test_the_fused_step_gives_the_merged_models_logits_to_each_row(model):
    lora = lora_for(model, (*EVERY, *FEED), 5, 4, size=0.05)
    adapters = Adapters(copy.deepcopy(model))
    adapters.add("one", lora)
    step, pool = (
        FusedDecoder(model, weights="fp32", max_rows=3, threads=2),
        Pool(model.spec, 3, 4, dtype=torch.float32, device="cpu"),
    )
    keys, values = zip(*pool.layers, strict=True)
    step.attach(keys, values, 4)
    address = adapters.find("one").packed.address
    ids = [[65, 66, 67]] * 3
    for position, row in enumerate(zip(*ids, strict=True)):
        pages = [[0], [1], [2]]
        logits = step.decode(row, [position] * 3, pages, adapters=[0, address, 0]).clone()
        assert torch.equal(logits[0], logits[2])
    with torch.inference_mode():
        for number, whole in ((0, merged(model, {})), (1, merged(model, lora))):
            expected = whole(torch.tensor([ids[0]])).logits[0, -1]
            torch.testing.assert_close(logits[number], expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_that_is_dropped_stays_with_those_who_have_it(model, tokenizer):
    base = copy.deepcopy(model)
    lora, other = lora_for(base, EVERY, 3, 6), lora_for(base, EVERY, 3, 7)
    engine = Engine(base, tokenizer, settings=EngineSettings(max_running=2, page_tokens=4, cache_tokens=200))
    engine.adapters.add("one", lora)
    prompt = list(b"The mill by the river")
    first = engine.submit(prompt, GREEDY, adapter="one")
    engine.step()
    engine.adapters.drop("one")
    with pytest.raises(UsageError, match="no adapter named 'one'"):
        engine.submit(prompt, GREEDY, adapter="one")
    engine.adapters.add("one", other)
    second = engine.submit(prompt, GREEDY, adapter="one")
    run(engine)
    for request, pairs in ((first, lora), (second, other)):
        assert request.answer.result() == generate(merged(base, pairs), tokenizer, [prompt], GREEDY)[0]
    assert second.cached_tokens == 0, "keys and values of another adapter were taken"
    third = engine.submit(prompt, GREEDY, adapter="one")
    run(engine)
    assert third.cached_tokens > 0


def test_what_cannot_be_loaded_is_refused(model):
    adapters = Adapters(copy.deepcopy(model))
    fitting = lora_for(model, ("attention.query",), 2, 1)
    adapters.add("one", fitting)
    with pytest.raises(UsageError, match="an adapter named 'one' is loaded"):
        adapters.add("one", fitting)
    with pytest.raises(UsageError, match=r"no adapter named 'onw'.*one"):
        adapters.drop("onw")
    for layer in ("head", "blocks.0.attention", "blocks.7.attention.query", "blocks.0.attention_norm"):
        with pytest.raises(UsageError, match=f"changes '{layer}', and the model has no such linear layer"):
            adapters.add("two", {layer: fitting["blocks.0.attention.query"]})
    narrow = LowRank(torch.ones(2, 23), torch.ones(24, 2))
    with pytest.raises(UsageError, match=r"up \(24, 2\) and down \(2, 23\)"):
        adapters.add("two", {"blocks.0.attention.query": narrow})
    assert adapters.names == ["one"]


def test_layers_whose_weight_is_read_without_a_call_are_refused():
    model = build(spec_for("deepseek_v2", Shape(64, 16, 2, 2, 32)), seed=1)
    with pytest.raises(UsageError, match=r"'blocks\.0\.attention\.kv_up', whose weight is read without a call"):
        Adapters(model).add("one", lora_for(model, ["attention.kv_up"], 2, 1))
