"""The plain NumPy models: they agree with the torch models through the files, and refuse what they cannot compute."""

import ast
import doctest
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from smelt.core.errors import CheckpointError
from smelt.models import oracle
from smelt.models.build import build
from smelt.models.families import Shape, gpt2, llama
from smelt.models.hub import load_model, save_model
from smelt.nn.scaling import LinearScaling, RampScaling, WavelengthScaling
from smelt.nn.spec import RotarySpec

PAGE = Path(__file__).parents[2] / "docs" / "numpy-walkthrough.md"
IDS = [3, 60, 7, 7, 0, 41, 22, 9, 60, 1, 35, 18, 4]
SMALL = Shape(61, 20, 2, 5, 40, hidden_dim=28)  # GPT-2: five heads of size 4, a hidden width that is not 4 D
SHARED = Shape(61, 24, 2, 6, 40, num_kv_heads=2, hidden_dim=36)  # Llama: three query heads to a kv head
TIED = Shape(61, 24, 2, 6, 40, hidden_dim=36, tied=True)
SPECS = {
    "gpt2": gpt2.make(SMALL),
    "gpt2-relu": gpt2.make(SMALL, activation="relu", eps=1e-3),
    "gpt2-untied": gpt2.make(Shape(61, 20, 2, 5, 40, tied=False)),
    "llama": llama.make(SHARED, eps=1e-3),
    "llama-tied": llama.make(TIED),
    "llama-biased": llama.make(SHARED, attention_bias=True, feed_forward_bias=True),
    "llama-wide-heads": llama.make(SHARED, head_dim=10),
    "llama-base": llama.make(SHARED, rotary=RotarySpec(4, 777.0)),
    "llama-linear": llama.make(SHARED, rotary=RotarySpec(4, scaling=LinearScaling(3.0))),
    # Eight pairs at 12 tokens: some are kept, some divided, some between.
    "llama-wavelength": llama.make(
        SHARED, head_dim=16, rotary=RotarySpec(16, 50.0, scaling=WavelengthScaling(4.0, 12, 0.2, 1.5))
    ),
}


def saved(spec, directory):
    """Save a model whose parameters are all noisy, so that no norm is 1 and no bias 0."""
    model, generator = build(spec, seed=7), torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    save_model(model, directory)
    return model


def fast_logits(model):
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0].numpy()


def edit_config(directory, **changes):
    path = directory / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in config.items() if value != "absent"}))


def refused(directory):
    with pytest.raises(CheckpointError) as caught:
        oracle.logits(directory, IDS)
    return str(caught.value).replace(f"{directory}", "DIR")


