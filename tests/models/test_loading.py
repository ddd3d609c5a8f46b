"""Mapped parameters: no copy where none is needed, the file never changes, and types and devices by name."""

import copy
import gc
import json
import mmap
import os
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from smelt.core.errors import CheckpointError, UsageError
from smelt.models import shards as shards_module
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model, load_weights_into, save_model
from smelt.models.loading import SMALL_BYTES, Place, choose_places, settle
from smelt.models.shards import Shards

CPU = torch.device("cpu")
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def wide(family: str = "llama", **changes: object):
    """Return a model whose every parameter fills whole lines of 64 bytes."""
    return build(spec_for(family, Shape(64, 64, 2, 4, 32, hidden_dim=128, **changes)), seed=3)


def mapped_bytes(directory) -> list[tuple[int, int]]:
    """Return the addresses at which this process has the files of a directory mapped."""
    with open("/proc/self/maps") as maps:
        rows = [line.split() for line in maps if str(directory) in line]
    return [tuple(int(end, 16) for end in row[0].split("-")) for row in rows]


def resident_bytes(directory) -> int:
    """Return how much of the files of a directory counts as this process's memory."""
    with open("/proc/self/smaps") as maps:
        lines = iter(maps)
        return 1024 * sum(
            int(next(each for each in lines if each.startswith("Rss:")).split()[1])
            for line in lines
            if str(directory) in line
        )


def is_mapped(tensor, directory) -> bool:
    return any(start <= tensor.data_ptr() < end for start, end in mapped_bytes(directory))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_are_the_file_where_nothing_changes(dtype, tmp_path):
    save_model(wide().to(dtype), tmp_path)
    assert all(is_mapped(parameter, tmp_path) for parameter in load_model(tmp_path, dtype=dtype).parameters())
    assert all(is_mapped(parameter, tmp_path) for parameter in load_model(tmp_path, dtype="auto").parameters())
    other = torch.float16
    assert not any(is_mapped(parameter, tmp_path) for parameter in load_model(tmp_path, dtype=other).parameters())


def test_rows_of_a_fused_tensor_are_mapped_and_transposed_ones_are_copied(tmp_path):
    save_model(wide("glm"), tmp_path)
    fused = dict(load_model(tmp_path).named_parameters())
    assert is_mapped(fused["blocks.0.feed_forward.up.weight"], tmp_path)
    save_model(wide("gpt2"), tmp_path)
    found = dict(load_model(tmp_path).named_parameters())
    assert is_mapped(found["token_embedding.weight"], tmp_path)
    assert not is_mapped(found["blocks.0.feed_forward.up.weight"], tmp_path)
    assert all(parameter.is_contiguous() for parameter in found.values())


def test_training_in_place_never_writes_the_file(tmp_path):
    save_model(wide(), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model, other = load_model(tmp_path), load_model(tmp_path)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(2):
        functional.cross_entropy(model(IDS).logits[0], IDS[0]).backward()
        optimizer.step()
    assert not torch.equal(model.head_weight, other.head_weight)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert torch.equal(load_model(tmp_path).head_weight, other.head_weight)


def test_a_mapped_model_computes_the_bits_of_the_one_that_was_saved(tmp_path):
    model = build(spec_for("llama", Shape(61, 24, 3, 6, 40, num_kv_heads=2, hidden_dim=36)), seed=3)
    save_model(model, tmp_path)
    one = IDS[:, :1]
    for _ in range(8):  # the address of a file differs from time to time
        loaded = load_model(tmp_path)
        assert torch.equal(loaded(one).logits, model(one).logits)
        assert all(parameter.data_ptr() % 64 == 0 for parameter in loaded.parameters())


def test_a_mapped_model_is_a_model_like_any_other(tmp_path):
    save_model(wide(tied=True), tmp_path)
    model = load_model(tmp_path)
    assert model.head_weight is model.token_embedding.weight
    expected = model(IDS).logits
    twin = copy.deepcopy(model)
    assert not is_mapped(twin.head_weight, tmp_path) and torch.equal(twin(IDS).logits, expected)
    for name in ("model.safetensors", "config.json"):
        os.unlink(tmp_path / name)
    assert torch.equal(model(IDS).logits, expected)  # the numbers stay as long as the model
    assert model.to(torch.bfloat16).head_weight is model.token_embedding.weight
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, tmp_path / "copy.safetensors")


