"""Adapters, their training, their files, and the model that comes of them."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import nn

from longleaf.errors import ModelError
from longleaf.model import ChatLongleaf, load_model
from longleaf.model.chat_template import ChatTemplate
from longleaf.model.decoder_engine import load_chat_template
from longleaf.model.fine_tuning import (
    Example,
    FineTuningOptions,
    fine_tune,
    save_for_reading,
    training_example,
    write_tokenizer,
)
from longleaf.model.lora import DEFAULT_TARGETS, LoRA, LoRALinear, LoRAOptions, base_fingerprint
from longleaf.model.training import TrainableDecoder

pytestmark = pytest.mark.usefixtures("one_thread")

VOCAB_SIZE = 30


class TinyModel(nn.Module):
    """Tokens to logits through a running mean of what came before, with the names of real products."""

    def __init__(self, seed=0, width=12):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(VOCAB_SIZE, width)
        self.layers = nn.ModuleList([TinyLayer(width) for _ in range(2)])
        self.head = nn.Linear(width, VOCAB_SIZE, bias=False)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class TinyLayer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.in_proj = nn.Linear(width, 2 * width)
        self.down_proj = nn.Linear(2 * width, width, bias=False)

    def forward(self, x):
        so_far = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return x + self.down_proj(torch.tanh(self.in_proj(so_far)))


def trained(lora, seed=1):
    """Adapters as after training: B is no longer zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return lora


def some_ids(rows=3, length=7, seed=0):
    return torch.randint(VOCAB_SIZE, (rows, length), generator=torch.Generator().manual_seed(seed))


def counting_examples(n=12):
    """Replies that follow from their prompts: each counts on from the prompt's last token."""
    examples = []
    for i in range(n):
        prompt = tuple((7 * i + k) % VOCAB_SIZE for k in range(2 + i % 4))
        reply = tuple((prompt[-1] + k) % VOCAB_SIZE for k in range(1, 3 + i % 2))
        examples.append(Example(prompt + reply, len(prompt)))
    return examples


@pytest.fixture(scope="module")
def hybrid(tiny):
    """A TrainableDecoder with attention, Mamba and experts."""
    return lambda: TrainableDecoder.from_model(tiny("jamba-d-state-8"))


# The adapters


def test_new_adapters_change_nothing():
    model, ids = TinyModel(), some_ids()
    expected = model(ids)
    lora = LoRA(model)
    assert set(lora.layers) == {f"layers.{i}.{name}" for i in range(2) for name in ("in_proj", "down_proj")}
    assert torch.equal(model(ids), expected)


def test_an_adapted_layer_is_the_formula():
    base = nn.Linear(5, 4)
    layer = LoRALinear(base, LoRAOptions(rank=2, alpha=6))
    with torch.no_grad():
        layer.lora_B.weight.copy_(torch.randn(4, 2))
    x = torch.randn(3, 5)
    expected = x @ base.weight.T + base.bias + 3 * x @ layer.lora_A.weight.T @ layer.lora_B.weight.T
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(F.linear(x, layer.weight, layer.bias), expected, atol=1e-5, rtol=1e-5)


def test_gradients_of_a_and_b_are_those_of_finite_differences():
    model = TinyModel()
    lora = trained(LoRA(model, LoRAOptions(rank=2)))
    model.double()
    ids, step = some_ids(), 1e-6

    def loss():
        return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())

    loss().backward()
    for name, parameter in lora.named_parameters():
        flat, found = parameter.data.view(-1), []
        for i in range(0, flat.numel(), 5):
            value = flat[i].item()
            around = []
            for shift in (step, -step):
                flat[i] = value + shift
                around.append(loss().item())
            flat[i] = value
            found.append((around[0] - around[1]) / (2 * step))
        exact = parameter.grad.view(-1)[::5]
        assert exact.abs().max() > 1e-4, name
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), exact, atol=1e-8, rtol=1e-5)


def test_merged_equals_unmerged(hybrid):
    model, ids = hybrid(), torch.randint(300, (2, 9))
    model.eval()
    lora = LoRA(model, LoRAOptions(rank=4))
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.05)
        base_size = model(ids).abs().max()
        with lora.disabled():
            base = model(ids)
        apart = model(ids)
        assert lora.merge() is model
        merged = model(ids)
    assert not any(isinstance(module, LoRALinear) for module in model.modules())
    assert (apart - base).abs().max() > 0.01 * base_size
    torch.testing.assert_close(merged, apart, atol=1e-5 * float(base_size), rtol=1e-5)


