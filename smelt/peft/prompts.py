"""Virtual tokens in front of every text: what they are made of, and how they get onto a model and off it into files.

Three ways differ in where the learned numbers go in. Prompt tuning learns embeddings, one a virtual token, which run
through the model as any token's do. P-tuning learns them through a small network, which is thrown away when all is
learned: its output is what the file holds. Prefix tuning (P-tuning v2) learns the keys and values of every layer, as
they are or through such a network. Numbers are kept in fp32 and cast where they are used.

Ref: The Power of Scale for Parameter-Efficient Prompt Tuning, arXiv:2104.08691. Ref: GPT Understands, Too,
arXiv:2103.10385. Ref: Prefix-Tuning, arXiv:2101.00190. Ref: P-Tuning v2, arXiv:2110.07602.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from smelt.core.errors import CheckpointError, ConfigError
from smelt.models.transformer import Transformer
from smelt.nn.prefix import KeysValues, Prefix
from smelt.nn.spec import ModelSpec
from smelt.peft.published import task_type

TENSOR = "prompt_embeddings"
"""The one tensor of a file, whatever the encoder: a row a virtual token."""


class VirtualTokens(Prefix):
    """Learn P rows, and through an `encoder`, where there is one, what is made of them: (P, W) -> (P, N)."""

    def __init__(self, rows: Tensor, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.num_tokens = len(rows)
        self.rows = nn.Parameter(rows)
        self.encoder = encoder

    def table(self) -> Tensor:
        """Return what a file holds of each virtual token: (P, N)."""
        return self.rows if self.encoder is None else self.encoder(self.rows)

    def put(self, table: Tensor) -> None:
        """Take what an encoder has made of its rows, (P, N), in place of the encoder."""
        self.rows, self.encoder = nn.Parameter(table.to(self.rows.device, self.rows.dtype)), None


class Prompt(VirtualTokens):
    """Learn embeddings (P, D)."""

    def forward(self, read: Callable[[Tensor], KeysValues]) -> KeysValues:
        """Return what each layer makes of the embeddings."""
        return read(self.table()[None])


class LayerPrompts(VirtualTokens):
    """Learn keys and values (P, 2 L K C): of each layer the keys of all K heads, then the values."""

    def __init__(self, rows: Tensor, num_heads: int, head_dim: int, encoder: nn.Module | None = None) -> None:
        super().__init__(rows, encoder)
        self.num_heads, self.head_dim = num_heads, head_dim

    def forward(self, read: Callable[[Tensor], KeysValues]) -> KeysValues:
        """Return the keys and values themselves."""
        parts = self.table().view(self.num_tokens, -1, 2, self.num_heads, self.head_dim)  # (P, L, 2, K, C)
        keys, values = parts.permute(2, 1, 3, 0, 4)[:, :, None]  # (L, 1, K, P, C) each
        return list(zip(keys, values, strict=True))


class Recurrent(nn.Module):
    """Read rows both ways and mix the two, so that virtual tokens depend on each other: (P, W) -> (P, N)."""

    def __init__(self, dim: int, hidden_dim: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.both = nn.LSTM(dim, hidden_dim, num_layers, dropout=dropout, bidirectional=True)
        self.mix = mlp(2 * hidden_dim, 2 * hidden_dim, dim)

    def forward(self, rows: Tensor) -> Tensor:
        """Encode rows."""
        out: Tensor = self.mix(self.both(rows)[0])
        return out


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers of these sizes with an activation between two."""
    layers: list[nn.Module] = []
    for width, out in itertools.pairwise(sizes):
        layers += [nn.Linear(width, out), activation()]
    return nn.Sequential(*layers[:-1])


def check_model(model: Transformer, name: str, num_tokens: int, *, odd: Mapping[str, bool]) -> None:
    """Raise ConfigError for a model that cannot have so many virtual tokens; `odd` are reasons beside the common."""
    spec = model.spec
    kinds = [layer.attention for layer in spec.layers]
    reasons = {
        "has an encoder": spec.encoder is not None,
        "has recurrent layers": spec.recurrent is not None,
        "reads a context both ways, with two positions": spec.context is not None,
        "adds a bias of distances to its scores": spec.relative is not None or any(kind.alibi for kind in kinds),
        "attends among blocks of tokens": any(kind.blocks for kind in kinds),
        **odd,
    }
    if (reason := next((reason for reason, is_so in reasons.items() if is_so), None)) is not None:
        raise ConfigError(
            f"tune.method={name}: this {spec.family} model {reason}",
            accepted="a decoder with attention over keys and values of its own tokens",
            fix="tune.method=lora",
        )
    if model.prefix is not None:
        raise ConfigError(
            f"tune.method={name}: the model has virtual tokens already", fix="tune the base that has none"
        )
    if num_tokens > spec.max_seq_len - 2:
        raise ConfigError(
            f"tune.method={name}: {num_tokens} virtual tokens in a context of {spec.max_seq_len}",
            accepted=f"1 to {spec.max_seq_len - 2}, which leaves room for two tokens of text",
        )


