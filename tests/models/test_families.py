"""Families: both directions of config.json agree, and what cannot be honoured is refused with its value."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from smelt.core.errors import CheckpointError, UsageError
from smelt.models.build import build, count_active, count_parameters
from smelt.models.families import FAMILIES, PRESETS, Shape, family_for, preset, spec_for
from smelt.models.families.base import Fields
from smelt.models.families.gpt3 import make as make_gpt3
from smelt.models.hub import load_model, save_model
from smelt.nn.spec import TaskSpec, TokenIds

LLAMA = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
}
BERT = {"model_type": "bert"} | {name: size for name, size in LLAMA.items() if name != "model_type"}
ROBERTA, ALBERT = {**BERT, "model_type": "roberta", "pad_token_id": 1}, {**BERT, "model_type": "albert"}
DISTILBERT = {"model_type": "distilbert", "vocab_size": 61, "dim": 24, "n_layers": 2, "n_heads": 6, "hidden_dim": 36}
GPT2 = {"model_type": "gpt2", "vocab_size": 61, "n_embd": 20, "n_layer": 2, "n_head": 5}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_its_configuration(name):
    spec = PRESETS[name]
    spec = replace(spec, token_ids=TokenIds(1, (2, 3), max(0, spec.position_offset - 1)))
    family = FAMILIES[spec.family]
    assert family.spec_from_hf(family.hf_from_spec(spec)) == spec


PUBLISHED = {
    "gpt1-117m": 116_534_784,
    "gpt2-124m": 124_439_808,
    "gpt2-355m": 354_823_168,
    "gpt2-774m": 774_030_080,
    "gpt2-1.5b": 1_557_611_200,
    "tinyllama-1.1b": 1_100_048_384,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "codellama-7b": 6_738_546_688,
    "codellama-13b": 13_016_028_160,
    "codellama-34b": 33_743_970_304,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mistral-nemo-12b": 12_247_782_400,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_630_071_296,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "chatglm-6b": 6_173_286_400,
    "chatglm2-6b": 6_243_584_000,
    "chatglm3-6b": 6_243_584_000,
    "glm-4-9b": 9_399_951_360,
    "glm-4-9b-chat": 9_399_951_360,
    "glm-4-9b-0414": 9_400_094_720,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b": 999_885_952,
    "deepseek-v2-lite": 15_706_484_224,
    "novel-140m": 140_573_600,
    "bert-base-uncased": 110_106_428,
    "bert-large-uncased": 336_226_108,
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
    "xlm-roberta-base": 278_295_186,
    "xlm-roberta-large": 560_142_482,
    "distilbert-base-uncased": 66_985_530,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "t5-v1.1-small": 76_961_152,
    "t5-v1.1-base": 247_577_856,
    "t5-v1.1-large": 783_150_080,
    "t5-v1.1-xl": 2_849_757_184,
    "t5-v1.1-xxl": 11_135_332_352,
    "mt5-small": 300_176_768,
    "mt5-base": 582_401_280,
    "mt5-large": 1_229_581_312,
    "mt5-xl": 3_742_619_648,
    "mt5-xxl": 12_921_057_280,
}
"""Parameters as the published files hold them."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_presets_have_the_published_number_of_parameters(name):
    assert count_parameters(PRESETS[name]) == PUBLISHED[name]


BARE = {
    "bert-base-uncased": ("BertModel", 109_482_240),
    "bert-large-uncased": ("BertModel", 335_141_888),
    "roberta-base": ("RobertaModel", 124_645_632),
    "roberta-large": ("RobertaModel", 355_359_744),
    "albert-base-v2": ("AlbertModel", 11_683_584),
    "albert-large-v2": ("AlbertModel", 17_683_968),
    "albert-xlarge-v2": ("AlbertModel", 58_724_864),
    "albert-xxlarge-v2": ("AlbertModel", 222_595_584),
    "distilbert-base-uncased": ("DistilBertModel", 66_362_880),
}
"""The same without heads, but with the pooler where there is one."""


