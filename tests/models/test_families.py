"""Families: both directions of config.json agree, and what cannot be honoured is refused with its value."""

from dataclasses import replace

import pytest

from smelt.core.errors import CheckpointError, UsageError
from smelt.models.families import FAMILIES, PRESETS, Shape, family_for, preset, spec_for
from smelt.nn.spec import TokenIds

LLAMA = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
}
GPT2 = {"model_type": "gpt2", "vocab_size": 61, "n_embd": 20, "n_layer": 2, "n_head": 5}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_its_configuration(name):
    spec = replace(PRESETS[name], token_ids=TokenIds(1, (2, 3), 0))
    family = FAMILIES[spec.family]
    assert family.spec_from_hf(family.hf_from_spec(spec)) == spec


def test_sparse_llama_configuration_gets_the_published_defaults():
    spec = family_for("llama").spec_from_hf(LLAMA)
    attention = spec.layers[0].attention
    assert (attention.num_kv_heads, attention.head_dim, attention.rotary.theta) == (6, 4, 10_000.0)
    assert (spec.norm.eps, spec.max_seq_len, spec.tied) == (1e-6, 2048, False)


def test_rotary_base_is_read_from_either_place():
    for extra in ({"rope_theta": 500.0}, {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}):
        assert family_for("llama").spec_from_hf({**LLAMA, **extra}).layers[0].attention.rotary.theta == 500.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {**LLAMA, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "rope_parameters.rope_type = 'dynamic' is not supported\naccepted: default, linear, llama3, yarn",
        ),
        (
            {**LLAMA, "rope_parameters": {"rope_type": "linear", "factor": "2"}},
            "rope_parameters.factor = '2'\naccepted: a number",
        ),
        (
            {**LLAMA, "rope_parameters": {"partial_rotary_factor": 0.5}},
            "partial_rotary_factor = 0.5 is not supported\naccepted: None or 1.0",
        ),
        ({**LLAMA, "hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported\naccepted: 'silu'"),
        (
            {**GPT2, "activation_function": "silu"},
            "activation_function = 'silu' is not supported\naccepted: 'gelu_new' or 'gelu_pytorch_tanh' or 'relu'",
        ),
        ({**GPT2, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True is not supported"),
        ({**GPT2, "n_head": None}, "config.json has no n_head\ntry: use the config.json published"),
        ({**GPT2, "n_layer": "2"}, "config.json: n_layer = '2'\naccepted: a positive whole number"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_value(config, message):
    with pytest.raises(CheckpointError) as caught:
        family_for(config["model_type"]).spec_from_hf(config)
    assert message in str(caught.value)


def test_unknown_model_type_names_the_nearest_and_the_accepted():
    with pytest.raises(CheckpointError) as caught:
        family_for("lama")
    accepted = ", ".join(sorted(name for family in FAMILIES.values() for name in family.model_types))
    assert str(caught.value) == (
        f"config.json: model_type 'lama' is not supported. Did you mean 'llama'?\naccepted: {accepted}"
    )


def test_unknown_preset_and_family_name_the_nearest():
    with pytest.raises(UsageError, match=r"no preset 'gpt2-124'\. Did you mean 'gpt2-124m'\?"):
        preset("gpt2-124")
    with pytest.raises(UsageError, match=r"no family 'gpt'\. Did you mean 'gpt2'\?"):
        spec_for("gpt", Shape(61, 24, 2, 6, 40))
    with pytest.raises(UsageError, match="width 24 over 5 heads\naccepted: a width that the heads divide"):
        spec_for("llama", Shape(61, 24, 2, 5, 40))


def test_presets_can_be_resized():
    spec = preset("smelt-town", vocab_size=777, max_seq_len=99)
    assert (spec.vocab_size, spec.max_seq_len, spec.dim) == (777, 99, PRESETS["smelt-town"].dim)


def test_sizes_that_the_layout_cannot_hold_are_refused_before_training():
    with pytest.raises(CheckpointError, match="the gpt2 layout cannot hold this model: layer 0 is LayerSpec"):
        spec_for("gpt2", Shape(61, 24, 2, 6, 40, num_kv_heads=2))
