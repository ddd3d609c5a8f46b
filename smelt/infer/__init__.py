"""Continue text with a trained model: `generate` is the plain, batched loop, `Engine` takes requests as they come.

Reading order: `sampling` (logits to a token), `visible` (the text that may be shown), `answer`, `rows` (a batch inside
the cache), `generate`, `beam`. That loop is the oracle for the engine: `pages` (who holds which memory), `paged_cache`
(what the model sees of it), `requests`, `scheduler` (who runs), `choose`, `constrain`, `drafts`, `adapters`, `limits`,
`engine`. `fused` is one decode step for many requests without torch in it (`absmax`, `packing`, `prepared`, `crew`,
then `kernels`). `embed` makes vectors.
"""

from smelt.infer.answer import FinishReason, Generation
from smelt.infer.engine import Engine
from smelt.infer.generate import generate
from smelt.infer.limits import EngineSettings, QueueFull
from smelt.infer.requests import Request, TokenLogprobs, Update
from smelt.infer.sampling import Sampling

__all__ = [
    "Engine",
    "EngineSettings",
    "FinishReason",
    "Generation",
    "QueueFull",
    "Request",
    "Sampling",
    "TokenLogprobs",
    "Update",
    "generate",
]
