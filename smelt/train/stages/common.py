"""What every stage does around the loop: plan, resolve, resume, fit with hooks, validate, report.

A stage prepares a `Job` (model, rows, objective) and hands it over; `run_job` is the only caller of `fit`. The
order matters for crash safety: the resolved recipe is on disk before the first step, so a run killed at any
later instant knows its own settings.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smelt.core import runtime
from smelt.core.config import load_recipe, to_yaml
from smelt.core.errors import ConfigError
from smelt.core.log import say
from smelt.core.storage import atomic_write_text, checkpoint_at, read_pointer
from smelt.data.mixing import Order
from smelt.infer.generate import generate
from smelt.infer.sampling import Sampling
from smelt.models.encoder_decoder import Network
from smelt.optim.build import build_optimizers, set_learning_rate
from smelt.peft.load import is_adapter, load, weights_hashes
from smelt.tokenizers.base import Tokenizer
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.pipeline import Pipeline
from smelt.train import forgetting, hooks
from smelt.train.checkpoint import latest_valid, restore, restore_weights, save_checkpoint
from smelt.train.forgetting import HeldOut
from smelt.train.loop import FitSettings, fit, split_rows
from smelt.train.objectives import Objective, mean_loss
from smelt.train.plan import make_plan, refuse_what_does_not_fit
from smelt.train.recipes import RunRecipe, resolve_compile, resolve_dtype, resolve_steps
from smelt.train.report import write_report
from smelt.train.run import RunDirectory
from smelt.train.sources import Rows, RowSource, to_batch
from smelt.train.state import TrainState
from smelt.train.tuning import WHOLE, Penalized, TuneRecipe, Tuning, tune

STEP_OVERHEAD = 1.1  # what validation, checkpoints and the log add to a step
VALIDATION_ROWS = 256  # rows measured during training; the figure at the end takes all of them


@dataclass
class Job:
    """All that a stage has prepared; `prompts` are token ids that samples continue.

    `started` is when the stage began, by `time.perf_counter`: a length in minutes counts what preparing took.
    """

    stage: str
    recipe: Any  # a RunRecipe of the stage
    run: RunDirectory
    model: Network
    tokenizer: Tokenizer
    template: ChatTemplate | None
    rows: Rows
    validation: Rows | None
    objective: Objective
    started: float
    prompts: Sequence[tuple[str, Sequence[int]]] = ()
    stop_ids: tuple[int, ...] = ()
    lineage: dict[str, Any] = field(default_factory=dict)
    next_steps: Callable[[str], Sequence[str]] = lambda checkpoint: ()
    examine: Callable[[Path], tuple[dict[str, Any], list[str]]] | None = None  # a finished checkpoint: metrics, lines
    order: Order | None = None  # of the rows, where it is not all of them once an epoch
    counts: Callable[[int], Mapping[str, Mapping[str, float]]] = lambda num_rows: {}  # by source, of the first draws
    measured: tuple[HeldOut, ...] = ()  # what is held out by source, and texts that are only measured
    before: dict[str, float] = field(default_factory=dict)  # losses of `measured` before the first step, by `run_job`
    new_parts: tuple[str, ...] = ()  # of the model, which the checkpoint it began with does not have
    tuning: Tuning = field(default_factory=lambda: Tuning(TuneRecipe(), 0))  # `run_job` settles it


@dataclass(frozen=True)
class StageResult:
    """What a stage made; the keys that `--json` prints."""

    checkpoint: str
    run: str
    steps: int
    tokens: int
    seconds: float
    tokens_per_second: float
    train_loss: float
    validation_loss: float | None
    metrics: dict[str, Any]
    stopped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return asdict(self)


def load_to_train(
    checkpoint: str, max_seq_len: int, *, writes: bool = True, tune: TuneRecipe | None = None
) -> tuple[Network, Pipeline]:
    """Load the checkpoint that a stage starts from, with its tokenizer; as it is stored where it will be quantized.

    Raises:
        ConfigError: the rows are longer than its context, with the virtual tokens that are to stand before them, or
            where the stage `writes` it has no head for that.
    """
    narrow = tune is not None and tune.base_bits is not None and not is_adapter(checkpoint_at(checkpoint))
    model, tokenizer = load(checkpoint, dtype="auto" if narrow else torch.float32)
    if writes and model.spec.is_causal and not model.spec.language_head:
        raise ConfigError(
            f"checkpoint={checkpoint} labels texts and has no head that writes",
            accepted="the checkpoint that it was made from",
            fix="use it for classify",
        )
    num_virtual = 0 if tune is None else tune.num_virtual_tokens
    room = model.max_text_tokens - num_virtual
    if max_seq_len > room > 1:  # with less, the method says what it needs
        behind = f" behind {num_virtual} virtual tokens" if num_virtual else ""
        raise ConfigError(
            f"max_seq_len={max_seq_len}{behind} is longer than the context of {checkpoint}, {model.max_text_tokens}",
            fix=f"max_seq_len={room}",
        )
    return model, tokenizer


def parents(checkpoint: str | None) -> list[dict[str, str]]:
    """Return where a run starts from, for its lineage: path and hash of the weights."""
    if checkpoint is None:
        return []
    directory = checkpoint_at(checkpoint)
    return [{"path": str(directory), "weights_sha256": found} for found in weights_hashes(directory)]


def recipe_of_run(recipe: Any, resume: bool) -> tuple[Any, RunDirectory]:
    """Return the recipe to follow and its run directory; a resumed run follows the recipe that it wrote down.

    What a method adds is for AdamW, so a recipe that tunes by one and says Muon is followed with AdamW.
    """
    if recipe.tune.method != WHOLE and recipe.optimizer.name == "muon":
        recipe = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"name": "adamw"})})
    run = RunDirectory(recipe.out, recipe.name)
    run.create(resume=resume)
    if resume and run.recipe.exists():
        saved = load_recipe(type(recipe), run.recipe)
        refuse_changes(recipe, saved, run)
        recipe = saved.model_copy(update={"out": recipe.out, "name": recipe.name})
    return recipe, run


def refuse_changes(recipe: RunRecipe, saved: RunRecipe, run: RunDirectory) -> None:
    """Refuse settings that a resumed run would not follow: it goes on with those that it wrote down.

    Raises:
        ConfigError: a setting was given and differs from the run's.
    """
    # Lengths in epochs or minutes, and "auto", were answered when the run began: they may be repeated as they were.
    answered = {"name", "out", "epochs", "minutes"}
    for key in sorted(recipe.model_fields_set - answered):
        given, kept = getattr(recipe, key), getattr(saved, key)
        if given not in (kept, "auto", None):
            raise ConfigError(
                f"{key}={given!r} differs from the run's {kept!r}, and --resume goes on with the run as it was",
                fix=f"leave it out, or start a new run with name=ANOTHER checkpoint={run.path}",
            )


def run_job(job: Job) -> StageResult:
    """Train a prepared job to its end and return what was made."""
    tune_model(job)
    recipe: RunRecipe = job.recipe
    runtime.prepare_process(saves_memory=recipe.gradient_checkpointing)
    job.model.gradient_checkpointing = recipe.gradient_checkpointing
    for part in trained_modules(job):
        part.to(runtime.device())
    source = RowSource(job.rows, seed=recipe.seed, device=runtime.device(), order=job.order)
    extra = job.objective if isinstance(job.objective, nn.Module) else None
    optimizers = optimizers_of(job, resolve_dtype(recipe.dtype))
    method = job.tuning.method
    state = TrainState(job.model, optimizers, source, extra, keeps_parameters=method is not None)
    torch.manual_seed(recipe.seed)  # of a dropout; a resumed run takes over where it stood
    resume_from_latest(job, state)
    recipe = resolve(job, state)
    settings = FitSettings(
        recipe.steps or 0,
        recipe.batch_rows,
        recipe.micro_rows or recipe.batch_rows,
        recipe.optimizer,
        resolve_dtype(recipe.dtype),
    )
    objective = job.objective
    if method is not None:
        method.watch(job.model, job.tuning.settings, optimizers, settings.steps)
        objective = job.objective if method.penalty is None else Penalized(job.objective, method.penalty)
    with hooks.StopOnInterrupt() as interrupt:
        fit(state, objective, settings, make_hooks(job, settings, interrupt))
    return finish(job, state, settings, time.perf_counter() - job.started)


def tune_model(job: Job) -> None:
    """Freeze or add to the job's model what its recipe says."""
    recipe: RunRecipe = job.recipe
    base = getattr(recipe, "checkpoint", None)
    job.tuning = tune(job.model, recipe.tune, seed=recipe.seed, base=base, new=job.new_parts)


