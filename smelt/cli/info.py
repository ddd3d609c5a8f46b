"""`smelt info`: what a checkpoint or a preset is made of: layers, parameters with their shapes, totals.

Nothing is loaded: parameters are counted on torch's meta device, so a preset of any size costs milliseconds and no
memory; of a checkpoint's weights the headers are read, to say which tensors are missing or unexpected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, make_app, print_json, print_table
from smelt.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from smelt.nn.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec, NormSpec

app = make_app()
Parameter = tuple[str, tuple[int, ...], int]


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(metavar="CKPT|PRESET", help="A checkpoint, a run or a preset.")] = None,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="List the parameters of every block, not of one for all.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a model layer by layer, with a table of its parameters.

    Example: smelt info novel-140m
    """
    if presets:
        list_presets(json)
        return
    if model is None:
        raise UsageError(
            "no model named", accepted="a checkpoint, a run directory or a preset", fix="smelt info --presets"
        )
    from smelt.models.build import count_active, describe
    from smelt.models.sizes import cache_bytes, forward_flops

    added = adapter_at(model)
    name = model if added is None else added["base"]
    spec, lineage = find_spec(name)
    parameters = describe(spec)
    total = sum(count for _, _, count in parameters)
    if json:
        counts = {"parameters": total, "trainable_parameters": total, "layers": spec.num_layers}
        counts |= {"active_parameters": count_active(spec), "cache_bytes_per_token": cache_bytes(spec)}
        work = {"forward_flops_per_token": forward_flops(spec, spec.max_seq_len)}
        shown = {"spec": asdict(spec), "weights": weights_of(name), "lineage": lineage, "adapter": added}
        print_json({"family": spec.family, **counts, **work, **shown})
        return
    if added is not None:
        print(f"{model}: an adapter ({added['method']}) of {added['parameters']:,} numbers on")
    for line in summary(name, spec, total):
        print(line)
    rows = [(name, str(shape), f"{count:,}") for name, shape, count in (parameters if full else collapse(parameters))]
    print()
    print_table(("parameter", "shape", "numbers"), rows, numeric=("numbers",))
    print(f"\n{total:,} parameters, all trainable · {4 * total / 1e6:,.1f} MB in float32")
    for line in costs(spec, total):
        print(line)
    for line in weight_lines(weights_of(name)):
        print(line)
    if lineage:
        print(f"made by {lineage.get('stage', '?')}, step {lineage.get('step', '?')}, see smelt.json")


def adapter_at(name: str) -> dict[str, Any] | None:
    """Return what a checkpoint that is an adapter adds to which base; None for anything else."""
    from smelt.core.storage import checkpoint_at
    from smelt.models.shards import read_json
    from smelt.peft.files import CONFIG, WEIGHTS
    from smelt.peft.load import base_of, is_adapter, read_tensors

    if not os.path.isdir(name) or not is_adapter(directory := checkpoint_at(name)):
        return None
    config = read_json(directory / CONFIG)
    numbers = sum(tensor.numel() for tensor in read_tensors(directory / WEIGHTS).values())
    return {"method": config.get("peft_type"), "parameters": numbers, "base": str(base_of(directory, config))}


def costs(spec: ModelSpec, total: int) -> Iterator[str]:
    """Yield what a token costs, and what memory training and serving take."""
    from smelt.models.build import count_active
    from smelt.models.sizes import STATE_BYTES, cache_bytes, forward_flops, state_bytes
    from smelt.train.plan import gigabytes

    context, active = spec.max_seq_len, count_active(spec)
    flops, cache = forward_flops(spec, context), cache_bytes(spec)
    if active != total:
        yield f"a token goes through {active:,} of them"
    token = "a token" if spec.encoder is None else "a token on each side"
    yield f"work: {flops:,.0f} FLOPs {token} forward in rows of {context:,}, three times that to train"
    kept = f"{cache:,} bytes of cache {token}" if spec.layers else f"{state_bytes(spec):,} bytes a text of state"
    yield f"to serve in 16 bits: {gigabytes(2 * total)}, and {kept}"
    yield f"to train with AdamW in float32: {gigabytes(STATE_BYTES * total)}, and what the backward pass needs"


