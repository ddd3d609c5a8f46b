"""The engine in a thread of its own, and jobs that pass between it and the event loop.

The engine is one thread's: whatever is asked of it goes through a queue that it empties between two steps, and what it
wrote goes back to the event loop once a step for all jobs together. A job is what one HTTP request wants, one prompt or
many, or texts to embed, which are read a bounded number of tokens between two steps; it ends as a whole. Everything is
bounded: the number of jobs and of their prompts, and each job's updates by its tokens. A fault of the engine ends the
jobs under way with an error and makes a new engine over the same weights.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from torch import Tensor

from smelt.core.errors import SmeltError
from smelt.core.log import printable
from smelt.infer import Engine, EngineSettings
from smelt.infer.adapters import Adapter
from smelt.infer.embed import embed
from smelt.infer.requests import Request, Update
from smelt.infer.sampling import Sampling
from smelt.serve.errors import ApiError, fault, from_smelt, invalid, log, overloaded, traced, unavailable
from smelt.serve.prepare import Served, Wanted

STOP_SECONDS = 5.0
Step = tuple[int, Update]  # which of a job's prompts, and what was written for it
Event = list[Step] | ApiError


@dataclass(frozen=True)
class Load:
    """What the engine has to do, as of its last step."""

    running: int = 0
    waiting: int = 0
    free_pages: int = 0
    pages: int = 0


class Job:
    """What one HTTP request wants; used on the event loop alone."""

    def __init__(self, engine: EngineLoop, request_id: str) -> None:
        self.request_id, self._engine = request_id, engine
        self.wanted: Sequence[Wanted] = ()
        self._accepted: asyncio.Future[Sequence[Tensor]] = asyncio.get_running_loop().create_future()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def submit(self, wanted: Sequence[Wanted]) -> None:
        """Hand all prompts to the engine and wait until it took them; raises ApiError when it did not."""
        self._engine.enter(self, wanted)
        await self._accepted

    async def embed(self, texts: Sequence[Sequence[int]], adapter: str | None) -> Sequence[Tensor]:
        """Have the engine's thread read texts, and return a vector (D,) of each; raises ApiError when it failed."""
        self._engine.read(self, texts, adapter)
        return await self._accepted

    async def next(self) -> list[Step]:
        """Return what was written since the last call, waiting for it; raises ApiError when the job failed."""
        event = await self._events.get()
        if isinstance(event, ApiError):
            raise event
        return event

    def close(self) -> None:
        """End the job, finished or not: what still runs is cancelled."""
        self._engine.leave(self)

    def accept(self, error: ApiError | None, vectors: Sequence[Tensor] = ()) -> None:
        """Say whether the engine took the prompts, or read the texts, whose vectors these are."""
        if self._accepted.done():
            return
        if error is None:
            self._accepted.set_result(vectors)
        else:
            self._accepted.set_exception(error)

    def deliver(self, event: Event) -> None:
        """Add an event."""
        self._events.put_nowait(event)


@dataclass
class Reading:
    """Texts of a job that become vectors, step by step; `found` are those that there are, by place."""

    job: Job
    num_texts: int
    adapter: Adapter | None
    steps: Iterator[dict[int, Tensor]]
    found: dict[int, Tensor] = field(default_factory=dict)


def deliver(steps: Mapping[Job, list[Step]]) -> None:
    """Give each job what one step wrote for it."""
    for job, event in steps.items():
        job.deliver(event)