def test_bf16_weights_are_merged_in_fp32_and_rounded_once():
    model = TinyModel().to(torch.bfloat16)
    lora = trained(LoRA(model))
    layer = lora.layers["layers.1.down_proj"]
    expected = (layer.base.weight.float() + 2 * layer.lora_B.weight @ layer.lora_A.weight).to(torch.bfloat16)
    assert model(some_ids()).dtype == torch.bfloat16
    lora.merge()
    assert torch.equal(model.layers[1].down_proj.weight, expected)


def test_disabled_and_removed_adapters_leave_the_base_model():
    model, ids = TinyModel(), some_ids()
    model.embed.requires_grad_(False)
    expected, modules = model(ids), dict(model.named_modules())
    lora = trained(LoRA(model))
    assert not torch.equal(model(ids), expected)
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    with lora.disabled():
        assert torch.equal(model(ids), expected)
    lora.remove()
    assert torch.equal(model(ids), expected)
    assert dict(model.named_modules()) == modules
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {"embed.weight"}


def test_dropout_hides_inputs_of_the_adapter_in_training_alone():
    model, ids = TinyModel(), some_ids()
    trained(LoRA(model, LoRAOptions(dropout=0.5)))
    assert not torch.equal(model.train()(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))


def test_a_seed_repeats_the_adapters():
    draws = [[p.clone() for p in LoRA(TinyModel(), seed=seed).parameters()] for seed in (3, 3, 4)]
    assert all(torch.equal(a, b) for a, b in zip(*draws[:2], strict=True))
    assert not torch.equal(draws[0][0], draws[2][0])


def test_targets_that_are_nowhere_are_an_error_that_lists_what_is_there():
    with pytest.raises(ModelError, match="c_attn; this model's are down_proj, head, in_proj"):
        LoRA(TinyModel(), LoRAOptions(targets=("c_attn",)))
    lora = LoRA(TinyModel())
    with pytest.raises(ModelError, match="has adapters already"):
        LoRA(lora.model)


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"alpha": 0.0}, {"alpha": float("nan")}, {"dropout": 1.0}, {"targets": ()}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoRAOptions(**wrong)


# Files


