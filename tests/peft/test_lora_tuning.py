"""LoRA over a whole model: where it goes, what it refuses, and that it comes off as it went on."""

import pytest
import torch

from smelt.core.config import validate
from smelt.core.errors import CheckpointError, ConfigError, UsageError
from smelt.infer.adapters import Adapters
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.peft.combine import combine_adapters
from smelt.peft.lora import LowRank
from smelt.peft.lora_config import check_fields, layer_of
from smelt.peft.lora_method import METHOD, files_of, patterns_for
from smelt.peft.lora_tuning import LoraSettings, attach, lora_layers, lora_of, merge, put, rate_factor
from smelt.peft.published import published_layers

SHAPES = {"llama": Shape(64, 16, 2, 2, 32, 1, 24), "gpt2": Shape(64, 16, 2, 2, 32)}
IDS = torch.randint(64, (2, 10), generator=torch.Generator().manual_seed(3))


def model_of(family="llama", seed=1):
    return build(spec_for(family, SHAPES[family]), seed=seed).eval()


def tuned(family="llama", seed=5, **settings):
    """Return a model with an adapter whose every number is drawn."""
    model = model_of(family)
    attach(model, LoraSettings(**settings), seed)
    drawn(model, seed)
    return model


def drawn(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.up.normal_(std=0.1, generator=generator)


def test_by_default_all_linear_layers_of_the_blocks_are_tuned_and_nothing_else():
    model = model_of()
    attach(model, LoraSettings(rank=2), 0)
    parts = ("attention.query", "attention.key", "attention.value", "attention.output")
    parts += ("feed_forward.gate", "feed_forward.up", "feed_forward.down")
    assert list(lora_layers(model)) == [f"blocks.{index}.{part}" for index in range(2) for part in parts]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.{half}" for name in lora_layers(model) for half in ("down", "up")}


def test_what_is_attached_trains_or_rests_as_the_model_does():
    model = tuned(rank=2, dropout=0.5)
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(IDS).logits, model(IDS).logits)
    merge(model.train())
    assert all(module.training for module in model.modules())


def test_patterns_say_where_and_how_much():
    model = model_of()
    settings = LoraSettings(
        rank=2, alpha=8, targets=("query", "blocks.1.*"), rank_pattern={"blocks.1.attention.*": 4, "query": 3},
        alpha_pattern={"down": 5},
    )  # fmt: skip
    attach(model, settings, 0)
    layers = lora_layers(model)
    assert "blocks.0.attention.key" not in layers
    assert {name: len(layer.down) for name, layer in layers.items() if "query" in name or name.endswith("down")} == {
        "blocks.0.attention.query": 3, "blocks.1.attention.query": 4, "blocks.1.feed_forward.down": 2,
    }  # fmt: skip
    assert layers["blocks.1.feed_forward.down"].scale == 2.5
    assert layers["blocks.0.attention.query"].scale == 8 / 3


def test_layers_of_one_published_matrix_share_their_down():
    model = model_of("gpt2")
    attach(model, LoraSettings(rank=2), 0)
    first = model.blocks[0].attention
    assert first.query.down is first.key.down is first.value.down
    assert first.query.down is not model.blocks[1].attention.query.down
    assert first.query.up is not first.key.up


def test_the_seed_alone_says_what_is_drawn():
    downs = []
    for seed in (4, 4, 5):
        model = model_of()
        state = torch.get_rng_state()
        attach(model, LoraSettings(rank=2), seed)
        assert torch.equal(torch.get_rng_state(), state)
        downs.append(model.blocks[0].attention.query.down)
    assert torch.equal(downs[0], downs[1])
    assert not torch.equal(downs[0], downs[2])