class EngineLoop:
    """Run an engine in a thread and jobs through it.

    Args:
        load: returns the model; called in the thread, so that the server answers while it loads.
        settings: the engine's bounds; they bound the jobs too.
        deadline_seconds: how long a job may wait for its first token.
    """

    def __init__(self, load: Callable[[], Served], settings: EngineSettings, *, deadline_seconds: float = 300) -> None:
        self.deadline_seconds = deadline_seconds
        self.capacity = settings.max_running + settings.max_waiting
        # Prompts are counted here, where a refusal waits for no step; in the engine all may stand in line for a moment.
        self._settings = replace(settings, max_waiting=self.capacity)
        self.load = Load()
        self.failure: BaseException | None = None
        self.draining = False
        self.jobs: set[Job] = set()
        self._load_model = load
        self._served: Served | None = None
        self._num_prompts = 0
        self._orders: queue.SimpleQueue[Callable[[Engine], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        # Of the engine's thread: what is under way, whose it is, and which jobs wait for their first token since when.
        self._owners: dict[Request, tuple[Job, int]] = {}
        self._expected: dict[Job, float] = {}
        self._readings: deque[Reading] = deque()

    @property
    def state(self) -> str:
        """Return "loading", "ready", "draining" or "failed"."""
        if self.failure is not None:
            return "failed"
        return "draining" if self.draining else "loading" if self._served is None else "ready"

    @property
    def served(self) -> Served:
        """Return the model; raises ApiError (503) while there is none to use."""
        if self.state != "ready" or self._served is None:
            raise unavailable(f"the server is {self.state}", code=f"server_{self.state}")
        return self._served

    def start(self, on_failure: Callable[[], None]) -> None:
        """Begin to load the model; `on_failure` is called on this event loop when no engine can be made."""
        self._loop, self._on_failure = asyncio.get_running_loop(), on_failure
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it, unless it still loads; jobs under way get no answer."""
        self._orders.put(None)
        self._thread.join(STOP_SECONDS)

    def open(self, request_id: str) -> Job:
        """Open a job; raises ApiError for a server that has enough to do (429)."""
        if len(self.jobs) >= self.capacity:
            raise overloaded(f"{self.capacity} requests are under way, which is the most")
        job = Job(self, request_id)
        self.jobs.add(job)
        return job

    def enter(self, job: Job, wanted: Sequence[Wanted]) -> None:
        """Send a job's prompts to the engine; raises ApiError when there are too many."""
        if len(wanted) > self.capacity:
            raise invalid(f"{len(wanted)} answers at once; this server gives at most {self.capacity}")
        if self._num_prompts + len(wanted) > self.capacity:
            raise overloaded(f"{self._num_prompts} prompts are under way; {self.capacity} is the most")
        self._num_prompts += len(wanted)
        job.wanted = wanted
        self._orders.put(lambda engine: self._submit(engine, job))

    def read(self, job: Job, texts: Sequence[Sequence[int]], adapter: str | None) -> None:
        """Send texts that a job wants as vectors to the engine's thread."""
        self._orders.put(lambda engine: self._begin_reading(engine, job, texts, adapter))

    async def order(self, work: Callable[[Engine], None]) -> None:
        """Have the engine's thread do something between two steps; raises the SmeltError that it raises."""
        done: Future[None] = Future()

        def run(engine: Engine) -> None:
            try:
                work(engine)
            except SmeltError as error:
                done.set_exception(error)
            except Exception as error:  # a fault: who waits is told, and the engine is made anew
                done.set_exception(error)
                raise
            else:
                done.set_result(None)

        self._orders.put(run)
        await asyncio.wrap_future(done)

    def leave(self, job: Job) -> None:
        """Forget a job and cancel what still runs of it; a second call does nothing."""
        if job in self.jobs:
            self.jobs.remove(job)
            self._num_prompts -= len(job.wanted)
            self._orders.put(lambda engine: self._cancel(engine, job))

    async def drain(self, seconds: float) -> None:
        """Take no more jobs, give those under way some time, then end them with what they have."""
        self.draining = True
        until = time.monotonic() + seconds
        while self.jobs and time.monotonic() < until:
            await asyncio.sleep(0.02)
        self._orders.put(self._cut)

    # What follows runs in the engine's thread.

    def _run(self) -> None:
        try:
            served = self._load_model()
            engine = served.new_engine(self._settings)
            room = engine.num_pages * engine.settings.page_tokens
            engine.generate([[0]], Sampling(max_new_tokens=2))  # what is compiled at the first use is compiled now
            self._served = replace(served, max_seq_len=min(served.max_seq_len, room))
            log(f"ready: {printable(served.name)}, {self._served.max_seq_len:,} tokens of prompt and answer")
            while not self._stays(engine):
                del engine  # its cache, before there is another one
                engine = served.new_engine(self._settings)
        except BaseException as error:
            self.failure = error
            self._loop.call_soon_threadsafe(self._on_failure)

    def _stays(self, engine: Engine) -> bool:
        """Run an engine until the end (True) or until it fails (False)."""
        try:
            while self._obeys(engine):
                self._step(engine)
            return True
        except Exception as error:
            log(f"the engine failed and is made anew\n{traced(error)}")
            reading = {reading.job for reading in self._readings}
            for job in {job for job, _ in self._owners.values()} | set(self._expected) | reading:
                self._tell(job, fault(job.request_id))
            self._owners.clear()
            self._expected.clear()
            self._readings.clear()
            return False

    def _obeys(self, engine: Engine) -> bool:
        """Do what was ordered, waiting for it where there is nothing else to do; return False at the end."""
        waits = not (engine.has_work or self._readings)
        while waits or not self._orders.empty():
            waits = False
            order = self._orders.get()
            if order is None:
                return False
            order(engine)
        return True

    def _step(self, engine: Engine) -> None:
        steps: dict[Job, list[Step]] = {}
        failed: list[Job] = []
        for update in engine.step() if engine.has_work else ():
            done = update.finish_reason is not None
            job, place = self._owners.pop(update.request) if done else self._owners[update.request]
            self._expected.pop(job, None)
            if update.finish_reason == "error":
                failed.append(job)
            else:
                steps.setdefault(job, []).append((place, update))
        self.load = Load(engine.num_running, engine.num_waiting, engine.num_free_pages, engine.num_pages)
        if steps:
            self._loop.call_soon_threadsafe(deliver, steps)
        if self._readings:
            self._read_on(engine)
        for job in failed:
            self._cancel(engine, job)
            self._tell(job, invalid("the schema that the answer has to keep to led too far; a simpler one may do"))
        latest = time.monotonic() - self.deadline_seconds
        for job in [job for job, since in self._expected.items() if since < latest]:
            self._cancel(engine, job)
            self._tell(job, unavailable("the request waited too long for its turn", code="server_overloaded"))

    def _submit(self, engine: Engine, job: Job) -> None:
        self._expected[job] = time.monotonic()
        try:
            for place, wanted in enumerate(job.wanted):
                request = engine.submit(
                    wanted.prompt,
                    wanted.sampling,
                    prompt_logprobs=wanted.prompt_logprobs,
                    constraint=wanted.constraint,
                    shown=wanted.shown,
                    adapter=wanted.adapter,
                )
                self._owners[request] = job, place
        except SmeltError as error:
            self._cancel(engine, job)
            self._tell(job, from_smelt(error))
        else:
            self._loop.call_soon_threadsafe(job.accept, None)

    def _begin_reading(self, engine: Engine, job: Job, texts: Sequence[Sequence[int]], adapter: str | None) -> None:
        try:
            chosen = None if adapter is None else engine.adapters.find(adapter)
        except SmeltError as error:
            self._tell(job, from_smelt(error))
            return
        self._expected[job] = time.monotonic()
        steps = embed(engine.model, texts, step_tokens=engine.settings.prefill_tokens)
        self._readings.append(Reading(job, len(texts), chosen, steps))

    def _read_on(self, engine: Engine) -> None:
        """Do one step of one job's texts; the jobs take turns."""
        reading = self._readings[0]
        self._expected.pop(reading.job, None)
        with engine.adapters.applied([reading.adapter]):  # texts are read in one row
            reading.found |= next(reading.steps)
        self._readings.rotate(-1)
        if len(reading.found) == reading.num_texts:
            self._readings.pop()
            vectors = [vector for _, vector in sorted(reading.found.items())]
            self._loop.call_soon_threadsafe(reading.job.accept, None, vectors)

    def _cancel(self, engine: Engine, job: Job) -> None:
        self._expected.pop(job, None)
        self._readings = deque(reading for reading in self._readings if reading.job is not job)
        for request in [request for request, (owner, _) in self._owners.items() if owner is job]:
            del self._owners[request]
            engine.cancel(request)

    def _cut(self, engine: Engine) -> None:
        """End all answers where they are."""
        for request, (job, place) in self._owners.items():
            engine.cancel(request)
            ended: Event = [(place, Update(request, (), "", (), None, "length"))]
            self._loop.call_soon_threadsafe(job.deliver, ended)
        for reading in self._readings:
            self._tell(reading.job, unavailable("the server is draining", code="server_draining"))
        self._owners.clear()
        self._expected.clear()
        self._readings.clear()

    def _tell(self, job: Job, error: ApiError) -> None:
        self._loop.call_soon_threadsafe(job.accept, error)
        self._loop.call_soon_threadsafe(job.deliver, error)
