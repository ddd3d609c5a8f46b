"""Whole models in 4 bits: who is swapped, what is refused, and how little memory loading one takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from smelt.core.errors import CheckpointError, ConfigError, UsageError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model, save_model
from smelt.models.transformer import Transformer
from smelt.nn.surgery import linear_names, swap
from smelt.quant.linear import NF4Linear
from smelt.quant.model import quantize_base, quantize_model, restore_plain


def tiny(family: str = "llama") -> Transformer:
    model = build(spec_for(family, Shape(61, 32, 2, 4, 16)), seed=1)
    assert isinstance(model, Transformer)
    return model.eval()


def ids() -> torch.Tensor:
    return torch.randint(61, (2, 12), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "gemma"])
def test_the_base_is_every_linear_layer_of_the_blocks(family: str) -> None:
    model = tiny(family)
    names = linear_names(model)
    quantize_base(model)
    quantized = [name for name, module in model.named_modules() if isinstance(module, NF4Linear)]
    assert quantized == names and linear_names(model) == names
    assert all(parameter.ndim == 1 for parameter in model.blocks.parameters())  # norms and biases
    assert isinstance(model.token_embedding, nn.Embedding)


def test_logits_are_those_of_the_dequantized_weights() -> None:
    model = tiny()
    before = model(ids()).logits
    quantize_base(model)
    quantized = model(ids()).logits
    restore_plain(model)
    assert not [module for module in model.modules() if isinstance(module, NF4Linear)]
    torch.testing.assert_close(model(ids()).logits, quantized, atol=1e-5, rtol=1e-5)
    assert 0 < (quantized - before).abs().mean() < 0.3 * before.std()


def test_patterns_choose() -> None:
    model = tiny()
    quantize_model(model, ["blocks.1.*", "query"])
    kinds = {name: type(model.get_submodule(name)) for name in linear_names(model)}
    assert all((kind is NF4Linear) == ("blocks.1" in name or "query" in name) for name, kind in kinds.items())
    with pytest.raises(ConfigError, match="layers to quantize: 'querry' matches nothing"):
        quantize_model(tiny(), ["querry"])


def test_a_model_that_is_quantized_already_is_refused() -> None:
    model = tiny()
    quantize_base(model)
    with pytest.raises(ConfigError) as caught:
        quantize_base(model)
    assert str(caught.value) == (
        "blocks.0.attention.query is a NF4Linear: the model is quantized or has an adapter already\n"
        "accepted: a model with plain weights\n"
        "try: load the checkpoint in 16 bits, quantize it, and add adapters last"
    )


def test_a_model_that_is_quantized_otherwise_is_refused_untouched() -> None:
    class Int8Linear(nn.Module):
        in_features, out_features = 32, 32

    model = tiny()
    swap(model, "blocks.1.attention.key", Int8Linear())
    with pytest.raises(ConfigError, match=r"blocks\.1\.attention\.key is a Int8Linear"):
        quantize_base(model)
    assert not [module for module in model.modules() if isinstance(module, NF4Linear)]


def test_a_checkpoint_that_is_quantized_otherwise_is_refused(tmp_path: Path) -> None:
    save_model(tiny(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="quantization_config is not supported"):
        load_model(tmp_path)


def test_experts_are_refused() -> None:
    model = tiny("mixtral")
    with pytest.raises(ConfigError, match=r"blocks\.0\.feed_forward is a mixture of experts, which NF4 does not cover"):
        quantize_base(model)


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = tiny()
    with torch.no_grad():
        model.get_submodule("blocks.1.attention.value").weight[0, 0] = float("nan")
    with pytest.raises(UsageError, match=r"blocks\.1\.attention\.value: weights that are not finite, in 4 bits"):
        quantize_base(model)


def test_a_mapped_checkpoint_stays_whole_and_loses_its_pages(tmp_path: Path) -> None:
    """The file and other models that map it are not changed by giving pages back."""
    save_model(tiny().bfloat16(), tmp_path)
    one, other = (load_model(tmp_path, dtype="auto") for _ in range(2))
    expected = other(ids()).logits
    weight = one.get_submodule("blocks.0.attention.query").weight.detach()
    before = weight.clone()
    quantize_base(one)
    assert torch.equal(weight, before)
    assert torch.equal(other(ids()).logits, expected)


PROBE = """
import sys
from pathlib import Path
from smelt.core import runtime
from smelt.models.hub import load_model
from smelt.quant.model import quantize_base

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024

quantize_base(load_model(sys.argv[1], dtype="auto"))  # loads what is compiled
before, mapped = memory("VmHWM"), memory("RssFile")
model = load_model(sys.argv[2], dtype="auto")
quantize_base(model)
print(memory("VmHWM") - before, memory("RssFile") - mapped)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_in_4_bits_never_holds_a_model_twice(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, shape in ((small, Shape(61, 64, 1, 2, 16)), (large, Shape(64, 1024, 8, 8, 16))):
        folder.mkdir()
        save_model(build(spec_for("llama", shape), seed=1).bfloat16(), folder)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(small), str(large)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    file_bytes = (large / "model.safetensors").stat().st_size  # about 200 MB
    assert file_bytes > 1.5e8
    most, mapped = (int(word) / file_bytes for word in done.stdout.split())
    assert most < 1.35  # pages of the file that were in memory anyway count; beside them, a layer in fp32
    assert mapped < 0.3, done.stdout  # what was read layer by layer was given back
