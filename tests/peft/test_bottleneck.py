"""Bottleneck adapters: what they compute by hand, where they stand, and their files."""

import pytest
import torch
from torch import nn

from smelt.core.errors import CheckpointError, ConfigError, UsageError
from smelt.infer.fused import added_to
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.peft.bottleneck import METHOD, BottleneckLinear, BottleneckSettings, layers_of

SHAPE = Shape(61, 24, 2, 6, 40, num_kv_heads=2, hidden_dim=36)


def test_a_small_network_is_added_to_what_the_layer_gives():
    base = nn.Linear(1, 2, bias=False)
    nn.init.ones_(base.weight)
    layer = BottleneckLinear(base, torch.tensor([[1.0, 2.0], [-1.0, 0.0]]), "relu")
    assert layer(torch.tensor([3.0])).tolist() == [3.0, 3.0]
    with torch.no_grad():
        layer.up.copy_(torch.tensor([[1.0, 5.0], [0.5, 5.0]]))
        layer.down_bias.copy_(torch.tensor([1.0, 1.0]))
        layer.up_bias.copy_(torch.tensor([0.0, 100.0]))
    # y = (3, 3): relu of (3 + 6 + 1, -3 + 1) = (10, 0); 3 + 10, 3 + 5 + 100
    assert layer(torch.tensor([3.0])).tolist() == [13.0, 108.0]


@pytest.mark.parametrize(
    ("places", "ends"),
    [
        (("attention", "feed_forward"), {"attention.output", "feed_forward.down"}),
        (("feed_forward",), {"feed_forward.down"}),
    ],
)
def test_each_block_has_one_behind_each_part_that_is_named(places, ends):
    model = build(spec_for("llama", SHAPE), seed=7)
    METHOD.attach(model, BottleneckSettings(size=5, places=places), 0)
    assert set(layers_of(model)) == {f"blocks.{index}.{end}" for index in range(2) for end in ends}
    number = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert number == 2 * len(ends) * (2 * 5 * 24 + 5 + 24)


def test_a_mixture_of_experts_has_no_single_end():
    model = build(spec_for("mixtral", SHAPE), seed=7)
    with pytest.raises(ConfigError, match=r"feed_forward: blocks\.0 has no layer that ends this part"):
        METHOD.attach(model, BottleneckSettings(), 0)
    METHOD.attach(model, BottleneckSettings(places=("attention",)), 0)
    with pytest.raises(UsageError, match="bottleneck adapters already"):
        METHOD.attach(model, BottleneckSettings(places=("attention",)), 0)


def test_the_fused_step_of_the_engine_leaves_such_a_model_to_itself():
    """It copies plain weights, and would answer without the adapters."""
    model = build(spec_for("llama", SHAPE), seed=7)
    assert added_to(model) is None
    METHOD.attach(model, BottleneckSettings(size=5), 0)
    assert str(added_to(model)).startswith("it was tuned or changed, at blocks.0.attention.output")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LORA"}, r"peft_type = 'LORA'\naccepted: 'BOTTLENECK'"),
        ({"of_next_year": 1}, "of_next_year = 1"),
        ({"activation": "sine"}, "activation='sine'"),
        ({"size": 0}, "size=0"),
        ({"places": []}, "places"),
    ],
)
def test_settings_that_we_cannot_honour_are_refused(change, said):
    model, settings = build(spec_for("llama", SHAPE), seed=7), BottleneckSettings(size=5, places=("feed_forward",))
    METHOD.attach(model, settings, 0)
    config = METHOD.config(model, settings)
    assert METHOD.read(config, model.spec) == settings
    with pytest.raises(CheckpointError, match=said):
        METHOD.read(config | change, model.spec)
    with pytest.raises(CheckpointError, match="does not say the size"):
        METHOD.read({name: value for name, value in config.items() if name != "size"}, model.spec)
