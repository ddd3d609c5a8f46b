"""A request: a prompt on its way to an answer, and what the engine's steps tell of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from smelt.infer.adapters import Adapter
from smelt.infer.answer import Answer, FinishReason
from smelt.infer.constrain import Constraint
from smelt.infer.sampling import Past, Sampling


@dataclass(frozen=True)
class TokenLogprobs:
    """Give the log-probability of a token, and those of the likeliest ones: the model's own, before any sampling."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(eq=False)
class Request:
    """Hold one request; `tokens` are those of the prompt and of the answer so far, of which `num_computed` are cached.

    `pages` hold their keys and values, the first `num_named` of which others may find; `cached_tokens` of the prompt
    were there when it came. Requests of one `kind` choose their tokens together; `numbers` are the uniform numbers of
    its draws. A `constraint` says which tokens may come next.
    """

    id: int
    prompt: tuple[int, ...]
    sampling: Sampling
    kind: Sampling
    priority: int
    answer: Answer
    prompt_logprobs: int | None = None
    numbers: Tensor | None = None
    past: Past | None = None
    adapter: Adapter | None = None
    constraint: Constraint | None = None
    tokens: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_named: int = 0
    last_name: bytes = b""
    cached_tokens: int = 0
    num_drafted: int = 0  # tokens in the cache of a draft model
    heard: list[TokenLogprobs | None] = field(default_factory=list)  # of the prompt, so far

    @property
    def root(self) -> bytes:
        """Return how the names of its pages begin: only requests with the same adapter can share pages."""
        return b"" if self.adapter is None else self.adapter.root

    @property
    def ids(self) -> list[int]:
        """Return the tokens of the answer so far."""
        return self.answer.ids

    @property
    def finish_reason(self) -> FinishReason | None:
        """Return why the answer is over, None while it is not."""
        return self.answer.finish_reason

    @property
    def looks_back(self) -> bool:
        """Tell whether a choice depends on all tokens before it, as penalties and constraints do: no guess helps."""
        return self.sampling.looks_back or self.constraint is not None

    @property
    def is_heard(self) -> bool:
        """Tell whether all log-probabilities of the prompt that are asked for are there; reading it gives them."""
        return self.prompt_logprobs is None or len(self.heard) == len(self.prompt)

    @property
    def num_pending(self) -> int:
        """Return how many tokens are not computed yet: one while it decodes, more while a text is read."""
        return len(self.tokens) - self.num_computed

    @property
    def rank(self) -> tuple[int, int]:
        """Return its place in the line: lower priorities first, then those that came first."""
        return self.priority, self.id


@dataclass(frozen=True)
class Update:
    """Tell what a step did for a request: new tokens, text that may be shown now, and in the last one why it is over.

    `prompt_logprobs` come once, where asked for: one a token of the prompt, None for the first.
    """

    request: Request
    ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprobs, ...]
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None
    finish_reason: FinishReason | None
