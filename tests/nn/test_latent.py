"""Latent attention equals the published module, in both of its forms, and caches one narrow row a token."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.models.families import preset
from smelt.models.sizes import attention_flops, cache_bytes
from smelt.nn.block import Block
from smelt.nn.cache import KVCache, LayerCache
from smelt.nn.latent import LatentAttention
from smelt.nn.masks import additive, attention_mask, visible
from smelt.nn.positions import rotary_tables
from smelt.nn.spec import AttentionSpec, BlocksSpec, LatentSpec, NormSpec, RotarySpec

LATENT = LatentSpec(kv_rank=14, value_dim=9, query_rank=11)
SPEC = AttentionSpec(3, 3, 16, RotarySpec(6, interleaved=True), latent=LATENT)


def made(spec=SPEC, dim=21, seed=0):
    torch.manual_seed(seed)
    module = LatentAttention(spec, dim)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return module


def tables(start, stop):
    return rotary_tables(torch.arange(start, stop), SPEC.rotary, torch.float32)


@pytest.mark.interop
@pytest.mark.parametrize("kind", ["V2", "V3"])
@pytest.mark.parametrize("rank", [None, 11])
@pytest.mark.parametrize("biased", [False, True])
def test_equals_the_published_module(kind, rank, biased):
    transformers = pytest.importorskip("transformers")
    name = f"deepseek_{kind.lower()}"
    theirs_module = getattr(transformers.models, name)
    modeling = getattr(theirs_module, f"modeling_{name}")
    config = getattr(transformers, f"Deepseek{kind}Config")(
        hidden_size=21, num_attention_heads=3, num_key_value_heads=3, q_lora_rank=rank, kv_lora_rank=14,
        qk_rope_head_dim=6, qk_nope_head_dim=10, v_head_dim=9, attention_bias=biased, attn_implementation="eager",
        max_position_embeddings=64,
    )  # fmt: skip
    theirs = getattr(modeling, f"Deepseek{kind}Attention")(config, 0).eval()
    spec = replace(SPEC, latent=replace(LATENT, query_rank=rank), qkv_bias=biased, output_bias=biased)
    module = made(spec)
    names = {"query": "q_proj"} if rank is None else {"query_down": "q_a_proj", "query_norm": "q_a_layernorm"}
    names |= {"query": "q_proj" if rank is None else "q_b_proj", "kv_down": "kv_a_proj_with_mqa"}
    names |= {"kv_norm": "kv_a_layernorm", "kv_up": "kv_b_proj", "output": "o_proj"}
    ours = module.state_dict()
    theirs.load_state_dict({f"{names[key.split('.')[0]]}.{key.split('.')[1]}": x for key, x in ours.items()})
    x, positions = torch.randn(2, 7, 21), torch.arange(7)[None]
    turned = getattr(modeling, f"Deepseek{kind}RotaryEmbedding")(config)(x, positions)
    mask = additive(visible(7, 7, None, None, x.device), torch.float32)
    expected = theirs(hidden_states=x, position_embeddings=turned, attention_mask=mask)[0]
    torch.testing.assert_close(module(x, *tables(0, 7), None), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", [{}, {"softcap": 2.0}, {"window": 3}, {"blocks": BlocksSpec(2, 1, 1, 0)}], ids=str)
def test_absorbed_equals_widened_with_gradients(change):
    module, x = made(replace(SPEC, **change)), torch.randn(2, 9, 21)
    mask = attention_mask(module.spec, 9, 9, None, x)
    queries, kept = module._project(x, *tables(0, 9))
    found = []
    for function in (module.attend_widened, module.attend_absorbed):
        out = function(queries, kept, mask)
        wanted = [module.query.weight, module.kv_up.weight, module.kv_down.weight]
        gradients = torch.autograd.grad(out.square().sum(), wanted, retain_graph=True)
        found.append((out, *gradients))
    assert found[0][0].shape == (2, 3, 9, 9)
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)


def test_new_tokens_behind_a_cache_take_the_absorbed_form_and_are_equal(monkeypatch):
    module, x, forms = made(), torch.randn(2, 12, 21), []
    for form in ("attend_widened", "attend_absorbed"):
        function = getattr(module, form)
        monkeypatch.setattr(module, form, lambda *given, f=function, n=form: forms.append(n) or f(*given))
    expected = module(x, *tables(0, 12), None)
    cache = LayerCache(torch.empty(2, 1, 12, 20), torch.empty(2, 1, 12, 0))
    parts = [module(x[:, :9], *tables(0, 9), None, cache)]
    parts += [module(x[:, i : i + 1], *tables(i, i + 1), None, cache) for i in range(9, 12)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=1e-5)
    assert forms == ["attend_widened"] * 2 + ["attend_absorbed"] * 3


def test_the_cache_keeps_the_latent_and_the_turned_key_alone():
    base = preset("smelt-nano")
    layer = replace(base.layers[0], attention=SPEC)
    spec = replace(base, layers=(layer, layer))
    cache = KVCache.allocate(spec, 3, 5)
    assert cache.layers[0].keys.shape == (3, 1, 5, 20) and cache.layers[0].values.numel() == 0
    assert cache_bytes(spec, 2) == 2 * (14 + 6) * 2
    assert attention_flops(layer, 1) == 2 * 3 * (16 + 9)


def test_published_sizes_cache_less_than_two_heads():
    # 128 heads of 128 + 64, values of 128, a latent of 512: 576 numbers instead of 2 x 128 x 128.
    published = AttentionSpec(128, 128, 192, RotarySpec(64), latent=LatentSpec(512, 128, 1536))
    assert published.cached == ((1, 576), (1, 0))


def test_a_block_has_it_where_its_spec_says():
    base = preset("smelt-nano").layers[0]
    assert isinstance(Block(replace(base, attention=SPEC), 21).attention, LatentAttention)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotary": None}, "latent attention without a turned and an unturned part"),
        ({"rotary": RotarySpec(16)}, "latent attention without a turned and an unturned part"),
        ({"num_kv_heads": 1}, "latent attention with shared kv heads, norms of heads, or sinks"),
        ({"qk_norm": NormSpec("rms", 1e-6)}, "latent attention with shared kv heads, norms of heads, or sinks"),
    ],
)
def test_impossible_latents_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        replace(SPEC, **change)
    with pytest.raises(UsageError, match="latent attention with kv_rank 0"):
        replace(LATENT, kv_rank=0)
