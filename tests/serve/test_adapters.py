"""Adapters over HTTP: models of their own names, loaded and dropped live, beside the base and each other."""

import copy
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from smelt.infer import Sampling, generate
from smelt.serve import adapters

from .conftest import NAME, Live, Watched, eventually

LAYERS = {"q_proj": ("self_attn", 24, 24), "v_proj": ("self_attn", 12, 24), "down_proj": ("mlp", 24, 64)}
ASKED = {"prompt": "The mill", "temperature": 0, "max_tokens": 12}


def store_adapter(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """Write an adapter as peft does; return what it adds, by our names."""
    draw, tensors, added = torch.Generator().manual_seed(seed), {}, {}
    ours = {"q_proj": "attention.query", "v_proj": "attention.value", "down_proj": "feed_forward.down"}
    for number in range(2):
        for name, (part, rows, columns) in LAYERS.items():
            down = torch.randn(3, columns, generator=draw)
            up = 0.3 * torch.randn(rows, 3, generator=draw)
            theirs = f"base_model.model.model.layers.{number}.{part}.{name}"
            tensors |= {f"{theirs}.lora_A.weight": down, f"{theirs}.lora_B.weight": up}
            added[f"blocks.{number}.{ours[name]}"] = 2 * up @ down
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "bias": "none", "target_modules": list(LAYERS)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return added


def merged(model: Any, added: dict[str, torch.Tensor]) -> Any:
    whole = copy.deepcopy(model)
    for module in whole.modules():
        module._forward_hooks.clear()
    with torch.no_grad():
        for name, weight in added.items():
            whole.get_submodule(name).weight += weight
    return whole


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def added(root: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {name: store_adapter(root / name, seed) for seed, name in enumerate(("poet", "miller"), 1)}


@pytest.fixture(scope="module")
def served(start: Callable[..., Live], root: Path, added: Any, model: Any) -> Live:
    return start(adapter_root=root, model=copy.deepcopy(model))


@pytest.fixture
def loaded(served: Live, added: Any) -> Iterator[Live]:
    """Return a server with both adapters; they are gone afterwards."""
    for name in added:
        assert served.post("/v1/load_lora_adapter", lora_name=name).status == 200
    yield served
    for name in added:
        served.post("/v1/unload_lora_adapter", lora_name=name)


def alone(model: Any, tokenizer: Any, added: dict[str, torch.Tensor]) -> str:
    """Return the answer of a model with the adapter merged in."""
    ids = [tokenizer.special["<|endoftext|>"], *tokenizer.encode(ASKED["prompt"])]
    sampling = Sampling(max_new_tokens=ASKED["max_tokens"], temperature=0)
    stops = tuple(tokenizer.special.values())
    return generate(merged(model, added), tokenizer, [ids], sampling, stop_ids=stops)[0].text


def test_each_name_answers_as_its_own_model_in_one_batch(loaded: Live, model: Any, tokenizer: Any, added: Any) -> None:
    expected = {NAME: alone(model, tokenizer, {})}
    expected |= {name: alone(model, tokenizer, own) for name, own in added.items()}
    assert len(set(expected.values())) == 3
    cards = loaded.get("/v1/models").json["data"]
    assert {card["id"]: card["parent"] for card in cards} == {NAME: None, "poet": NAME, "miller": NAME}
    assert loaded.get("/v1/models/poet").json["parent"] == NAME
    found: list[tuple[str, Any]] = []

    def ask(name: str) -> None:
        found.append((name, loaded.post("/v1/completions", model=name, **ASKED).json))

    threads = [threading.Thread(target=ask, args=(name,)) for name in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for name, reply in found:
        assert reply["model"] == name and reply["choices"][0]["text"] == expected[name]


def test_chats_and_vectors_have_the_adapter_too(loaded: Live) -> None:
    chats, vectors = set(), set()
    for name in (NAME, "poet", "miller"):
        asked = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 12}
        chats.add(loaded.post("/v1/chat/completions", model=name, **asked).json["choices"][0]["message"]["content"])
        vectors.add(tuple(loaded.post("/v1/embeddings", model=name, input="hi").json["data"][0]["embedding"]))
    assert len(chats) == len(vectors) == 3


def test_an_answer_under_way_keeps_an_adapter_that_is_dropped(
    loaded: Live, model: Any, tokenizer: Any, added: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "seconds", 0.05)
    replies: list[Any] = []
    thread = threading.Thread(target=lambda: replies.append(loaded.post("/v1/completions", model="poet", **ASKED)))
    thread.start()
    assert eventually(lambda: loaded.engine.num_running == 1)
    cards = loaded.post("/v1/unload_lora_adapter", lora_name="poet").json["data"]
    assert [card["id"] for card in cards] == [NAME, "miller"]
    error = loaded.post("/v1/completions", model="poet", **ASKED)
    assert error.status == 404 and "Served here: tiny, miller" in error.error["message"]
    thread.join()
    assert replies[0].json["choices"][0]["text"] == alone(model, tokenizer, added["poet"])


def test_adapters_outlive_a_fault_of_the_engine(loaded: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    before = loaded.post("/v1/completions", model="poet", **ASKED).json["choices"][0]["text"]
    monkeypatch.setattr(Watched, "fault", RuntimeError("broken"))
    assert loaded.post("/v1/completions", model="poet", **ASKED).status == 500
    assert loaded.post("/v1/completions", model="poet", **ASKED).json["choices"][0]["text"] == before


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"lora_name": "poet"}, 400, "an adapter named 'poet' is loaded"),
        ({"lora_name": NAME, "lora_path": "poet"}, 400, "lora_name: 'tiny'; accepted: letters"),
        ({"lora_name": "../poet"}, 400, "lora_name: '../poet'"),
        ({"lora_name": "new", "lora_path": "../poet"}, 400, "lora_path: '../poet'; the name of a folder"),
        ({"lora_name": "new", "lora_path": "/etc"}, 400, "lora_path: '/etc'"),
        ({"lora_name": "new", "lora_path": "out"}, 400, "lora_path: 'out'"),
        ({"lora_name": "nobody"}, 404, "there is no adapter 'nobody' to load"),
        ({"lora_name": "broken"}, 400, "lora_path: broken/adapter_model.safetensors is missing or damaged"),
        ({"lora_name": 3}, 400, "lora_name"),
        ({}, 400, "lora_name: field required"),
    ],
)
def test_what_cannot_be_loaded_is_refused(loaded: Live, root: Path, body: Any, status: int, said: str) -> None:
    (root / "broken").mkdir(exist_ok=True)
    (root / "broken/adapter_config.json").write_text('{"peft_type": "LORA"}')
    if not (root / "out").is_symlink():
        (root / "out").symlink_to(root.parent)
    reply = loaded.post("/v1/load_lora_adapter", **body)
    assert reply.status == status and said in reply.error["message"], reply.error
    assert str(root) not in reply.error["message"]
    assert len(loaded.get("/v1/models").json["data"]) == 3


def test_a_name_that_is_not_loaded_cannot_be_dropped(loaded: Live) -> None:
    for name in ("nobody", NAME):
        reply = loaded.post("/v1/unload_lora_adapter", lora_name=name)
        assert reply.status == 404 and reply.error["param"] == "lora_name"


def test_there_is_an_end_to_loading(loaded: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "MAX_ADAPTERS", 2)
    reply = loaded.post("/v1/load_lora_adapter", lora_name="third", lora_path="poet")
    assert reply.status == 400 and "2 adapters are loaded, which is the most" in reply.error["message"]


def test_a_server_without_a_root_loads_none(live: Live) -> None:
    reply = live.post("/v1/load_lora_adapter", lora_name="poet")
    assert reply.status == 403 and "--adapter-root" in reply.error["message"]
