"""The stage: every loss on text, chats and masks, students of every origin, own words, resume, refusals."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from smelt.core.config import load_recipe
from smelt.core.errors import CheckpointError, ConfigError
from smelt.core.storage import sha256_file
from smelt.data.corruption.rows import Corrupted
from smelt.data.packing import IGNORED, Packed
from smelt.infer.generate import generate
from smelt.infer.sampling import Sampling
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.peft.load import load as load_adapted
from smelt.tokenizers.formats import load_tokenizer
from smelt.tokenizers.surgery import add_tokens
from smelt.tokenizers.training import train_tokenizer
from smelt.train import hooks
from smelt.train.loop import StepResult
from smelt.train.on_policy import OnPolicyRows, Place, places_of, replaced, until_stop
from smelt.train.run import RunDirectory
from smelt.train.sources import ArrayRows, RowSource
from smelt.train.stages import common
from smelt.train.stages.common import StageResult
from smelt.train.stages.distill import DistillRecipe, distill
from smelt.train.state import TrainState
from smelt.train.students import first_difference, some_blocks

from .conftest import WORDS, sentence

X = IGNORED
SIZES = {"dim": 16, "num_layers": 1, "num_heads": 2}


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not time steps: the length of these runs is given."""
    monkeypatch.setattr(common, "measure_step", lambda *arguments: 1.0)