def trained_modules(job: Job) -> list[nn.Module]:
    """Return the model, and the objective where it has parameters of its own."""
    own = job.objective if isinstance(job.objective, nn.Module) and list(job.objective.parameters()) else None
    return [job.model, *([] if own is None else [own])]


def optimizers_of(job: Job, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    """Return the optimizers of all that trains."""
    parts = trained_modules(job)
    recipe, factor = job.recipe.optimizer, job.tuning.factor
    return [optimizer for part in parts for optimizer in build_optimizers(part, recipe, dtype, factor)]


def resume_from_latest(job: Job, state: TrainState) -> None:
    """Continue from the newest valid checkpoint of the run, if there is one."""
    directory = latest_valid(job.run.checkpoints)
    if directory is not None:
        restore(state, directory)
    job.run.cut(state.step)
    if directory is not None:
        job.run.log_event("resume", step=state.step)
        say(f"resuming {job.run.path} after step {state.step}")


def resolve(job: Job, state: TrainState) -> Any:
    """Answer what the recipe leaves open, show the plan, refuse what does not fit, write the recipe down.

    A length in minutes counts from the start of the stage, so that preparing and compiling are inside it.
    """
    recipe = job.recipe
    micro_rows = min(recipe.micro_rows or recipe.batch_rows, recipe.batch_rows)
    dtype = resolve_dtype(recipe.dtype)
    plan_for = dict(
        micro_rows=micro_rows,
        max_seq_len=recipe.max_seq_len,
        gradient_checkpointing=recipe.gradient_checkpointing,
        optimizer=recipe.optimizer.name,
        dtype=dtype,
        objective=job.objective,
    )
    refuse_what_does_not_fit(make_plan(job.model, tokens=0, **plan_for), job.model.spec)
    job.before = losses_before(job, state)
    seconds = measure_step(job, dtype, recipe.batch_rows, micro_rows)

    def steps_to_do() -> int:
        minutes = None if recipe.minutes is None else recipe.minutes - (time.perf_counter() - job.started) / 60
        return resolve_steps(recipe, minutes, job.rows.num_rows, seconds)

    compiled = resolve_compile(recipe.compile, (steps_to_do() - state.step) * seconds)
    if compiled:
        torch.compiler.reset()  # the variants of an earlier stage count against dynamo's limit
        for part in trained_modules(job):
            for block in part.blocks:  # type: ignore[union-attr]
                block.compile(dynamic=False)
        seconds = measure_step(job, dtype, recipe.batch_rows, micro_rows)
    steps, tokens_per_step = steps_to_do(), recipe.batch_rows * recipe.max_seq_len
    plan = make_plan(job.model, tokens=steps * tokens_per_step, **plan_for)
    how = f"{str(dtype)[6:]}{', compiled' if compiled else ''}"
    left = hooks.clock((steps - state.step) * seconds)
    say(f"{job.stage}: {job.run.path} · {steps} steps of {tokens_per_step:,} tokens · {how}")
    for line in (*plan.lines(), f"measured {tokens_per_step / seconds:,.0f} tokens/s · about {left}"):
        say("  " + line)
    answers = {"steps": steps, "epochs": None, "minutes": None, "dtype": str(dtype)[6:]}
    job.recipe = recipe.model_copy(update={**answers, "compile": "yes" if compiled else "no"})
    atomic_write_text(job.run.recipe, to_yaml(job.recipe))
    return job.recipe


def losses_before(job: Job, state: TrainState) -> dict[str, float]:
    """Return the losses of the measured texts before the first step of a run that continues a checkpoint."""
    if not job.measured or not job.lineage.get("parents"):
        return {}
    if state.step == 0:
        losses = {held.name: held_out_loss(job, held.rows, None) for held in job.measured}
        job.run.log_event(forgetting.EVENT, losses=losses)
    return forgetting.kept_losses(job.run)


def measure_step(job: Job, dtype: torch.dtype, batch_rows: int, micro_rows: int) -> float:
    """Return the seconds of one optimizer step, from medians of some passes and updates that change nothing."""
    random_state = torch.get_rng_state()
    probe = RowSource(job.rows, seed=job.recipe.seed, device=runtime.device(), order=job.order)
    optimizers = optimizers_of(job, dtype)
    set_learning_rate(optimizers, 0.0)
    job.model.train()
    passes, updates = list[float](), list[float]()
    # The first pass warms up (or compiles); then at least three, and more while they are short, but none too many for
    # a run of a few steps.
    enough = 40 if job.recipe.minutes else min(40, resolve_steps(job.recipe, None, job.rows.num_rows, 1.0))
    while len(passes) < 4 or (len(passes) < enough and sum(passes[1:]) < 2.0):
        started = time.perf_counter()
        batch = probe.take(micro_rows)
        with runtime.autocast(dtype):
            sums, _ = job.objective(job.model, batch)
        sums.sum().backward()
        passes.append(time.perf_counter() - started)
        for part in trained_modules(job):
            part.zero_grad(set_to_none=False)  # nothing to add to the weights, be the loss as it may
        started = time.perf_counter()
        for optimizer in optimizers:
            optimizer.step()
        updates.append(time.perf_counter() - started)
    for part in trained_modules(job):
        part.zero_grad(set_to_none=True)
    torch.set_rng_state(random_state)
    micro_batches = len(split_rows(batch_rows, micro_rows))
    return (statistics.median(passes[1:]) * micro_batches + statistics.median(updates[1:])) * STEP_OVERHEAD


def make_hooks(job: Job, settings: FitSettings, interrupt: hooks.StopOnInterrupt) -> list[Callable[..., None]]:
    """Return the hooks of a run in the order in which they act."""
    recipe, run, steps = job.recipe, job.run, settings.steps

    def measure() -> tuple[float, dict[str, float]]:
        return held_out_losses(job, VALIDATION_ROWS)

    def save(state: TrainState) -> Path:
        lineage = {
            **job.lineage,
            "stage": job.stage,
            "step": state.step,
            "tokens": state.tokens,
            "metrics": {"validation_loss": state.best_loss} if state.best_step else {},
            "recipe": recipe.model_dump(mode="json"),
        }
        return save_checkpoint(
            state,
            run.checkpoints,
            lambda directory: job.tuning.publish(job.model, job.tokenizer, directory, job.template, lineage),
            keep=recipe.keep,
        )

    found: list[Callable[..., None]] = [hooks.LogMetrics(run), hooks.ShowProgress(job.stage, steps)]
    if job.validation is not None and recipe.validate_every:
        found.append(hooks.Validate(run, measure, recipe.validate_every, steps, recipe.patience))
    if job.prompts and recipe.sample_every:
        found.append(hooks.ShowSamples(run, lambda: write_samples(job), recipe.sample_every, steps))
    return [*found, interrupt, hooks.SaveCheckpoints(run, save, recipe.save_every, steps, recipe.patience > 0)]


def held_out_losses(job: Job, max_rows: int | None) -> tuple[float, dict[str, float]]:
    """Return the held-out loss in nats, over `max_rows` rows or (None) all of them, and by source where that is known.

    Of several sources each counts by its weight: it is the loss of text that is mixed as the training text is.
    """
    assert job.validation is not None
    parts = [held for held in job.measured if held.weight]
    if not parts:
        return held_out_loss(job, job.validation, max_rows), {}
    share = None if max_rows is None else max(1, max_rows // len(parts))
    losses = {held.name: held_out_loss(job, held.rows, share) for held in parts}
    if len(parts) == 1:
        return losses[parts[0].name], losses
    total = sum(held.weight for held in parts)
    return sum(held.weight / total * losses[held.name] for held in parts), losses


@torch.no_grad()
def held_out_loss(job: Job, rows: Rows, max_rows: int | None) -> float:
    """Return the mean loss in nats over the first `max_rows` held-out rows (all of them for None)."""
    num_rows = rows.num_rows if max_rows is None else min(max_rows, rows.num_rows)
    micro_rows, dtype = job.recipe.micro_rows or job.recipe.batch_rows, resolve_dtype(job.recipe.dtype)
    job.model.eval()
    total = weight = torch.zeros((), dtype=torch.float64)
    with torch.compiler.set_stance("force_eager"), runtime.autocast(dtype):
        for start in range(0, num_rows, micro_rows):
            indices = range(start, min(start + micro_rows, num_rows))
            batch = to_batch(rows.take(indices), runtime.device())
            total = total + job.objective(job.model, batch)[0].cpu().double()
            weight = weight + torch.tensor(job.objective.weight(batch), dtype=torch.float64)
    job.model.train()
    return mean_loss(total, weight).item()


def write_samples(job: Job) -> list[dict[str, str]]:
    """Let the model continue the job's prompts."""
    job.model.eval()
    with torch.compiler.set_stance("force_eager"):
        generations = generate(
            job.model,
            job.tokenizer,
            [ids for _, ids in job.prompts],
            Sampling(max_new_tokens=48, temperature=0.8, top_p=0.95, seed=job.recipe.seed),
            stop_ids=job.stop_ids,
        )
    job.model.train()
    return [{"prompt": prompt, "text": made.text} for (prompt, _), made in zip(job.prompts, generations, strict=True)]


def finish(job: Job, state: TrainState, settings: FitSettings, seconds: float) -> StageResult:
    """Measure the whole validation set, write the report, return the result."""
    run = job.run
    best = job.recipe.patience > 0 and state.best_step > 0
    target = read_pointer(run.checkpoints / ("best" if best else "latest"))
    assert target is not None  # the last step was saved
    if best:
        restore_weights(state, target)  # what is measured is what is returned
    validation: float | None = None
    metrics: dict[str, Any] = {
        "parameters": job.tuning.num_parameters,
        "trained_parameters": job.tuning.num_trained,
    }
    lines: list[str] = []
    if state.stop != "interrupted":
        validation, measured, lines = measure_end(job)
        metrics |= measured
    if job.examine is not None and state.stop != "interrupted":
        found, more = job.examine(target)
        metrics, lines = metrics | found, [*lines, *more]
    recent = [line["loss"] for line in run.read_metrics()[-20:]]
    if state.best_step:
        metrics |= {"best_validation_loss": state.best_loss, "best_step": state.best_step}
    if sources := job.counts(state.source.cursor):
        metrics["sources"] = sources
    result = StageResult(
        checkpoint=str(target),
        run=str(run.path),
        steps=state.step,
        tokens=state.tokens,
        seconds=round(seconds, 2),
        tokens_per_second=round(state.tokens / max(state.seconds, 1e-9), 1),
        train_loss=sum(recent) / max(1, len(recent)),
        validation_loss=validation,
        metrics=metrics,
        stopped=state.stop,
    )
    facts = [
        ("stage", job.stage),
        ("checkpoint", f"`{result.checkpoint}`"),
        ("parameters", job.tuning.parameters),
        ("steps, tokens", f"{result.steps:,}, {result.tokens:,}"),
        ("speed", f"{result.tokens_per_second:,.0f} tokens/s"),
        ("training loss (last 20 steps)", f"{result.train_loss:.4f}"),
        ("validation loss", "" if validation is None else f"{validation:.4f}"),
        *((f"drawn from {name}", counted(found)) for name, found in sources.items()),
    ]
    write_report(run, f"Run {job.recipe.name}", facts, job.next_steps(result.checkpoint), lines)
    return result


def measure_end(job: Job) -> tuple[float | None, dict[str, Any], list[str]]:
    """Return the held-out loss over all rows, what to say by source and of forgetting, and the lines of the report."""
    validation, losses = held_out_losses(job, None) if job.validation is not None else (None, {})
    metrics: dict[str, Any] = {"validation_loss_by_source": losses} if len(losses) > 1 else {}
    if not job.before:
        return validation, metrics, []
    after = losses | {held.name: held_out_loss(job, held.rows, None) for held in job.measured if not held.weight}
    found = forgetting.changes(job.measured, job.before, after)
    return validation, metrics | {"forgetting": found}, forgetting.report(job.run.path, job.measured, found)


def counted(found: Mapping[str, float]) -> str:
    """Return counts as words: {"rows": 3, "trainable_tokens": 1200} -> "3 rows, 1,200 trainable tokens"."""
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in found.items())
