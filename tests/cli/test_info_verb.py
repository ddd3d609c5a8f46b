"""`smelt info`: exact counts, layers, shapes."""

from pathlib import Path

from smelt.models.build import count_parameters
from smelt.models.families import PRESETS

from .conftest import CONTEXT, Smelt


def test_the_scratch_note_model_has_its_exact_size(smelt: Smelt) -> None:
    shown = smelt("info", "novel-140m")
    assert shown.code == 0 and "140,573,600 parameters" in shown.out
    assert "a sinusoidal table (1024, 512), computed, no parameter" in shown.out
    assert "row 1 begins 0.841471, 0.540302" in shown.out
    assert smelt("info", "novel-140m", "--json").json["parameters"] == 140_573_600


def test_a_checkpoint_layer_by_layer(smelt: Smelt, checkpoint: Path) -> None:
    shown = smelt("info", checkpoint).out.splitlines()
    assert shown[1] == f"  vocabulary 259 · width 24 · context {CONTEXT} · layers 2"
    assert shown[2] == "  layers 0 to 1, each"
    assert shown[4] == "    attention: 4 heads over 2 key-value heads of 6, rotary (theta 10000), no bias"
    rows = [line.split() for line in shown]
    assert ["blocks.*.attention.key.weight", "x", "2", "(12,", "24)", "576"] in rows
    assert shown[-1] == "made by sft, step 7, see smelt.json"
    values = smelt("info", checkpoint, "--json").json
    assert set(values) >= {"family", "parameters", "trainable_parameters", "layers", "spec"}
    assert (values["family"], values["layers"], values["spec"]["dim"]) == ("llama", 2, 24)
    listed = [int(row[-1].replace(",", "")) for row in rows if row and row[0].endswith((".weight", ".bias"))]
    assert sum(listed) == values["parameters"] == values["trainable_parameters"]
    assert "blocks.1.attention.key.weight" in smelt("info", checkpoint, "--full").out


def test_presets_are_listed_with_their_sizes(smelt: Smelt) -> None:
    shown = smelt("info", "--presets")
    assert all(name in shown.out for name in PRESETS)
    sizes = smelt("info", "--presets", "--json").json["presets"]
    assert sizes["gpt2-124m"] == {"family": "gpt2", "parameters": count_parameters(PRESETS["gpt2-124m"])}
    assert "a learned table (1024, 768)" in smelt("info", "gpt2-124m").out


def test_encoders_say_what_is_around_their_layers(smelt: Smelt) -> None:
    assert "positions: a learned table (514, 768), used from row 2" in smelt("info", "roberta-base").out
    shown = smelt("info", "albert-base-v2").out
    assert "positions: a learned table (512, 128)\n" in shown
    assert "embeddings of 128, widened to 768" in shown and "all layers are one" in shown
    assert "sentence_order: 2 labels of a text" in shown


def test_unknown_names(smelt: Smelt, tmp_path: Path) -> None:
    result = smelt("info", "novel-140")
    assert result.code == 2 and "no checkpoint and no preset 'novel-140'. Did you mean 'novel-140m'?" in result.err
    result = smelt("info")
    assert result.code == 2 and "smelt info --presets" in result.err
    result = smelt("info", tmp_path)
    assert result.code == 1 and "holds no checkpoint" in result.err
