"""What is noted of attention is what attention did: the weights times the values are its own output."""

import pytest
import torch

from smelt.nn.attention import Attention, attend
from smelt.nn.latent import LatentAttention
from smelt.nn.masks import attention_mask
from smelt.nn.observe import watched
from smelt.nn.positions import rotary_tables
from smelt.nn.spec import AttentionSpec, BlocksSpec, LatentSpec, NormSpec, RotarySpec

ROTARY = RotarySpec(8)
KINDS = {
    "grouped": AttentionSpec(4, 2, 8, ROTARY),
    "windowed": AttentionSpec(4, 4, 8, ROTARY, window=3),
    "bounded": AttentionSpec(4, 1, 8, ROTARY, softcap=2.0, scale=0.7, qk_norm=NormSpec("rms", 1e-6)),
    "with sinks": AttentionSpec(4, 2, 8, ROTARY, sinks=True),
    "with slopes": AttentionSpec(4, 2, 8, alibi=True),
    "both ways": AttentionSpec(4, 2, 8, causal=False),
    "blocks": AttentionSpec(4, 2, 8, ROTARY, blocks=BlocksSpec(2, 1, 1, 1)),
}


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_weights_times_values_are_the_output(name: str) -> None:
    spec = KINDS[name]
    torch.manual_seed(0)
    attention, x = Attention(spec, 32), torch.randn(2, 9, 32)
    if attention.sinks is not None:
        attention.sinks += torch.tensor([0.0, 1, 2, 3])
    cos, sin = rotary_tables(torch.arange(9), ROTARY, x.dtype) if spec.rotary else (None, None)
    mask = attention_mask(spec, 9, 9, None, x)
    before = attention(x, cos, sin, mask)
    with watched(attention) as noted:
        assert torch.equal(attention(x, cos, sin, mask), before)
    assert attention.mix is attend
    attention(x, cos, sin, mask)
    (weights,) = noted
    values = attention.value(x).unflatten(-1, (-1, 8)).transpose(1, 2).repeat_interleave(4 // spec.num_kv_heads, dim=1)
    torch.testing.assert_close(attention.output((weights @ values).transpose(1, 2).flatten(2)), before)
    sums = weights.sum(dim=-1)
    assert bool((sums < 0.99).all()) if spec.sinks else torch.allclose(sums, torch.ones_like(sums), atol=1e-5)
    if spec.causal:
        assert bool((weights.triu(1) == 0).all())


@torch.no_grad()
def test_attention_through_a_latent_is_watched_too() -> None:
    torch.manual_seed(0)
    spec = AttentionSpec(4, 4, 8, RotarySpec(4), latent=LatentSpec(6, 4))
    attention, x = LatentAttention(spec, 32), torch.randn(1, 9, 32)
    cos, sin = rotary_tables(torch.arange(9), RotarySpec(4), x.dtype)
    queries, kept = attention._project(x, cos, sin)
    with watched(attention) as noted:
        mixed = attention.attend_absorbed(queries, kept, None)
        widened = attention.attend_widened(queries, kept, None)
    torch.testing.assert_close(mixed, widened)
    torch.testing.assert_close(noted[0], noted[1])
    read = noted[0] @ kept[..., : spec.latent.kv_rank]
    to_value = attention.kv_up.weight.unflatten(0, (4, -1))[:, attention.plain_dim :]
    torch.testing.assert_close(read @ to_value.mT, mixed)


def test_a_module_is_given_back_when_a_forward_fails() -> None:
    attention = Attention(KINDS["grouped"], 32)
    with pytest.raises(RuntimeError), watched(attention):
        attention(torch.zeros(1, 2, 31), None, None, None)
    assert attention.mix is attend
