"""A conditional random field over a chain of labels: neighbours are scored together, sequences as a whole.

A sequence's score is the sum of its labels' scores, of a learned score for each label after the one before, and of one
for its first and its last label; its probability is the softmax over all N^T sequences. The sum over them takes T steps
of N^2 additions in log space (the forward algorithm), and so does the best one (Viterbi). Tokens that are left out,
padding or pieces of words, are taken out of the chain first, wherever they stand. All of it is computed in fp32.

Ref: Conditional Random Fields, Lafferty et al., 2001. Ref: Neural Architectures for NER, arXiv:1603.01360, 2.2.
"""

import torch
from torch import Tensor, nn


class LinearChainCRF(nn.Module):
    """Score sequences of N labels; `transitions` (N, N) are from a row's label to a column's."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.start_transitions = nn.Parameter(torch.zeros(num_labels))
        self.end_transitions = nn.Parameter(torch.zeros(num_labels))
        self.transitions = nn.Parameter(torch.zeros(num_labels, num_labels))

    def forward(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Return the log-probability of each row's labels: scores (B, T, N), labels (B, T), mask (B, T) -> (B,).

        The mask is true for the tokens that have a label; what the others' label is plays no part. A row without any
        has the log-probability 0.
        """
        scores, labels, lengths = self._chained(scores, labels, mask)
        return self._score(scores, labels, lengths) - self._log_sum(scores, lengths)

    def decode(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return the best labels (B, T) of scores (B, T, N), 0 where the mask (B, T) is false."""
        order = _order(mask)
        chained, _, lengths = self._chained(scores, torch.zeros_like(order), mask)
        best = torch.zeros_like(order).scatter_(1, order, self._best(chained, lengths))
        return best * mask

    def _chained(self, scores: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move what the mask keeps to the front of each row; return scores, labels and lengths (B,)."""
        order = _order(mask)
        labels = torch.where(mask, labels, 0).gather(1, order)
        scores = scores.float().gather(1, order[:, :, None].expand_as(scores))
        return scores, labels, mask.sum(dim=1)

    def _score(self, scores: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Return the score of each row's labels: (B,)."""
        there = torch.arange(scores.shape[1], device=scores.device) < lengths[:, None]  # (B, T)
        own = scores.gather(2, labels[:, :, None]).squeeze(2)
        steps = self.transitions.float()[labels[:, :-1], labels[:, 1:]]  # (B, T - 1)
        last = labels.gather(1, (lengths - 1).clamp(min=0)[:, None]).squeeze(1)
        ends = self.start_transitions.float()[labels[:, 0]] + self.end_transitions.float()[last]
        return (own * there).sum(1) + (steps * there[:, 1:]).sum(1) + ends * there[:, 0]

    def _log_sum(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return the log of the summed exponentials of all sequences' scores: (B,)."""
        transitions = self.transitions.float()
        found = self.start_transitions.float() + scores[:, 0]  # (B, N): over all sequences that end in a label
        for step in range(1, scores.shape[1]):
            longer = (found[:, :, None] + transitions).logsumexp(dim=1) + scores[:, step]
            found = torch.where((step < lengths)[:, None], longer, found)
        total = (found + self.end_transitions.float()).logsumexp(dim=1)
        return torch.where(lengths > 0, total, 0.0)

    @torch.no_grad()
    def _best(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return each row's best labels (B, T), its last one repeated behind its end."""
        transitions, num_steps = self.transitions.float(), scores.shape[1]
        unmoved = torch.arange(scores.shape[2], device=scores.device).expand(len(scores), -1)
        found, before = self.start_transitions.float() + scores[:, 0], []
        for step in range(1, num_steps):
            longer, previous = (found[:, :, None] + transitions).max(dim=1)  # (B, N)
            is_there = (step < lengths)[:, None]
            found = torch.where(is_there, longer + scores[:, step], found)
            before.append(torch.where(is_there, previous, unmoved))
        label = (found + self.end_transitions.float()).argmax(dim=1, keepdim=True)  # (B, 1)
        best = [label]
        for previous in reversed(before):
            label = previous.gather(1, label)
            best.append(label)
        return torch.cat(best[::-1], dim=1)


def _order(mask: Tensor) -> Tensor:
    """Return the places of each row (B, T), those that the mask keeps first, otherwise in order."""
    return (~mask).to(torch.uint8).argsort(dim=1, stable=True)
