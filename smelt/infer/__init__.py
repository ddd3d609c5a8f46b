"""Continue text with a trained model: `generate` is the plain, batched loop with a cache.

Reading order: `sampling` (logits to a token), `visible` (the text that may be shown), `rows` (a batch inside the
cache), `generate`, `beam`. The loop is also the oracle that faster engines are tested against.
"""

from smelt.infer.answer import FinishReason, Generation
from smelt.infer.generate import generate
from smelt.infer.sampling import Sampling

__all__ = ["FinishReason", "Generation", "Sampling", "generate"]
