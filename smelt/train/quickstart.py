"""The whole road in one call: data, tokenizer, pretraining, instruction tuning, evaluation, three chats.

It only arranges what the verbs do one by one, and writes the same files, so that whoever wants more can go on
from any of them. Without text of your own it walks the generated town, where every answer is known and the
entropy of the text is a floor to compare the model with. Time is shared out as it passes: each stage gets its
part of what is left, and the evaluation keeps a reserve.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from smelt.core.config import Config
from smelt.core.errors import UsageError
from smelt.core.log import say
from smelt.core.storage import atomic_write_text, write_json
from smelt.data import town
from smelt.data.formats import read_chats, read_text
from smelt.data.order import split_documents
from smelt.data.records import ChatRow, Message
from smelt.evals.gold import GoldScore, exact_match
from smelt.evals.text import bits_per_byte
from smelt.infer.generate import generate
from smelt.infer.sampling import Sampling
from smelt.models.encoder_decoder import Network
from smelt.optim.build import OptimizerRecipe
from smelt.peft.load import load
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import save_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.recipes import DataSource
from smelt.train.stages.common import StageResult
from smelt.train.stages.pretrain import ModelRecipe, PretrainRecipe, pretrain
from smelt.train.stages.sft import SftRecipe, sft


@dataclass(frozen=True)
class Preset:
    """Sizes and shares that suit one kind of corpus."""

    vocab_size: int
    pattern: str
    model: ModelRecipe
    max_seq_len: int
    batch_rows: int
    pretrain_share: float
    learning_rate: float
    sft_learning_rate: float
    sft_epochs: float | None


SIZES: dict[str, Preset] = {
    "town": Preset(
        vocab_size=2048,
        pattern="han",  # single digits and single characters: sums and names are learnt piece by piece
        model=ModelRecipe(preset="smelt-town"),
        max_seq_len=256,
        batch_rows=8,
        pretrain_share=0.25,
        learning_rate=3e-3,  # at 1e-2 neither looking up nor comparing is learnt surely
        sft_learning_rate=3e-3,
        sft_epochs=None,
    ),
    "small": Preset(
        vocab_size=4096,
        pattern="gpt4",
        model=ModelRecipe(dim=256, num_layers=5, num_heads=8),
        max_seq_len=256,
        batch_rows=16,
        pretrain_share=0.8,
        learning_rate=3e-3,
        sft_learning_rate=6e-4,
        sft_epochs=3,
    ),
}

RESERVE_SECONDS = 25.0  # kept for evaluation and chats
VALIDATE_EVERY = 500  # steps; a step of these small batches is ten times cheaper than a validation
TOKENIZER_SAMPLE_BYTES = 8 * 2**20
TOWN_DOCUMENTS, TOWN_INSTRUCTIONS = 30_000, 90_000
TOWN_QUESTIONS = 6  # about one story at the most: many answers for one reading
# What is hard to learn is practised more often; measured are all kinds alike.
TOWN_PRACTICE = (
    *town.KINDS,
    *("yes_no", "yes_no", "yes_no", "unknowable", "unknowable", "unknowable", "reading", "reading", "reading"),
    *("arithmetic", "arithmetic", "arithmetic", "continue", "continue", "sort"),
)
TOWN_HELDOUT_DOCUMENTS, TOWN_HELDOUT_INSTRUCTIONS = 400, 840
NOTES = ("studio.json", "studio.log")
"""What whoever starts a process keeps in its directory; it is no content."""


class QuickstartRecipe(Config):
    """From text to a chat model in one go."""

    text: str | None = None
    """Text to pretrain on (file, folder or glob); the generated town when empty."""
    instructions: str | None = None
    """Conversations to tune on; the town's when there is no text either."""
    minutes: float = Field(default=6.5, gt=0)
    """Time for everything, evaluation included."""
    preset: Literal["auto", "town", "small"] = "auto"
    """Sizes of tokenizer and model; auto: town for the town, small for your text."""
    out: str = "runs/quickstart"
    """Where everything goes."""
    seed: int = Field(default=0, ge=0)
    """Decides data, weights and order."""

    @model_validator(mode="after")
    def both_or_neither(self) -> QuickstartRecipe:
        """Ask for text together with instructions."""
        if self.instructions is not None and self.text is None:
            raise ValueError(
                "instructions need text to pretrain on: add --text, or run `smelt sft` on a checkpoint you have"
            )
        return self


@dataclass(frozen=True)
class QuickstartResult:
    """What was made and how good it is; `floor_bits_per_byte` and exact match are known for the town only."""

    checkpoint: str
    validation_bits_per_byte: float
    floor_bits_per_byte: float | None
    exact_match: float | None
    exact_match_by_kind: dict[str, float]
    tokens_per_second: float
    seconds: float
    chats: list[dict[str, str]] = field(default_factory=list)
    intervals: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Corpus:
    """Files to train on, and what is held out to measure with."""

    text: str
    instructions: str | None
    validation: str | None
    heldout_texts: list[str]
    gold: list[ChatRow]
    questions: list[ChatRow]
    floor: float | None


