"""Our models against transformers, both ways: tiny random checkpoints of odd sizes give the same logits."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model, save_model
from smelt.models.transformer import Transformer
from smelt.nn.cache import KVCache
from smelt.nn.spec import TokenIds

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.interop

SIZES = {"vocab_size": 67, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "dtype": "float32"}
LLAMA = {
    "hidden_size": 30,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "max_position_embeddings": 48,
    "head_dim": 10,
}
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 2}
GPT2 = {"n_embd": 35, "n_layer": 2, "n_head": 5, "n_positions": 48, "n_inner": 52}
COMMON = SIZES | LLAMA | HEADS
EVEN = {name: value for name, value in LLAMA.items() if name != "head_dim"} | {"hidden_size": 36}
ROPE = {"rope_theta": 777.0, "factor": 4.0, "original_max_position_embeddings": 12}
BANDS = ROPE | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5}
MIXTURE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 21}
LATENT = EVEN | {
    **{"num_attention_heads": 6, "num_key_value_heads": 6, "q_lora_rank": 11, "kv_lora_rank": 14},
    **{"qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 9},
    **{"n_routed_experts": 5, "n_shared_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 21},
}

THEIRS = {
    "llama": lambda: transformers.LlamaConfig(**COMMON),
    "llama-tied": lambda: transformers.LlamaConfig(**COMMON, tie_word_embeddings=True),
    "llama-biased": lambda: transformers.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True),
    "llama-one-kv-head": lambda: transformers.LlamaConfig(
        **SIZES,
        **LLAMA,
        num_attention_heads=3,
        num_key_value_heads=1,
        rope_parameters={"rope_theta": 777.0, "rope_type": "default"},
    ),
    "llama-bands": lambda: transformers.LlamaConfig(**COMMON, rope_parameters=BANDS),
    "llama-linear": lambda: transformers.LlamaConfig(
        **COMMON, rope_parameters={"rope_theta": 777.0, "factor": 4.0, "rope_type": "linear"}
    ),
    "llama-yarn": lambda: transformers.LlamaConfig(**COMMON, rope_parameters=ROPE | {"rope_type": "yarn"}),
    "mistral": lambda: transformers.MistralConfig(**COMMON, sliding_window=None),
    "mistral-window": lambda: transformers.MistralConfig(**COMMON, sliding_window=5),
    "mixtral": lambda: transformers.MixtralConfig(**COMMON, num_local_experts=5, sliding_window=5),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, **EVEN, **HEADS),
    "qwen2-windows": lambda: transformers.Qwen2Config(
        **SIZES,
        **EVEN,
        **HEADS,
        use_sliding_window=True,
        sliding_window=5,
        max_window_layers=1,
        tie_word_embeddings=True,
    ),
    "qwen3": lambda: transformers.Qwen3Config(**COMMON),
    "qwen3-windows": lambda: transformers.Qwen3Config(
        **COMMON, attention_bias=True, use_sliding_window=True, sliding_window=5, max_window_layers=1
    ),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(**COMMON, **MIXTURE, norm_topk_prob=True),
    "qwen3_moe-some": lambda: transformers.Qwen3MoeConfig(**COMMON, **MIXTURE, mlp_only_layers=[0]),
    "gemma": lambda: transformers.GemmaConfig(**COMMON),
    "gemma2": lambda: transformers.Gemma2Config(
        **COMMON,
        **LAYERS,
        query_pre_attn_scalar=7,
        attn_logit_softcapping=3.0,
        final_logit_softcapping=5.0,
        attn_implementation="eager",
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **COMMON,
        **LAYERS,
        query_pre_attn_scalar=7,
        attn_implementation="eager",
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 777.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
        },
    ),
    "deepseek_v2": lambda: transformers.DeepseekV2Config(**SIZES, **LATENT, first_k_dense_replace=1),
    "deepseek_v2-dense": lambda: transformers.DeepseekV2Config(
        **SIZES, **LATENT | {"q_lora_rank": None}, first_k_dense_replace=2
    ),
    "deepseek_v2-yarn": lambda: transformers.DeepseekV2Config(
        **SIZES,
        **LATENT,
        first_k_dense_replace=1,
        rope_parameters=ROPE | {"rope_type": "yarn", "mscale": 0.7, "mscale_all_dim": 0.7},
    ),
    "phi": lambda: transformers.PhiConfig(**SIZES, **EVEN | {"hidden_size": 48}, **HEADS, qk_layernorm=True),
    "glm": lambda: transformers.GlmConfig(**COMMON | {"head_dim": 12}),
    "glm4": lambda: transformers.Glm4Config(**COMMON | {"head_dim": 12}),
    "glm4-biased": lambda: transformers.Glm4Config(**COMMON | {"head_dim": 12}, attention_bias=True),
    "gpt1": lambda: transformers.OpenAIGPTConfig(
        **SIZES, **{name: value for name, value in GPT2.items() if name != "n_inner"}
    ),
    "gpt2": lambda: transformers.GPT2Config(**SIZES, **GPT2),
    "gpt2-relu": lambda: transformers.GPT2Config(**SIZES, **GPT2 | {"activation_function": "relu"}),
    "gpt2-untied": lambda: transformers.GPT2Config(**SIZES, **GPT2, tie_word_embeddings=False),
}
OURS = {
    "llama": Shape(67, 36, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "llama-tied": Shape(67, 30, 2, 3, 48, num_kv_heads=1, hidden_dim=44, tied=True),
    "mistral": Shape(67, 36, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "mixtral": Shape(67, 36, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "qwen2": Shape(67, 36, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "qwen3": Shape(67, 36, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "qwen3_moe": Shape(67, 36, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "gemma": Shape(67, 36, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "gemma2": Shape(67, 36, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "gemma3": Shape(67, 36, 7, 6, 48, num_kv_heads=2, hidden_dim=44),
    "deepseek_v2": Shape(67, 36, 2, 3, 48, hidden_dim=44),
    "phi": Shape(67, 48, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "glm": Shape(67, 48, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "glm4": Shape(67, 48, 2, 6, 48, num_kv_heads=2, hidden_dim=44),
    "gpt1": Shape(67, 35, 2, 5, 48),
    "gpt2": Shape(67, 35, 2, 5, 48, hidden_dim=52),
    "gpt2-untied": Shape(67, 35, 2, 5, 48, tied=False),
}


@pytest.fixture
def warnings_of_transformers() -> Iterator[list[str]]:
    """Collect what transformers logs at warning level or above."""
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


def scrambled(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give every parameter its own noise, also norms and biases, so that no mistake hides behind 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def draw_ids(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(3, 67, shape, generator=torch.Generator().manual_seed(seed))


def saved_by_transformers(name: str, seed: int, directory: Path, **options: object) -> torch.nn.Module:
    config = THEIRS[name]()
    model = scrambled(transformers.AutoModelForCausalLM.from_config(config), seed)
    if hasattr(model.config, "num_local_experts") or hasattr(model.config, "n_routed_experts"):
        model.set_experts_implementation("eager")  # their fast one asks for even sizes
    model.save_pretrained(directory, **options)
    return model


def ours(name: str, seed: int = 3) -> Transformer:
    return scrambled(build(spec_for(name.split("-")[0], OURS[name]), seed=seed), seed)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(THEIRS))
def test_their_checkpoint_gives_the_same_logits_here(name, seed, tmp_path):
    theirs = saved_by_transformers(name, seed, tmp_path)
    model, ids = load_model(tmp_path), draw_ids(seed, 3, 17)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)
    assert model.spec.token_ids == TokenIds(1, (2,), 0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_their_sharded_checkpoint_loads(name, tmp_path):
    theirs = saved_by_transformers(name, 0, tmp_path, max_shard_size="10KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    ids = draw_ids(0, 2, 9)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path)(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_loss_and_gradients_equal_theirs(name, tmp_path):
    theirs = saved_by_transformers(name, 0, tmp_path)
    model, ids = load_model(tmp_path), draw_ids(0, 3, 17)
    their_loss = theirs(ids, labels=ids).loss
    logits = model(ids).logits
    our_loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(our_loss, their_loss, atol=1e-5, rtol=1e-5)
    (their_gradient,) = torch.autograd.grad(their_loss, [theirs.get_input_embeddings().weight])
    (our_gradient,) = torch.autograd.grad(our_loss, [model.token_embedding.weight])
    torch.testing.assert_close(our_gradient, their_gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_checkpoint_loads_there_without_a_word_and_speaks_the_same(name, tmp_path, warnings_of_transformers):
    model, ids = ours(name), draw_ids(5, 2, 17)
    save_model(model, tmp_path, token_ids=TokenIds(None, (1, 2), 0))
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert {key: set(value) for key, value in report.items() if value} == {}
    assert warnings_of_transformers == []
    assert type(theirs).__name__ == theirs.config.architectures[0]
    assert theirs.generation_config.eos_token_id == [1, 2]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(OURS))
def test_greedy_text_is_identical(name, tmp_path):
    model, ids = ours(name), draw_ids(5, 1, 8)
    save_model(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    expected = theirs.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[0, 8:].tolist()
    cache, found, new = KVCache.allocate(model.spec, 1, 48), [], ids
    with torch.no_grad():
        while len(found) < 40:
            new = model(new, cache=cache).logits[:, -1:].argmax(-1)
            found.append(new.item())
    assert found == expected


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_left_padding_equals_theirs(name, tmp_path):
    theirs = saved_by_transformers(name, 0, tmp_path)
    model, ids = load_model(tmp_path), draw_ids(0, 2, 9)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, position_ids=positions).logits
        found = model(ids, segments=mask).logits
    torch.testing.assert_close(found[mask > 0], expected[mask > 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_file_after_a_round_trip_there_holds_the_same_tensors(name, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    model = ours(name)
    save_model(model, one)
    transformers.AutoModelForCausalLM.from_pretrained(one).save_pretrained(two)
    theirs = dict(load_model(two).named_parameters())
    assert all(torch.equal(theirs[key], parameter) for key, parameter in model.named_parameters())


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_cached_equals_uncached(name, tmp_path):
    saved_by_transformers(name, 1, tmp_path)
    model, ids = load_model(tmp_path), draw_ids(1, 2, 17)
    cache = KVCache.allocate(model.spec, 2, 17)
    with torch.no_grad():
        pieces = [model(piece, cache=cache).logits for piece in ids.split([6, 1, 1, 7, 2], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_saving_what_was_loaded_gives_the_same_bytes(name, tmp_path):
    saved_by_transformers(name, 0, tmp_path)
    folders = [tmp_path / "one", tmp_path / "two"]
    for source, target in zip([tmp_path, folders[0]], folders, strict=True):
        target.mkdir()
        save_model(load_model(source), target)
    for file in ("model.safetensors", "config.json"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
