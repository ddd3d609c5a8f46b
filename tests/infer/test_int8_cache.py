"""Keys and values in int8: near those of the model, alike in both kinds of step, and the same in any company."""

import numpy as np
import pytest
import torch

from smelt.core import runtime
from smelt.core.errors import UsageError
from smelt.infer import Sampling
from smelt.infer.absmax import dequantize_heads, quantize_heads
from smelt.infer.engine import Engine
from smelt.infer.fused import FusedDecoder
from smelt.infer.limits import EngineSettings, count_pages
from smelt.infer.paged_cache import PagedCache, Pool, Row
from smelt.models.build import build
from smelt.models.families import FAMILIES, Shape, spec_for

from .test_engine import GREEDY, LIVELY, prompts_of, run

SMALL = {"max_running": 4, "page_tokens": 4, "cache_tokens": 80, "prefill_tokens": 16, "cache_dtype": "int8"}


def test_heads_come_back_to_half_a_step():
    heads = (
        torch.randn(3, 5, 2, 10, generator=torch.Generator().manual_seed(1))
        * torch.tensor([1e-3, 1.0, 1e3])[:, None, None, None]
    )
    heads[0, 0] = 0
    cells = quantize_heads(heads)
    assert cells.shape == (3, 5, 2, 14) and cells.dtype is torch.int8
    step = heads.abs().amax(dim=-1, keepdim=True) / 127
    assert bool(((dequantize_heads(cells, torch.float32) - heads).abs() <= 0.501 * step).all())


def logits_of(model, ids, pool, *, fused):
    """Return the logits behind a text that is read by the model at once, or by the fused step token by token."""
    pages = [2, 0, 1]
    if not fused:
        cache = PagedCache(model.spec, pool, [Row(pages, 0, ids)])
        with torch.inference_mode():
            return model(cache.ids, positions=cache.positions, cache=cache).logits[0, -1]
    step = FusedDecoder(model, weights="fp32", max_rows=1, threads=2)
    step.attach(*zip(*pool.layers, strict=True), pool.page_tokens)
    for position, id_ in enumerate(ids):
        logits = step.decode([id_], [position], np.array([pages]))
    return logits[0].clone()


@pytest.mark.parametrize("head_dim", [16, 20])
def test_both_kinds_of_step_round_alike(head_dim):
    shape = Shape(vocab_size=61, dim=48, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=24)
    model = build(FAMILIES["llama"].make(shape, head_dim=head_dim), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4 if parameter.ndim == 2 else 1
    model.eval()
    ids = torch.randint(61, (11,), generator=torch.Generator().manual_seed(2)).tolist()
    found = {
        (dtype, fused): logits_of(model, ids, Pool(model.spec, 3, 4, dtype=dtype, device="cpu"), fused=fused)
        for dtype in (torch.float32, torch.int8)
        for fused in (False, True)
    }
    apart = (found[torch.int8, True] - found[torch.int8, False]).abs().max()
    cost = (found[torch.int8, False] - found[torch.float32, False]).abs().max()
    assert 0 < cost < 0.1 * found[torch.float32, False].std()
    assert apart < 0.1 * cost


@pytest.mark.parametrize("sampling", [GREEDY, LIVELY], ids=["greedy", "lively"])
def test_an_answer_does_not_depend_on_its_company(model, tokenizer, sampling):
    prompts = prompts_of(4, 10)
    together = Engine(model, tokenizer, settings=EngineSettings(**SMALL))
    requests = [together.submit(prompt, sampling) for prompt in prompts]
    run(together)
    assert together.scheduler.num_preempted > 0
    for prompt, request in zip(prompts, requests, strict=True):
        alone = Engine(model, tokenizer, settings=EngineSettings(**SMALL)).generate([prompt], sampling)
        assert request.answer.result() == alone[0]


def test_a_latent_cache_can_be_rounded_too(tokenizer):
    shape = Shape(vocab_size=259, dim=32, num_layers=2, num_heads=4, max_seq_len=64)
    model = build(spec_for("deepseek_v2", shape), seed=1)
    engine = Engine(model, tokenizer, settings=EngineSettings(**SMALL))
    (answer,) = engine.generate([list(b"The mill")], Sampling(max_new_tokens=5, temperature=0))
    assert len(answer.ids) == 5


def test_more_tokens_fit_into_the_same_room(model, monkeypatch):
    monkeypatch.setattr(runtime, "free_memory_bytes", lambda: 200_000)
    pages = [
        count_pages(model.spec, EngineSettings(max_running=1000, cache_dtype=dtype), torch.float32)
        for dtype in (None, "int8")
    ]
    assert pages[1] / pages[0] > 2.3  # heads of 6 numbers here: 24 bytes, and 10
    with pytest.raises(UsageError, match=r"cache_dtype: 'int4'\naccepted: int8"):
        EngineSettings(cache_dtype="int4")