def is_causal(spec: ModelSpec) -> bool:
    """Tell whether every token sees only earlier ones."""
    return all(layer.attention.causal for layer in spec.layers)


def some_tokens(model: Transformer, num_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw tokens of the vocabulary: ids (P,)."""
    ids = torch.randint(model.spec.vocab_size, (num_tokens,), generator=generator)
    return ids.to(model.token_embedding.weight.device)


def put_on(model: Transformer, make: Callable[[torch.Generator], VirtualTokens], seed: int) -> None:
    """Freeze a model and put virtual tokens before its texts, drawn from the seed, whoever else draws."""
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)  # torch's own layers draw from the common generator
        made = make(torch.Generator().manual_seed(seed))
    model.prefix = made.to(model.token_embedding.weight.device).train(model.training)


def virtual_tokens(model: Transformer) -> VirtualTokens:
    """Return the virtual tokens of a model that was attached to."""
    assert isinstance(model.prefix, VirtualTokens), "attach comes first"
    return model.prefix


def tensors(model: Transformer) -> dict[str, Tensor]:
    """Return what a file holds: what the encoder, if any, makes of its rows, as no one needs it behind training."""
    return {TENSOR: virtual_tokens(model).table().detach().clone()}


def fill(model: Transformer, found: Mapping[str, Tensor]) -> None:
    """Put a file's table into an attached model, where it takes the place of an encoder."""
    held = virtual_tokens(model)
    if set(found) != {TENSOR}:
        raise CheckpointError(f"an adapter with the tensors {', '.join(sorted(found)) or 'none'}", accepted=TENSOR)
    expected, shape = tuple(held.table().shape), tuple(found[TENSOR].shape)
    if shape != expected:
        raise CheckpointError(
            f"{TENSOR} {shape} for {held.num_tokens} virtual tokens of this model",
            accepted=str(expected),
            fix="use the base that the adapter was made for",
        )
    held.put(found[TENSOR])


def common_config(model: Transformer, *, token_dim: int, num_heads: int) -> dict[str, Any]:
    """Return what adapter_config.json says of any kind of virtual tokens."""
    spec = model.spec
    return {
        "task_type": task_type(spec),
        "inference_mode": True,  # the file holds a table and no encoder
        "num_virtual_tokens": model.num_virtual_tokens,
        "token_dim": token_dim,
        "num_transformer_submodules": 1,
        "num_attention_heads": num_heads,
        "num_layers": spec.num_layers,
        "modules_to_save": None,
    }


WITHOUT_EFFECT = (
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "num_attention_heads", "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path",
    "tokenizer_kwargs", "init_weights",
)  # fmt: skip
"""Fields that say where numbers came from, or what the tensors' shapes say anyway."""


def number_of(config: Mapping[str, Any], expected: Mapping[str, Any], known: tuple[str, ...]) -> int:
    """Return the number of virtual tokens that a config tells.

    Raises CheckpointError where a field is other than what the model asks for, or is neither known nor off.
    """
    for field, value in config.items():
        wanted = expected.get(field)
        if field in expected and value not in (wanted, None):
            raise CheckpointError(
                f"{field} = {value!r:.80} in adapter_config.json",
                accepted=f"{wanted!r}, which this model has",
                fix="use the base that the adapter was made for",
            )
        if field not in (*expected, *known, *WITHOUT_EFFECT, "num_virtual_tokens") and value not in (
            None,
            False,
            [],
            {},
            "",
        ):
            raise CheckpointError(f"{field:.80} = {value!r:.80} in adapter_config.json", accepted="a file without it")
    number = config.get("num_virtual_tokens")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise CheckpointError(f"num_virtual_tokens = {number!r:.80} in adapter_config.json", accepted="1 or more")
    return number
