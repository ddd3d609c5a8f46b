"""A checkpoint of ours as the teacher that writes instruction data.

Whoever asks takes turns at the engine: the thread that has it puts its request in line or does one step, which advances
everybody's answer. So as many threads as the engine may run at once fill its batch, and no thread of its own is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from smelt.core import runtime
from smelt.core.errors import UsageError
from smelt.core.storage import checkpoint_at
from smelt.data.records import Message
from smelt.data.synth.teacher import Reply, Settings
from smelt.infer.answer import Generation
from smelt.infer.engine import Engine
from smelt.infer.generate import generate
from smelt.infer.limits import EngineSettings, reason_against
from smelt.infer.sampling import Sampling
from smelt.peft.load import load
from smelt.tokenizers.chat import ChatTemplate


class CheckpointTeacher:
    """Answer with a checkpoint or the newest one of a run, `parallel` requests at a time.

    A model that the engine does not know (one without keys and values) answers one request after another.
    """

    def __init__(self, path: str | Path, *, parallel: int) -> None:
        directory = checkpoint_at(path)
        self.name = str(directory)
        model, self._tokenizer = load(directory)
        self._model = model.to(runtime.device())
        self._template = ChatTemplate(self._tokenizer)
        self._stop_ids = self._template.stop_ids
        self._turn = threading.Lock()
        self._engine: Engine | None = None
        if reason_against(model) is None:
            settings = EngineSettings(max_running=parallel)
            self._engine = Engine(self._model, self._tokenizer, stop_ids=self._stop_ids, settings=settings)

    def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
        """Answer one request; one that is too long for the context is refused."""
        sampling = Sampling(max_new_tokens=settings.max_tokens, temperature=settings.temperature, seed=settings.seed)
        prompt = self._template.render(tuple(messages), add_reply=True)[0]
        try:
            made = (
                self._alone(prompt, sampling)
                if self._engine is None
                else self._together(self._engine, prompt, sampling)
            )
        except UsageError as error:
            return Reply(error.what, finish="refused")
        cut = made.finish_reason != "stop"
        return Reply(made.text, len(prompt), len(made.ids), "length" if cut else "stop")

    def _alone(self, prompt: Sequence[int], sampling: Sampling) -> Generation:
        with self._turn:
            return generate(self._model, self._tokenizer, [prompt], sampling, stop_ids=self._stop_ids)[0]

    def _together(self, engine: Engine, prompt: Sequence[int], sampling: Sampling) -> Generation:
        with self._turn:
            request = engine.submit(prompt, sampling)
        while request.finish_reason is None:
            with self._turn:
                if request.finish_reason is None:
                    engine.step()
        return request.answer.result()
