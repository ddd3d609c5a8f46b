"""The command line that hands a checkpoint to vLLM, and what it has no word for."""

import sys
from pathlib import Path

import pytest

from smelt.core.errors import UsageError
from smelt.infer import EngineSettings
from smelt.serve import vllm


def test_the_flags_become_vllms():
    settings = EngineSettings(max_running=8, cache_tokens=1000, weights="bf16")
    found = vllm.command(Path("run/last"), "books", "127.0.0.1", 8001, settings, {"poet": Path("a/b")})
    assert found[:5] == [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", "run/last"]
    pairs = dict(zip(found[5:-3:2], found[6:-3:2], strict=True))
    assert pairs == {
        "--served-model-name": "books", "--host": "127.0.0.1", "--port": "8001", "--dtype": "bfloat16",
        "--max-num-seqs": "8", "--block-size": "16", "--num-gpu-blocks-override": "63",
    }  # fmt: skip
    assert found[-3:] == ["--enable-lora", "--lora-modules", "poet=a/b"]
    plain = vllm.command(Path("run/last"), "books", "127.0.0.1", 8001, EngineSettings(), {})
    assert "--enable-lora" not in plain and "--num-gpu-blocks-override" not in plain and "auto" in plain


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": "int8"}, r"--weights int8 with vLLM\naccepted: bf16, fp32, or as the model has them"),
        ({"cache_dtype": "int8"}, "--cache-dtype int8 with vLLM"),
    ],
)
def test_what_vllm_does_not_have_is_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        vllm.command(Path("run"), "books", "127.0.0.1", 8000, EngineSettings(**settings), {})


def test_an_adapter_is_to_stand_beside_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="is an adapter, and vLLM serves adapters beside their base"):
        vllm.command(tmp_path, "mine", "127.0.0.1", 8000, EngineSettings(), {})


def test_a_machine_without_vllm_is_told_so(monkeypatch):
    monkeypatch.setattr(vllm, "available", lambda name: False)
    with pytest.raises(UsageError, match="vLLM is not installed here"):
        vllm.become_vllm(["python", "-m", "vllm"])


def test_the_process_becomes_vllms(monkeypatch):
    monkeypatch.setattr(vllm, "available", lambda name: True)
    became = []
    monkeypatch.setattr(vllm.os, "execv", lambda path, arguments: became.append((path, arguments)))
    vllm.become_vllm(["python", "-m", "vllm"])
    assert became == [("python", ["python", "-m", "vllm"])]