def weights_of(name: str) -> dict[str, Any] | None:
    """Return how many tensors a checkpoint holds, or why they do not fit its config.json; None for a preset."""
    from smelt.core.errors import CheckpointError
    from smelt.core.storage import checkpoint_at
    from smelt.models.families import PRESETS
    from smelt.models.hub import check_weights

    if name in PRESETS and not os.path.exists(name):
        return None
    directory = checkpoint_at(name)
    try:
        return {"tensors": check_weights(directory), "fault": ""}
    except CheckpointError as error:
        return {"tensors": None, "fault": error.what.removeprefix(f"{directory}: ")}


def weight_lines(weights: dict[str, Any] | None) -> Iterator[str]:
    """Yield whether a checkpoint's tensors are those that it needs, each list of others on a line of its own."""
    if weights is None:
        return
    if not weights["fault"]:
        yield f"weights: {weights['tensors']:,} tensors, exactly those that config.json asks for"
        return
    what, *listings = weights["fault"].replace("the model: ", "the model; ").split("; ")
    yield f"weights: {what}"
    yield from (f"  {listing}" for listing in listings)


def list_presets(as_json: bool) -> None:
    """Print the presets with their sizes."""
    from smelt.models.build import count_parameters
    from smelt.models.families import PRESETS

    sizes = {name: count_parameters(spec) for name, spec in PRESETS.items()}
    if as_json:
        print_json({"presets": {name: {"family": PRESETS[name].family, "parameters": sizes[name]} for name in PRESETS}})
        return
    rows = [
        (name, spec.family, f"{sizes[name]:,}", str(spec.num_layers), str(spec.dim), f"{spec.max_seq_len:,}")
        for name, spec in PRESETS.items()
    ]
    numeric = ("parameters", "layers", "width", "context")
    print_table(("preset", "family", *numeric), rows, numeric=numeric)


def find_spec(name: str) -> tuple[ModelSpec, dict[str, Any]]:
    """Return the spec of a checkpoint, a run or a preset, and the checkpoint's lineage.

    Raises UsageError when the name is none of them.
    """
    from smelt.core.download import is_id
    from smelt.core.storage import checkpoint_at
    from smelt.models.families import PRESETS
    from smelt.models.hub import LINEAGE, load_spec
    from smelt.models.shards import read_json

    if name in PRESETS and not os.path.exists(name):
        return PRESETS[name], {}
    if not os.path.exists(name) and not is_id(name):
        raise UsageError(
            f"no checkpoint and no preset '{name}'.{nearest(name, PRESETS)}",
            accepted="a directory, or what `smelt info --presets` lists",
        )
    directory = checkpoint_at(name)
    lineage = read_json(directory / LINEAGE) if (directory / LINEAGE).is_file() else {}
    return load_spec(directory), lineage