@pytest.mark.parametrize("name", sorted(BARE))
def test_bare_encoders_have_the_published_number_of_parameters(name):
    architecture, number = BARE[name]
    family = FAMILIES[PRESETS[name].family]
    config = {**family.hf_from_spec(PRESETS[name]), "architectures": [architecture]}
    assert count_parameters(family.spec_from_hf(config)) == number


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("gpt3-")])
def test_sizes_named_in_a_table_are_met_within_its_rounding(name):
    size = name.removeprefix("gpt3-")
    named = float(size[:-1]) * {"m": 1e6, "b": 1e9}[size[-1]]
    assert count_parameters(PRESETS[name]) == pytest.approx(named, rel=0.02)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("transformer-base", 65), ("transformer-big", 213), ("t5-pegasus-small", 95), ("t5-pegasus-base", 275)],
)
def test_sizes_named_in_millions_are_met(name, millions):
    assert count_parameters(PRESETS[name]) == pytest.approx(1e6 * millions, rel=0.03)


def test_mixtures_count_the_experts_a_token_takes():
    assert count_active(PRESETS["mixtral-8x7b"]) == 12_879_925_248
    assert count_active(PRESETS["llama-2-7b"]) == count_parameters(PRESETS["llama-2-7b"])


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
        (
            {"model_type": "deepseek_v2", "topk_method": "group_limited_greedy"},
            "topk_method = 'group_limited_greedy' is not supported\naccepted: 'greedy'",
        ),
        (
            {
                **LLAMA,
                **{"model_type": "deepseek_v2", "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4},
                **{"v_head_dim": 4, "first_k_dense_replace": 2, "rope_scaling": {"mscale": 0.7, "mscale_all_dim": 1.0}},
            },
            "rope_parameters.mscale = 0.7 is not supported\naccepted: 1.0",
        ),
        ({**GPT2, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True is not supported"),
        (
            {**BERT, "position_embedding_type": "relative_key"},
            "position_embedding_type = 'relative_key' is not supported",
        ),
        (
            {**BERT, "hidden_act": "silu"},
            "hidden_act = 'silu' is not supported\naccepted: 'gelu' or 'gelu_new' or 'relu'",
        ),
        ({**BERT, "architectures": ["BertForMultipleChoice"]}, "architectures = ['BertForMultipleChoice'] is not supp"),
        (
            {**BERT, "architectures": ["BertForTokenClassification"], "id2label": {"1": "A", "2": "B"}},
            "id2label has the numbers ['1', '2']\naccepted: 0 to 1",
        ),
        ({**ROBERTA, "pad_token_id": None}, "pad_token_id = None\naccepted: an id: positions begin behind it"),
        (
            {**ALBERT, "embedding_size": 8, "num_hidden_groups": 2},
            "num_hidden_groups = 2 is not supported\naccepted: 1",
        ),
        ({**ALBERT, "embedding_size": 8, "inner_group_num": 3}, "inner_group_num = 3 is not supported\naccepted: 1"),
        (ALBERT, "config.json has no embedding_size"),
        ({**DISTILBERT, "sinusoidal_pos_embds": True}, "sinusoidal_pos_embds = True is not supported\naccepted: False"),
        ({**DISTILBERT, "dim": 0}, "config.json: dim = 0\naccepted: a positive whole number"),
        ({**GPT2, "n_head": None}, "config.json has no n_head\ntry: use the config.json published"),
        ({**GPT2, "n_layer": "2"}, "config.json: n_layer = '2'\naccepted: a positive whole number"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_value(config, message):
    with pytest.raises(CheckpointError) as caught:
        family_for(config["model_type"]).spec_from_hf(config)
    assert message in str(caught.value)


def test_positions_behind_another_padding_id_are_refused_when_saving():
    family, spec = FAMILIES["roberta"], spec_for("roberta", Shape(61, 24, 2, 6, 40))
    assert family.hf_from_spec(spec)["max_position_embeddings"] == 42
    assert family.spec_from_hf({**ROBERTA, "max_position_embeddings": 42}).max_seq_len == 40
    with pytest.raises(CheckpointError) as caught:
        family.hf_from_spec(replace(spec, token_ids=TokenIds(padding=7)))
    assert str(caught.value) == (
        "padding id 7 in a roberta model whose positions begin at row 2\n"
        "accepted: padding id 1: readers of this layout begin positions behind it\n"
        "try: use a tokenizer with this padding id, or set position_offset before training"
    )


OLD_BERT = {
    "architectures": ["BertForMaskedLM"],
    "directionality": "bidi",
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "gradient_checkpointing": False,
}
OLD_ALBERT = {
    "down_scale_factor": 1,
    "gap_size": 0,
    "net_structure_type": 0,
    "num_memory_blocks": 0,
    "embedding_size": 8,
}
OLD_DISTILBERT = {"tie_weights_": True, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False}


@pytest.mark.parametrize("config", [{**BERT, **OLD_BERT}, {**ALBERT, **OLD_ALBERT}, {**DISTILBERT, **OLD_DISTILBERT}])
def test_fields_of_the_first_published_encoders_are_known(config):
    family, found = family_for(config["model_type"]), Fields(config)
    assert family.spec_from_hf(found).language_head
    found.refuse_unread(family.name)


@pytest.mark.parametrize(
    ("config", "activation", "eps", "num_types"),
    [
        (BERT, "gelu", 1e-12, 2),
        (ROBERTA, "gelu", 1e-12, 2),
        ({**ALBERT, "embedding_size": 8}, "gelu_tanh", 1e-12, 2),
        (DISTILBERT, "gelu", 1e-12, 0),
    ],
)
def test_sparse_encoder_configurations_get_the_defaults_of_their_layout(config, activation, eps, num_types):
    spec = family_for(config["model_type"]).spec_from_hf(config)
    layer = spec.layers[0]
    assert (layer.dense.activation, layer.norm.eps, spec.num_types) == (activation, eps, num_types)
    assert (spec.max_seq_len, spec.tied, spec.language_head, spec.pooler) == (512, True, True, False)


@pytest.mark.parametrize(
    ("name", "activation", "eps", "num_types"),
    [
        ("bert-base-uncased", "gelu", 1e-12, 2),
        ("roberta-base", "gelu", 1e-5, 1),
        ("xlm-roberta-base", "gelu", 1e-5, 1),
        ("albert-base-v2", "gelu_tanh", 1e-12, 2),
        ("distilbert-base-uncased", "gelu", 1e-12, 0),
    ],
)
def test_encoder_presets_are_as_published(name, activation, eps, num_types):
    layer = PRESETS[name].layers[0]
    assert (layer.dense.activation, layer.norm.eps, PRESETS[name].num_types) == (activation, eps, num_types)


def test_names_of_labels_survive():
    family = FAMILIES["bert"]
    labels = {"architectures": ["BertForTokenClassification"], "id2label": {"1": "B-PER", "0": "O"}, "use_crf": True}
    spec = family.spec_from_hf({**BERT, **labels})
    assert spec.tasks == (TaskSpec("token", 2, crf=True, label_names=("O", "B-PER")),)
    config = family.hf_from_spec(spec)
    assert (config["id2label"], config["label2id"]) == ({"0": "O", "1": "B-PER"}, {"O": 0, "B-PER": 1})
    assert config["use_crf"] is True and family.spec_from_hf(config) == spec


def test_a_crf_elsewhere_than_behind_labels_of_tokens_is_not_known():
    found = Fields({**BERT, "architectures": ["BertForSequenceClassification"], "use_crf": True})
    FAMILIES["bert"].spec_from_hf(found)
    with pytest.raises(CheckpointError, match="use_crf = True is not known to the bert layout"):
        found.refuse_unread("bert")


def test_unknown_model_type_names_the_nearest_and_the_accepted():
    with pytest.raises(CheckpointError) as caught:
        family_for("lama")
    accepted = ", ".join(sorted({name for family in FAMILIES.values() for name in family.model_types}))
    assert str(caught.value) == (
        f"config.json: model_type 'lama' is not supported. Did you mean 'llama'?\naccepted: {accepted}"
    )


def test_unknown_preset_and_family_name_the_nearest():
    with pytest.raises(UsageError, match=r"no preset 'gpt2-124'\. Did you mean 'gpt2-124m'\?"):
        preset("gpt2-124")
    with pytest.raises(UsageError, match=r"no family 'lama'\. Did you mean 'llama'\?"):
        spec_for("lama", Shape(61, 24, 2, 6, 40))
    with pytest.raises(UsageError, match="width 24 over 5 heads\naccepted: a width that the heads divide"):
        spec_for("llama", Shape(61, 24, 2, 5, 40))


def test_presets_can_be_resized():
    spec = preset("smelt-town", vocab_size=777, max_seq_len=99)
    assert (spec.vocab_size, spec.max_seq_len, spec.dim) == (777, 99, PRESETS["smelt-town"].dim)


def test_sizes_that_the_layout_cannot_hold_are_refused_before_training():
    with pytest.raises(
        CheckpointError, match=r"gpt2 layout cannot hold .* layers\[0\].attention.num_kv_heads is 2, not 6"
    ):
        spec_for("gpt2", Shape(61, 24, 2, 6, 40, num_kv_heads=2))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_saves_and_loads(name, tmp_path):
    model = build(spec_for(name, Shape(61, 24, 3, 2, 40)), seed=1)
    save_model(model, tmp_path)
    loaded, ids = load_model(tmp_path), torch.arange(30).view(2, 15)
    assert loaded.spec == model.spec
    given = {} if model.spec.encoder is None else {"source": ids.flip(1)}
    assert torch.equal(loaded(ids, **given).logits, model(ids, **given).logits)


def test_bands_of_a_window_see_no_further():
    wide, narrow = (build(make_gpt3(Shape(61, 24, 2, 2, 40), window=window), seed=1) for window in (40, 4))
    ids, other = torch.arange(20)[None], torch.arange(20)[None].clone()
    other[0, 3] = 60
    # A dense layer, then a banded one: what stands behind the band still hears of token 3 through the dense layer.
    assert not torch.equal(narrow(ids).logits[0, 19], narrow(other).logits[0, 19])
    torch.testing.assert_close(wide(ids).logits, build(spec_for("gpt2", Shape(61, 24, 2, 2, 40)), seed=1)(ids).logits)
    torch.testing.assert_close(narrow(ids).logits[0, :4], wide(ids).logits[0, :4])
    assert not torch.allclose(narrow(ids).logits[0, 4:], wide(ids).logits[0, 4:])


def test_the_page_of_families_has_each_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| ([\w-]+)", page, re.MULTILINE)
    assert {row for row in rows if row[0] != "family"} == {
        (name, family.model_types[0]) for name, family in FAMILIES.items()
    }


def test_chatglm_is_glm_under_other_names_whose_code_is_never_run(tmp_path):
    shape = Shape(61, 48, 2, 4, 40, num_kv_heads=2, hidden_dim=20)
    theirs = build(spec_for("glm", shape), seed=1)  # equal to transformers, by the parity tests
    model = build(spec_for("chatglm", shape), seed=2)
    with torch.no_grad():
        for layer in (theirs, model):
            for block in layer.blocks:
                block.attention_norm.eps = block.feed_forward_norm.eps = layer.norm.eps = 1e-5
    model.load_state_dict(theirs.state_dict())
    save_model(model, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        layer = "transformer.encoder.layers.1."
        assert file.get_slice(layer + "self_attention.query_key_value.weight").get_shape() == [96, 48]
        assert file.get_slice(layer + "self_attention.query_key_value.bias").get_shape() == [96]
        assert file.get_slice(layer + "mlp.dense_h_to_4h.weight").get_shape() == [40, 48]
        qkv = file.get_tensor(layer + "self_attention.query_key_value.weight")
    assert torch.equal(qkv[48:72], theirs.blocks[1].attention.key.weight)
    path, ids = tmp_path / "config.json", torch.arange(30).view(2, 15)
    config = json.loads(path.read_text())
    path.write_text(
        json.dumps({**config, "auto_map": {"AutoModel": "modeling_chatglm.ChatGLM"}, "bias_dropout_fusion": True})
    )
    torch.testing.assert_close(load_model(tmp_path)(ids).logits, theirs(ids).logits)
    path.write_text(json.dumps({**config, "add_bias_linear": True}))
    with pytest.raises(CheckpointError, match="add_bias_linear = True is not supported"):
        load_model(tmp_path)