@pytest.mark.slow
def test_a_mapped_model_compiles(tmp_path):
    save_model(wide(), tmp_path)
    model = load_model(tmp_path)
    expected = model(IDS).logits
    torch.testing.assert_close(torch.compile(model)(IDS).logits, expected)


def test_files_of_others_at_odd_addresses_load_equal(tmp_path):
    model = wide()
    save_model(model, tmp_path)
    tensors, path = load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors"
    for metadata in ("x" * length for length in range(0, 64, 8)):  # moves all that follows the header
        path.unlink()
        save_file(tensors, path, metadata={"format": "pt", "note": metadata})
        loaded = dict(load_model(tmp_path).named_parameters())
        assert all(torch.equal(loaded[name], parameter) for name, parameter in model.named_parameters())
        assert all(parameter.data_ptr() % 64 == 0 for parameter in loaded.values())


def test_large_tensors_at_odd_addresses_stay_where_they_are():
    memory = torch.zeros(2 * SMALL_BYTES, dtype=torch.uint8)
    first = 8 - memory.data_ptr() % 64 + 64
    large = memory[first : first + SMALL_BYTES].view(torch.float32)
    assert settle(large, Place(torch.float32, CPU)).data_ptr() == large.data_ptr()
    small = large[:1000]
    assert settle(small, Place(torch.float32, CPU)).data_ptr() % 64 == 0


def test_numbers_across_odd_bytes_are_read(tmp_path):
    """No file of safetensors' own has such, but its check lets them pass."""
    flag, numbers = torch.tensor([True]), torch.randn(3)
    entries = {"a": ("BOOL", [1], 0, 1), "b": ("F32", [3], 1, 13)}
    header = {name: {"dtype": d, "shape": s, "data_offsets": [at, end]} for name, (d, s, at, end) in entries.items()}
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + flag.numpy().tobytes() + numbers.numpy().tobytes()
    (tmp_path / "model.safetensors").write_bytes(data)
    shards = Shards(tmp_path)
    assert torch.equal(shards.read("a"), flag) and torch.equal(shards.read("b"), numbers)
    assert shards.read("b").data_ptr() % 4 == 0


def test_released_pages_leave_memory_and_come_back(tmp_path):
    tensor = torch.arange(2**20, dtype=torch.float32)
    save_file({"a": tensor, "b": tensor + 1}, tmp_path / "model.safetensors")
    shards = Shards(tmp_path)

    a, b = shards.read("a"), shards.read("b")
    a.sum(), b.sum()
    assert resident_bytes(tmp_path) >= 2**23
    shards.release(("a", "b"), [b.view(1024, 1024)])
    assert 2**22 <= resident_bytes(tmp_path) <= 2**22 + 2**16
    assert torch.equal(a, tensor)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems show pages when they are touched")
def test_what_the_page_cache_holds_is_shown_at_once_and_the_rest_is_not(monkeypatch, tmp_path):
    model = build(spec_for("llama", Shape(4096, 256, 1, 4, 32)), seed=3)
    save_model(model, tmp_path)
    path = tmp_path / "model.safetensors"
    with path.open("rb") as file:
        if not shards_module.in_page_cache(file.fileno(), 2**20):
            pytest.skip("this file system does not say what is in memory")
        assert not shards_module.in_page_cache(file.fileno(), 2**40)
    loaded = load_model(tmp_path)
    assert resident_bytes(tmp_path) > 0.9 * path.stat().st_size
    assert torch.equal(loaded.head_weight, model.head_weight)
    del loaded
    gc.collect()
    monkeypatch.setattr(shards_module, "in_page_cache", lambda descriptor, offset: False)
    loaded = load_model(tmp_path)
    assert resident_bytes(tmp_path) < 0.1 * path.stat().st_size
    assert torch.equal(loaded.head_weight, model.head_weight)