@pytest.mark.parametrize(
    ("family", "settings", "said"),
    [
        ("llama", {"targets": ("qery",)}, r"lora.targets: 'qery' matches nothing in this model. Did you mean 'query'"),
        ("llama", {"rank_pattern": {"blocks.7.*": 2}}, "lora.rank_pattern: 'blocks.7"),
        ("llama", {"targets": ("query",), "alpha_pattern": {"key": 2}}, "lora.alpha_pattern: 'key' matches nothing"),
        ("llama", {"rank": 9}, r"rank 9 for blocks.0.attention.key, a matrix of 8 by 16\naccepted: 1 to 8"),
        ("llama", {"rank_pattern": {"down": 17}}, r"rank 17 for blocks.0.feed_forward.down, a matrix of 16 by 24"),
        ("gpt2", {"rank_pattern": {"key": 2}}, r"query rank 8 alpha 16, blocks.0.attention.key rank 2 alpha 16"),
        ("gpt2", {"alpha_pattern": {"key": 2}}, r"one matrix in the published layout, transformer.h.0.attn.c_attn"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_model_are_told_and_leave_it_alone(family, settings, said):
    model = model_of(family)
    with pytest.raises(ConfigError, match=said):
        attach(model, LoraSettings(**settings), 0)
    assert not lora_layers(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"rank": 0}, "rank=0: input should be greater than or equal to 1"), ({"rank": 513}, "rank=513"),
     ({"alpha": 0}, "alpha=0"), ({"alpha": float("inf")}, "alpha=inf"), ({"dropout": 1.0}, "dropout=1.0"),
     ({"up_rate_ratio": -1}, "up_rate_ratio=-1"), ({"rank_pattern": {"query": 0}}, "rank_pattern.query=0"),
     ({"r": 8}, "unknown key 'r'")],
)  # fmt: skip
def test_values_without_sense_are_refused_by_name(settings, said):
    with pytest.raises(ConfigError, match=said):
        validate(LoraSettings, settings, source="recipe")


def test_a_model_without_linear_layers_in_blocks_has_no_place_for_it():
    model = build(spec_for("lstm", Shape(64, 16, 1, 1, 32)), seed=1)
    with pytest.raises(ConfigError, match="no linear layers"):
        attach(model, LoraSettings(), 0)


def test_an_adapter_on_top_of_a_merged_one_is_another_attach():
    model = tuned(rank=2)
    first = model(IDS).logits
    with pytest.raises(UsageError, match="LoRA layers already"):
        attach(model, LoraSettings(rank=2), 0)
    merge(model)
    attach(model, LoraSettings(rank=3, dora=True), 6)
    torch.testing.assert_close(model(IDS).logits, first, atol=1e-5, rtol=1e-5)
    drawn(model, 7)
    both = model(IDS).logits
    assert not torch.allclose(both, first, atol=1e-2)
    merge(model)
    torch.testing.assert_close(model(IDS).logits, both, atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="no LoRA layers to merge"):
        merge(model)


def test_what_was_learned_can_be_served_combined_and_put_on_again():
    one, two = tuned(rank=2), tuned(rank=3, seed=8, targets=("query", "down"))
    base, served = model_of(), Adapters(model_of())
    served.add("one", lora_of(one))
    with torch.inference_mode(), served.applied([served.find("one")] * 2):
        torch.testing.assert_close(served.model(IDS).logits, one(IDS).logits, atol=1e-5, rtol=1e-5)
    sum_of_both = combine_adapters([lora_of(one), lora_of(two)], [0.5, 2.0])
    put(base, sum_of_both)
    changed = {name: layer.weight for name, layer in lora_layers(base).items()}
    for name, layer in lora_layers(one).items():
        plain = layer.base.weight
        other = lora_layers(two).get(name)
        expected = plain + 0.5 * (layer.weight - plain) + (0 if other is None else 2 * (other.weight - plain))
        torch.testing.assert_close(changed[name], expected, atol=1e-6, rtol=1e-5)


def test_layers_that_choose_experts_are_left_alone():
    model = build(spec_for("mixtral", Shape(64, 16, 2, 2, 32, 1, 24)), seed=1)
    attach(model, LoraSettings(rank=2), 0)
    assert {name.rsplit(".", 1)[-1] for name in lora_layers(model)} == {"query", "key", "value", "output"}
    with pytest.raises(ConfigError, match="'router' matches nothing"):
        attach(build(model.spec, seed=1), LoraSettings(targets=("router",)), 0)


