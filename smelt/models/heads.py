"""What stands on top of a network: a transform before the vocabulary, a pooled vector, labels of tokens or of texts.

A head is made from the hidden states alone and computes no loss; its task names its field in `Output.tasks`. Next
sentence and sentence order are two labels of the pooled vector, an answer's span is two labels of every token, named
entities are one label of every token, scored together by a CRF where the task asks for it.

Ref: BERT, arXiv:1810.04805, 3.1 and 4. Ref: ALBERT, arXiv:1909.11942, 3.1.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from smelt.nn.cache import LayerCache
from smelt.nn.crf import LinearChainCRF
from smelt.nn.feedforward import ACTIVATIONS
from smelt.nn.masks import Rules
from smelt.nn.norms import make_norm
from smelt.nn.spec import TaskSpec, TransformSpec


@dataclass
class Output:
    """Hold what a forward returns: logits (B, T, V), None without projection; hidden (B, T, D) after the final norm.

    `router` has the scores (B, T, E) of each layer that is a mixture of experts, `pooled` (B, D) the pooler's vector,
    `tasks` the labels' scores, (B, T, N) of tokens or (B, N) of texts, by the task's name. `last_inputs` are what the
    last block was given: the stream (B, T, D), cos, sin, mask and cache.
    """

    logits: Tensor | None
    hidden: Tensor
    router: tuple[Tensor, ...] = ()
    pooled: Tensor | None = None
    tasks: dict[str, Tensor] = field(default_factory=dict)
    last_inputs: tuple[Tensor | Rules | LayerCache | None, ...] = ()


class HeadTransform(nn.Module):
    """Compute norm(activation(dense(x))), from the layers' width to the embeddings'."""

    def __init__(self, spec: TransformSpec, dim: int, out_dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, out_dim)
        self.activation = ACTIVATIONS[spec.activation]
        self.norm = make_norm(spec.norm, out_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform each token: (.., D) -> (.., E)."""
        out: Tensor = self.norm(self.activation(self.dense(hidden)))
        return out


class Pooler(nn.Module):
    """Read a text's vector off its first token: tanh(dense(x))."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """Pool each row: (B, T, D) -> (B, D)."""
        out: Tensor = self.dense(hidden[:, 0]).tanh()
        return out


class TaskHead(nn.Module):
    """Score the labels of each token or of each row; where there is a `crf`, it reads these scores."""

    def __init__(self, spec: TaskSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.dense = None if spec.hidden is None else nn.Linear(dim, dim)
        self.labels = nn.Linear(dim, spec.num_labels)
        self.crf = LinearChainCRF(spec.num_labels) if spec.crf else None

    def forward(self, hidden: Tensor, pooled: Tensor | None) -> Tensor:
        """Score hidden (B, T, D), or of `pooled` (B, D) where the task reads it: (B, T, N) or (B, N)."""
        x = hidden[:, 0] if self.spec.reads == "first" else hidden
        if self.spec.reads == "pooled" and pooled is not None:
            x = pooled
        if self.dense is not None and self.spec.hidden is not None:
            x = ACTIVATIONS[self.spec.hidden](self.dense(x))
        out: Tensor = self.labels(x)
        return out
