"""Costs by hand, on a network small enough to count."""

from dataclasses import replace

import pytest

from smelt.models.families import Shape, preset, spec_for
from smelt.models.sizes import cache_bytes, forward_flops, keys_seen
from smelt.nn.spec import BlocksSpec


def test_a_causal_row_sees_half_of_itself_and_a_window_no_more_than_its_size():
    layer = preset("smelt-nano").layers[0]
    windowed = replace(layer, attention=replace(layer.attention, window=2))
    assert keys_seen(layer, 4) == (1 + 2 + 3 + 4) / 4
    assert keys_seen(windowed, 4) == (1 + 2 + 2 + 2) / 4


def test_among_blocks_a_token_sees_whole_blocks_and_half_of_its_own():
    layer = preset("smelt-nano").layers[0]
    blocks = BlocksSpec(size=2, window=2, num_global=0, num_random=0)
    causal = replace(layer, attention=replace(layer.attention, blocks=blocks))
    assert keys_seen(causal, 6) == (1 + 2 + 3 + 4 + 3 + 4) / 6
    both = replace(layer, attention=replace(layer.attention, causal=False, blocks=replace(blocks, window=1)))
    assert keys_seen(both, 6) == 2


def test_work_is_two_flops_a_weight_and_two_products_with_the_keys_seen():
    spec = preset("smelt-nano")  # width 64, two layers of two heads of 32, tied head over 512 tokens
    weights = 2 * (4 * 64 * 64 + 3 * 64 * 192) + 512 * 64 + 5 * 64
    assert forward_flops(spec, 9) == 2 * weights + 2 * 4 * 64 * 5


def test_cache_has_keys_and_values_of_every_kv_head():
    assert cache_bytes(preset("smelt-nano")) == 2 * 2 * 64 * 2
    assert cache_bytes(preset("llama-3-8b")) == 131_072
    assert cache_bytes(preset("llama-3-8b"), 4) == 262_144


def test_an_encoder_and_its_decoder_work_on_one_token_each():
    spec = spec_for("t5", Shape(67, 8, 1, 2, 9, hidden_dim=10))
    weights = (4 * 8 * 8 + 2 * 8 * 10 + 2 * 8) + (8 * 8 * 8 + 2 * 8 * 10 + 3 * 8) + 2 * 8 + 67 * 8
    products = 4 * 8 * 9 + 4 * 8 * 5 + 4 * 8 * 9  # both ways, causal, across
    assert forward_flops(spec, 9) == 2 * weights + products
    assert cache_bytes(spec) == 2 * (2 * 8) * 2  # the decoder's own token, and what it makes of the encoder's


@pytest.mark.parametrize(("name", "billions"), [("gpt2-124m", 0.27), ("llama-2-7b", 14.3), ("mixtral-8x7b", 34.1)])
def test_published_sizes_cost_about_two_flops_an_active_parameter(name, billions):
    spec = preset(name)
    assert forward_flops(spec, spec.max_seq_len) == pytest.approx(billions * 1e9, rel=0.02)