def test_an_adapter_comes_back_exactly(tmp_path):
    lora = trained(LoRA(TinyModel(), LoRAOptions(rank=3, alpha=5, targets=("in_proj",), dropout=0.1), base_name="tiny"))
    lora.save_adapter(tmp_path)
    other = LoRA.from_adapter(TinyModel(), tmp_path)
    assert (other.options, other.base_name) == (lora.options, "tiny")
    for (name, a), (same, b) in zip(lora.named_parameters(), other.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(a, b)
    assert torch.equal(lora.model.eval()(some_ids()), other.model.eval()(some_ids()))


def test_files_have_pefts_names_and_layout(tmp_path):
    trained(LoRA(TinyModel(), LoRAOptions(rank=3))).save_adapter(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    shapes = {name: tuple(t.shape) for name, t in load_file(tmp_path / "adapter_model.safetensors").items()}
    assert shapes["base_model.model.layers.0.in_proj.lora_A.weight"] == (3, 12)
    assert shapes["base_model.model.layers.0.in_proj.lora_B.weight"] == (24, 3)
    assert len(shapes) == 8
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert {key: config[key] for key in ("peft_type", "task_type", "r", "lora_alpha", "bias", "target_modules")} == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 3,
        "lora_alpha": 16.0,
        "bias": "none",
        "target_modules": ["down_proj", "in_proj"],
    }


@pytest.mark.parametrize("variant", ["jamba-3b", "qwen2", "mamba"])
def test_layers_of_a_decoder_are_called_as_transformers_calls_them(tiny, oracle, tmp_path, variant):
    LoRA(TrainableDecoder.from_model(tiny(variant))).save_adapter(tmp_path)
    theirs = {
        f"base_model.model.{name}.lora_{matrix}.weight"
        for name, module in oracle(variant).named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in DEFAULT_TARGETS
        for matrix in "AB"
    }
    assert load_file(tmp_path / "adapter_model.safetensors").keys() == theirs
    again = LoRA.from_adapter(TrainableDecoder.from_model(tiny(variant)), tmp_path)
    assert again.n_trainable == sum(t.numel() for t in load_file(tmp_path / "adapter_model.safetensors").values())


def test_mixtral_keeps_its_own_names_in_files(tiny, tmp_path):
    LoRA(TrainableDecoder.from_model(tiny("mixtral")), LoRAOptions(targets=("down_proj",))).save_adapter(tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert "base_model.model.model.layers.0.block_sparse_moe.experts.3.w2.lora_A.weight" in names
    assert len(LoRA.from_adapter(TrainableDecoder.from_model(tiny("mixtral")), tmp_path).layers) == len(names) / 2


def test_an_adapter_of_another_base_model_is_refused_and_changes_nothing(tmp_path):
    trained(LoRA(TinyModel(seed=1))).save_adapter(tmp_path)
    model = TinyModel(seed=2)
    expected = model(some_ids())
    with pytest.raises(ModelError, match=r"made for another base model .* load the model that it was trained on"):
        LoRA.from_adapter(model, tmp_path)
    assert torch.equal(model(some_ids()), expected)
    assert not any(isinstance(module, LoRALinear) for module in model.modules())
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(weights, tmp_path / "adapter_model.safetensors")  # without the fingerprint, as peft saves it
    with pytest.raises(ModelError, match=r"does not fit this model: .* is 8×12 instead of 8×16"):
        LoRA.from_adapter(TinyModel(width=16), tmp_path)


def test_an_adapter_without_a_fingerprint_is_taken_if_it_fits(tmp_path):
    lora = trained(LoRA(TinyModel()))
    lora.save_adapter(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file(load_file(file), file)
    assert torch.equal(LoRA.from_adapter(TinyModel(), tmp_path).model(some_ids()), lora.model(some_ids()))


def test_the_fingerprint_is_of_the_base_weights_alone():
    model = TinyModel()
    plain = base_fingerprint(model)
    assert base_fingerprint(TinyModel(seed=1)) != plain
    lora = trained(LoRA(model))
    assert base_fingerprint(model) == plain
    assert base_fingerprint(TinyModel().to(torch.bfloat16)) == plain
    lora.merge()
    assert base_fingerprint(model) != plain


def test_wrong_adapter_files_are_errors_that_say_what_is_wrong(tmp_path):
    with pytest.raises(ModelError, match=r"adapter_config\.json: no such file"):
        LoRA.from_adapter(TinyModel(), tmp_path)
    trained(LoRA(TinyModel())).save_adapter(tmp_path)
    with pytest.raises(ModelError, match="rank 8 and alpha 16, this model is set up for rank 4 and alpha 16"):
        LoRA(TinyModel(), LoRAOptions(rank=4)).load_adapter(tmp_path)
    config, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    good = json.loads(config.read_text())
    for change, message in (
        ({"peft_type": "IA3"}, "only LORA is supported"),
        ({"use_dora": True}, "use_dora is True"),
        ({"alpha_pattern": {"in_proj": 3}}, "alpha_pattern is set"),
        ({"target_modules": "all-linear"}, "must be a list of names"),
        ({"r": "many"}, "not a readable adapter config"),
    ):
        config.write_text(json.dumps(good | change))
        with pytest.raises(ModelError, match=message):
            LoRA.from_adapter(TinyModel(), tmp_path)
    config.write_text(json.dumps(good))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="not a readable adapter"):
        LoRA.from_adapter(TinyModel(), tmp_path)
    lora = LoRA(TinyModel())
    lora.merge()
    with pytest.raises(ModelError, match="merged or removed"):
        lora.save_adapter(tmp_path)


# Training


def test_training_lowers_the_loss_and_changes_the_adapters_alone(hybrid):
    model = hybrid()
    lora = LoRA(model, LoRAOptions(rank=4))
    base = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    first = {name: p.clone() for name, p in lora.named_parameters()}
    told = []
    options = FineTuningOptions(epochs=15, learning_rate=1e-2, batch_size=6, warmup_steps=2)
    records = fine_tune(lora, counting_examples(), options, on_step=told.append)
    assert told == records
    assert [record.step for record in records] == list(range(1, 31))
    assert sum(r.loss for r in records[-2:]) < 0.3 * sum(r.loss for r in records[:2])
    assert all(torch.equal(p, base[name]) for name, p in model.named_parameters() if name in base)
    assert not any(torch.equal(p, first[name]) for name, p in lora.named_parameters() if "expert" not in name)


def test_the_loss_is_of_the_answers_tokens_alone():
    lora = trained(LoRA(TinyModel()))
    examples = counting_examples(4)
    with torch.no_grad():
        terms = [
            F.cross_entropy(lora.model(torch.tensor([e.token_ids[:-1]]))[0, i - 1], torch.tensor(e.token_ids[i]))
            for e in examples
            for i in range(e.n_prompt, len(e.token_ids))
        ]
    (record,) = fine_tune(lora, examples, FineTuningOptions(epochs=1, batch_size=4))
    assert record.loss == pytest.approx(float(sum(terms) / len(terms)), rel=1e-5)


@pytest.mark.parametrize("at_once", [2, 5, 12])
def test_how_many_examples_go_through_at_once_is_no_matter(hybrid, at_once):
    """Padding and accumulation: Mamba, attention and experts see nothing of the rest of a batch."""
    results = []
    for n in (1, at_once):
        lora = trained(LoRA(hybrid(), LoRAOptions(rank=2)))
        options = FineTuningOptions(epochs=1, batch_size=12, examples_at_once=n)
        (record,) = fine_tune(lora, counting_examples(), options)
        results.append((record.loss, record.grad_norm))
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_a_run_that_is_stopped_and_taken_up_comes_to_the_same_numbers(tmp_path):
    options = FineTuningOptions(epochs=3, batch_size=5, learning_rate=1e-2, checkpoint_steps=2)

    def new():
        return LoRA(TinyModel(), LoRAOptions(rank=2, dropout=0.2))

    whole = new()
    expected = fine_tune(whole, counting_examples(), options)
    stopped, asked = new(), iter([False] * 4 + [True])
    fine_tune(stopped, counting_examples(), options, checkpoint=tmp_path, should_stop=lambda: next(asked))
    torch.manual_seed(99)
    taken_up = new()
    seen = []
    records = fine_tune(taken_up, counting_examples(), options, checkpoint=tmp_path, on_step=seen.append)
    assert [record.step for record in seen] == [5, 6, 7, 8, 9]
    assert [(r.step, r.loss, r.grad_norm) for r in records] == [(r.step, r.loss, r.grad_norm) for r in expected]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), taken_up.parameters(), strict=True))
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_taken_up_where_some_experts_were_never_chosen(tiny, tmp_path):
    """AdamW knows nothing of a matrix that has had no gradient, and counts its steps apart."""
    options = FineTuningOptions(epochs=1, batch_size=1, learning_rate=1e-2)

    def new():
        return LoRA(TrainableDecoder.from_model(tiny("jamba-mini")), LoRAOptions(rank=2))

    whole, stopped, taken_up = new(), new(), new()
    fine_tune(whole, counting_examples(4), options)
    asked = iter([False, False, True])
    fine_tune(stopped, counting_examples(4), options, checkpoint=tmp_path, should_stop=lambda: next(asked))
    unused = [n for n, p in stopped.named_parameters() if "experts" in n and "lora_B" in n and not p.any()]
    assert unused
    fine_tune(taken_up, counting_examples(4), options, checkpoint=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), taken_up.parameters(), strict=True))


