"""Who runs: requests wait in line, are admitted while there is room, and give it back when others need it more.

A request is admitted with pages for all tokens that it has; while it decodes it takes one page more now and then. When
none is free, the last in line gives up its pages and waits again: it will read its tokens anew, of which it may find
many still cached. The first in line never waits for others, so every request ends.

Ref: Orca, OSDI 2022, 3.1 (a batch anew each step). Ref: Sarathi-Serve, arXiv:2403.02310 (prompts in pieces).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from smelt.infer.pages import Pages, page_names
from smelt.infer.requests import Request


class Scheduler:
    """Keep the line and the running requests, both in order of rank.

    Args:
        pages: where their keys and values may lie.
        max_running: the most requests that run together.
        prefill_tokens: the most tokens of texts that are read in one step.
    """

    def __init__(self, pages: Pages, max_running: int, prefill_tokens: int) -> None:
        self.pages, self.max_running, self.prefill_tokens = pages, max_running, prefill_tokens
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.num_preempted = 0

    def add(self, request: Request) -> None:
        """Put a request in line."""
        bisect.insort(self.waiting, request, key=lambda other: other.rank)

    def admit(self) -> None:
        """Let requests run, in order, while there are pages for their tokens and they would be read in this step."""
        to_read = sum(request.num_pending for request in self.running if request.num_pending > 1)
        while self.waiting and len(self.running) < self.max_running and to_read < self.prefill_tokens:
            request = self.waiting[0]
            found = self.pages.find(request.tokens, request.root) if request.is_heard else []
            taken = self.pages.take(self.pages.count_for(len(request.tokens)) - len(found))
            if taken is None:
                self.pages.release(found)
                return
            self.waiting.pop(0)
            request.pages = found + taken
            request.num_computed = request.num_drafted = len(found) * self.pages.page_tokens
            if not request.ids:
                request.cached_tokens = request.num_computed
            request.num_named, request.last_name = 0, request.root
            self.name_pages(request)
            bisect.insort(self.running, request, key=lambda other: other.rank)
            to_read += request.num_pending

    def decoding(self) -> list[Request]:
        """Return the requests that have one token to compute, each with room for it; others may lose theirs."""
        for request in [request for request in self.running if request.num_pending == 1]:
            while request in self.running and len(request.pages) < self.pages.count_for(len(request.tokens)):
                page = self.pages.take(1)
                if page is None:
                    self.preempt(self.running[-1])
                else:
                    request.pages += page
        return [request for request in self.running if request.num_pending == 1]

    def room(self, request: Request, most: int) -> int:
        """Take pages for up to so many tokens behind a request's text, if they are free; return how many have room."""
        wanted = self.pages.count_for(len(request.tokens) + most) - len(request.pages)
        request.pages += (self.pages.take(wanted) if wanted > 0 else None) or []
        return min(most, len(request.pages) * self.pages.page_tokens - len(request.tokens))

    def pieces(self) -> Iterator[tuple[Request, int]]:
        """Yield the requests whose text is being read, with how many tokens of it to read in this step."""
        room = self.prefill_tokens
        for request in self.running:
            if room > 0 and request.num_pending > 1:
                count = min(room, request.num_pending)
                room -= count
                yield request, count

    def advance(self, request: Request, num_tokens: int) -> None:
        """Take note that so many tokens more are computed."""
        request.num_computed += num_tokens
        self.name_pages(request)

    def name_pages(self, request: Request) -> None:
        """Let others find the pages that a request has filled."""
        size = self.pages.page_tokens
        computed = request.tokens[: request.num_computed]
        for name in page_names(computed, size, request.last_name, request.num_named * size):
            self.pages.name(request.pages[request.num_named], name)
            request.num_named, request.last_name = request.num_named + 1, name

    def preempt(self, request: Request) -> None:
        """Send a running request back to the line."""
        self.remove(request)
        if not request.is_heard:
            request.heard = []
        self.add(request)
        self.num_preempted += 1

    def remove(self, request: Request) -> None:
        """Take a request out, wherever it is, and give its pages back."""
        (self.running if request in self.running else self.waiting).remove(request)
        self.pages.release(request.pages)
        request.pages, request.num_computed = [], 0

    def check(self) -> None:
        """Raise AssertionError unless pages, line and running requests fit together."""
        self.pages.check([request.pages for request in self.running])
        assert len(self.running) <= self.max_running, "more requests run than may"
        for line in (self.waiting, self.running):
            ranks = [request.rank for request in line]
            assert ranks == sorted(set(ranks)), "a line is out of order"
        assert all(not request.pages and not request.num_computed for request in self.waiting), "one waits with pages"
        for request in self.running:
            assert request.num_pending > 0, f"request {request.id} has nothing to compute"
            assert self.pages.count_for(request.num_computed) <= len(request.pages), f"request {request.id} lacks pages"
            names = list(page_names(request.tokens[: request.num_computed], self.pages.page_tokens, request.root))
            assert request.num_named == len(names), f"request {request.id} keeps full pages to itself"
