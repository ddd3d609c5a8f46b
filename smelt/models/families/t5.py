"""T5: an encoder and a decoder whose tokens know their distance alone, by a learned bias of each bucket.

Scores are not divided by sqrt(C), norms have no bias, nothing else has one either. The first T5 has ReLU and ties its
head, whose logits are divided by sqrt(D); v1.1 gates with GELU and has a head of its own, undivided. The context is
that of training: distances beyond the last bucket are one bucket, so a longer one runs as well.

Ref: Exploring the Limits of Transfer Learning with T5, arXiv:1910.10683, 2.1.
Ref: GLU Variants Improve Transformer, arXiv:2002.05202 (v1.1).
"""

from typing import Any

from smelt.models.families.base import (
    Family,
    HfConfig,
    Init,
    Shape,
    hf_from_token_ids,
    refuse_other,
    require,
    token_ids_from_hf,
)
from smelt.models.families.layout import named_rules, with_decoder
from smelt.models.families.t5_sizes import GATED
from smelt.models.weights import Ignore, Rule, Rules, Tie
from smelt.nn.spec import (
    Activation,
    AttentionSpec,
    FeedForwardSpec,
    LayerSpec,
    ModelSpec,
    NormSpec,
    RelativeSpec,
    TokenIds,
)

FORMS: dict[str, Activation] = {"relu": "relu", "gated-gelu": "geglu"}
USUAL = {"t5": ("relu", 512), "mt5": ("gated-gelu", 1024)}
IDS = TokenIds(None, (1,), 0, 0)
BUCKETS = {"num_buckets": 32, "max_distance": 128}
PUBLISHED: dict[str, Any] = {"head_dim": 64, "token_ids": IDS}
PARTS = {"query": "q", "key": "k", "value": "v", "output": "o"}
NORMS = {"attention_norm": "layer.0.layer_norm", "cross_norm": "layer.1.layer_norm"}