def test_a_state_of_another_run_is_refused(tmp_path):
    asked = iter([False, True])
    options = FineTuningOptions(batch_size=4)
    fine_tune(LoRA(TinyModel()), counting_examples(), options, checkpoint=tmp_path, should_stop=lambda: next(asked))
    for lora, examples, other in (
        (LoRA(TinyModel(seed=1)), counting_examples(), options),
        (LoRA(TinyModel()), counting_examples(11), options),
        (LoRA(TinyModel()), counting_examples()[::-1], options),
        (LoRA(TinyModel()), counting_examples(), replace(options, learning_rate=1e-3)),
    ):
        with pytest.raises(ModelError, match="belongs to a run with another"):
            fine_tune(lora, examples, other, checkpoint=tmp_path)
    (state,) = tmp_path.iterdir()
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(ModelError, match="not a readable state"):
        fine_tune(LoRA(TinyModel()), counting_examples(), options, checkpoint=tmp_path)


def test_a_loss_that_is_no_number_stops_the_run_before_it_spoils_the_adapters():
    model = TinyModel()
    lora = LoRA(model)
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"step 1: the loss is nan .* lower the learning rate"):
        fine_tune(lora, counting_examples())
    assert all(torch.isfinite(p).all() for p in lora.parameters())


def test_recomputed_layers_give_the_same_gradients(hybrid):
    steps = []
    for recompute in (False, True):
        lora = trained(LoRA(hybrid(), LoRAOptions(rank=2)))
        lora.model.checkpoint_layers = recompute
        (record,) = fine_tune(lora, counting_examples(), FineTuningOptions(epochs=1, batch_size=12))
        steps.append((record.loss, record.grad_norm))
    assert steps[0] == pytest.approx(steps[1], rel=1e-6)


