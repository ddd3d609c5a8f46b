"""Partial loads: what both networks have is the file's, what is new is drawn, and the list says which is which."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import CheckpointError
from smelt.models.build import build
from smelt.models.hub import load_model, load_partial, load_spec, save_model
from smelt.models.partial import Report


def deviation(tensor: torch.Tensor) -> float:
    return tensor.detach().std().item()


def named(model) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2", "novel"])
@pytest.mark.parametrize("size", [70, 50])
def test_another_vocabulary_keeps_the_first_rows(family, size, tiny, tmp_path):
    model = tiny(family)
    save_model(model, tmp_path)
    found, report = load_partial(tmp_path, replace(model.spec, vocab_size=size))
    old, new, kept = named(model), named(found), min(size, 61)
    assert found.spec.vocab_size == size and set(old) == set(new)
    for name, (rows_kept, rows_new) in report.resized.items():
        assert (rows_kept, rows_new) == (kept, size - kept)
        assert len(new[name]) == size and torch.equal(new[name][:kept], old[name][:kept])
    assert {"token_embedding.weight", *(["head.weight"] if found.head else [])} <= set(report.resized)
    assert all(torch.equal(new[name], old[name]) for name in report.loaded)
    assert set(report.loaded) | set(report.resized) == set(new) and not report.new and not report.unused
    assert all(parameter.requires_grad for parameter in new.values())


def test_new_rows_are_drawn_as_the_family_says_and_by_the_seed(tiny, tmp_path):
    model = tiny("llama")
    save_model(model, tmp_path)
    spec = replace(model.spec, vocab_size=4000)
    rows = [load_partial(tmp_path, spec, seed=seed)[0].token_embedding.weight[61:] for seed in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])
    whole = build(spec, seed=0).token_embedding.weight
    assert deviation(rows[0]) == pytest.approx(deviation(whole), rel=0.02)


def test_a_new_head_is_drawn_and_a_dropped_one_is_listed(tiny, tmp_path):
    tied, untied = tiny("llama", tied=True), tiny("llama", tied=False)
    save_model(tied, tmp_path)
    found, report = load_partial(tmp_path, untied.spec)
    assert report.new == ("head.weight",) and not report.unused and not report.resized
    assert deviation(found.head_weight) == pytest.approx(deviation(build(untied.spec, seed=0).head_weight), rel=0.1)
    assert torch.equal(found.token_embedding.weight, tied.token_embedding.weight)
    save_model(untied, tmp_path)
    found, report = load_partial(tmp_path, tied.spec)
    assert found.head is None and report.unused == ("head.weight",) and not report.new
    assert report.lines() == [f"loaded   {len(report.loaded)} parameters", "unused   head.weight"]


def test_the_same_network_is_loaded_whole(model, tmp_path):
    save_model(model, tmp_path)
    found, report = load_partial(tmp_path, load_spec(tmp_path))
    assert report == Report(tuple(named(model)), {}, (), ())
    assert all(torch.equal(named(found)[name], parameter) for name, parameter in named(load_model(tmp_path)).items())


def test_types_go_to_new_parameters_too(tiny, tmp_path):
    save_model(tiny("llama").to(torch.bfloat16), tmp_path)
    spec = replace(tiny("llama").spec, vocab_size=70, head_bias=False)
    for dtype, wanted in (("auto", torch.bfloat16), (torch.float16, torch.float16)):
        found, _ = load_partial(tmp_path, spec, dtype=dtype)
        assert {parameter.dtype for parameter in found.parameters()} == {wanted}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 48}, "holds another network: dim is 48, not 24"),
        ({"num_layers": 2}, "holds another network: layers is 2, not 3"),
        ({"max_seq_len": 80}, "holds another network: max_seq_len is 80, not 40"),
    ],
)
def test_networks_that_differ_below_the_head_are_refused(change, message, tiny, tmp_path):
    save_model(tiny("llama"), tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load_partial(tmp_path, tiny("llama", **change).spec)
    with pytest.raises(CheckpointError, match="holds a llama network, the spec is of gpt2"):
        load_partial(tmp_path, tiny("gpt2").spec)


def test_without_asking_a_changed_vocabulary_is_refused_with_both_shapes(tiny, tmp_path):
    save_model(tiny("llama"), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 61', '"vocab_size": 70'))
    for load in (load_model, lambda path: load_partial(path, tiny("llama", vocab_size=70).spec)):
        with pytest.raises(CheckpointError, match=r"has shape \(61, 24\), config.json asks for \(70, 24\)"):
            load(tmp_path)


def test_the_list_reads_well():
    report = Report(("a", "b"), {"c": (61, 9)}, ("d", "e"), ("f",))
    assert report.lines() == [
        "loaded   2 parameters",
        "resized  c (61 rows kept, 9 new)",
        "new      d, e",
        "unused   f",
    ]