def quickstart(recipe: QuickstartRecipe, *, replace: bool = False) -> QuickstartResult:
    """Walk the road; `replace` clears what an earlier quickstart left in the same place.

    Raises:
        SmeltError: bad data, or a directory that holds something else.
    """
    started = time.perf_counter()
    deadline = started + recipe.minutes * 60 - RESERVE_SECONDS
    out = prepare_directory(Path(recipe.out), replace)
    preset = SIZES[("town" if recipe.text is None else "small") if recipe.preset == "auto" else recipe.preset]
    corpus = town_corpus(recipe, out / "data") if recipe.text is None else own_corpus(recipe, out / "data")
    tokenizer = train_tokenizer(corpus, preset, out / "tokenizer")
    share = preset.pretrain_share if corpus.instructions else 1.0
    base = unless_interrupted(pretrain(pretrain_recipe(recipe, preset, corpus, minutes_until(deadline) * share)))
    final = base.checkpoint
    if corpus.instructions:
        final = unless_interrupted(sft(sft_recipe(recipe, preset, corpus, final, minutes_until(deadline)))).checkpoint
    say("evaluating")
    text_score = bits_per_byte(load(base.checkpoint)[0], tokenizer, corpus.heldout_texts)
    model, _ = load(final)
    score = exact_match(model, tokenizer, ChatTemplate(tokenizer), corpus.gold) if corpus.gold else None
    by_kind = {} if score is None else score.by_kind
    result = QuickstartResult(
        checkpoint=final,
        validation_bits_per_byte=round(text_score.bits_per_byte, 4),
        floor_bits_per_byte=None if corpus.floor is None else round(corpus.floor, 4),
        exact_match=None if score is None else round(score.overall.value, 4),
        exact_match_by_kind={kind: round(rate.value, 4) for kind, rate in by_kind.items()},
        tokens_per_second=base.tokens_per_second,
        seconds=round(time.perf_counter() - started, 1),
        chats=sample_chats(model, tokenizer, corpus.questions) if corpus.instructions else [],
        intervals={kind: str(rate) for kind, rate in by_kind.items()},
    )
    write_json(out / "quickstart.json", result.as_dict())
    if score is not None:
        write_json(out / "wrong_answers.json", wrong_answers(score))
    return result


def unless_interrupted(result: StageResult) -> StageResult:
    """Return a stage's result; after Ctrl-C, which the stage answered by saving, end the walk too."""
    if result.stopped == "interrupted":
        say(f"interrupted; what was trained is in {result.checkpoint}")
        raise KeyboardInterrupt
    return result


def minutes_until(deadline: float) -> float:
    """Return the minutes left, a few seconds at the least."""
    return max(0.05, (deadline - time.perf_counter()) / 60)


def pretrain_recipe(recipe: QuickstartRecipe, preset: Preset, corpus: Corpus, minutes: float) -> PretrainRecipe:
    """Return the recipe of the base model."""
    return PretrainRecipe(
        name="base",
        out=recipe.out,
        seed=recipe.seed,
        data=(DataSource(path=corpus.text, name=Path(corpus.text).stem),),
        validation=corpus.validation,
        tokenizer=str(Path(recipe.out) / "tokenizer"),
        model=preset.model,
        max_seq_len=preset.max_seq_len,
        batch_rows=preset.batch_rows,
        minutes=minutes,
        validate_every=VALIDATE_EVERY,
        optimizer=OptimizerRecipe(learning_rate=preset.learning_rate, schedule="cosine"),
    )


def sft_recipe(recipe: QuickstartRecipe, preset: Preset, corpus: Corpus, checkpoint: str, minutes: float) -> SftRecipe:
    """Return the recipe of the chat model; a preset may set its epochs, else it takes the time that is left."""
    assert corpus.instructions is not None
    return SftRecipe(
        name="chat",
        out=recipe.out,
        seed=recipe.seed,
        checkpoint=checkpoint,
        data=(DataSource(path=corpus.instructions, name="instructions"),),
        max_seq_len=preset.max_seq_len,
        batch_rows=preset.batch_rows,
        epochs=preset.sft_epochs,
        minutes=minutes if preset.sft_epochs is None else None,
        validate_every=VALIDATE_EVERY,
        optimizer=OptimizerRecipe(learning_rate=preset.sft_learning_rate, schedule="cosine"),
    )


def prepare_directory(out: Path, replace: bool) -> Path:
    """Make the directory; what an earlier quickstart left is cleared when that is allowed.

    Raises:
        UsageError: it holds something, and may not or cannot be cleared.
    """
    content = [path for path in out.iterdir() if path.name not in NOTES] if out.exists() else []
    if content:
        ours = (out / "data").is_dir() and ((out / "tokenizer").is_dir() or (out / "base").is_dir())
        if not (ours and replace):
            raise UsageError(
                f"{out} is not empty",
                accepted="a new or empty directory" + (", or --yes to replace the earlier quickstart" if ours else ""),
                fix="--out ANOTHER_DIRECTORY",
            )
        for path in content:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    return out