def test_a_system_without_the_advice_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(shards_module, "MADV_POPULATE_READ", 9999)
    save_model(wide(), tmp_path)
    with (tmp_path / "model.safetensors").open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    assert not shards_module.show(mapping, 0, mmap.PAGESIZE)
    assert torch.equal(load_model(tmp_path).head_weight, wide().head_weight)


def test_loading_into_a_model_keeps_its_own_memory(tmp_path):
    save_model(wide(), tmp_path)
    target = wide()
    parameters = list(target.parameters())
    load_weights_into(target, tmp_path)
    assert all(one is other for one, other in zip(target.parameters(), parameters, strict=True))
    assert not any(is_mapped(parameter, tmp_path) for parameter in parameters)


def test_types_by_name(tmp_path):
    save_model(wide(), tmp_path)
    model = load_model(tmp_path, dtype={"*norm*": torch.float32, "head*": "auto", "*": torch.bfloat16})
    for name, parameter in model.named_parameters():
        wanted = torch.float32 if "norm" in name or name.startswith("head") else torch.bfloat16
        assert parameter.dtype == wanted, name
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    save_model(model, one)
    assert json.loads((one / "config.json").read_text())["dtype"] == "bfloat16"  # that of most numbers
    save_model(load_model(one, dtype="auto"), two)
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


def test_fused_parts_of_two_types_are_saved_in_the_wider(tmp_path):
    save_model(wide("gpt2"), tmp_path)
    model = load_model(tmp_path, dtype={"*query*": torch.float32, "*": torch.bfloat16})
    save_model(model, tmp_path)
    assert load_file(tmp_path / "model.safetensors")["transformer.h.0.attn.c_attn.weight"].dtype == torch.float32


def test_devices_by_name(tmp_path):
    save_model(wide(), tmp_path)
    model = load_model(tmp_path, device={"blocks.0.*": "cpu", "*": "meta"})
    for name, parameter in model.named_parameters():
        assert parameter.device.type == ("cpu" if name.startswith("blocks.0.") else "meta"), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": {"*nrom*": torch.float32, "*": "auto"}}, "the dtype map's pattern '*nrom*' matches no parameter."),
        (
            {"dtype": {"blocks*": "auto"}},
            "no pattern of the dtype map matches token_embedding.weight\ntry: end the map",
        ),
        ({"device": {"*": "cpu", "head": "cpu"}}, "the device map's pattern 'head' matches no parameter. Did you mean"),
        ({"device": "gpu"}, "no device 'gpu'\naccepted: cpu, cuda"),
        ({"dtype": "bfloat16"}, "no dtype 'bfloat16'\naccepted: \"auto\", or a type such as torch.bfloat16"),
        ({"dtype": torch.int8}, "parameters of type int8\naccepted: float32, bfloat16, float16"),
        ({"dtype": torch.float8_e4m3fn}, "this machine lacks float8_e4m3fn on cpu ("),
    ],
)
def test_what_does_not_fit_the_names_or_the_machine_is_refused(settings, message, tmp_path):
    save_model(wide(), tmp_path)
    with pytest.raises(UsageError) as caught:
        load_model(tmp_path, **settings)
    assert message in str(caught.value) and len(str(caught.value).split("\n")) <= 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(tmp_path):
    save_model(wide(), tmp_path)
    with pytest.raises(UsageError, match=r'this machine lacks float32 on cuda \(.*\)\naccepted: .*; or device="cpu"'):
        load_model(tmp_path, device="cuda")


def test_the_first_pattern_counts():
    stored = {"a.norm": torch.float32, "a.up": torch.float32}
    found = choose_places(stored, {"a.norm": "auto", "a.*": torch.bfloat16}, "cpu")
    assert found == {"a.norm": Place(torch.float32, CPU), "a.up": Place(torch.bfloat16, CPU)}


def test_whole_numbers_in_the_place_of_weights_are_refused(tmp_path):
    save_model(wide(), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file({**tensors, "model.norm.weight": torch.ones(64, dtype=torch.int8)}, path)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is stored as int8\naccepted: weights that are not"):
        load_model(tmp_path)
