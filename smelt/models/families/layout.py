"""What most decoder families write alike: the common fields of config.json, rotary positions, and names by table.

A family names what differs. Rotary settings are read where older and newer files put them (`rope_theta` and
`rope_scaling`, or `rope_parameters`) and written to both; a rule for long contexts that is not in `SCALINGS` is refused
by name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from smelt.core.errors import CheckpointError
from smelt.models.encoder_decoder import meta_network
from smelt.models.families.base import HfConfig, Shape, hf_from_token_ids, refuse_other, require
from smelt.models.weights import Ignore, Rule, Rules, Tie, rename, split, stack, transpose
from smelt.nn.scaling import LinearScaling, RampScaling, RotaryScaling, WavelengthScaling
from smelt.nn.spec import ModelSpec, MoESpec, RotarySpec

NAMES = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}
"""Our names of the parts of a layer and the usual ones in published files."""

OUTER = {"token_embedding": "model.embed_tokens", "blocks": "model.layers", "norm": "model.norm", "head": "lm_head"}
"""The same for what is not in a layer, and for the layers."""


def read_shape(config: HfConfig, *, tied: bool = False, max_seq_len: int = 2048) -> Shape:
    """Read the sizes; `tied` and `max_seq_len` are what a file means that does not say."""
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    vocab_size, dim, num_layers, num_heads, hidden_dim = require(config, *names)
    return Shape(
        vocab_size,
        dim,
        num_layers,
        num_heads,
        config.get("max_position_embeddings", max_seq_len),
        config.get("num_key_value_heads"),
        hidden_dim,
        bool(config.get("tie_word_embeddings", tied)),
    )


def write_config(spec: ModelSpec, model_type: str, architecture: str) -> dict[str, Any]:
    """Write the fields that these families share, for the first layer's attention and feed-forward part."""
    layer = spec.layers[0]
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.dim,
        "intermediate_size": layer.dense.hidden_dim,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": layer.attention.num_heads,
        "num_key_value_heads": layer.attention.num_kv_heads,
        "max_position_embeddings": spec.max_seq_len,
        "tie_word_embeddings": spec.tied,
        **hf_from_token_ids(spec.token_ids),
    }


def with_decoder(encoder: ModelSpec, num_layers: int, **changes: Any) -> ModelSpec:
    """Return a decoder that reads this encoder: its layers are causal, and have cross-attention between the parts."""
    layer = encoder.layers[0]
    own, cross = replace(layer.attention, causal=True), layer.attention
    layers = (replace(layer, attention=own, cross=cross),) * num_layers
    return replace(encoder, layers=layers, language_head=True, encoder=encoder, **changes)


def read_rotary(
    config: HfConfig, head_dim: int, *, share: float = 1.0, theta: float = 10_000.0, interleaved: bool = False
) -> RotarySpec:
    """Read rotary positions; `share` of each head and base `theta` are what a file means that does not say.

    Raises CheckpointError on a rule for long contexts that we do not have.
    """
    parameters = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind not in SCALINGS:
        accepted = ", ".join(SCALINGS)
        raise CheckpointError(f"config.json: rope_parameters.rope_type = {kind!r} is not supported", accepted=accepted)
    if share == 1.0:  # a family whose heads turn whole: its own code never looks at this
        for place in (config, parameters):
            refuse_other(place, {"partial_rotary_factor": (None, 1.0)})
    shares = parameters.get("partial_rotary_factor"), config.get("partial_rotary_factor"), share
    bases = parameters.get("rope_theta"), config.get("rope_theta"), theta
    size, base = int(head_dim * next(filter(None, shares))), float(next(filter(None, bases)))
    scaling = SCALINGS[kind]({**parameters, "context": config.get("max_position_embeddings")})
    return RotarySpec(size, base, interleaved, scaling)


def _linear(found: Mapping[str, Any]) -> RotaryScaling:
    return LinearScaling(_number(found, "factor"))


def _wavelength(found: Mapping[str, Any]) -> RotaryScaling:
    trained = int(_number(found, "original_max_position_embeddings"))
    return WavelengthScaling(
        _number(found, "factor"), trained, _number(found, "low_freq_factor"), _number(found, "high_freq_factor")
    )