def summary(name: str, spec: ModelSpec, total: int) -> Iterator[str]:
    """Yield the lines above the table of parameters."""
    from smelt.models.sizes import networks

    yield f"{name}: {spec.family}, {total:,} parameters"
    sizes = {"vocabulary": spec.vocab_size, "width": spec.dim, "context": spec.max_seq_len}
    layers = " + ".join(str(part.num_layers) for part in networks(spec))
    yield "  " + " · ".join((*(f"{name} {size:,}" for name, size in sizes.items()), f"layers {layers}"))
    if spec.embedding_scale is not None:
        yield f"  embeddings times {spec.embedding_scale:g}"
    if spec.positions == "learned":
        rows, width = spec.max_seq_len + spec.position_offset, spec.embedding_dim or spec.dim
        begin = f", used from row {spec.position_offset}" if spec.position_offset else ""
        yield f"  positions: a learned table ({rows}, {width}){begin}"
    if spec.num_types:
        yield f"  token types: {spec.num_types}"
    if spec.relative is not None:
        buckets = f"{spec.relative.num_buckets} buckets of distances up to {spec.relative.max_distance}"
        yield f"  positions: a bias for each of {buckets}, one table for all layers"
    if spec.embedding_norm is not None:
        yield f"  embeddings: {norm_words(spec.embedding_norm)}"
    if spec.embedding_dim is not None:
        yield f"  embeddings of {spec.embedding_dim}, widened to {spec.dim}"
    if spec.positions.startswith("sinusoidal"):
        from smelt.nn.positions import sinusoidal_table

        table = sinusoidal_table(2, spec.dim, halves=spec.positions == "sinusoidal_halves")
        row = ", ".join(f"{value:.6f}" for value in table[1, :6].tolist())
        yield f"  positions: a sinusoidal table ({spec.max_seq_len}, {spec.dim}), computed, no parameter"
        yield f"    row 1 begins {row}"
    if spec.encoder is None:
        yield from (f"  {line}" for line in network_lines(spec))
        return
    for part, network in (("encoder", spec.encoder), ("decoder", spec)):
        yield f"  {part}"
        yield from (f"    {line}" for line in network_lines(network))


def network_lines(spec: ModelSpec) -> Iterator[str]:
    """Yield each kind of layer, and what stands behind the last."""
    if spec.shared_layers:
        yield "all layers are one"
    if (recurrent := spec.recurrent) is not None:
        gates = f"{recurrent.num_gates} gates a unit" if recurrent.num_gates > 1 else "no gates"
        yield f"layers {span(0, recurrent.num_layers - 1)}, each"
        yield f"  recurrent: {recurrent.cell}, {spec.dim:,} units, {gates}, biases on input and state"
    for numbers, layer in kinds_of(spec.layers):
        yield numbers
        yield from (f"  {line}" for line in layer_lines(layer, spec.dim))
    if end := ", ".join(end_words(spec)):
        yield f"end: {end}"


def end_words(spec: ModelSpec) -> Iterator[str]:
    """Say what stands behind the layers."""
    if spec.norm is not None:
        yield norm_words(spec.norm)
    if spec.head_transform is not None:
        yield f"transform ({spec.head_transform.activation}, {norm_words(spec.head_transform.norm)})"
    if spec.language_head:
        head = "tied to the embedding" if spec.tied else "own matrix"
        yield f"head {head}{', with a bias' if spec.head_bias else ''}"
    if spec.logit_scale is not None:
        yield f"logits times {spec.logit_scale:g}"
    if spec.logit_softcap is not None:
        yield f"logits bounded by {spec.logit_softcap:g}"
    if spec.pooler:
        yield "pooler"
    for task in spec.tasks:
        whose = "each token" if task.reads == "token" else "a text"
        yield f"{task.name}: {task.num_labels} labels of {whose}{', scored together by a CRF' if task.crf else ''}"


