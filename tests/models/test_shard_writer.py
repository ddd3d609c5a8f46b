"""Writing weights: what safetensors and transformers read back, at even addresses, with one tensor in hand."""

import json
import weakref

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from smelt.core.errors import ResourceError
from smelt.models import shard_writer
from smelt.models.families import FAMILIES
from smelt.models.hub import load_model, save_model
from smelt.models.shard_writer import write_weights
from smelt.models.weights import export_weights, plan_export, rename

NAMES = {
    "half": torch.randn(3, 5).bfloat16(),
    "edge": torch.randn(3, 5),
    "norm": torch.ones(16),
    "wide": torch.randn(64, 32),
    "none": torch.ones(0),
}
RULES = tuple(rename(name, name) for name in NAMES)


def write(directory, tensors=NAMES, **settings) -> None:
    rules = tuple(rename(name, name) for name in tensors)
    write_weights(plan_export(rules, tensors), export_weights(rules, tensors), directory, **settings)


def names_in(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_safetensors_reads_what_was_written(tmp_path):
    write(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == NAMES.keys()
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in NAMES.items())
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_tensors_of_whole_lines_begin_on_one(tmp_path):
    write(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    starts = {name: start + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}
    assert start % 64 == starts["wide"] % 64 == starts["norm"] % 64 == 0
    assert starts["half"] > starts["edge"] > max(starts["wide"], starts["norm"])


def test_large_weights_become_shards_that_load_and_save_the_same(model, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    save_model(model, one, max_shard_bytes=6000)
    index = json.loads((one / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2 and files == [name for name in names_in(one) if name.endswith(".safetensors")]
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    tensors = {name: tensor for file in files for name, tensor in load_file(one / file).items()}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert index["weight_map"].keys() == tensors.keys()
    for file in files:
        sizes = [tensor.nbytes for tensor in load_file(one / file).values()]
        assert sum(sizes) <= 6000 or len(sizes) == 1
    save_model(load_model(one), two, max_shard_bytes=6000)
    assert names_in(one) == names_in(two)
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names_in(one))


def test_saving_again_leaves_no_file_of_before(tiny, tmp_path):
    (tmp_path / "model-notes.txt").write_text("stays")
    for size, count in ((6000, 14), (60_000, 2), (10**9, 1), (6000, 14)):
        save_model(tiny(), tmp_path, max_shard_bytes=size)
        assert len(list(tmp_path.glob("*.safetensors"))) == count
        assert (tmp_path / "model.safetensors.index.json").exists() == (count > 1)
        assert torch.equal(load_model(tmp_path).head_weight, tiny().head_weight)
    assert (tmp_path / "model-notes.txt").exists() and not list(tmp_path.glob("*.tmp-*"))


def test_a_model_saves_over_the_file_that_it_is_mapped_from(tiny, tmp_path):
    save_model(tiny("llama", dim=48), tmp_path)
    model = load_model(tmp_path)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        model.head_weight.add_(1)
    for size in (10**9, 6000, 10**9):
        save_model(model, tmp_path, max_shard_bytes=size)
        again = dict(load_model(tmp_path).named_parameters())
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name] + (1 if name == "head.weight" else 0))
            assert torch.equal(parameter, again[name])


def test_a_full_disk_leaves_the_old_weights_whole(tiny, tmp_path, monkeypatch):
    save_model(tiny(), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer, "_write_shard", fail)
    with pytest.raises(ResourceError, match=r"disk full while writing .*: [\d,]+ bytes wanted"):
        save_model(tiny("llama", tied=True), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before and not list(tmp_path.glob("*.tmp-*"))


def test_the_plan_says_what_every_family_writes(model):
    parameters = dict(model.named_parameters())
    rules = FAMILIES[model.spec.family].rules(model.spec)
    planned, written = list(plan_export(rules, parameters)), list(export_weights(rules, parameters))
    assert [(name, each.shape, each.dtype) for name, each in planned] == [(n, t.shape, t.dtype) for n, t in written]
    assert all(each.is_meta for _, each in planned)


def test_one_tensor_is_in_memory_at_a_time(tiny, tmp_path):
    """Fused and transposed matrices are made anew to be written; each is gone before the next is made."""
    model = tiny("gpt2")
    rules, parameters = FAMILIES["gpt2"].rules(model.spec), dict(model.named_parameters())
    mine = {parameter.data_ptr() for parameter in parameters.values()}
    made = 0

    def watched():
        nonlocal made
        written = export_weights(rules, parameters)
        for _ in range(len(list(plan_export(rules, parameters)))):
            name, tensor = next(written)
            is_new = tensor.data_ptr() not in mine
            made += is_new
            last = weakref.ref(tensor)
            pair = [(name, tensor)]
            del tensor
            yield pair.pop()
            assert not is_new or last() is None

    write_weights(plan_export(rules, parameters), watched(), tmp_path)
    assert made >= 12
