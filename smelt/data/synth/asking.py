"""Ask a teacher some requests at once, each until it is answered, and never one that was answered before.

A teacher that is busy or away is asked again after 1, 2, 4, 8 and 16 seconds, or after as many as it says. Then the run
ends with an error; what was under way is waited for, and all replies are in the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace

from smelt.core.errors import UsageError
from smelt.core.log import say
from smelt.data.synth.journal import Journal
from smelt.data.synth.teacher import Reply, Request, Teacher, TeacherBusy, TeacherError, spoken

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
LONGEST_PAUSE_SECONDS = 120.0
MOST_PARALLEL = 256


class Asker:
    """Ask `parallel` requests at a time; `num_asked` of them were not in the journal.

    `on_first` is told the seconds that the first took alone, `on_reply` is called after each reply.
    """

    def __init__(
        self,
        teacher: Teacher,
        journal: Journal,
        parallel: int,
        *,
        on_first: Callable[[float], None] = lambda seconds: None,
        on_reply: Callable[[], None] = lambda: None,
        pauses: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        if not 1 <= parallel <= MOST_PARALLEL:
            raise UsageError(f"{parallel} requests at a time", accepted=f"1 to {MOST_PARALLEL}")
        self.teacher, self.journal, self.parallel, self.pauses = teacher, journal, parallel, pauses
        self.on_first, self.on_reply = on_first, on_reply
        self.num_asked = 0
        self._counting, self._ending = threading.Lock(), threading.Event()

    def ask_all(self, requests: Sequence[Request]) -> list[Reply]:
        """Return the replies in order.

        Raises:
            TeacherError: there was none, or the teacher took not even one request.
        """
        missing = list({request.key: request for request in requests if request.key not in self.journal}.values())
        if missing and not self.num_asked:
            self._measure(missing.pop(0))
        if missing:
            self._ask_together(missing)
        return [self.journal[request.key] for request in requests]

    def _measure(self, request: Request) -> None:
        """Ask the first request alone, so that its time is its own."""
        started = time.perf_counter()
        is_first = not len(self.journal)
        reply = self._patiently(request)
        if is_first and reply.finish == "refused":
            raise TeacherError(
                f"{self.teacher.name} did not take the first request: {reply.text}",
                fix="change what the reply names: a teacher with a longer context, shorter data, a smaller max_tokens",
            )
        self.on_first(time.perf_counter() - started)
        self._keep(request, reply)

    def _ask_together(self, requests: Sequence[Request]) -> None:
        """Ask all, and wait until each has its reply in the journal."""
        pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="teacher")
        try:
            futures = [pool.submit(self._ask, request) for request in requests]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((future for future in done if future.exception() is not None), None)
            if failed is not None:
                self._ending.set()
                failed.result()
        except KeyboardInterrupt:
            self._ending.set()
            say("ending: waiting for the replies that are under way (Ctrl-C again: without them); what came is kept")
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, request: Request) -> None:
        if not self._ending.is_set():
            self._keep(request, self._patiently(request))

    def _keep(self, request: Request, reply: Reply) -> None:
        self.journal.put(request.key, reply)
        with self._counting:
            self.num_asked += 1
            self.on_reply()

    def _patiently(self, request: Request) -> Reply:
        """Ask until there is a reply, or the patience is over."""
        for pause in (*self.pauses, None):
            try:
                reply = self.teacher.ask(request.messages, request.settings)
                return replace(reply, text=spoken(reply.text))
            except TeacherBusy as busy:
                wanted = min(LONGEST_PAUSE_SECONDS, max(pause or 0.0, busy.wait_seconds))
                if pause is None or self._ending.is_set():
                    tries = f"{len(self.pauses) + 1} tries" if pause is None else "the run is ending"
                    raise TeacherError(f"{busy.what} ({tries})", accepted=busy.accepted, fix=busy.fix) from busy
                say(f"{busy.what}; again in {wanted:g} s")
                self._ending.wait(wanted)
        raise AssertionError("the last try returns or raises")
