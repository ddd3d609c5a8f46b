"""Continue text with a trained model: `generate` is the plain, batched loop with a cache.

Reading order: `sampling` (logits to a token), `visible` (the text that may be shown), `rows` (a batch inside the
cache), `generate`, `beam`. The loop is also the oracle that faster engines are tested against. `fused` is one decode
step for many requests without torch in it (`absmax`, `packing`, `prepared`, `crew`, then `kernels`).
"""

from smelt.infer.generate import FinishReason, Generation, generate
from smelt.infer.sampling import Sampling

__all__ = ["FinishReason", "Generation", "Sampling", "generate"]