def _ramp(found: Mapping[str, Any]) -> RotaryScaling:
    refuse_other(found, {"mscale": (None, 0), "mscale_all_dim": (None, 0)}, "rope_parameters.")
    trained = int(found.get("original_max_position_embeddings") or _number(found, "context"))
    return RampScaling(
        _number(found, "factor"),
        trained,
        low=float(found.get("beta_slow") or 1.0),
        high=float(found.get("beta_fast") or 32.0),
        attention_factor=found.get("attention_factor"),
        whole_pairs=bool(found.get("truncate", True)),
    )


def _number(found: Mapping[str, Any], name: str) -> float:
    value = found.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise CheckpointError(f"config.json: rope_parameters.{name} = {value!r}", accepted="a number")
    return float(value)


SCALINGS: dict[str, Callable[[Mapping[str, Any]], RotaryScaling | None]] = {
    "default": lambda found: None,
    "linear": _linear,
    "llama3": _wavelength,
    "yarn": _ramp,
}
"""The rules for long contexts by their published names, and what reads each."""


def rope_parameters(rotary: RotarySpec, head_dim: int) -> dict[str, Any]:
    """Write rotary positions as newer files have them."""
    found: dict[str, Any] = {"rope_type": "default", "rope_theta": rotary.theta}
    if rotary.dim != head_dim:
        found["partial_rotary_factor"] = rotary.dim / head_dim
    match rotary.scaling:
        case None:
            return found
        case LinearScaling(factor):
            return {**found, "rope_type": "linear", "factor": factor}
        case WavelengthScaling(factor, trained, low, high):
            scaled = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": trained}
            return {**found, "rope_type": "llama3", "factor": factor, **scaled}
        case RampScaling(factor, trained, low, high, attention, whole):
            scaled = {"original_max_position_embeddings": trained, "beta_slow": low, "beta_fast": high}
            given = {} if attention is None else {"attention_factor": attention}
            return {**found, "rope_type": "yarn", "factor": factor, **scaled, "truncate": whole, **given}
        case other:
            raise CheckpointError(f"no published layout holds {other}", accepted=", ".join(SCALINGS))


