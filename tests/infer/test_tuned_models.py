"""What was added to a model is never left out: the engine refuses virtual tokens, the fused step all it cannot see."""

import copy

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.infer import Sampling, generate
from smelt.infer.drafts import DraftModel
from smelt.infer.engine import Engine, answers_of
from smelt.infer.fused import FusedDecoder, added_to
from smelt.infer.limits import EngineSettings
from smelt.peft.methods import METHODS

SETTINGS = EngineSettings(max_running=4, page_tokens=4, cache_tokens=200)
GREEDY = Sampling(max_new_tokens=8, temperature=0)
PROMPTS = [[5, 6, 7], [70, 8]]


def tuned(model, way):
    model = copy.deepcopy(model)
    METHODS[way].attach(model, METHODS[way].settings(num_virtual_tokens=3), 1)
    for block in model.blocks:
        if block.attention.addition is not None:
            block.attention.addition.gate.data.fill_(2.0)
    return model.eval()


@pytest.mark.parametrize("way", ["prompt", "p-tuning", "prefix"])
def test_the_engine_refuses_virtual_tokens_and_the_plain_loop_has_them(model, tokenizer, way):
    changed = tuned(model, way)
    message = (
        r"^this llama model has virtual tokens before its texts, which the engine does not know\n"
        r"accepted: .*; of tuned ones, those whose method can be merged\ntry: smelt.infer.generate"
    )
    with pytest.raises(UsageError, match=message):
        Engine(changed, tokenizer, settings=SETTINGS)
    with pytest.raises(UsageError, match=message):
        DraftModel(changed)
    with pytest.raises(UsageError, match=r"no fused step for this network: it was tuned or changed, at prefix\."):
        FusedDecoder(changed, weights="fp32", threads=1)
    expected = generate(changed, tokenizer, PROMPTS, GREEDY)
    assert answers_of(changed, tokenizer, ())(PROMPTS, GREEDY, None) == expected
    assert expected != generate(model, tokenizer, PROMPTS, GREEDY)


def test_gated_prompts_are_answered_with_beside_the_fused_step(model, tokenizer, capsys):
    changed = tuned(model, "llama-adapter")
    answers = Engine(changed, tokenizer, settings=SETTINGS).generate(PROMPTS, GREEDY)
    where = "blocks.1.attention.addition.prompt"
    assert f"decoding without the fused step: it was tuned or changed, at {where}" in capsys.readouterr().err
    assert answers == generate(changed, tokenizer, PROMPTS, GREEDY) != generate(model, tokenizer, PROMPTS, GREEDY)
    with pytest.raises(UsageError, match=rf"weights in int8 for this llama model: it was tuned or changed, at {where}"):
        Engine(changed, tokenizer, settings=EngineSettings(weights="int8", cache_tokens=200))


def test_the_fused_step_asks_for_every_parameter_of_the_spec(model):
    assert added_to(model) is None
    changed = copy.deepcopy(model)
    layer = changed.blocks[0].attention.query
    changed.blocks[0].attention.query = torch.nn.utils.parametrizations.weight_norm(layer)
    assert added_to(changed) == (
        "it was tuned or changed, at blocks.0.attention.query.parametrizations.weight.original0"
    )
    del changed.blocks[0].attention.query
    assert added_to(changed) == "it was tuned or changed, at blocks.0.attention.query.weight"