@pytest.mark.parametrize("dora", [False, True])
def test_a_layer_that_is_asked_for_its_weight_says_the_changed_one(dora):
    model = build(spec_for("deepseek_v2", Shape(64, 16, 2, 2, 32)), seed=1).eval()
    attach(model, LoraSettings(rank=2, targets=("kv_up",), dora=dora), 0)
    drawn(model, 4)
    attention, kept = model.blocks[0].attention, torch.randn(1, 1, 6, model.spec.layers[0].attention.latent.kv_rank)
    turned = torch.randn(1, 1, 6, attention.rotary.dim)
    queries, kept = torch.randn(1, 2, 6, attention.spec.head_dim), torch.cat((kept, turned), dim=-1)
    absorbed, widened = (way(queries, kept, None) for way in (attention.attend_absorbed, attention.attend_widened))
    torch.testing.assert_close(absorbed, widened, atol=1e-5, rtol=1e-4)
    absorbed.square().sum().backward()
    assert bool(attention.kv_up.up.grad.any())


def test_an_adapter_of_another_model_is_not_put_on():
    narrow = lora_of(tuned(rank=2))
    with pytest.raises(UsageError, match="no such linear layer"):
        put(model_of("gpt2"), {"blocks.0.attention.gate": narrow["blocks.0.attention.query"]})
    with pytest.raises(UsageError, match=r"blocks.0.attention.key: up \(16, 2\) and down \(2, 16\)"):
        put(model_of(), {"blocks.0.attention.key": narrow["blocks.0.attention.query"]})
    with pytest.raises(UsageError, match="LoRA layers already"):
        put(tuned(rank=2), narrow)


def test_dora_is_no_sum_and_is_not_taken_for_one():
    with pytest.raises(UsageError, match="has DoRA, which no sum of low ranks can say"):
        lora_of(tuned(rank=2, dora=True))


def test_a_combination_of_modules_is_a_file_that_attaches_again():
    model = tuned("gpt2", rank=2)
    places = published_layers(model.spec)
    tensors = METHOD.tensors(model)
    modules = {
        place.module: LowRank(
            tensors[f"base_model.model.{place.module}.lora_A.weight"],
            tensors[f"base_model.model.{place.module}.lora_B.weight"] * 8,
        )
        for place in places.values()
    }
    fields, written = files_of(combine_adapters([modules, modules], [0.75, 0.25], rank=2), model.spec)
    again = model_of("gpt2")
    METHOD.attach(again, METHOD.read(fields, model.spec), 0)
    METHOD.fill(again, written)
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits, atol=1e-5, rtol=1e-4)
    assert fields["fan_in_fan_out"] is True


def test_lora_plus_makes_up_alone_learn_faster():
    settings = LoraSettings(up_rate_ratio=16)
    model = tuned(rank=2)
    factors = {name: rate_factor(name, settings) for name, _ in model.named_parameters()}
    assert factors["blocks.0.feed_forward.up.up"] == 16
    assert factors["blocks.0.feed_forward.up.down"] == factors["blocks.0.feed_forward.up.base.weight"] == 1
    assert METHOD.factor("blocks.0.attention.query.up", LoraSettings()) == 1