def write_rotary(rotary: RotarySpec | None, head_dim: int) -> dict[str, Any]:
    """Write rotary positions where both older and newer readers look for them."""
    if rotary is None:
        raise CheckpointError("this layout has rotary positions, the model has none", accepted="rotary positions")
    parameters = rope_parameters(rotary, head_dim)
    older = {name: value for name, value in parameters.items() if name not in ("rope_theta", "partial_rotary_factor")}
    found: dict[str, Any] = {"rope_theta": rotary.theta, "rope_parameters": parameters}
    if rotary.scaling is not None:
        found["rope_scaling"] = older
    if "partial_rotary_factor" in parameters:
        found["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    return found


def read_windows(config: HfConfig, num_layers: int, usual: list[str] | None = None) -> tuple[int | None, ...]:
    """Read each layer's window by `layer_types`; if absent by the `usual`, or from layer `max_window_layers` on."""
    window, kinds = config.get("sliding_window"), config.get("layer_types") or usual
    first, is_used = config.get("max_window_layers", 28), config.get("use_sliding_window")
    if kinds is None:
        first = first if is_used else num_layers
        kinds = ["full_attention" if index < first else "sliding_attention" for index in range(num_layers)]
    if len(kinds) != num_layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        accepted = f"{num_layers} times full_attention or sliding_attention"
        raise CheckpointError(f"config.json: layer_types = {kinds!r}", accepted=accepted)
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def write_windows(spec: ModelSpec) -> dict[str, Any]:
    """Write each layer's window; a layout has one size for all that have one."""
    windows = [layer.attention.window for layer in spec.layers]
    sizes = [window for window in windows if window is not None]
    return {
        "layer_types": ["full_attention" if window is None else "sliding_attention" for window in windows],
        "sliding_window": sizes[0] if sizes else None,
        "use_sliding_window": bool(sizes),
        "max_window_layers": len(spec.layers) - len(sizes),
    }


def named_rules(
    spec: ModelSpec,
    names: Mapping[str, str] = NAMES,
    *,
    outer: Mapping[str, str] = OUTER,
    fused: Mapping[str, tuple[str, ...]] | None = None,
    network: str = "",
) -> Rules:
    """List the rules of a spec whose parts have their own names in published files, by a table of parts.

    `outer` names what lies outside the layers and the layers themselves; `fused` names theirs that hold several of
    ours, one below the other. What no table names is left to the family. Of two networks, `network` is the one whose
    rules are listed: "encoder." or "decoder.".
    """
    found: list[Rule | Tie | Ignore] = [Ignore("*rotary*.inv_freq")]
    if spec.tied and "head" in outer:
        found.append(Tie(f"{outer['head']}.weight", f"{outer['token_embedding']}.weight"))
    whole = {part: (theirs, parts) for theirs, parts in (fused or {}).items() for part in parts}
    rows = {name: size for name, size in parameter_rows(spec).items() if name.startswith(network)}
    for full in rows:
        name = full.removeprefix(network)
        part, _, kind = name.rpartition(".")
        if not name.startswith("blocks."):
            if (part or kind) in outer:
                found.append(rename(f"{outer[part]}.{kind}" if part else outer[kind], full))
            continue
        _, index, inner = part.split(".", 2)
        theirs, parts = whole.get(inner, ("", ()))
        if inner in names:
            found.append(rename(f"{outer['blocks']}.{index}.{names[inner]}.{kind}", full))
        elif parts and inner == parts[0]:
            ours = [f"{network}blocks.{index}.{each}.{kind}" for each in parts]
            found.append(split(f"{outer['blocks']}.{index}.{theirs}.{kind}", ours, [rows[each] for each in ours]))
    return tuple(found)


def conv_rules(spec: ModelSpec) -> Iterator[Rule]:
    """Yield the rules of layers with query, key and value in one matrix and every matrix stored (in, out)."""
    for index in range(len(spec.layers)):
        theirs, ours = f"transformer.h.{index}.", f"blocks.{index}."
        qkv = [ours + "attention." + part for part in ("query", "key", "value")]
        rows = [spec.layers[index].attention.num_heads * spec.layers[index].attention.head_dim] * 3
        yield split(theirs + "attn.c_attn.weight", [n + ".weight" for n in qkv], rows, transposed=True)
        yield split(theirs + "attn.c_attn.bias", [n + ".bias" for n in qkv], rows)
        for norm, name in (("ln_1", "attention_norm"), ("ln_2", "feed_forward_norm")):
            for kind in ("weight", "bias"):
                yield rename(f"{theirs}{norm}.{kind}", f"{ours}{name}.{kind}")
        for linear, name in (
            ("attn.c_proj", "attention.output"),
            ("mlp.c_fc", "feed_forward.up"),
            ("mlp.c_proj", "feed_forward.down"),
        ):
            yield transpose(f"{theirs}{linear}.weight", f"{ours}{name}.weight")
            yield rename(f"{theirs}{linear}.bias", f"{ours}{name}.bias")


def expert_rules(spec: ModelSpec, pattern: str, names: Mapping[str, str]) -> Iterator[Rule]:
    """Yield the rules of mixtures whose experts lie one by one in the file, named by `pattern` with {layer}, {expert}
    and {name}; `names` are theirs for our gate, up and down."""
    for layer, given in enumerate(spec.layers):
        if isinstance(given.feed_forward, MoESpec):
            for ours, kinds in {"gate_up": ("gate", "up"), "down": ("down",)}.items():
                parts = [
                    pattern.format(layer=layer, expert=expert, name=names[kind])
                    for expert in range(given.feed_forward.num_experts)
                    for kind in kinds
                ]
                yield stack(parts, f"blocks.{layer}.feed_forward.{ours}")


def parameter_rows(spec: ModelSpec) -> dict[str, int]:
    """Return the names of a model's parameters and the length of each one's first axis."""
    return {name: parameter.shape[0] for name, parameter in meta_network(spec).named_parameters()}
