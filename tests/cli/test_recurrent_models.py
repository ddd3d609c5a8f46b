"""Recurrent models through the command line: pretrain, stop, resume, generate, info, eval."""

import json
import signal
from pathlib import Path

import pytest

from .conftest import TINY, Smelt


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_train_stop_resume_generate_and_show(
    smelt: Smelt, cell: str, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smelt.train import loop

    def step_then_ctrl_c(*rest: object) -> object:
        done = taken(*rest)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
        return done

    taken, runs = loop.train_step, tmp_path / "runs"
    words = [f"data={text_file}", f"out={runs}", "steps=3", *TINY, f"model.family={cell}", "model.num_layers=2"]
    whole = smelt("pretrain", *words, "name=whole", "--json")
    assert whole.code == 0, whole.err
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", step_then_ctrl_c)
        assert smelt("pretrain", *words, "name=parts", "--json").json["steps"] == 1
    resumed = smelt("pretrain", runs / "parts" / "recipe.yaml", "--resume", "--json")
    assert resumed.code == 0, resumed.err
    files = [Path(result.json["checkpoint"]) / "model.safetensors" for result in (whole, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    losses = [json.loads(line)["loss"] for line in (runs / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    said = smelt("generate", runs / "whole", "--prompt", "The mill", "--max-new-tokens", 5, "--json")
    assert said.code == 0 and len(said.json["ids"]) <= 5, said.err
    shown = smelt("info", runs / "whole").out
    assert f"recurrent: {cell}, 16 units" in shown and "layers 0 to 1, each" in shown
    rows = [line.split()[:3] for line in shown.splitlines()]
    assert ["recurrent.*.input.weight", "x", "2"] in rows
    assert smelt("info", runs / "whole", "--json").json["layers"] == 2
    scored = smelt("eval", runs / "whole", "--text", text_file, "--json")
    assert scored.code == 0 and scored.json["bits_per_byte"] < 10, scored.err