def make(
    shape: Shape,
    name: str = "t5",
    *,
    form: str | None = None,
    head_dim: int | None = None,
    num_decoder_layers: int | None = None,
    scaled: bool | None = None,
    relative: RelativeSpec | None = None,
    eps: float = 1e-6,
    token_ids: TokenIds | None = None,
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D. A T5 is tied unless asked otherwise, and `scaled` where it is."""
    tied = shape.tied is not False if name == "t5" else bool(shape.tied)
    scaled = tied and name == "t5" if scaled is None else scaled
    num_heads, size, norm = shape.num_heads, head_dim or shape.dim // shape.num_heads, NormSpec("rms", eps)
    attention = AttentionSpec(num_heads, shape.num_kv_heads or num_heads, size, scale=1.0, causal=False)
    feed_forward = FeedForwardSpec(shape.hidden_dim or 4 * shape.dim, FORMS[form or USUAL[name][0]])
    layers = (LayerSpec(attention, feed_forward, norm),) * shape.num_layers
    sizes = (shape.vocab_size, shape.dim, shape.max_seq_len)
    encoder = ModelSpec(name, *sizes, layers, norm, relative=relative or RelativeSpec(), language_head=False)
    head = {"tied": tied, "logit_scale": shape.dim**-0.5 if scaled else None, "token_ids": token_ids or TokenIds()}
    return with_decoder(encoder, num_decoder_layers or shape.num_layers, **head)


def spec_from_hf(config: HfConfig, name: str = "t5") -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    forms = {"feed_forward_proj": tuple(FORMS), "dense_act_fn": ("relu", "gelu_new"), "is_gated_act": (True, False)}
    refuse_other(config, {**forms, "is_encoder_decoder": (True,)})
    sizes = require(config, "vocab_size", "d_model", "num_layers", "num_heads", "d_kv", "d_ff")
    vocab_size, dim, num_layers, num_heads, head_dim, hidden_dim = sizes
    context, tied = config.get("n_positions", USUAL[name][1]), config.get("tie_word_embeddings", True) is not False
    return make(
        Shape(vocab_size, dim, num_layers, num_heads, context, None, hidden_dim, tied),
        name,
        form=config.get("feed_forward_proj"),
        head_dim=head_dim,
        num_decoder_layers=config.get("num_decoder_layers"),
        scaled=name == "t5" and bool(config.get("scale_decoder_outputs", tied)),
        relative=RelativeSpec(*(config.get(f"relative_attention_{part}", usual) for part, usual in BUCKETS.items())),
        eps=config.get("layer_norm_epsilon", 1e-6),
        token_ids=token_ids_from_hf(config),
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json; whether logits are scaled is a field of T5's alone."""
    layer, name, relative = spec.layers[0], spec.family, spec.relative or RelativeSpec()
    return {
        "architectures": [f"{name.upper()}ForConditionalGeneration"],
        "model_type": name,
        "is_encoder_decoder": True,
        "vocab_size": spec.vocab_size,
        "d_model": spec.dim,
        "d_kv": layer.attention.head_dim,
        "d_ff": layer.dense.hidden_dim,
        "num_layers": len(spec.encoder.layers) if spec.encoder else 0,
        "num_decoder_layers": len(spec.layers),
        "num_heads": layer.attention.num_heads,
        "n_positions": spec.max_seq_len,
        **{f"relative_attention_{part}": getattr(relative, part) for part in BUCKETS},
        "feed_forward_proj": next((form for form, ours in FORMS.items() if ours == layer.dense.activation), "relu"),
        "layer_norm_epsilon": layer.norm.eps,
        "tie_word_embeddings": spec.tied,
        **({"scale_decoder_outputs": spec.logit_scale is not None} if name == "t5" else {}),
        **hf_from_token_ids(spec.token_ids),
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec; old files carry the embedding three times, and a bias that nothing reads."""
    found: list[Rule | Tie | Ignore] = [
        Ignore("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight")
    ]
    names = {f"attention.{ours}": f"layer.0.SelfAttention.{theirs}" for ours, theirs in PARTS.items()}
    names |= {f"cross.{ours}": f"layer.1.EncDecAttention.{theirs}" for ours, theirs in PARTS.items()} | NORMS
    up = {"gate": "wi_0", "up": "wi_1"} if spec.layers[0].dense.activation == "geglu" else {"up": "wi"}
    for network, last in (("encoder", 1), ("decoder", 2)):
        block, inner = f"{network}.block", {"feed_forward_norm": f"layer.{last}.layer_norm"}
        inner |= {f"feed_forward.{o}": f"layer.{last}.DenseReluDense.{t}" for o, t in {**up, "down": "wo"}.items()}
        outer = {"token_embedding": "shared", "head": "lm_head"} if network == "decoder" else {}
        outer |= {"blocks": block, "norm": f"{network}.final_layer_norm"}
        outer |= {"relative_bias": f"{block}.0.layer.0.SelfAttention.relative_attention_bias"}
        found += named_rules(spec, names | inner, outer=outer, network=f"{network}.")
        found.append(Tie(f"{network}.embed_tokens.weight", "shared.weight"))
    return tuple(found)


T5 = Family(
    name="t5",
    model_types=("t5",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(embedding_std=1.0, linear_std=1.0, scale_residual=False, by_fan_in=True, scale_queries=True),
    presets={
        "t5-small": make(Shape(32_128, 512, 6, 8, 512), **PUBLISHED),
        "t5-base": make(Shape(32_128, 768, 12, 12, 512), **PUBLISHED),
        "t5-large": make(Shape(32_128, 1024, 24, 16, 512), **PUBLISHED),
        "t5-3b": make(Shape(32_128, 1024, 24, 32, 512, None, 16_384), head_dim=128, token_ids=IDS),
        "t5-11b": make(Shape(32_128, 1024, 24, 128, 512, None, 65_536), head_dim=128, token_ids=IDS),
        **{f"t5-v1.1-{size}": make(shape, form="gated-gelu", **PUBLISHED) for size, shape in GATED.items()},
    },
)
