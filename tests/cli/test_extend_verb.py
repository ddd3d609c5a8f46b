"""`smelt tokenizer extend`: tokens added, learned and left out, of a tokenizer and of a whole model."""

import json
import shlex
from pathlib import Path

import pytest
import torch

from smelt.core.storage import verify_directory
from smelt.models.hub import load
from smelt.tokenizers.formats import load_tokenizer

from .conftest import Smelt


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def trained(smelt: Smelt, text_file: Path, tmp_path: Path) -> Path:
    assert smelt("tokenizer", "train", text_file, "--vocab-size", 290, "--out", tmp_path / "tok").code == 0
    return tmp_path / "tok"


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    path = tmp_path / "domain.txt"
    path.write_text("Chronic hepatitis inflames the liver; acute hepatitis too. " * 20)
    return path


def test_a_tokenizer_gets_all_at_once(smelt: Smelt, trained: Path, domain: Path, tmp_path: Path) -> None:
    before, out = content(trained), tmp_path / "new"
    words = ["--add-special", "<tool>", "--add-special", "<end>", "--add", "<think>", "--num-tokens", 10]
    result = smelt("tokenizer", "extend", trained, domain, *words, "--prune-to", 280, "--out", out, "--json")
    assert result.code == 0 and content(trained) == before
    values = result.json
    assert values["seconds"] >= 0 and values["out"] == str(out)
    assert (values["old_vocab_size"], values["vocab_size"], values["kept"], values["added"]) == (290, 293, 280, 13)
    assert 1 < values["old_bytes_per_token"] < values["bytes_per_token"]
    new = load_tokenizer(out)
    assert (new.vocab_size, new.special["<end>"], new.literal["<think>"]) == (293, 291, 292)
    text = domain.read_text()
    assert values["bytes_per_token"] == pytest.approx(len(text) / len(new.encode(text)), abs=1e-3)
    assert (out / "chat_template.jinja").read_bytes() == (trained / "chat_template.jinja").read_bytes()
    configs = [json.loads((folder / "tokenizer_config.json").read_text()) for folder in (trained, out)]
    for key in ("eos_token", "pad_token", "model_max_length", "chat_template"):
        assert configs[0][key] == configs[1][key]


