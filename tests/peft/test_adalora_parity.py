"""AdaLoRA beside the peft library: the same files, logits, losses and gradients, and the same triplets let go."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from smelt.models.hub import load_model
from smelt.peft.adalora import METHOD
from smelt.peft.adalora_budget import mean_rank, prune
from smelt.peft.adalora_layer import by_triplets
from smelt.peft.checks import CONFIG, WEIGHTS
from smelt.peft.published import published_layers

pytestmark = pytest.mark.interop
transformers = pytest.importorskip("transformers", reason="needs the extra interop")
peft = pytest.importorskip("peft", reason="needs the extra interop")

STEPS = 12
RUN = dict(init_r=4, target_r=2, lora_alpha=7, tinit=2, tfinal=4, deltaT=3, total_step=STEPS, orth_reg_weight=0.3)
TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "gpt2": ["c_attn", "c_fc", "mlp.c_proj"],
}
OURS = {"llama": ("query", "key", "value", "down"), "gpt2": ("query", "key", "value", "up", "down")}
MEAN_AT_3 = {"llama": 25 / 8, "gpt2": 18 / 6}
"""16 (5 / 6)^3 + 16 = 25.3 triplets of 8 modules, 12 (5 / 6)^3 + 12 = 18.9 of 6; at step 6 the target is met."""
IDS = torch.randint(64, (STEPS, 2, 12), generator=torch.Generator().manual_seed(3))


def published(kind):
    if kind == "gpt2":
        sizes = dict(n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, initializer_range=0.2)
        config = transformers.GPT2Config(
            vocab_size=64, n_positions=32, **sizes, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0
        )
    else:
        sizes = dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.2
        )
        config = transformers.LlamaConfig(vocab_size=64, max_position_embeddings=32, num_key_value_heads=2, **sizes)
    torch.manual_seed(1)
    return transformers.AutoModelForCausalLM.from_config(config)


def draw(model):
    """Give every number of an adapter another value."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3, generator=generator)


def theirs(kind, folder):
    """Return peft's model of a base that is written, every number of its adapter drawn."""
    base = published(kind)
    base.save_pretrained(folder / "base")
    config = peft.AdaLoraConfig(
        task_type="CAUSAL_LM", target_modules=TARGETS[kind], fan_in_fan_out=kind == "gpt2", **RUN
    )
    whole = peft.get_peft_model(base, config)
    draw(whole)
    return whole


def ours(folder):
    """Return our model of the base and the adapter that are in a folder."""
    model = load_model(folder / "base")
    config = json.loads((folder / "adapter" / CONFIG).read_text())
    METHOD.attach(model, METHOD.read(config, model.spec), 0)
    METHOD.fill(model, load_file(folder / "adapter" / WEIGHTS))
    return model


def both(kind, folder):
    whole = theirs(kind, folder)
    whole.save_pretrained(folder / "adapter")
    return whole, ours(folder)


def write(model, settings, folder):
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(METHOD.config(model, settings)))
    save_file(METHOD.tensors(model), folder / WEIGHTS)


def their_loss(whole, ids):
    return whole(ids, labels=ids).loss


def our_loss(model, ids):
    logits = model(ids).logits[:, :-1].flatten(0, 1)
    return functional.cross_entropy(logits, ids[:, 1:].flatten()) + METHOD.penalty(model)


def their_tensors(whole, kind="data"):
    names = {name: parameter for name, parameter in whole.named_parameters() if parameter.requires_grad}
    return {name.replace(".default", ""): getattr(parameter, kind) for name, parameter in names.items()}


def close(found, expected, **limits):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, **limits, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", TARGETS)
def test_their_files_give_their_logits_here(kind, tmp_path):
    whole, model = both(kind, tmp_path)
    with torch.inference_mode():
        expected = whole.eval()(IDS[0]).logits
        with whole.disable_adapter():
            assert not torch.allclose(expected, whole(IDS[0]).logits, atol=1e-2)
        torch.testing.assert_close(model.eval()(IDS[0]).logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("kind", TARGETS)
def test_our_files_give_our_logits_there(kind, pruned, tmp_path):
    base = published(kind)
    base.save_pretrained(tmp_path / "base")
    model = load_model(tmp_path / "base")
    settings = METHOD.settings(initial_rank=4, target_rank=2, targets=OURS[kind])
    METHOD.attach(model, settings, 0)
    draw(model)
    if pruned:
        for index, (triplets, _) in enumerate(by_triplets(model)):
            triplets.values.data[index % 4 :] = 0  # the first is left without any
        before = model.eval()(IDS[0]).logits.detach()
        prune(model)
        torch.testing.assert_close(model(IDS[0]).logits, before, atol=1e-6, rtol=1e-5)
    write(model, settings, tmp_path / "adapter")
    whole = peft.get_peft_model(base, peft.PeftConfig.from_pretrained(tmp_path / "adapter"))
    result = peft.set_peft_model_state_dict(whole, peft.load_peft_weights(tmp_path / "adapter"))
    assert not result.unexpected_keys and not [name for name in result.missing_keys if "lora_" in name]
    expected = peft.PeftModel.from_pretrained(published(kind), tmp_path / "adapter").eval()(IDS[0]).logits
    torch.testing.assert_close(model.eval()(IDS[0]).logits, expected, atol=1e-5, rtol=1e-4)
    again = ours(tmp_path)
    close(METHOD.tensors(again), METHOD.tensors(model), atol=0, rtol=0)


@pytest.mark.parametrize("kind", TARGETS)
def test_loss_and_gradients_of_a_step_are_theirs(kind, tmp_path):
    whole, model = both(kind, tmp_path)
    expected, loss = their_loss(whole, IDS[0]), our_loss(model, IDS[0])
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    expected.backward()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.grad)
    close(METHOD.tensors(model), their_tensors(whole, "grad"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_run_keeps_the_triplets_that_theirs_keeps(kind, tmp_path):
    """Both take the same steps; the mean rank falls as the schedule says and then stays."""
    whole, model = both(kind, tmp_path)
    places = published_layers(model.spec)
    optimizers = [
        torch.optim.AdamW([p for p in each.parameters() if p.requires_grad], lr=1e-2) for each in (whole, model)
    ]
    settings = METHOD.read(json.loads((tmp_path / "adapter" / CONFIG).read_text()), model.spec)
    METHOD.watch(model, settings, optimizers[1:], STEPS)
    means = []
    for step, ids in enumerate(IDS, start=1):
        their_loss(whole, ids).backward()
        our_loss(model, ids).backward()
        for optimizer in optimizers:
            optimizer.step()
        whole.base_model.update_and_allocate(step)
        for optimizer in optimizers:
            optimizer.zero_grad()
        pattern = whole.peft_config["default"].rank_pattern
        for triplets, layers in by_triplets(model):
            module = places[next(iter(layers))].module
            expected = [True] * 4 if pattern is None else pattern[f"{module}.lora_E.default"]
            assert triplets.kept.tolist() == expected, (step, module)
        means.append(mean_rank(model))
    assert means == [4, 4, *[MEAN_AT_3[kind]] * 3, *[2] * 7]
    close(METHOD.tensors(model), their_tensors(whole), atol=2e-4, rtol=1e-3)
    whole.save_pretrained(tmp_path / "pruned" / "adapter")
    (tmp_path / "pruned" / "base").symlink_to(tmp_path / "base")
    torch.testing.assert_close(
        ours(tmp_path / "pruned").eval()(IDS[0]).logits, whole.eval()(IDS[0]).logits, atol=1e-5, rtol=1e-4
    )