def test_the_rate_climbs_and_falls():
    options = FineTuningOptions(learning_rate=1.0, warmup_steps=3)
    rates = [options.rate(step, 13) for step in range(13)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"max_grad_norm": float("inf")}]
)
def test_impossible_training_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FineTuningOptions(**wrong)
    with pytest.raises(ValueError, match="no examples"):
        fine_tune(LoRA(TinyModel()), [])
    with pytest.raises(ValueError, match="both parts"):
        Example((1, 2), 2)


# Tokens of examples, and the model that is saved


def test_an_example_is_the_prompt_and_the_reply_with_its_end(smollm2):
    template = load_chat_template(smollm2)
    messages = [{"role": "user", "content": "When?"}]
    example = training_example(template, messages, "4 May <|im_end|>", [0, 2])
    prompt = template.prompt(messages).token_ids
    assert list(example.token_ids[: example.n_prompt]) == prompt
    reply = list(example.token_ids[example.n_prompt :])
    assert template.tokenizer.decode(reply[:-1], skip_special_tokens=False) == "4 May <|im_end|>"
    assert reply[-1] == template.tokenizer.token_to_id("<|im_end|>") == 2
    assert 2 not in reply[:-1]
    with pytest.raises(ValueError, match="no token that ends"):
        training_example(template, messages, "4 May", [])


def test_a_template_that_rewrites_earlier_replies_still_makes_an_example(smollm2):
    tokenizer = load_chat_template(smollm2).tokenizer
    template = ChatTemplate("{% for m in messages[:1] %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}", tokenizer)
    example = training_example(template, [{"role": "user", "content": "When?"}], "4 May", [2])
    assert tokenizer.decode(list(example.token_ids[example.n_prompt : -1])) == "4 May"
    assert example.token_ids[-1] == 2


@pytest.mark.slow
def test_merged_weights_of_a_gguf_model_are_read_and_answer(smollm2, tmp_path):
    model = TrainableDecoder.from_model(smollm2)
    template = load_chat_template(smollm2)
    lora = LoRA(model, LoRAOptions(rank=2))
    messages = [{"role": "user", "content": "Which word is it?"}]
    example = training_example(template, messages, "xylophone", load_model(smollm2).config.eos_token_ids)
    fine_tune(lora, [example], FineTuningOptions(epochs=6, learning_rate=5e-3, warmup_steps=0))
    with pytest.raises(ModelError, match="merge"):
        save_for_reading(model, smollm2, tmp_path)
    lora.merge()
    save_for_reading(model, smollm2, tmp_path)
    ids = torch.tensor(example.token_ids)
    decoder = load_model(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        expected = model.eval()(ids[None])[0, -1]
    found = decoder.prefill(ids.tolist(), decoder.new_state())
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    chat = ChatLongleaf(model=str(tmp_path), max_tokens=12, dtype="float32", n_threads=1)
    assert chat.invoke("Which word is it?").content == "xylophone"
    assert chat.context_tokens == 8192


def test_the_tokenizer_written_for_a_gguf_model_is_the_same(smollm2, tmp_path):
    write_tokenizer(smollm2, tmp_path)
    ours, theirs = load_chat_template(tmp_path), load_chat_template(smollm2)
    messages = [{"role": "user", "content": "Größe 12 345 — what's <|im_end|> “this”?\n\n\tYes."}]
    assert ours.prompt(messages) == theirs.prompt(messages)
    again = tmp_path / "again"
    again.mkdir()
    write_tokenizer(tmp_path, again)
    assert load_chat_template(again).prompt(messages) == theirs.prompt(messages)


def test_the_default_targets_are_products_of_the_decoder(hybrid):
    lora = LoRA(hybrid())
    there = {name.rpartition(".")[2] for name in lora.layers}
    assert there == set(DEFAULT_TARGETS)