def town_corpus(recipe: QuickstartRecipe, folder: Path) -> Corpus:
    """Generate the town's files: training worlds, and held-out worlds that share no name with them."""
    say("generating the town")
    train, heldout = folder / "train", folder / "heldout"
    town.write(
        train,
        split="train",
        seed=recipe.seed,
        num_documents=TOWN_DOCUMENTS,
        num_instructions=TOWN_INSTRUCTIONS,
        kinds=TOWN_PRACTICE,
        max_questions=TOWN_QUESTIONS,
    )
    town.write(
        heldout,
        split="heldout",
        seed=recipe.seed,
        num_documents=TOWN_HELDOUT_DOCUMENTS,
        num_instructions=TOWN_HELDOUT_INSTRUCTIONS,
    )
    gold = list(read_chats(heldout / "instructions.jsonl"))
    floor = town.entropy_rate(seed=recipe.seed, split="heldout", num_documents=TOWN_HELDOUT_DOCUMENTS)
    return Corpus(
        text=str(train / "pretrain.jsonl"),
        instructions=str(train / "instructions.jsonl"),
        validation=str(heldout / "pretrain.jsonl"),
        heldout_texts=[row.text for row in read_text(heldout / "pretrain.jsonl")],
        gold=gold,
        questions=pick_questions(gold),
        floor=floor.bits_per_byte,
    )


def pick_questions(gold: Sequence[ChatRow]) -> list[ChatRow]:
    """Return three held-out questions of different kinds, about stories first."""
    kinds = ("reading", "unknowable", "extract")
    return [next(row for row in gold if row.kind == kind) for kind in kinds]


def own_corpus(recipe: QuickstartRecipe, folder: Path) -> Corpus:
    """Divide the user's files: a few per cent of the text is held out to measure bits per byte on."""
    assert recipe.text is not None
    texts = [row.text for row in read_text(recipe.text)]
    if len(texts) == 1:
        cut = max(1, len(texts[0]) * 95 // 100)
        kept, heldout = [texts[0][:cut]], [texts[0][cut:]]
    else:
        mask = split_documents(len(texts), 0.03, recipe.seed)
        kept = [text for text, out in zip(texts, mask, strict=True) if not out]
        heldout = [text for text, out in zip(texts, mask, strict=True) if out]
    write_texts(folder / "train.jsonl", kept)
    write_texts(folder / "validation.jsonl", heldout)
    questions = list(read_chats(recipe.instructions))[:3] if recipe.instructions else []
    return Corpus(
        text=str(folder / "train.jsonl"),
        instructions=recipe.instructions,
        validation=str(folder / "validation.jsonl"),
        heldout_texts=list(limit_bytes(heldout, 300_000)),
        gold=[],
        questions=questions,
        floor=None,
    )


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Write texts as rows of a .jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))


def limit_bytes(texts: Iterable[str], num_bytes: int) -> Iterator[str]:
    """Yield about the first `num_bytes` of some texts; every text gives an equal part at the most."""
    texts = list(texts)
    part = max(1, num_bytes // len(texts))
    for text in texts:
        yield text[:part]


def train_tokenizer(corpus: Corpus, preset: Preset, folder: Path) -> Pipeline:
    """Train a tokenizer on a sample of the text and on the conversations."""
    say("training the tokenizer")

    def sample() -> Iterator[str]:
        seen = 0
        for row in read_text(corpus.text):
            yield row.text[: TOKENIZER_SAMPLE_BYTES // 8]
            seen += min(len(row.text.encode()), TOKENIZER_SAMPLE_BYTES // 8)
            if seen > TOKENIZER_SAMPLE_BYTES:
                break
        if corpus.instructions:
            for number, chat in enumerate(read_chats(corpus.instructions)):
                if number == 5000:
                    break
                yield from (message.content for message in chat.messages)

    tokenizer = train_bpe(sample(), vocab_size=preset.vocab_size, pattern=preset.pattern)
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder, template=ChatTemplate(tokenizer), max_seq_len=preset.max_seq_len)
    return tokenizer


def sample_chats(model: Network, tokenizer: Pipeline, rows: Sequence[ChatRow]) -> list[dict[str, str]]:
    """Answer some questions, greedily."""
    template = ChatTemplate(tokenizer)
    asked = [row.messages[0].content for row in rows]
    prompts = [template.render([Message("user", question)], add_reply=True)[0] for question in asked]
    room = model.spec.max_seq_len
    fitting = [(question, ids) for question, ids in zip(asked, prompts, strict=True) if len(ids) < room]
    if not fitting:
        return []
    answers = generate(
        model,
        tokenizer,
        [ids for _, ids in fitting],
        Sampling(max_new_tokens=64, temperature=0),
        stop_ids=template.stop_ids,
    )
    return [{"question": q, "answer": a.text.strip()} for (q, _), a in zip(fitting, answers, strict=True)]


def wrong_answers(score: GoldScore) -> dict[str, list[dict[str, str]]]:
    """Return the kept misses by kind, for people to read."""
    return {kind: [asdict(miss) for miss in misses] for kind, misses in score.wrong.items()}