@pytest.fixture(scope="module")
def teacher(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of four blocks with the byte tokenizer of `files`."""
    return saved(files, tmp_path_factory.mktemp("teacher") / "t", layers=4)


def saved(files: Path, path: Path, *, layers: int, dim: int = 24, seed: int = 1, family: str = "llama") -> Path:
    tokenizer = load_tokenizer(files / "tokenizer")
    model = build(spec_for(family, Shape(tokenizer.vocab_size, dim, layers, 2, 64, tied=True)), seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4 if parameter.ndim == 2 else 1  # else it would say everything alike
    save(model, tokenizer, path, lineage={"stage": "pretrain", "step": 1})
    return path


def recipe_for(files: Path, teacher: Path, out: Path, **changes: object) -> DistillRecipe:
    values = dict(
        name="s", out=str(out), teacher=str(teacher), data=str(files / "text.jsonl"), validation_fraction=0.1,
        max_seq_len=32, batch_rows=4, micro_rows=2, steps=4, save_every=2, validate_every=0, compile="no",
        dtype="float32",
    )  # fmt: skip
    origin = {"model": SIZES} if not {"model", "layers", "checkpoint"} & changes.keys() else {}
    return DistillRecipe.model_validate({**values, **origin, **changes})


def weights(result: StageResult) -> str:
    return sha256_file(Path(result.checkpoint) / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "metrics"),
    [
        ({"loss": "forward_kl", "temperature": 2.0}, {"soft", "hard"}),
        ({"loss": "reverse_kl", "data": "chats.jsonl"}, {"soft", "hard"}),
        ({"loss": "jsd", "beta": 0.1, "on_policy": 0.5, "data": "chats.jsonl"}, {"soft", "hard"}),
        ({"loss": "hidden"}, {"hidden", "hard"}),
        ({"loss": "hidden", "layers": (0, 2), "match": (1, 3), "data": "chats.jsonl"}, {"hidden", "hard"}),
        ({"loss": "triple", "layers": (0, 2)}, {"soft", "masked", "cosine"}),
    ],
)
def test_each_loss_trains(
    files: Path, teacher: Path, tmp_path: Path, changes: dict[str, object], metrics: set[str]
) -> None:
    changes |= {"data": str(files / str(changes.get("data", "text.jsonl")))}
    result = distill(recipe_for(files, teacher, tmp_path, **changes))
    assert result.steps == 4 and result.validation_loss is not None
    assert metrics <= set(RunDirectory(tmp_path, "s").read_metrics()[0])
    model, tokenizer = load(result.checkpoint)
    assert tokenizer.fingerprint == load_tokenizer(files / "tokenizer").fingerprint
    assert len(model.spec.layers) == (2 if "layers" in changes else 1)
    lineage = json.loads((Path(result.checkpoint) / "smelt.json").read_text())
    assert lineage["stage"] == "distill" and [parent["path"] for parent in lineage["parents"]] == [str(teacher)]
    assert (Path(result.checkpoint) / "chat_template.jinja").exists() == str(changes["data"]).endswith("chats.jsonl")


def test_an_encoder_learns_from_an_encoder(tmp_path: Path, files: Path) -> None:
    tokenizer = add_tokens(train_tokenizer([sentence(n) for n in range(50)], algorithm="wordpiece", vocab_size=90), [])
    model = build(spec_for("bert", Shape(tokenizer.vocab_size, 16, 2, 2, 64)), seed=0)
    save(model, tokenizer, tmp_path / "t", lineage={"stage": "pretrain", "step": 1})
    shape = {"family": "bert", **SIZES}
    for loss in ("triple", "forward_kl"):
        recipe = recipe_for(files, tmp_path / "t", tmp_path, name=loss, loss=loss, model=shape)
        assert not load(distill(recipe).checkpoint)[0].spec.is_causal
    for changes, what in (
        ({"on_policy": 0.5}, "on_policy with an encoder, which does not write"),
        ({"sample_prompts": ("the",)}, "sample_prompts with an encoder"),
        ({"data": str(files / "chats.jsonl")}, "which are conversations, an encoder"),
        ({"model": SIZES}, "is of the kind encoder, the student of the family llama of the kind decoder"),
    ):
        with pytest.raises(ConfigError, match=what):
            distill(recipe_for(files, tmp_path / "t", tmp_path / "no", **{"model": shape, **changes}))


def test_a_student_of_some_blocks_begins_as_they_are(files: Path, teacher: Path) -> None:
    model, _ = load(teacher)
    student = some_blocks(model, (3, 0))
    for name, values in model.state_dict().items():
        if not name.startswith("blocks."):
            assert torch.equal(student.state_dict()[name], values)
    for ours, theirs in ((0, 3), (1, 0)):
        for name, values in student.blocks[ours].state_dict().items():
            assert torch.equal(values, model.blocks[theirs].state_dict()[name])
    whole = some_blocks(model, range(4))
    ids = torch.arange(6)[None]
    assert torch.equal(whole(ids).logits, model(ids).logits)


@pytest.mark.parametrize("layers", [(0, 4), (1, 1), (-1,)])
def test_blocks_that_are_not_there(teacher: Path, layers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"of a teacher with 4 blocks\naccepted: different numbers from 0 to 3"):
        some_blocks(load(teacher)[0], layers)


def test_blocks_that_the_family_cannot_write_down_or_share() -> None:
    numbered, shared = (build(spec_for(name, Shape(50, 32, 4, 4, 32)), seed=0) for name in ("chatglm6b", "albert"))
    with pytest.raises(CheckpointError, match="layout cannot hold this model: layers"):
        some_blocks(numbered, (3, 0))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="of a teacher whose blocks share their weights"):
        some_blocks(shared, (0, 2))  # type: ignore[arg-type]


# --- the student's own words -----------------------------------------------------------------------------------------


def test_where_the_student_writes_in_a_chat() -> None:
    # Two conversations and padding; the second has two answers, of which the last is the student's.
    labels = np.array([X, X, 7, 8, X, X, 3, X, X, 4, 5, X, X])
    segments = np.array([1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0])
    assert places_of(labels, segments, 6) == [Place(6, 0, 3, 5), Place(6, 5, 10, 12)]


def test_where_the_student_writes_in_a_text() -> None:
    labels, segments = np.arange(1, 13), np.array([1] * 8 + [2] * 3 + [3])
    assert places_of(labels, segments, 0) == [Place(0, 0, 2, 8), Place(0, 8, 9, 11)]


def test_what_it_wrote_takes_the_place_of_what_stood_there() -> None:
    segments = np.array([[1, 1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 1, 1, 1]])
    ids = np.arange(16).reshape(2, 8)
    packed = Packed(ids, ids + 1, segments, np.array([[0, 1, 2, 3, 4, 0, 1, 2], list(range(8))]))
    places = [Place(0, 0, 2, 5), Place(0, 5, 6, 8)]
    found = replaced(packed, places, [[50, 51], [60, 61]], np.array([1, 0]))
    assert found.ids[0].tolist() == [0, 1, 50, 51, 4, 5, 60, 61]
    assert found.labels[0].tolist() == [X, 50, 51, X, X, 60, 61, X]
    assert found.segments[0].tolist() == [1, 1, 1, 1, 0, 2, 2, 2]
    assert found.positions[0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    for name in ("ids", "labels", "segments", "positions"):
        assert np.array_equal(getattr(found, name)[1], getattr(packed, name)[1])
    assert until_stop([5, 6, 2, 7, 2], [2, 3]) == [5, 6, 2] and until_stop([5], [2]) == [5]


def packed_rows(num_rows: int = 40) -> ArrayRows:
    ids = np.random.default_rng(0).integers(0, 50, (num_rows, 12)).astype(np.int32)
    ones = np.ones_like(ids)
    return ArrayRows(Packed(ids, np.roll(ids, -1, 1), ones, np.arange(12, dtype=np.int32) * ones))


def own_rows(**changes: object) -> OnPolicyRows:
    student = build(spec_for("llama", Shape(50, 16, 2, 2, 16, tied=True)), seed=0)
    values = dict(rows=packed_rows(), student=student, stop_ids=(3,), vocab_size=50, share=0.5, seed=7)
    return OnPolicyRows(**{**values, **changes})  # type: ignore[arg-type]


def test_rows_do_not_depend_on_who_else_is_taken() -> None:
    rows = own_rows()
    together = rows.take(range(40), [1] * 40)
    assert 10 <= together.row_labels.sum() <= 30
    alone = [rows.take([row], [1]) for row in range(40)]
    for name in ("ids", "labels", "segments", "positions"):
        parts = np.concatenate([getattr(one.packed, name) for one in alone])
        assert np.array_equal(parts, getattr(together.packed, name)), name
    other_epoch, other_seed = rows.take(range(40), [2] * 40), own_rows(seed=8).take(range(40), [1] * 40)
    for other in (other_epoch, other_seed):
        assert not np.array_equal(other.row_labels, together.row_labels)


def test_rows_are_what_the_plain_loop_would_write(files: Path) -> None:
    rows = own_rows(share=1.0, stop_ids=())
    taken = rows.take(range(5))
    model, prompts = rows.student, rows.rows.take(range(5)).ids[:, :3].tolist()
    assert np.array_equal(taken.packed.ids[:, :3], prompts)
    greedy = model(torch.from_numpy(taken.packed.ids).long()).logits.log_softmax(-1)
    # It is sampled, not the likeliest each time, and each token is the label of the place before it.
    assert bool((greedy.argmax(-1)[:, 2:-1].numpy() != taken.packed.ids[:, 3:]).any())
    assert taken.packed.labels[:, 2:-1].tolist() == taken.packed.ids[:, 3:].tolist()


def test_a_share_of_none_and_of_all() -> None:
    assert own_rows(share=0.0).take(range(40)).row_labels.sum() == 0
    assert own_rows(share=1.0).take(range(40)).row_labels.sum() == 40


def test_the_student_goes_on_learning_as_it_was() -> None:
    rows = own_rows(share=1.0)
    rows.student.train()
    state = torch.get_rng_state()
    batch = RowSource(rows, seed=0).take(4)
    assert rows.student.training and torch.equal(torch.get_rng_state(), state)
    assert batch.row_labels.tolist() == [1] * 4
    rows.student(batch.ids, **batch.context()).logits.sum().backward()  # nothing of inference mode is left behind


def test_own_words_change_with_the_weights() -> None:
    rows = own_rows(share=1.0)
    before = rows.take(range(8)).packed.ids
    assert np.array_equal(before, rows.take(range(8)).packed.ids)
    with torch.no_grad():
        for parameter in rows.student.parameters():
            parameter *= 3
    assert not np.array_equal(before, rows.take(range(8)).packed.ids)


@pytest.mark.parametrize("changes", [{"on_policy": 0.5}, {"loss": "hidden", "model": SIZES}])
def test_resume_equals_uninterrupted(
    files: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: hooks.LogMetrics, state: TrainState, result: StepResult) -> None:
        original(self, state, result)
        if state.step == 3:
            raise Killed

    original = hooks.LogMetrics.__call__
    whole = distill(recipe_for(files, teacher, tmp_path / "whole", **changes))
    recipe = recipe_for(files, teacher, tmp_path / "killed", **changes)
    with monkeypatch.context() as patched:
        patched.setattr(hooks.LogMetrics, "__call__", killed)
        with pytest.raises(Killed):
            distill(recipe)
    torch.rand(3)  # another process would not have this random state either
    assert weights(distill(recipe, resume=True)) == weights(whole)
    again = load_recipe(DistillRecipe, Path(whole.run) / "recipe.yaml", [f"out={tmp_path / 'again'}"])
    assert weights(distill(again)) == weights(whole)
    by_one = recipe_for(files, teacher, tmp_path / "ones", **changes, name="s1")
    assert distill(by_one.model_copy(update={"micro_rows": 4})).train_loss == pytest.approx(whole.train_loss, rel=1e-4)


@pytest.mark.parametrize(
    "tune",
    [
        {"method": "lora", "lora": {"rank": 2, "dropout": 0.1}, "base_bits": 4},
        {"method": "prefix", "prefix": {"num_virtual_tokens": 4}},
    ],
    ids=["qlora", "prefix"],
)
def test_an_adapter_writes_its_own_words_and_goes_on_bit_for_bit(
    files: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: dict[str, object]
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: hooks.LogMetrics, state: TrainState, result: StepResult) -> None:
        original(self, state, result)
        if state.step == 3:
            raise Killed

    def noted(self: OnPolicyRows, indices: Sequence[int], epochs: Sequence[int] = ()) -> Corrupted:
        found = take(self, indices, epochs)
        assert any(name.endswith(("up", "rows")) for name, _ in self.student.named_parameters())  # as it is tuned
        written.append(int(found.row_labels.sum()))
        return found

    written, take, original = list[int](), OnPolicyRows.take, hooks.LogMetrics.__call__
    student = saved(files, tmp_path / "student", layers=1)
    changes = dict(checkpoint=str(student), on_policy=0.5, tune=tune, max_seq_len=32)
    monkeypatch.setattr(OnPolicyRows, "take", noted)
    whole = distill(recipe_for(files, teacher, tmp_path / "whole", **changes))
    assert sum(written) > 0
    recipe = recipe_for(files, teacher, tmp_path / "killed", **changes)
    with monkeypatch.context() as patched:
        patched.setattr(hooks.LogMetrics, "__call__", killed)
        with pytest.raises(Killed):
            distill(recipe)
    torch.rand(3)
    again = distill(recipe, resume=True)
    found = [sha256_file(Path(result.checkpoint) / "adapter_model.safetensors") for result in (whole, again)]
    assert found[0] == found[1]
    assert load_adapted(again.checkpoint)[0].spec.num_layers == 1


def test_an_adapter_teaches(files: Path, teacher: Path, tmp_path: Path) -> None:
    tune = {"method": "prefix", "prefix": {"num_virtual_tokens": 4}}
    adapter = distill(recipe_for(files, teacher, tmp_path, checkpoint=str(teacher), tune=tune, name="t", steps=1))
    distill(recipe_for(files, Path(adapter.checkpoint), tmp_path, name="s1", steps=1))
    with pytest.raises(ConfigError, match=r"max_seq_len=61 is longer than the context of teacher=.*, 60"):
        distill(recipe_for(files, Path(adapter.checkpoint), tmp_path, name="s2", max_seq_len=61))
    with pytest.raises(ConfigError, match="of a teacher with an adapter that cannot be merged"):
        distill(recipe_for(files, Path(adapter.checkpoint), tmp_path, name="s3", layers=(0,)))
    with pytest.raises(ConfigError, match=r"tune\.method=lora on a new model"):
        distill(recipe_for(files, teacher, tmp_path, name="s4", layers=(0,), tune={"method": "lora"}))


# --- two models that do not fit --------------------------------------------------------------------------------------


def test_other_tokenizers_are_refused_with_what_differs_first(files: Path, teacher: Path, tmp_path: Path) -> None:
    ours = load_tokenizer(files / "tokenizer")
    larger = train_tokenizer([sentence(n) for n in range(50)], vocab_size=ours.vocab_size + 9)
    assert first_difference(ours, ours) == ""
    assert first_difference(ours, larger) == f"{ours.vocab_size} tokens and {larger.vocab_size}"
    one, other = (train_tokenizer([text * 9], vocab_size=262) for text in ("the mill and the mill", "zebras zz zebras"))
    assert "to one and" in first_difference(one, other) and first_difference(one, other).startswith("number ")
    model = build(spec_for("llama", Shape(larger.vocab_size, 16, 1, 2, 64)), seed=0)
    save(model, larger, tmp_path / "other", lineage={"stage": "pretrain", "step": 1})
    what = rf"read different tokens: {ours.vocab_size} tokens and {larger.vocab_size}\n.*\ntry: --write-answers FILE"
    with pytest.raises(ConfigError, match=what):
        distill(recipe_for(files, teacher, tmp_path, checkpoint=str(tmp_path / "other")))


def test_a_larger_student_is_said_aloud(
    files: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = saved(files, tmp_path / "large", layers=5)
    result = distill(recipe_for(files, teacher, tmp_path, checkpoint=str(large), steps=1))
    assert "warning: the student has" in capsys.readouterr().err
    parents = json.loads((Path(result.checkpoint) / "smelt.json").read_text())["parents"]
    assert [parent["path"] for parent in parents] == [str(large), str(teacher)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_len": 65}, r"max_seq_len=65 is longer than the context of teacher=.*, 64\ntry: max_seq_len=64"),
        ({"model": {**SIZES, "family": "t5"}}, "is of the kind decoder, the student of the family t5 of the kind enc"),
        ({"model": None}, "give one of checkpoint, layers and model, not none"),
        ({"layers": (0,), "checkpoint": "x"}, "give one of checkpoint, layers and model, not checkpoint and layers"),
        (
            {"loss": "hidden", "temperature": 2.0},
            "temperature is no setting of loss=hidden, which has hard_weight, match",
        ),
        ({"beta": 0.3}, "beta is no setting of loss=forward_kl"),
        ({"loss": "triple", "on_policy": 0.3}, "on_policy is no setting of loss=triple"),
        ({"loss": "triple"}, "the student has dim=16, its teacher 24"),
        ({"loss": "kl"}, "forward_kl"),
    ],
)
def test_refusals(files: Path, teacher: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        distill(recipe_for(files, teacher, tmp_path, **changes))


def test_a_teacher_that_predicts_no_token(files: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(files / "tokenizer")
    model = build(spec_for("t5", Shape(tokenizer.vocab_size, 16, 1, 2, 64)), seed=0)
    save(model, tokenizer, tmp_path / "t5", lineage={"stage": "pretrain", "step": 1})
    with pytest.raises(ConfigError, match="is an encoder-decoder\naccepted: a decoder, or an encoder with"):
        distill(recipe_for(files, tmp_path / "t5", tmp_path))


def test_generation_is_that_of_the_loop() -> None:
    """What a row holds is what `generate` gives for the same seed."""
    rows = own_rows(share=1.0, stop_ids=(), rows=packed_rows(1))
    tokenizer = train_tokenizer([" ".join(WORDS)], vocab_size=300)
    place = places_of(rows.rows.take([0]).labels[0], rows.rows.take([0]).segments[0], 0)[0]
    prompt = rows.rows.take([0]).ids[0, : place.begin].tolist()
    answer = rows.answers(rows.rows.take([0]), [place], [11])[0]
    wide = build(spec_for("llama", Shape(50, 16, 2, 2, 16, tied=True)), seed=0)
    found = generate(wide, tokenizer, [prompt], Sampling(max_new_tokens=place.end - place.begin, seed=11))
    assert list(found[0].ids) == answer
