"""Who holds which page of the cache, and which pages hold the beginning of a text that may come again.

A page has room for the keys and values of a few tokens; a request has a list of pages, so its memory grows by pages and
no request waits for a stretch that is long enough. A full page is known by what it holds: the digest of all tokens up
to its end. A request whose text begins alike takes the page as it is, and reads what others computed. A page that no
request holds any more keeps its content until the room is wanted, the longest unused first.

Worked example, pages of two tokens: "a b c d e" left the pages [ab] [cd] [e]. "a b c x" finds [ab], and needs one more.

Ref: Efficient Memory Management for LLM Serving with PagedAttention, arXiv:2309.06180, section 4.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence


def page_names(tokens: Sequence[int], page_tokens: int, name: bytes = b"", start: int = 0) -> Iterator[bytes]:
    """Yield the name of each full page of a text from token `start` on.

    `name` is that of the page before, or the text's root: texts with different roots share no page.
    """
    for begin in range(start, len(tokens) - page_tokens + 1, page_tokens):
        content = array("q", tokens[begin : begin + page_tokens]).tobytes()
        name = hashlib.blake2b(name + content, digest_size=16).digest()
        yield name


class Pages:
    """Hand out pages by number, 0 to `num_pages` - 1, and take them back."""

    def __init__(self, num_pages: int, page_tokens: int) -> None:
        self.num_pages, self.page_tokens = num_pages, page_tokens
        self.references = [0] * num_pages
        self._blank = list(range(num_pages))[::-1]
        self._kept: OrderedDict[int, None] = OrderedDict()  # held by nobody, but named; the longest unused first
        self._page_of: dict[bytes, int] = {}
        self._name_of: dict[int, bytes] = {}

    @property
    def num_free(self) -> int:
        """Return how many pages can be taken."""
        return len(self._blank) + len(self._kept)

    def count_for(self, num_tokens: int) -> int:
        """Return how many pages so many tokens need."""
        return -(-num_tokens // self.page_tokens)

    def find(self, tokens: Sequence[int], root: bytes = b"") -> list[int]:
        """Return, held once more each, the pages that hold the beginning of a text; never its last token."""
        found: list[int] = []
        for name in page_names(tokens[:-1], self.page_tokens, root):
            page = self._page_of.get(name)
            if page is None:
                break
            self._kept.pop(page, None)
            self.references[page] += 1
            found.append(page)
        return found

    def take(self, count: int) -> list[int] | None:
        """Return so many pages for one holder, or None where so many are not free."""
        if count > self.num_free:
            return None
        taken = []
        for _ in range(count):
            if self._blank:
                page = self._blank.pop()
            else:
                page, _ = self._kept.popitem(last=False)
                del self._page_of[self._name_of.pop(page)]
            self.references[page] = 1
            taken.append(page)
        return taken

    def name(self, page: int, name: bytes) -> None:
        """Say what a full page holds, for others to find; where another page holds the same, that one is found."""
        if name not in self._page_of and page not in self._name_of:
            self._page_of[name], self._name_of[page] = page, name

    def release(self, pages: Sequence[int]) -> None:
        """Give up one hold on each page; the last pages of a text are wanted least, and are the first to be reused."""
        for page in reversed(pages):
            self.references[page] -= 1
            if self.references[page] > 0:
                continue
            if page in self._name_of:
                self._kept[page] = None
            else:
                self._blank.append(page)

    def check(self, held: Sequence[Sequence[int]]) -> None:
        """Raise AssertionError unless holders and free pages are all there is, each page in one place."""
        counts = [0] * self.num_pages
        for pages in held:
            assert len(set(pages)) == len(pages), f"one holder has a page twice: {pages}"
            for page in pages:
                counts[page] += 1
        assert counts == self.references, "pages are counted otherwise than they are held"
        free = [*self._blank, *self._kept]
        assert sorted(free) == [page for page, count in enumerate(counts) if count == 0], (
            "free pages are not those left"
        )
        assert {name: page for page, name in self._name_of.items()} == self._page_of, "names and pages differ"
        assert all(page in self._name_of for page in self._kept), "a page without a name is kept"
        shared = [page for page, count in enumerate(counts) if count > 1]
        assert all(page in self._name_of for page in shared), "a page is shared that was never full"
