"""Building: reproducible from the seed, every parameter drawn as its family says, presets of the published sizes."""

import math
from dataclasses import replace

import pytest
import torch

from smelt.models.build import blank, build, count_parameters, describe
from smelt.models.families import PRESETS, preset
from smelt.models.families.encoder_layout import Top, with_top
from smelt.nn.spec import TaskSpec


def test_same_seed_same_bits_and_the_global_generator_is_left_alone(tiny):
    spec = tiny("gpt2").spec
    before = torch.random.get_rng_state()
    one, same, other = (dict(build(spec, seed=seed).named_parameters()) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["token_embedding.weight"], other["token_embedding.weight"])


def stds(name: str) -> dict[str, float]:
    model = build(preset(name, vocab_size=300), seed=0)
    return {key: parameter.std().item() for key, parameter in model.named_parameters() if parameter.ndim == 2}


def test_llama_and_gpt2_residual_projections_start_smaller():
    for name, position in (("llama-15m", None), ("gpt2-124m", 0.01)):
        found, num_layers = stds(name), len(preset(name).layers)
        assert found["blocks.1.attention.query.weight"] == pytest.approx(0.02, rel=0.03)
        assert found["token_embedding.weight"] == pytest.approx(0.02, rel=0.03)
        for part in ("attention.output", "feed_forward.down"):
            assert found[f"blocks.1.{part}.weight"] == pytest.approx(0.02 / math.sqrt(2 * num_layers), rel=0.03)
        if position:
            assert found["position_embedding.weight"] == pytest.approx(position, rel=0.03)


def test_biases_are_zero_and_norms_one(tiny):
    model = build(tiny("gpt2").spec, seed=0)
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name


def test_from_scratch_family_uses_the_default_of_linear(tiny):
    model = build(tiny("novel").spec, seed=0)
    bound = 1 / math.sqrt(20)
    weight = model.blocks[0].feed_forward.up.weight
    assert bound * 0.97 < weight.abs().max() <= bound
    assert 0 < model.head.bias.abs().max() <= bound


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("novel-140m", 140_573_600),
        ("gpt2-124m", 124_439_808),
        ("gpt2-355m", 354_823_168),
        ("gpt2-774m", 774_030_080),
        ("gpt2-1.5b", 1_557_611_200),
        ("llama-15m", 15_191_712),
        ("llama-110m", 109_529_856),
        ("tinyllama-1.1b", 1_100_048_384),
        ("llama-2-7b", 6_738_415_616),
    ],
)
def test_presets_have_their_published_size(name, count):
    assert count_parameters(PRESETS[name]) == count


@pytest.mark.parametrize("name", ["gemma-3-270m", "mixtral-nano", "albert-base-v2", "t5-small"])
def test_counting_is_describing(name):
    assert count_parameters(PRESETS[name]) == sum(count for _, _, count in describe(PRESETS[name]))


def test_describe_lists_every_parameter_without_memory():
    rows = describe(preset("novel-140m"))
    assert rows[0] == ("token_embedding.weight", (100_256, 512), 51_331_072)
    assert rows[-1] == ("head.bias", (100_256,), 100_256)
    assert ("blocks.11.attention.output.bias", (512,), 512) in rows
    assert not any(name.endswith(("query.bias", "key.bias", "value.bias")) for name, _, _ in rows)
    assert all(count == math.prod(shape) for _, shape, count in rows)


def test_blank_takes_type_and_device(tiny):
    spec = tiny().spec
    assert blank(spec, dtype=torch.bfloat16).head_weight.dtype == torch.bfloat16
    assert blank(spec, device="meta").head_weight.is_meta


def test_a_crf_begins_without_an_opinion():
    base = preset("bert-base-uncased", vocab_size=60)
    spec = with_top(replace(base, layers=base.layers[:1]), Top(tasks=(TaskSpec("token", 5, crf=True),)), None)
    crf = dict(build(spec, seed=0).tasks["token"].crf.named_parameters())
    assert {name: tuple(scores.shape) for name, scores in crf.items()} == {
        "start_transitions": (5,),
        "end_transitions": (5,),
        "transitions": (5, 5),
    }
    assert not any(scores.any() for scores in crf.values())