@pytest.mark.parametrize("dora", [False, True])
def test_layers_that_are_run_again_drop_what_they_dropped(dora):
    gradients = []
    for again in (False, True):
        model = tuned(rank=2, dropout=0.5, dora=dora).train()
        model.gradient_checkpointing = again
        torch.manual_seed(9)
        model(IDS).logits.square().sum().backward()
        gradients.append({name: each.grad for name, each in model.named_parameters() if each.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4)


def test_what_a_file_and_a_model_must_agree_on():
    model = tuned("gpt2", rank=2, targets=("query", "down"))
    good = {name: tensor.clone() for name, tensor in METHOD.tensors(model).items()}
    key = next(iter(good))
    for change, said in [
        (lambda tensors: tensors.pop(key), "1 missing: base_model.model.transformer.h.0.attn.c_attn.lora_A"),
        (lambda tensors: tensors.update({"x.lora_A": torch.ones(1)}), "1 unexpected: x.lora_A"),
        (lambda tensors: tensors.update({key: torch.ones(3, 16)}), r"has shape \(3, 16\)\naccepted: \(2, 16\)"),
        (lambda tensors: tensors[key].fill_(torch.nan), "numbers that are not finite"),
        (lambda tensors: tensors[key.replace("_A", "_B")].fill_(1), "changes blocks.0.attention.key, which the sett"),
    ]:
        tensors = {name: tensor.clone() for name, tensor in good.items()}
        change(tensors)
        with pytest.raises(CheckpointError, match=said):
            METHOD.fill(model, tensors)


def test_doras_lengths_of_layers_left_out_are_those_of_their_weights():
    model = tuned("gpt2", rank=2, targets=("query",), dora=True)
    tensors = METHOD.tensors(model)
    name = "base_model.model.transformer.h.0.attn.c_attn.lora_magnitude_vector"
    torch.testing.assert_close(tensors[name][16:32], model.blocks[0].attention.key.weight.norm(dim=1))
    METHOD.fill(model, tensors)
    tensors[name][20] *= 1.1
    with pytest.raises(CheckpointError, match=r"changes blocks\.0\.attention\.key"):
        METHOD.fill(model, tensors)


def test_a_file_is_not_written_with_others_settings():
    model = tuned(rank=2, alpha=8)
    with pytest.raises(UsageError, match="not those of the settings"):
        METHOD.config(model, LoraSettings(rank=2, alpha=4))


FIELDS = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target_modules": ["qproj"]}, "'qproj' is no linear layer of this model's blocks. Did you mean 'q_proj'"),
        ({"target_modules": ["q_proj", "lm_head"]}, "'lm_head' is no linear layer"),
        ({"target_modules": "nothing"}, "target_modules = 'nothing' names no layer"),
        ({"target_modules": "(q"}, r"target_modules = '\(q'"),
        ({"target_modules": None}, "target_modules = None"),
        ({"layers_to_transform": [5]}, "names no layer"),
        ({"r": 2.5}, "r = 2.5"),
        ({"r": 600}, "rank=600"),
        ({"lora_dropout": 1.5}, "dropout=1.5"),
        ({"bias": "all"}, "bias = 'all'\naccepted: 'none'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save.*\naccepted: LoRA or DoRA"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_honoured_is_told(change, said):
    with pytest.raises(CheckpointError, match=said):
        METHOD.read(FIELDS | change, spec_for("llama", SHAPES["llama"]))


def test_names_in_files_become_short_patterns_where_they_can():
    spec = spec_for("llama", SHAPES["llama"])
    assert METHOD.read(FIELDS, spec).targets == ("attention.query",)
    assert METHOD.read(FIELDS | {"target_modules": "all-linear"}, spec).targets == ()
    assert METHOD.read(FIELDS | {"layers_to_transform": 1}, spec).targets == ("blocks.1.attention.query",)
    both = spec_for("t5", Shape(64, 16, 2, 2, 32))
    names = [name for name in published_layers(both) if name.endswith("attention.query")]
    assert len(names) == 4
    assert patterns_for(names, published_layers(both)) == ("attention.query",)
    assert patterns_for(names[:1], published_layers(both)) == ("encoder.blocks.0.attention.query",)
    assert layer_of("transformer.h.3.mlp.c_fc") == 3
    assert layer_of("lm_head") is None


def test_serving_takes_no_dora():
    with pytest.raises(CheckpointError, match="use_dora = True\naccepted: plain LoRA"):
        check_fields(FIELDS | {"use_dora": True}, "adapter_config.json")
    check_fields(FIELDS | {"use_dora": True}, "adapter_config.json", dora=True)
