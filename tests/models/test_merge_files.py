"""Checkpoints merged file to file: the formulas tensor by tensor, whatever the layout, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from smelt.core.errors import CheckpointError, UsageError
from smelt.core.storage import sha256_file, verify_directory
from smelt.models import merge_files, merging
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.models.merge_files import Merge, merge_checkpoints
from smelt.models.transformer import Transformer
from smelt.nn.spec import TokenIds
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.pipeline import Pipeline

from .conftest import scrambled

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, byte_tokenizer: Pipeline) -> Make:
    """Return a maker of checkpoints that differ in their numbers: make("one", seed=1)."""

    def call(
        name: str,
        *,
        seed: int,
        family: str = "llama",
        dtype: torch.dtype = torch.float32,
        tokenizer: Pipeline | None = None,
        **changes: int,
    ) -> Path:
        sizes = {"num_kv_heads": 2 if family == "llama" else None, **changes}
        shape = replace(Shape(262, 24, 2, 6, 40), **sizes)
        stops = (258, 256)
        spec = replace(spec_for(family, shape), token_ids=TokenIds(None, stops, 256))
        model = scrambled(build(spec, seed=seed)).to(dtype)
        save(model, tokenizer or byte_tokenizer, tmp_path / name, lineage={"stage": "sft", "step": 3})
        return tmp_path / name

    return call


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load(path)[0].named_parameters())


def merge(paths: list[Path], out: Path, method: str, base: Path | None = None, **settings: object) -> None:
    merge_checkpoints(paths, out, Merge.of(method, len(paths), has_base=base is not None, **settings), base=base)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_tensor_is_what_the_formula_says(make: Make, tmp_path: Path, family: str) -> None:
    one, two, base = (make(str(seed), seed=seed, family=family) for seed in (1, 2, 3))
    first, second, origin = weights(one), weights(two), weights(base)
    merge([one, two], tmp_path / "linear", "linear", weights=[3, 1])
    merge([one, two], tmp_path / "slerp", "slerp", weights=[0.8, 0.2])
    merge([one, two], tmp_path / "ties", "ties", base, density=1.0, scale=0.5)
    merge([one], tmp_path / "task", "task", base, weights=[-1])
    found = {name: weights(tmp_path / name) for name in ("linear", "slerp", "ties", "task")}
    for name, tensor in first.items():
        pair = [tensor, second[name]]
        expected = {
            "linear": 0.75 * tensor + 0.25 * second[name],
            "ties": merging.ties(origin[name], pair, [1, 1], 1.0, 0.5),
            "task": 2 * origin[name] - tensor,
        }
        for method, wanted in expected.items():
            torch.testing.assert_close(found[method][name], wanted, rtol=1e-5, atol=1e-6)
    # Published tensors may be fused, and an angle is that of a whole one; so slerp is compared in the files.
    stored = [load_file(path / "model.safetensors") for path in (one, two, tmp_path / "slerp")]
    for name, tensor in stored[0].items():
        wanted = merging.slerp(tensor, stored[1][name], 0.2, merging.angle_between(tensor, stored[1][name]))
        torch.testing.assert_close(stored[2][name], wanted, rtol=1e-6, atol=1e-6)


def test_a_merge_is_a_whole_artefact_that_says_what_it_is(make: Make, tmp_path: Path) -> None:
    one, two, base = make("one", seed=1), make("two", seed=2), make("base", seed=3)
    out = tmp_path / "out"
    settings = Merge.of("ties", 2, weights=[2, 1], has_base=True, density=0.5)
    calls: list[tuple[int, int]] = []
    merged = merge_checkpoints([one, two], out, settings, base=base, on_progress=lambda *at: calls.append(at))
    verify_directory(out)
    lineage = json.loads((out / "smelt.json").read_text())
    assert lineage["stage"] == "merge" and lineage["parents"] == merged.parents
    assert lineage["merge"] == {"method": "ties", "weights": [2, 1], "density": 0.5, "scale": 1.0}
    assert [(parent["path"], parent["role"]) for parent in lineage["parents"]] == [
        (str(one), "merged"),
        (str(two), "merged"),
        (str(base), "base"),
    ]
    assert lineage["parents"][1]["weights_sha256"] == sha256_file(two / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (one / name).read_bytes()
    assert calls[-1] == (merged.num_tensors, merged.num_tensors) and merged.dtype == "float32"
    assert merged.num_parameters == sum(tensor.numel() for tensor in weights(out).values())


def test_the_widest_type_stays_and_the_sum_is_taken_in_fp32(make: Make, tmp_path: Path) -> None:
    one, two = make("one", seed=1, dtype=torch.bfloat16), make("two", seed=2, dtype=torch.bfloat16)
    full = make("full", seed=2)
    merge([one, two], tmp_path / "half", "linear")
    merge([one, full], tmp_path / "mixed", "linear")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    parents = [load_file(path / "model.safetensors") for path in (one, two)]
    for name, tensor in stored.items():
        wanted = (0.5 * parents[0][name].float() + 0.5 * parents[1][name].float()).bfloat16()
        assert torch.equal(tensor, wanted)
    assert {t.dtype for t in load_file(tmp_path / "mixed" / "model.safetensors").values()} == {torch.float32}
    assert json.loads((tmp_path / "mixed" / "config.json").read_text())["dtype"] == "float32"


def test_names_of_a_base_model_and_shards_are_read_too(make: Make, tmp_path: Path) -> None:
    one, two = make("one", seed=1), make("two", seed=2)
    merge([one, two], tmp_path / "plain", "linear")
    tensors = load_file(two / "model.safetensors")
    (two / "manifest.json").unlink(), (two / "smelt.json").unlink()
    save_file({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, two / "model.safetensors")
    merge_checkpoints([one, two], tmp_path / "bare", Merge.of("linear", 2), max_shard_bytes=20_000)
    assert len(list((tmp_path / "bare").glob("*.safetensors"))) > 1
    wanted = weights(tmp_path / "plain")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights(tmp_path / "bare").items())


def test_one_tensor_is_read_at_a_time_and_given_back(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make("one", seed=1), make("two", seed=2)
    open_now: set[str] = set()
    most: list[int] = []
    read, release = merge_files.Shards.read, merge_files.Shards.release

    def watched_read(self: object, key: str) -> torch.Tensor:
        open_now.add(f"{id(self)}/{key}")
        most.append(len(open_now))
        return read(self, key)  # type: ignore[arg-type]

    def watched_release(self: object, keys: list[str], *rest: object) -> None:
        release(self, keys)  # type: ignore[arg-type]
        open_now.difference_update(f"{id(self)}/{key}" for key in keys)

    monkeypatch.setattr(merge_files.Shards, "read", watched_read)
    monkeypatch.setattr(merge_files.Shards, "release", watched_release)
    merge([one, two], tmp_path / "out", "linear")
    assert max(most) == 2 and len(most) > 20


def test_where_answers_stop_may_differ_and_is_the_firsts(make: Make, tmp_path: Path, byte_tokenizer: Pipeline) -> None:
    one, two = make("one", seed=1), make("two", seed=2)
    model, _ = load(two)
    model.spec = replace(model.spec, token_ids=TokenIds(None, (256,), 256))
    save(model, byte_tokenizer, two)  # which no template was read with, so it is a base model
    merge([one, two], tmp_path / "chat", "linear")
    merge([two, one], tmp_path / "base", "linear")
    assert load(tmp_path / "chat")[0].spec.token_ids.end == (258, 256)
    assert load(tmp_path / "base")[0].spec.token_ids.end == (256,)
    assert not (tmp_path / "base" / "chat_template.jinja").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "gpt2"}, "two cannot be merged with .*one: family is 'gpt2', not 'llama'"),
        ({"dim": 48}, "two cannot be merged with .*one: dim is 48, not 24"),
        ({"num_layers": 3}, "layers is 3, not 2"),
        ({"num_kv_heads": 3}, r"layers\[0\]\.attention\.num_kv_heads is 3, not 2"),
        ({"vocab_size": 270}, "vocab_size is 270, not 262"),
    ],
)
def test_another_network_is_refused_with_what_differs_first(
    make: Make, tmp_path: Path, changes: dict, message: str
) -> None:
    one, two = make("one", seed=1), make("two", seed=2, **changes)
    with pytest.raises(CheckpointError, match=message):
        merge([one, two], tmp_path / "out", "linear")
    with pytest.raises(CheckpointError, match=message):
        merge([one, one], tmp_path / "out", "ties", two)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [
        (["ababab"], 260, "two has another tokenizer than .*one: 260 tokens, not 259"),
        (["xyxyxy"], 261, "id 256 is 'xy', not 'ab'"),
    ],
)
def test_another_tokenizer_is_refused(
    make: Make, tmp_path: Path, texts: list[str], size: int, message: str, byte_tokenizer: Pipeline
) -> None:
    first = byte_tokenizer if size == 260 else train_bpe(["ababab"], vocab_size=261)
    one = make("one", seed=1, tokenizer=first)
    two = make("two", seed=2, tokenizer=train_bpe(texts, vocab_size=size))
    with pytest.raises(CheckpointError, match=message):
        merge([one, two], tmp_path / "out", "linear")


def test_damaged_and_quantized_parents_are_refused(make: Make, tmp_path: Path) -> None:
    one, two = make("one", seed=1), make("two", seed=2)
    data = bytearray((two / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (two / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model\.safetensors' does not match its SHA-256"):
        merge([one, two], tmp_path / "out", "linear")
    tensors = load_file(two / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    save_file(tensors, two / "model.safetensors")
    (two / "manifest.json").unlink(), (two / "smelt.json").unlink()
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is stored as int8"):
        merge([one, two], tmp_path / "out", "linear")


def test_numbers_that_are_not_finite_leave_nothing(make: Make, tmp_path: Path) -> None:
    one, two = make("one", seed=1), make("two", seed=2)
    with pytest.raises(CheckpointError, match="the merged numbers are too large for float32"):
        merge([one], tmp_path / "out", "task", two, scale=1e39)
    model, tokenizer = load(two)
    with torch.no_grad():
        model.norm.weight[3] = float("nan")
    save(model, tokenizer, two)
    for method, base in (("linear", None), ("ties", one)):
        with pytest.raises(CheckpointError, match=r"two: model\.norm\.weight holds numbers that are not finite"):
            merge([one, two], tmp_path / "out", method, base)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lineer", 2), "no method 'lineer'. Did you mean 'linear'?"),
        (("linear", 1), "linear of 1 checkpoint\naccepted: 2 or more"),
        (("slerp", 3), "slerp of 3 checkpoints\naccepted: exactly two"),
        (("ties", 2), "ties needs the base that the checkpoints were tuned from\ntry: --base BASE"),
        (("task", 1), "task needs the base"),
        (("linear", 2, {"has_base": True}), "linear takes no base"),
        (("linear", 2, {"weights": [1]}), "weights 1 for 2 checkpoints\naccepted: 2 numbers"),
        (("linear", 2, {"weights": [1, -1]}), "weights 1,-1 add up to 0"),
        (("linear", 2, {"weights": [1, float("nan")]}), "weights 1,nan\naccepted: finite"),
        (("slerp", 2, {"weights": [2, -1]}), "weights 2,-1 with slerp"),
        (("ties", 2, {"has_base": True, "weights": [0, 0]}), "weights 0,0 with ties"),
        (("ties", 2, {"has_base": True, "density": 0.0}), "density 0.0 with ties\naccepted: above 0"),
        (("task", 2, {"has_base": True, "density": 0.5}), "density 0.5 with task"),
        (("linear", 2, {"scale": 0.5}), "scale 0.5 with linear\naccepted: a number, with ties or task"),
    ],
)
def test_settings_that_do_not_go_together(words: tuple, message: str) -> None:
    method, num, settings = (*words, {})[:3]
    with pytest.raises(UsageError) as error:
        Merge.of(method, num, **settings)
    assert str(error.value).startswith(message)


def test_the_memory_model_is_left_alone(make: Make, tmp_path: Path) -> None:
    one, two = make("one", seed=1), make("two", seed=2)
    before = {path: sha256_file(path) for folder in (one, two) for path in folder.iterdir()}
    merge([one, two], tmp_path / "out", "linear")
    assert before == {path: sha256_file(path) for folder in (one, two) for path in folder.iterdir()}
    assert isinstance(load(tmp_path / "out")[0], Transformer)
