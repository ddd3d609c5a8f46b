"""`smelt info`: exact counts, layers, shapes."""

from pathlib import Path

from safetensors.torch import load_file, save_file

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


def test_tensors_that_are_missing_or_unexpected_are_listed(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    shown = smelt("info", checkpoint).out.splitlines()
    assert shown[-2].endswith(" tensors, exactly those that config.json asks for")
    assert smelt("info", checkpoint, "--json").json["weights"]["fault"] == ""
    for name in ("config.json", "smelt.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    assert smelt("info", tmp_path).out.splitlines()[-2] == f"weights: {tmp_path} has no model.safetensors"
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["score.weight"] = tensors.pop("model.norm.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    shown = smelt("info", tmp_path)
    assert shown.code == 0
    assert shown.out.splitlines()[-4:-1] == [
        "weights: its tensors do not fit the model",
        "  1 missing: model.norm.weight (near 'score.weight')",
        "  1 unexpected: score.weight (near 'model.norm.weight')",
    ]
    assert smelt("info", tmp_path, "--json").json["weights"]["tensors"] is None
    assert smelt("info", "novel-140m", "--json").json["weights"] is None


def test_presets_are_listed_with_their_sizes(smelt: Smelt) -> None:
    shown = smelt("info", "--presets")
    assert all(name in shown.out for name in PRESETS)
    sizes = smelt("info", "--presets", "--json").json["presets"]
    assert sizes["gpt2-124m"] == {"family": "gpt2", "parameters": count_parameters(PRESETS["gpt2-124m"])}
    assert "a learned table (1024, 768)" in smelt("info", "gpt2-124m").out


def test_an_encoder_and_its_decoder_are_shown_one_below_the_other(smelt: Smelt) -> None:
    shown = smelt("info", "t5-base").out.splitlines()
    assert shown[1].endswith("layers 12 + 12") and "a bias for each of 32 buckets" in shown[2]
    assert (shown[3], shown[9]) == ("  encoder", "  decoder")
    assert shown[4] == shown[10] == "    layers 0 to 11, each"
    assert "both ways" in shown[6] and "both ways" not in shown[12]
    assert shown[13].startswith("      attention to the encoder's output: 12 heads")
    assert shown[8] == "    end: rms norm (eps 1e-06)"
    assert shown[15].endswith("head tied to the embedding, logits times 0.0360844")
    assert any(line.endswith("73,728 bytes of cache a token on each side") for line in shown)


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
