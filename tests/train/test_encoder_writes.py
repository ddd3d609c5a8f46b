"""An encoder learns to write: its loss by hand, writing as it was trained, the stage, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from smelt.core.errors import ConfigError, UsageError
from smelt.core.storage import sha256_file
from smelt.data.corruption.written import pack_written
from smelt.infer import Sampling, generate
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load
from smelt.tokenizers.formats import save_tokenizer
from smelt.tokenizers.training import train_tokenizer
from smelt.train import hooks
from smelt.train.loop import StepResult
from smelt.train.objectives.cross_entropy import TokenCrossEntropy
from smelt.train.sources import to_batch
from smelt.train.stages import common
from smelt.train.stages.common import StageResult
from smelt.train.stages.pretrain import PretrainRecipe, pretrain
from smelt.train.stages.seq2seq import Seq2SeqRecipe, seq2seq, source_ids
from smelt.train.state import TrainState

SIZES = {"dim": 16, "num_layers": 2, "num_heads": 2}
CLASS, SEPARATOR = 1, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs.jsonl and a WordPiece tokenizer."""
    made = tmp_path_factory.mktemp("pairs")
    rows = [{"source": f"{number} and one", "target": f"makes {number + 1}"} for number in range(60)]
    (made / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [" ".join(row.values()) for row in rows]
    tokenizer = train_tokenizer(texts, algorithm="wordpiece", vocab_size=60)
    save_tokenizer(tokenizer, made / "tokenizer", template=None, max_seq_len=32)
    return made


def recipe_for(folder: Path, out: Path, **changes: Any) -> Seq2SeqRecipe:
    values = dict(
        name="writer",
        out=str(out),
        data=str(folder / "pairs.jsonl"),
        validation_fraction=0.1,
        tokenizer=str(folder / "tokenizer"),
        model={"family": "bert", **SIZES},
        max_seq_len=32,
        batch_rows=4,
        micro_rows=2,
        steps=4,
        save_every=2,
        validate_every=2,
        sample_every=2,
        sample_prompts=("3 and one",),
        compile="no",
        dtype="float32",
    )
    return Seq2SeqRecipe.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def writer(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StageResult:
    return seq2seq(recipe_for(folder, tmp_path_factory.mktemp("runs")))


def weights(result: StageResult) -> str:
    return sha256_file(Path(result.checkpoint) / "model.safetensors")


def test_a_packed_batch_has_the_loss_of_its_pairs_written_one_token_at_a_time() -> None:
    generator = torch.Generator().manual_seed(1)
    model = build(spec_for("bert", Shape(40, 16, 2, 2, 24)), seed=1).eval()

    def draw(size: int) -> list[int]:
        return torch.randint(3, 40, (size,), generator=generator).tolist()

    pairs = [(draw(size), draw(7 - size)) for size in range(1, 7)]
    rows, _ = pack_written(pairs, 24, class_id=CLASS, separator_id=SEPARATOR, has_types=True)
    batch = to_batch(rows.take(range(rows.num_rows)))
    expected = 0.0
    for source, target in pairs:
        for place, token in enumerate([*target, SEPARATOR]):
            expected -= slow_step(model, source, target[:place]).log_softmax(-1)[token].item()
    objective = TokenCrossEntropy()
    assert objective(model, batch)[0].item() == pytest.approx(expected, rel=1e-5)
    assert objective.weight(batch) == sum(len(target) + 1 for _, target in pairs)


def slow_step(model: Any, source: list[int], written: list[int]) -> torch.Tensor:
    """Return the logits of the next token by a whole forward of all that is there."""
    read = [CLASS, *source, SEPARATOR]
    order = [0] * len(read) + list(range(1, len(written) + 1))
    types = [0] * len(read) + [1] * len(written)
    ids, order_, types_ = (torch.tensor([given]) for given in ([*read, *written], order, types))
    with torch.inference_mode():
        return model(ids, order=order_, types=types_).logits[0, -1]


def test_writing_with_a_cache_is_writing_by_whole_forwards(writer: StageResult) -> None:
    model, tokenizer = load(writer.checkpoint)
    model.eval()
    with torch.no_grad():
        model.type_embedding.weight *= 40  # so that a wrong type would show
        for parameter in model.parameters():
            parameter *= 3 if parameter.ndim == 2 else 1
    begin, end = model.spec.token_ids.begin, model.spec.token_ids.decoder_start
    prompts = [source_ids(tokenizer, text, model.spec) for text in ("3 and one", "12 and one and one")]
    assert all(prompt[0] == begin and prompt[-1] == end for prompt in prompts)
    answers = generate(model, tokenizer, prompts, Sampling(max_new_tokens=8, temperature=0))
    for prompt, answer in zip(prompts, answers, strict=True):
        written: list[int] = []
        for token in answer.ids:
            read, order = len(prompt), list(range(1, len(written) + 1))
            ids = torch.tensor([[*prompt, *written]])
            types = torch.tensor([[0] * read + [1] * len(written)])
            with torch.inference_mode():
                logits = model(ids, order=torch.tensor([[0] * read + order]), types=types).logits[0, -1]
            assert int(logits[: tokenizer.vocab_size].argmax()) == token
            written.append(token)
        assert len(set(written)) > 1


def test_a_run_leaves_a_checkpoint_that_names_how_answers_begin_and_end(writer: StageResult, folder: Path) -> None:
    model, tokenizer = load(writer.checkpoint)
    begin, end = tokenizer.special["[CLS]"], tokenizer.special["[SEP]"]
    ids = model.spec.token_ids
    assert (ids.begin, ids.end, ids.decoder_start) == (begin, (end,), end) and model.spec.writes_answers
    assert writer.validation_loss is not None
    assert json.loads((Path(writer.checkpoint) / "generation_config.json").read_text())["decoder_start_token_id"] == end


@pytest.mark.parametrize("stop_after", [1, 3])
def test_resume_equals_uninterrupted(
    writer: StageResult, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: hooks.LogMetrics, state: TrainState, result: StepResult) -> None:
        original(self, state, result)
        if state.step == stop_after:
            raise Killed

    original = hooks.LogMetrics.__call__
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(hooks.LogMetrics, "__call__", killed)
        seq2seq(recipe_for(folder, tmp_path))
    assert weights(seq2seq(recipe_for(folder, tmp_path), resume=True)) == weights(writer)


def test_an_encoder_that_was_pretrained_goes_on_to_write(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(common, "measure_step", lambda *given: 1.0)
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"{number} and one"}) + "\n" for number in range(80)))
    tokens = {"tokenizer": str(folder / "tokenizer"), "max_seq_len": 32, "steps": 1, "compile": "no"}
    given = {"name": "base", "out": str(tmp_path), "data": str(text), "objective": "unilm", "batch_rows": 2, **tokens}
    base = pretrain(PretrainRecipe.model_validate({**given, "model": {"family": "bert", **SIZES}}))
    model, tokenizer = load(base.checkpoint)
    with pytest.raises(UsageError, match=r"fills in masked tokens and has no next one\naccepted: .*`smelt seq2seq`"):
        generate(model, tokenizer, [[1, 2]], Sampling(max_new_tokens=2))
    changes = {"tokenizer": None, "checkpoint": base.checkpoint, "model": {}, "steps": 1}
    model, tokenizer = load(seq2seq(recipe_for(folder, tmp_path, **changes)).checkpoint)
    prompt = source_ids(tokenizer, "3 and one", model.spec)
    assert generate(model, tokenizer, [prompt], Sampling(max_new_tokens=3, temperature=0), stop_ids=())[0].ids


def test_what_cannot_learn_to_write_is_refused(folder: Path, files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the tokenizer's marks around a text are none\naccepted: two, as \[CLS\]"):
        seq2seq(recipe_for(folder, tmp_path, tokenizer=str(files / "tokenizer")))