def kinds_of(layers: Sequence[LayerSpec]) -> Iterator[tuple[str, LayerSpec]]:
    """Yield each kind of layer with the numbers of those that are of it.

    A, B, A, B, A -> ("layers 0 to 4, every second", A), ("layers 1 to 3, every second", B)
    """
    places: dict[LayerSpec, list[int]] = {}
    for number, layer in enumerate(layers):
        places.setdefault(layer, []).append(number)
    for layer, numbers in places.items():
        steps = {later - earlier for earlier, later in pairwise(numbers)}
        ends = f"layers {numbers[0]} to {numbers[-1]}"
        if len(numbers) == 1:
            yield f"layer {numbers[0]}", layer
        elif steps == {1}:
            yield f"{ends}, each", layer
        elif len(steps) == 1:
            [step] = steps
            yield f"{ends}, every {'second' if step == 2 else f'{step}th'}", layer
        else:
            runs = [tuple(run) for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
            yield f"layers {', '.join(span(run[0][1], run[-1][1]) for run in runs)}, each", layer


def span(first: int, last: int) -> str:
    """Write some numbers in a row."""
    return f"{first}" if first == last else f"{first} to {last}"


def layer_lines(layer: LayerSpec, dim: int) -> Iterator[str]:
    """Yield what a block does, in order."""
    from smelt.nn.spec import MoESpec

    names = {
        "pre": "before",
        "post": "behind, on the stream",
        "sandwich": "before and behind",
        "parallel": "before both",
        "scaled": f"before, handed on times {layer.residual_scale or 1:.4g}",
    }
    yield f"{norm_words(layer.norm)} {names[layer.placement]}"
    yield f"attention: {attention_words(layer.attention)}"
    if layer.cross is not None:
        yield f"attention to the encoder's output: {attention_words(replace(layer.cross, causal=True))}"
    forward = layer.feed_forward
    if not isinstance(forward, MoESpec):
        yield f"feed-forward: {forward_words(forward, dim)}"
        return
    yield f"mixture: {forward.experts_per_token} of {forward.num_experts} experts, {forward_words(forward.expert, dim)}"
    if forward.shared is not None:
        yield f"shared expert: {forward_words(forward.shared, dim)}{', with a gate' if forward.gated_shared else ''}"


def norm_words(norm: NormSpec) -> str:
    """Say what a norm is."""
    return f"{norm.kind} norm (eps {norm.eps:g}{', weight + 1' if norm.unit_offset else ''})"


def attention_words(spec: AttentionSpec) -> str:
    """Say what attention does."""
    biases = [name for name, there in (("q/k/v", spec.qkv_bias), ("output", spec.output_bias)) if there]
    parts = [] if spec.causal else ["both ways"]
    parts += [f"{spec.num_heads} heads over {spec.num_kv_heads} key-value heads of {spec.head_dim}"]
    if (rotary := spec.rotary) is not None:
        share = "" if rotary.dim == spec.head_dim else f" on {rotary.dim}"
        pairs = ", interleaved" if rotary.interleaved else ""
        scaling = "" if rotary.scaling is None else f", {rotary.scaling}"
        axes = ", half by each of two positions" if rotary.axes > 1 else ""
        parts.append(f"rotary{share} (theta {rotary.theta:g}{pairs}{scaling}{axes})")
    parts += [f"window {spec.window:,}"] if spec.window is not None else []
    parts += [f"{spec.blocks}"] if spec.blocks is not None else []
    parts += [f"scores times {spec.scale:g}"] if spec.scale is not None else []
    parts += [f"bounded by {spec.softcap:g}"] if spec.softcap is not None else []
    parts += [f"{spec.qk_norm.kind} norm of q and k"] if spec.qk_norm is not None else []
    parts += [f"made of a latent of {spec.latent.kv_rank}"] if spec.latent is not None else []
    parts += ["linear bias"] if spec.alibi else []
    parts += ["sinks"] if spec.sinks else []
    return ", ".join((*parts, f"bias on {' and '.join(biases)}" if biases else "no bias"))


def forward_words(spec: FeedForwardSpec, dim: int) -> str:
    """Say what a feed-forward part does."""
    return f"{spec.activation}, {dim:,} to {spec.hidden_dim:,} and back, {'with biases' if spec.bias else 'no bias'}"


def collapse(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Return one row for the same parameter of all blocks, with their number in the name and their sum.

    blocks.0.norm.weight and blocks.1.norm.weight of (8,) -> ("blocks.*.norm.weight x 2", (8,), 16)
    """
    found: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for name, shape, count in parameters:
        found.setdefault((re.sub(r"^((?:\w+\.)?(?:blocks|recurrent))\.\d+\.", r"\1.*.", name), shape), []).append(count)
    return [
        (f"{name} x {len(counts)}" if "*" in name else name, shape, sum(counts))
        for (name, shape), counts in found.items()
    ]
