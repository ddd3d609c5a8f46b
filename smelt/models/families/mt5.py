"""mT5: the gated T5 for a hundred languages; T5-Pegasus is one for Chinese, trained to write summaries.

The head is its own and logits are not scaled, whatever config.json says of ties.

Ref: mT5, arXiv:2010.11934, 3. Ref: T5-Pegasus, github.com/ZhuiyiTechnology/t5-pegasus.
"""

from dataclasses import replace

from smelt.models.families.t5 import IDS, T5, make, spec_from_hf
from smelt.models.families.t5_sizes import GATED
from smelt.nn.spec import ModelSpec, TokenIds

PEGASUS_IDS = TokenIds(None, (102,), 0, 101)


def _published(size: str, vocab_size: int, max_seq_len: int, token_ids: TokenIds) -> ModelSpec:
    shape = replace(GATED[size], vocab_size=vocab_size, max_seq_len=max_seq_len)
    return make(shape, "mt5", head_dim=64, token_ids=token_ids)


MT5 = replace(
    T5,
    name="mt5",
    model_types=("mt5",),
    make=lambda shape: make(shape, "mt5"),
    spec_from_hf=lambda config: spec_from_hf(config, "mt5"),
    presets={
        **{f"mt5-{size}": _published(size, 250_112, 1024, IDS) for size in GATED},
        "t5-pegasus-small": _published("small", 50_000, 512, PEGASUS_IDS),
        "t5-pegasus-base": _published("base", 50_000, 512, PEGASUS_IDS),
    },
)
