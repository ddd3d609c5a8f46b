"""What a published model family is: a value that says how its configuration, weights and initialisation read.

A family holds no code of the network; new maths becomes a part in `nn/`. Its functions go both ways between a
config.json and a ModelSpec, and refuse by name any setting that we could not honour.
"""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from fnmatch import fnmatchcase
from typing import Any

from smelt.core.errors import CheckpointError
from smelt.models.weights import Rules
from smelt.nn.spec import ModelSpec, TokenIds

HfConfig = Mapping[str, Any]


WITHOUT_EFFECT = (
    "architectures", "model_type", "_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache",
    "auto_map", "initializer_*", "init_std", "*layerdrop", "*dropout*", "*_pdrop", "output_*", "return_dict*",
    "*_token_id", "id2label", "label2id", "is_decoder", "chunk_size_feed_forward", "problem_type",
    "_attn_implementation*", "_experts_implementation*", "gradient_checkpointing", "router_aux_loss_coef", "summary_*",
    "reorder_and_upcast_attn", "n_ctx", "tokenizer_class",
    # How old files ask for text to be sampled.
    "temperature", "top_k", "top_p", "typical_p", "do_sample", "*_length", "num_beam*", "*_penalty", "max_new_tokens",
    "num_return_sequences", "*no_repeat_ngram_size", "bad_words_ids", "prefix", "finetuning_task",
    "task_specific_params",
    # Sizes of a pooler that only BERT's first program had.
    "pooler_fc_size", "pooler_num_*", "pooler_size_per_head",
)  # fmt: skip
"""Fields of config.json, as shell patterns, that do not change what the network computes."""


class Fields(Mapping[str, Any]):
    """A config.json that notes which of its fields are read, so that one that nobody read can be refused by name."""

    def __init__(self, config: HfConfig) -> None:
        self._config = config
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return self._config[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)

    def refuse_unread(self, family: str) -> None:
        """Raise CheckpointError on a field that is set, that nobody read and that may change the network."""
        for name, value in self._config.items():
            is_off = value is None or value is False or value in ("", [], {})
            if name in self._read or is_off or any(fnmatchcase(name, pattern) for pattern in WITHOUT_EFFECT):
                continue
            raise CheckpointError(
                f"config.json: {name} = {value!r:.80} is not known to the {family} layout",
                accepted="fields that the layout has",
                fix="remove it if it does not change the network",
            )


@dataclass(frozen=True)
class Shape:
    """Give the sizes from which a family makes a whole spec; left out, kv heads = heads and F is the family's usual."""

    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    max_seq_len: int
    num_kv_heads: int | None = None
    hidden_dim: int | None = None
    tied: bool | None = None


@dataclass(frozen=True)
class Init:
    """Say how new parameters are drawn: normal with these deviations; biases 0, norm weights 1.

    `linear_std` None means torch's Linear default, uniform in +-1 / sqrt(fan in), biases too; with `by_fan_in` it is
    divided by sqrt(fan in). `scale_residual` divides the projections that feed the residual stream by sqrt(2 L), so
    that its variance stays put with depth; `scale_queries` those of queries by sqrt(C), where attention does not.
    """

    embedding_std: float = 0.02
    position_std: float = 0.02
    linear_std: float | None = 0.02
    scale_residual: bool = True
    by_fan_in: bool = False
    scale_queries: bool = False


@dataclass(frozen=True)
class Family:
    """Describe one published layout; `prefix` is the part of names that base-model checkpoints leave out.

    `own_code` is true of layouts whose published files all name code of their own, which the family stands for. Of
    families with one model_type, one is told by a field that only its configurations have, the `mark`. `text_labels` is
    the architecture that labels texts, where the layout has one.
    """

    name: str
    model_types: tuple[str, ...]
    make: Callable[[Shape], ModelSpec]
    spec_from_hf: Callable[[HfConfig], ModelSpec]
    hf_from_spec: Callable[[ModelSpec], dict[str, Any]]
    rules: Callable[[ModelSpec], Rules]
    init: Init
    prefix: str = ""
    presets: Mapping[str, ModelSpec] = field(default_factory=dict)
    own_code: bool = False
    mark: str | None = None
    text_labels: str = ""


def refuse_other(config: HfConfig, accepted: Mapping[str, tuple[Any, ...]], within: str = "") -> None:
    """Raise CheckpointError when a field holds a value that is not accepted; an absent field is fine."""
    for name, values in accepted.items():
        if name in config and config[name] not in values:
            raise CheckpointError(
                f"config.json: {within}{name} = {config[name]!r} is not supported",
                accepted=" or ".join(repr(value) for value in values),
            )


def require(config: HfConfig, *names: str) -> list[int]:
    """Return the sizes in fields that must be there; raises CheckpointError naming the first absent or odd one."""
    for name in names:
        value = config.get(name)
        if value is None:
            raise CheckpointError(f"config.json has no {name}", fix="use the config.json published with the weights")
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise CheckpointError(f"config.json: {name} = {value!r}", accepted="a positive whole number")
    return [config[name] for name in names]


def with_defaults(config: HfConfig, **usual: Any) -> HfConfig:
    """Return a configuration that means `usual` where it does not say."""
    return ChainMap(config, usual)  # type: ignore[arg-type]


def token_ids_from_hf(config: HfConfig) -> TokenIds:
    """Read bos, eos (one id or a list) and pad."""
    end = config.get("eos_token_id")
    ends = tuple(end) if isinstance(end, list) else () if end is None else (end,)
    start = config.get("decoder_start_token_id")
    return TokenIds(config.get("bos_token_id"), ends, config.get("pad_token_id"), start)


def hf_from_token_ids(ids: TokenIds) -> dict[str, Any]:
    """Write bos, eos (one id, or a list when several), pad, and what a decoder starts with."""
    end = None if not ids.end else ids.end[0] if len(ids.end) == 1 else list(ids.end)
    found = {"bos_token_id": ids.begin, "eos_token_id": end, "pad_token_id": ids.padding}
    return found if ids.decoder_start is None else {**found, "decoder_start_token_id": ids.decoder_start}


def check_same(ours: ModelSpec, theirs: ModelSpec, what: str) -> None:
    """Raise CheckpointError naming the first value in which two specs differ, with both, such as layers[0].norm.eps."""
    for place, one, other in _differences(ours, theirs):
        raise CheckpointError(f"{what}: {place} is {one!r}, not {other!r}")


def _differences(one: Any, other: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two specs differ, as deep inside as both have the same parts."""
    if isinstance(one, tuple) and isinstance(other, tuple) and is_dataclass(next(iter(one + other), None)):
        if len(one) != len(other):
            yield place, len(one), len(other)
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from _differences(*pair, f"{place}[{index}]")
    elif is_dataclass(one) and type(one) is type(other):
        for entry in fields(one):
            pair = getattr(one, entry.name), getattr(other, entry.name)
            yield from _differences(*pair, f"{place}.{entry.name}".lstrip("."))
    elif one != other:
        yield place, one, other
