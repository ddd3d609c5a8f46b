"""A checkpoint becomes a model that answers: weights, tokenizer, template, stop tokens and named adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from smelt.core import runtime
from smelt.core.errors import TokenizerError
from smelt.core.log import printable, say
from smelt.core.storage import checkpoint_at
from smelt.infer import Engine
from smelt.infer.adapters import Adapters
from smelt.infer.limits import check_model
from smelt.models.transformer import Transformer
from smelt.peft.files import load_lora
from smelt.peft.load import load
from smelt.serve.prepare import Served
from smelt.tokenizers.chat import ChatTemplate


def served(checkpoint: Path | str, name: str, adapters: Mapping[str, Path], adapter_root: Path | None) -> Served:
    """Load a model and its adapters for the server; raises UsageError for one that the engine does not know."""
    runtime.prepare_process()
    directory = checkpoint_at(checkpoint)
    model, tokenizer = load(directory)
    check_model(model.to(runtime.device()))
    template = None
    try:
        template = ChatTemplate(tokenizer)
        if tokenizer.chat_template is None:
            say("warning: a base model, which has not learned to answer; `smelt sft` teaches it")
    except TokenizerError as error:
        say(f"no chat, only completions: {printable(str(error))}")
    stops = tuple(dict.fromkeys((*model.spec.token_ids.end, *(template.stop_ids if template else ()))))
    assert isinstance(model, Transformer), "a model without an encoder is one"
    known = Adapters(model)
    for own, path in adapters.items():
        known.add(own, load_lora(path, model.spec))
    return Served(
        name=name,
        created=int(directory.stat().st_mtime),
        tokenizer=tokenizer,
        template=template,
        vocab_size=min(tokenizer.vocab_size, model.spec.vocab_size),
        max_seq_len=model.spec.max_seq_len,
        stop_ids=stops,
        new_engine=lambda settings: Engine(model, tokenizer, stop_ids=stops, settings=settings, adapters=known),
        adapters=known,
        adapter_root=adapter_root,
        dim=model.spec.dim,
    )