@pytest.mark.parametrize("origin", ["bytes", "tok"])
def test_what_an_objective_advises_is_true(
    origin: str, smelt: Smelt, trained: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")  # of whatever is worked on here
    words = ["pretrain", "name=x", f"data={text_file}", "objective=span", "model.family=t5", "model.dim=16"]
    words += ["model.num_layers=1", "max_seq_len=64", "batch_rows=2", "steps=1", "dtype=float32", "compile=no"]
    refused = smelt(*words, f"tokenizer={origin}")
    assert refused.code == 2 and "the tokenizer has no <extra_id_0>, " in refused.err
    command = shlex.split(refused.err.splitlines()[-1].removeprefix("try: "))
    assert command[:4] == ["smelt", "tokenizer", "extend", origin]
    assert smelt(*command[1:]).code == 0
    assert smelt(*words, "tokenizer=extended").code == 0


def test_what_is_printed(smelt: Smelt, trained: Path, domain: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = smelt("tokenizer", "extend", trained, domain, "--num-tokens", 5, "--out", tmp_path / "a")
    lines = result.out.splitlines()
    assert lines[0] == f"tokenizer   {tmp_path / 'a'}" and lines[1] == "tokens      290 -> 295: 5 new"
    assert lines[2].startswith("text        ") and lines[2].endswith(" bytes a token") and len(lines) == 3
    result = smelt("tokenizer", "extend", checkpoint, "--add", "<think>", "--out", tmp_path / "b")
    lines = result.out.splitlines()
    assert lines[0] == f"checkpoint  {tmp_path / 'b'}" and lines[1] == "tokens      259 -> 260: 1 new"
    assert lines[2].startswith("parameters  ") and lines[3].startswith("next        smelt pretrain")


def test_a_checkpoint_is_resized_whole(smelt: Smelt, checkpoint: Path, domain: Path, tmp_path: Path) -> None:
    before, out = content(checkpoint), tmp_path / "new"
    result = smelt(
        "tokenizer", "extend", checkpoint, domain, "--num-tokens", 20, "--add-special", "<tool>", "--out", out, "--json"
    )
    assert result.code == 0 and content(checkpoint) == before
    verify_directory(out)
    (old_model, old), (model, new) = load(checkpoint), load(out)
    assert (new.vocab_size, model.spec.vocab_size, new.special["<tool>"]) == (280, 280, 279)
    assert model.spec.token_ids == old_model.spec.token_ids
    assert result.json["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    ids = torch.tensor([old.encode("Where is the mill?")])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits[..., :259], old_model(ids).logits, rtol=0, atol=1e-6)
    row = [old.encode(new.tokens[265].decode())]
    expected = old_model.token_embedding.weight[row[0]].mean(0)
    torch.testing.assert_close(model.token_embedding.weight[265], expected)
    lineage = json.loads((out / "smelt.json").read_text())
    assert lineage["stage"] == "extend" and lineage["step"] == 7
    assert lineage["vocabulary"] == {"old": 259, "kept": 259, "added": 21}
    assert lineage["parents"][0]["path"] == str(checkpoint) and len(lineage["parents"][0]["weights_sha256"]) == 64
    for name in ("chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == before[name]
    assert "stage" in smelt("info", out, "--json").json["lineage"]
    assert smelt("generate", out, "--prompt", "The", "--max-new-tokens", 3).code == 0


def test_a_pruned_checkpoint_says_the_same(smelt: Smelt, checkpoint: Path, domain: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["--add-special", "<tool>", "--num-tokens", 30]
    assert smelt("tokenizer", "extend", checkpoint, domain, *words, "--out", one).code == 0
    assert smelt("tokenizer", "extend", one, "--prune-to", 270, "--out", two).code == 0
    (before, old), (after, new) = load(one), load(two)
    assert (new.vocab_size, after.spec.vocab_size) == (270, 270)
    assert after.spec.token_ids.end == tuple(new.special[name] for name in ("<|im_end|>", "<|endoftext|>"))
    text = "WQXZ: 12?"  # nothing that was learned
    with torch.no_grad():
        theirs, ours = before(torch.tensor([old.encode(text)])).logits, after(torch.tensor([new.encode(text)])).logits
    kept = [old.spelling.index(token) for token in new.spelling]
    torch.testing.assert_close(ours, theirs[..., kept], rtol=0, atol=1e-6)


def test_the_type_of_the_weights_stays(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    from smelt.models.hub import save

    model, tokenizer = load(checkpoint, dtype=torch.bfloat16)
    save(model, tokenizer, tmp_path / "half")
    out = tmp_path / "out"
    assert smelt("tokenizer", "extend", tmp_path / "half", "--add", "<think>", "--out", out).code == 0
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_text_that_runs_out_is_noted(smelt: Smelt, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("xqxq")
    result = smelt(
        "tokenizer", "extend", trained, tmp_path / "a.txt", "--num-tokens", 9, "--out", tmp_path / "new", "--json"
    )
    assert result.code == 0 and result.json["added"] == 1 and "1 token added" in result.err


def test_the_source_is_never_written(smelt: Smelt, trained: Path, checkpoint: Path, tmp_path: Path) -> None:
    add = ("--add", "<think>", "--out")
    for source, out in (
        (trained, trained),
        (trained / "tokenizer.json", trained),
        (checkpoint, checkpoint),
        (checkpoint, checkpoint / "new"),
    ):
        before = content(checkpoint) | content(trained)
        result = smelt("tokenizer", "extend", source, *add, out)
        assert result.code == 2 and "would be written over its source" in result.err
        assert content(checkpoint) | content(trained) == before
    result = smelt("tokenizer", "extend", trained, *add, checkpoint)
    assert result.code == 2 and "which another tokenizer would ruin" in result.err
    result = smelt("tokenizer", "extend", checkpoint, *add, checkpoint.parent)
    assert result.code == 2 and "is not empty" in result.err
    result = smelt("tokenizer", "extend", trained / "tokenizer.json", *add, trained / "tokenizer.json")
    assert result.code == 2 and "is a file" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to change"),
        (["--num-tokens", 5], "--num-tokens 5 without text to learn from"),
        (["--num-tokens", -5], "invalid value for '--num-tokens'"),
        (["--add", "<|im_end|>"], "'<|im_end|>' is in the vocabulary already, as id 289"),
        (["--add", ""], "an added token is empty"),
        (["--add-special", "<a>", "--add", "<a>"], "'<a>' is given twice"),
        (["--prune-to", 10], "cannot keep 10 of 290 tokens"),
        (["--prune-to", 0], "cannot keep 0 of 290 tokens"),
    ],
)
def test_wrong_words(words: list, message: str, smelt: Smelt, trained: Path, tmp_path: Path) -> None:
    result = smelt("tokenizer", "extend", trained, *words, "--out", tmp_path / "new")
    assert result.code != 0 and message in result.err and "Traceback" not in result.err
    assert not (tmp_path / "new").exists()


def test_a_source_that_is_not_there(smelt: Smelt, tmp_path: Path) -> None:
    result = smelt("tokenizer", "extend", tmp_path / "nothing", "--add", "<a>", "--out", tmp_path / "new")
    assert result.code != 0 and "nothing" in result.err and "Traceback" not in result.err


def test_new_rows_are_those_of_the_old_model_when_ids_move() -> None:
    from smelt.cli.tokenizer_extend import changed
    from smelt.tokenizers.decoders import MetaspaceDecoder
    from smelt.tokenizers.pipeline import Pipeline
    from smelt.tokenizers.splitters import Metaspace
    from smelt.tokenizers.unigram import Unigram

    model = Unigram(["<unk>", "▁rare", "▁", "a", "b"], [0.0, -9.0, -1.0, -2.0, -10.0], unk_id=0)
    old = Pipeline(model, splitters=[Metaspace()], decoder=MetaspaceDecoder())
    change = changed(old, [], [], ["ab"], 0, 4)
    assert (change.kept, change.new) == ([0, 2, 3, 4], [old.encode("ab")]) and old.encode("ab") == [2, 3, 4]