@pytest.mark.parametrize("name", sorted(SPECS))
def test_fast_and_plain_agree(name, tmp_path):
    expected = fast_logits(saved(SPECS[name], tmp_path))
    found = oracle.logits(tmp_path, IDS)
    assert (found.shape, found.dtype) == ((len(IDS), 61), np.float64)
    assert np.abs(expected).max() > 1  # a comparison of numbers near zero would prove nothing
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["gpt2-untied", "llama"])
def test_shards_are_read_by_their_index(name, tmp_path):
    saved(SPECS[name], tmp_path)
    expected = oracle.logits(tmp_path, IDS)
    tensors, placement = load_file(tmp_path / "model.safetensors"), {}
    for part in range(3):
        names = sorted(tensors)[part::3]
        save_file({name: tensors[name] for name in names}, tmp_path / f"part-{part}.safetensors")
        placement |= dict.fromkeys(names, f"part-{part}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placement}))
    (tmp_path / "model.safetensors").unlink()
    np.testing.assert_array_equal(oracle.logits(tmp_path, IDS), expected)


@pytest.mark.parametrize(("name", "prefix"), [("gpt2", "transformer."), ("llama-tied", "model.")])
def test_names_without_the_prefix_are_read_too(name, prefix, tmp_path):
    saved(SPECS[name], tmp_path)
    expected = oracle.logits(tmp_path, IDS)
    file = tmp_path / "model.safetensors"
    bare = {name.removeprefix(prefix): tensor for name, tensor in load_file(file).items()}
    assert not any(name.startswith(prefix) for name in bare)
    save_file(bare, file)
    np.testing.assert_array_equal(oracle.logits(tmp_path, IDS), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_other_number_types_are_widened(name, dtype, tmp_path):
    save_model(saved(SPECS[name], tmp_path).to(dtype), tmp_path)
    expected = fast_logits(load_model(tmp_path, dtype=torch.float32))
    np.testing.assert_allclose(oracle.logits(tmp_path, IDS), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama-base", "llama-linear", "llama-wavelength"])
def test_rotary_settings_are_read_from_either_place(name, tmp_path):
    saved(SPECS[name], tmp_path)
    expected = oracle.logits(tmp_path, IDS)
    edit_config(tmp_path, rope_parameters="absent")  # older: rope_theta and rope_scaling remain
    np.testing.assert_array_equal(oracle.logits(tmp_path, IDS), expected)
    scaling = json.loads((tmp_path / "config.json").read_text()).get("rope_scaling") or {"rope_type": "default"}
    kind, theta = scaling.pop("rope_type"), SPECS[name].layers[0].attention.rotary.theta
    edit_config(tmp_path, rope_scaling={**scaling, "type": kind})  # older still
    np.testing.assert_array_equal(oracle.logits(tmp_path, IDS), expected)
    newer = {**scaling, "rope_type": kind, "rope_theta": theta}
    edit_config(tmp_path, rope_theta="absent", rope_scaling="absent", rope_parameters=newer)
    np.testing.assert_array_equal(oracle.logits(tmp_path, IDS), expected)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (gpt2.make(SMALL), ("layer_norm_epsilon", "activation_function", "tie_word_embeddings", "n_inner")),
        (
            llama.make(Shape(61, 24, 2, 6, 40, hidden_dim=36), eps=1e-6),
            ("head_dim", "rope_theta", "rope_parameters", "rms_norm_eps", "tie_word_embeddings", "attention_bias"),
        ),
    ],
    ids=["gpt2", "llama"],
)
def test_settings_left_out_have_the_published_defaults(spec, names, tmp_path):
    saved(spec, tmp_path)
    expected = oracle.logits(tmp_path, IDS)
    edit_config(tmp_path, **dict.fromkeys(names, "absent"))
    np.testing.assert_array_equal(oracle.logits(tmp_path, IDS), expected)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_comes_after_changes_nothing_before(name, tmp_path):
    saved(SPECS[name], tmp_path)
    whole, begun = oracle.logits(tmp_path, IDS), oracle.logits(tmp_path, IDS[:5])
    np.testing.assert_allclose(whole[:5], begun, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"model_type": "mamba"}, "model_type = 'mamba' is not supported\naccepted: 'gpt2', 'llama'"),
        ("llama", {"model_type": "absent"}, "DIR: 'model_type' is missing or unknown"),
        (
            "gpt2",
            {"activation_function": "silu"},
            "activation_function = 'silu' is not supported\naccepted: 'gelu_new',",
        ),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True is not supported"),
        ("gpt2", {"tie_word_embeddings": False}, "DIR: 'lm_head.weight' is missing or unknown"),
        ("gpt2", {"n_layer": "absent"}, "DIR: 'n_layer' is missing or unknown\ntry: use the published files"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported\naccepted: 'silu'"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4} is not supported"),
        ("llama", {"attention_bias": True}, "DIR: 'layers.0.self_attn.q_proj.bias' is missing or unknown"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "longrope"}},
            "rope_type = 'longrope' is not supported\naccepted: 'default', 'linear', 'llama3'",
        ),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, "DIR: 'factor' is missing or unknown"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5 is not supported"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(name, changes, message, tmp_path):
    saved(SPECS[name], tmp_path)
    edit_config(tmp_path, **changes)
    assert message in refused(tmp_path)


def test_the_ramp_is_refused_by_its_published_name(tmp_path):
    saved(llama.make(SHARED, rotary=RotarySpec(4, scaling=RampScaling(4.0, 12))), tmp_path)
    assert "rope_type = 'yarn' is not supported" in refused(tmp_path)


def test_quantized_numbers_are_refused(tmp_path):
    saved(SPECS["llama"], tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.astype(np.int8) for name, tensor in load_file(file).items()}, file)
    assert refused(tmp_path).startswith("DIR: 'I8' is missing or unknown")


def test_the_witness_imports_nothing_that_it_is_to_judge():
    tree = ast.parse(inspect.getsource(oracle))
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert plain | parts == {"json", "pathlib", "typing", "numpy", "safetensors", "smelt.core.errors"}


def test_the_witness_stays_short():
    assert len(inspect.getsource(oracle).splitlines()) < 120


def test_the_page_quotes_the_file():
    quotes = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(quotes) > 10
    assert [quote for quote in quotes if quote not in inspect.getsource(oracle)] == []


def test_the_page_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8").replace("```", "")  # a fence would be taken for output
    example = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    said: list[str] = []
    with np.printoptions():
        result = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert result.attempted > 50
    assert not result.failed, "".join(said)
