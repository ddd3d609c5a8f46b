"""Virtual tokens beside their oracle: the same embeddings as the first tokens of every text, one text a row."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import CheckpointError, ConfigError, UsageError
from smelt.infer import Sampling, generate
from smelt.models.build import build
from smelt.models.families import FAMILIES, Shape, spec_for
from smelt.nn.cache import KVCache
from smelt.peft.methods import METHODS
from smelt.tokenizers.bpe_train import train_bpe

NUMBER, VOCABULARY, CONTEXT = 3, 41, 32
PARTS = ("weight", "bias")
SHAPE = Shape(VOCABULARY, 24, 3, 4, CONTEXT)
SPECS = {
    "llama": lambda: spec_for("llama", replace(SHAPE, num_kv_heads=2)),
    "gpt2": lambda: spec_for("gpt2", SHAPE),
    "window": lambda: windowed(spec_for("llama", replace(SHAPE, num_kv_heads=2)), 5),
    "softcap": lambda: windowed(FAMILIES["gemma2"].make(replace(SHAPE, num_kv_heads=2)), 6),
    "mixture": lambda: spec_for("mixtral", replace(SHAPE, num_kv_heads=2)),
    "latent": lambda: spec_for("deepseek_v2", SHAPE),
}
EVERY = [(kind, way) for kind in SPECS for way in ("prompt", "prefix") if (kind, way) != ("latent", "prefix")]


def windowed(spec, window):
    layers = tuple(replace(layer, attention=replace(layer.attention, window=window)) for layer in spec.layers)
    return replace(spec, layers=layers)


def base_of(kind):
    model = build(SPECS[kind](), seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)  # or else no token is any likelier than another
    return model


def tuned(kind, way, *, seed=1, number=NUMBER, **settings):
    model = base_of(kind)
    method = METHODS[way]
    method.attach(model, method.settings(num_virtual_tokens=number, **settings), seed)
    return model


def drawn_ids(number=NUMBER, seed=1):
    """Return the tokens that prompts and prefixes are drawn from."""
    return torch.randint(VOCABULARY, (number,), generator=torch.Generator().manual_seed(seed))


def some_ids(rows, length, seed=3):
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def behind_real_tokens(kind, ids):
    """Return the logits of texts (B, T) behind the drawn tokens, as the base computes them."""
    first = drawn_ids().expand(len(ids), -1)
    with torch.no_grad():
        return base_of(kind)(torch.cat((first, ids), dim=1)).logits[:, NUMBER:]


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "way"), EVERY)
def test_virtual_tokens_are_as_real_ones_before_each_text(kind, way):
    ids = some_ids(2, 11)
    with torch.no_grad():
        logits = tuned(kind, way)(ids).logits
    assert logits.shape == (2, 11, VOCABULARY)
    close(logits, behind_real_tokens(kind, ids))
    with torch.no_grad():
        assert not torch.allclose(logits, base_of(kind)(ids).logits, atol=1e-2)


@pytest.mark.parametrize(("kind", "way"), EVERY)
def test_each_text_of_a_packed_row_has_them(kind, way):
    ids, segments = some_ids(2, 11), torch.tensor([[1] * 4 + [2] * 7, [1] * 8 + [2] * 2 + [0]])
    with torch.no_grad():
        logits = tuned(kind, way)(ids, segments=segments).logits
    for row, text in ((0, slice(0, 4)), (0, slice(4, 11)), (1, slice(0, 8)), (1, slice(8, 10))):
        close(logits[row, text], behind_real_tokens(kind, ids[row : row + 1, text])[0])


@pytest.mark.parametrize(("kind", "way"), EVERY)
def test_padding_on_the_left_changes_nothing_with_a_cache_and_without(kind, way):
    model, ids = tuned(kind, way), some_ids(2, 12)
    segments = torch.tensor([[0] * 5 + [1] * 7, [1] * 12])
    expected = behind_real_tokens(kind, ids[:1, 5:])[0], behind_real_tokens(kind, ids[1:])[0]
    cache = KVCache.allocate(model.spec, 2, 12)
    with torch.no_grad():
        whole = model(ids, segments=segments).logits
        parts = [model(ids[:, :8], segments=segments[:, :8], cache=cache).logits]
        parts += [model(ids[:, place : place + 1], cache=cache).logits for place in range(8, 12)]
    for logits in (whole, torch.cat(parts, dim=1)):
        close(logits[0, 5:], expected[0])
        close(logits[1], expected[1])


@pytest.mark.parametrize("kind", ["llama", "window"])
def test_long_rows_whose_masks_are_rules(kind):
    spec = replace(SPECS[kind](), max_seq_len=1100)
    ids, segments = some_ids(1, 1040), torch.tensor([[1] * 30 + [2] * 1010])
    model = build(spec, seed=0).eval()
    with torch.no_grad():
        expected = model(torch.cat((drawn_ids()[None], ids[:, 30:]), dim=1)).logits[0, NUMBER:]
        METHODS["prefix"].attach(model, METHODS["prefix"].settings(num_virtual_tokens=NUMBER), 1)
        found = model(ids, segments=segments).logits[0, 30:]
    close(found, expected)


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(["a"], vocab_size=259)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(("kind", "way"), [(kind, way) for kind, way in EVERY if kind != "softcap"])
def test_answers_are_those_of_the_base_behind_real_tokens(kind, way, num_beams, tokenizer):
    first, prompts = drawn_ids().tolist(), [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14]]
    sampling = Sampling(max_new_tokens=8, temperature=0, num_beams=num_beams)
    expected = generate(base_of(kind), tokenizer, [first + prompt for prompt in prompts], sampling)
    found = generate(tuned(kind, way), tokenizer, prompts, sampling)
    assert [answer.ids for answer in found] == [answer.ids for answer in expected]
    assert len({id_ for answer in found for id_ in answer.ids}) > 1


def gradients(model, ids, **options):
    model.zero_grad()
    model(ids, **options).logits.float().square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(
    ("way", "settings", "wanted"),
    [
        ("prompt", {}, {"rows"}),
        ("p-tuning", {"encoder": "mlp"}, {"rows", *(f"encoder.{at}.{part}" for at in "024" for part in PARTS)}),
        ("prefix", {}, {"rows"}),
        ("prefix", {"projection": True}, {"rows", *(f"encoder.{at}.{part}" for at in "02" for part in PARTS)}),
    ],
)
def test_only_what_was_added_has_gradients_and_checkpointing_changes_none(way, settings, wanted):
    model, ids = tuned("llama", way, **settings).train(), some_ids(2, 9)
    found = gradients(model, ids)
    assert found.keys() == {f"prefix.{name}" for name in wanted}
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == found.keys()
    assert all(bool((part != 0).any()) for part in found.values())
    model.gradient_checkpointing = True
    for name, again in gradients(model, ids).items():
        torch.testing.assert_close(again, found[name])


@pytest.mark.parametrize("way", METHODS)
def test_narrow_numbers_under_autocast_and_in_a_narrow_model(way):
    model, ids = tuned("llama", way), some_ids(2, 9)
    with torch.no_grad():
        expected = model(ids).logits
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids).logits
        logits.float().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - expected).abs().max() < 0.05 * expected.abs().max()
    narrow = model.to(torch.bfloat16)(ids).logits
    assert (narrow.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("way", METHODS)
def test_compiled_blocks_give_the_same(way):
    model, ids = tuned("llama", way), some_ids(2, 9)
    expected = gradients(model, ids)
    for block in model.blocks:
        block.compile()
    for name, found in gradients(model, ids).items():
        torch.testing.assert_close(found, expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way", ["prompt", "prefix", "p-tuning"])
def test_the_same_seed_draws_the_same_and_leaves_the_common_numbers_alone(way):
    settings = {} if way == "p-tuning" else {"initial": "random"}
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    one, two, other = (tuned("gpt2", way, seed=seed, **settings).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("way", "settings"), [("p-tuning", {}), ("prefix", {"projection": True})])
def test_a_file_holds_what_the_encoder_made_and_needs_none(way, settings):
    model, ids = tuned("llama", way, **settings), some_ids(2, 9)
    method = METHODS[way]
    tensors = method.tensors(model)
    assert set(tensors) == {"prompt_embeddings"}
    fresh = base_of("llama")
    method.attach(fresh, method.read(method.config(model, method.settings(num_virtual_tokens=NUMBER)), fresh.spec), 7)
    method.fill(fresh, tensors)
    assert [name for name, parameter in fresh.named_parameters() if parameter.requires_grad] == ["prefix.rows"]
    close(fresh(ids).logits, model(ids).logits)


def test_an_encoder_may_have_a_prefix_seen_from_both_sides():
    model = build(spec_for("bert", SHAPE), seed=0).eval()
    METHODS["prefix"].attach(model, METHODS["prefix"].settings(num_virtual_tokens=NUMBER, initial="random"), 1)
    ids = some_ids(1, 10)
    with torch.no_grad():
        alone = model(ids[:, :6]).hidden
        padded = model(ids, segments=torch.tensor([[1] * 6 + [0] * 4])).hidden[:, :6]
        close(padded, alone)
        model.prefix = None
        assert not torch.allclose(model(ids[:, :6]).hidden, alone, atol=1e-3)


def test_a_text_has_the_room_that_virtual_tokens_leave(tokenizer):
    model = tuned("gpt2", "prefix")
    assert (model.num_virtual_tokens, model.max_text_tokens) == (NUMBER, CONTEXT - NUMBER)
    ids = some_ids(1, CONTEXT - NUMBER + 1)
    message = r"^30 tokens behind 3 virtual ones in a context of 32\naccepted: at most 29 tokens\n"
    with pytest.raises(UsageError, match=message):
        model(ids)
    with pytest.raises(UsageError, match=message):
        model(ids, positions=torch.arange(CONTEXT - NUMBER + 1)[None])
    model(ids[:, 1:])
    (answer,) = generate(model, tokenizer, [ids[0, 5:].tolist()], Sampling(max_new_tokens=20, temperature=0))
    assert (len(answer.ids), answer.finish_reason) == (4, "length")
    with pytest.raises(UsageError, match=r"context holds 29"):
        generate(model, tokenizer, [ids[0].tolist()], Sampling(max_new_tokens=1))


def alibi():
    spec = SPECS["llama"]()
    layers = tuple(replace(layer, attention=replace(layer.attention, alibi=True)) for layer in spec.layers)
    return replace(spec, layers=layers)


@pytest.mark.parametrize(
    ("way", "make", "message"),
    [
        ("prompt", lambda: spec_for("bert", SHAPE), r"method=prompt: this bert model reads text both ways"),
        ("p-tuning", lambda: spec_for("bert", SHAPE), r"method=p-tuning: this bert model reads text both ways"),
        ("prefix", SPECS["latent"], r"method=prefix: this deepseek_v2 model makes keys and values of a latent"),
        ("prefix", alibi, r"method=prefix: this llama model adds a bias of distances"),
        (
            "prompt",
            lambda: spec_for("chatglm6b", replace(SHAPE, dim=32)),
            r"method=prompt: this chatglm6b model reads a context both",
        ),
    ],
)
def test_models_that_cannot_have_them_are_refused(way, make, message):
    model = build(make(), seed=0)
    with pytest.raises(ConfigError, match=message + r"(.|\n)*accepted: a decoder(.|\n)*try: tune.method=lora"):
        METHODS[way].attach(model, METHODS[way].settings(), 0)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_too_many_and_twice_are_refused():
    with pytest.raises(ConfigError, match=r"prompt: 31 virtual tokens in a context of 32\naccepted: 1 to 30"):
        tuned("gpt2", "prompt", number=31)
    model = tuned("gpt2", "prompt")
    with pytest.raises(ConfigError, match=r"prefix: the model has virtual tokens already\ntry: tune the base"):
        METHODS["prefix"].attach(model, METHODS["prefix"].settings(), 0)


@pytest.mark.parametrize(
    ("way", "settings", "message"),
    [
        ("p-tuning", {"encoder": "mlp", "num_layers": 3}, "those of encoder=lstm"),
        ("p-tuning", {"num_layers": 1, "dropout": 0.1}, "dropout is between layers"),
        ("prefix", {"hidden_dim": 9}, "that of projection=true"),
    ],
)
def test_settings_that_nothing_would_look_at_are_refused(way, settings, message):
    with pytest.raises(ValueError, match=message):
        METHODS[way].settings(**settings)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, r"with the tensors none\naccepted: prompt_embeddings"),
        ({"prompt_embeddings": torch.zeros(3, 24), "more": torch.zeros(1)}, r"tensors more, prompt_embeddings\n"),
        (
            {"prompt_embeddings": torch.zeros(2, 24)},
            r"\(2, 24\) for 3 virtual tokens of this model\naccepted: \(3, 24\)",
        ),
    ],
)
def test_files_with_other_tensors_are_refused(tensors, message):
    with pytest.raises(CheckpointError, match=message):
        METHODS["prompt"].fill(tuned("llama", "prompt"), tensors)


@pytest.mark.parametrize(
    ("way", "change", "message"),
    [
        ("prompt", {"token_dim": 23}, r"token_dim = 23 in adapter_config.json\naccepted: 24, which this model has"),
        ("prefix", {"num_layers": 2}, r"num_layers = 2 in"),
        ("prefix", {"num_attention_heads": 4}, r"num_attention_heads = 4 in"),
        ("prompt", {"num_transformer_submodules": 2}, r"num_transformer_submodules = 2 in"),
        ("prompt", {"num_virtual_tokens": 0}, r"num_virtual_tokens = 0 in adapter_config.json\naccepted: 1 or more"),
        ("prompt", {"modules_to_save": ["score"]}, r"modules_to_save = \['score'\] in"),
        ("prefix", {"unheard_of": 1}, r"unheard_of = 1 in adapter_config.json\naccepted: a file without it"),
        ("p-tuning", {"encoder_reparameterization_type": "GRU"}, r"describes no encoder"),
    ],
)
def test_files_that_ask_for_something_else_are_refused(way, change, message):
    model, method = tuned("llama", way), METHODS[way]
    config = method.config(model, method.settings(num_virtual_tokens=NUMBER))
    assert method.read(config, model.spec).num_virtual_tokens == NUMBER
    with pytest.raises(CheckpointError, match=message):
        method.read({**config, **change}, model.spec)
