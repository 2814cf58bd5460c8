"""Opening checkpoints: what is refused and how it is said, other spellings, int8, memory, fingerprints. GGUF files have
tests of their own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from longleaf.errors import ModelError, ModelNotInstalledError
from longleaf.model import native
from longleaf.model.decoder import Decoder
from longleaf.model.layers import FeedForward, MixtureOfExperts
from longleaf.model.linear import DenseLinear, Int8Linear, PackedLinear
from longleaf.model.loading import load_model

from .tiny_models import oracle_logits, prompt, relative_error

HYBRID = "jamba-attention-last"
Tiny = Callable[[str], Path]

pytestmark = pytest.mark.usefixtures("one_thread")
needs_native = pytest.mark.skipif(not native.is_available(), reason="the native kernels were not built")


def edit(
    source: Path,
    folder: Path,
    tensors: Callable[[dict[str, Tensor]], object] = lambda _: None,
    config: Callable[[dict[str, Any]], object] = lambda _: None,
) -> Path:
    """A copy of a checkpoint in one file, with changes."""
    folder.mkdir(exist_ok=True)
    weights, values = load_file(source / "model.safetensors"), json.loads((source / "config.json").read_text())
    tensors(weights)
    config(values)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def load(path: Path, **options: Any) -> Decoder:
    return load_model(path, **{"dtype": torch.float32, **options})


def logits(model: Decoder, n_tokens: int = 60) -> Tensor:
    return model.logits_of_all(prompt(n_tokens), model.new_state())


# What is refused


def test_one_error_lists_every_tensor_that_does_not_fit(tiny: Tiny, tmp_path: Path) -> None:
    def spoil(weights: dict[str, Tensor]) -> None:
        del weights["model.layers.0.mamba.A_log"]
        del weights["model.layers.1.feed_forward.experts.3.up_proj.weight"]
        weights["model.layers.2.mamba.D"] = torch.zeros(127)
        weights["model.layers.3.self_attn.q_proj.weight"] = torch.zeros(64, 2)
        weights["model.layers.3.self_attn.q_proj.bias"] = torch.zeros(64)
        weights["model.layers.4.input_layernorm.weight"] = torch.zeros(64)

    folder = edit(tiny(HYBRID), tmp_path / "model", spoil)
    with pytest.raises(ModelError) as caught:
        load(folder)
    message = str(caught.value)
    for part in (
        str(folder),
        "2 missing: model.layers.0.mamba.A_log 128×16, model.layers.1.feed_forward.experts.3.up_proj.weight 96×64",
        "2 of another shape: model.layers.2.mamba.D is 127 instead of 128, "
        "model.layers.3.self_attn.q_proj.weight is 64×2 instead of 64×64",
        "2 unknown: model.layers.3.self_attn.q_proj.bias 64, model.layers.4.input_layernorm.weight 64",
    ):
        assert part in message


@pytest.mark.parametrize("name", ["jamba-stacked-experts", "mixtral-stacked-experts"])
def test_stacked_experts_are_checked_like_others(name: str, tiny: Tiny, tmp_path: Path) -> None:
    def spoil(weights: dict[str, Tensor]) -> None:
        stacked = sorted(key for key in weights if key.endswith("gate_up_proj"))
        weights[stacked[0]] = weights[stacked[0]][:, :-1].contiguous()
        del weights[stacked[-1]]

    with pytest.raises(ModelError, match=r"(?s)1 of another shape: .*4×191×64 instead of 4×192×64|missing.*gate"):
        load(edit(tiny(name), tmp_path / "model", spoil))


def test_a_model_that_is_not_tied_needs_its_output_matrix(tiny: Tiny, tmp_path: Path) -> None:
    folder = edit(tiny("llama"), tmp_path / "model", lambda weights: weights.pop("lm_head.weight"))
    with pytest.raises(ModelError, match=r"1 missing: lm_head\.weight 300×64"):
        load(folder)
    edit(tiny("mistral"), folder, lambda weights: weights.update({"lm_head.weight": torch.zeros(299, 64)}))
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        load(folder)


def test_only_safetensors_are_loaded(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copy(tiny(HYBRID) / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(ModelNotInstalledError, match=r"no \.safetensors files"):
        load(tmp_path)


def test_a_path_to_nothing_is_said_so(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path / "nothing.gguf", tmp_path / ("long" * 100)):
        with pytest.raises(ModelNotInstalledError, match="no such file"):
            load(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not readable as JSON"),
        ("[1]", "holds list where a JSON object is expected"),
        ('{"model_type": "gpt2"}', "model_type is 'gpt2'"),
        ("{}", "model_type is None"),
        ('{"model_type": "llama", "hidden_size": 64}', "is missing"),
        ('{"model_type": "mamba", "vocab_size": 9, "hidden_size": "wide"}', "hidden_size is 'wide'"),
    ],
)
def test_a_config_that_can_not_be_used_is_named(content: str, said: str, tiny: Tiny, tmp_path: Path) -> None:
    folder = edit(tiny(HYBRID), tmp_path / "model")
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=said) as caught:
        load(folder)
    assert str(folder / "config.json") in str(caught.value)


def test_a_folder_without_config_is_named(tiny: Tiny, tmp_path: Path) -> None:
    folder = edit(tiny(HYBRID), tmp_path / "model")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json: no such file"):
        load(folder)


@pytest.mark.parametrize("length", [0, 5, 300, -1])
def test_a_file_that_was_cut_off_is_named(length: int, tiny: Tiny, tmp_path: Path) -> None:
    folder = edit(tiny(HYBRID), tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError, match=r"model\.safetensors: not a readable safetensors file, or cut off"):
        load(folder)


def test_what_this_decoder_would_compute_wrongly_is_refused(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match=r"dtype must be torch\.float32 or torch\.bfloat16, got torch\.float16"):
        load(tiny(HYBRID), dtype=torch.float16)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no CUDA device"):
            load(tiny(HYBRID), device="cuda")


# Other spellings of the same


def test_names_and_keys_of_older_checkpoints(
    tiny: Tiny, oracle: Callable[[str], PreTrainedModel], tmp_path: Path
) -> None:
    def older_rope(config: dict[str, Any]) -> None:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = {"type" if key == "rope_type" else key: value for key, value in rope.items()}

    def frequencies(weights: dict[str, Tensor]) -> None:
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)

    def singular(weights: dict[str, Tensor]) -> None:
        weights["backbone.embedding.weight"] = weights.pop("backbone.embeddings.weight")

    for name, tensors, config in (
        ("llama-rope-scaling", frequencies, older_rope),
        ("mamba", singular, lambda _: None),
        ("jamba-3b", lambda _: None, lambda config: config.pop("mamba_conv_bias")),
    ):
        model = load(edit(tiny(name), tmp_path / name, tensors, config))
        assert relative_error(logits(model), oracle_logits(oracle(name), prompt(60))) <= 1e-4, name


# int8


def round_rows(weight: Tensor) -> Tensor:
    step = weight.abs().amax(-1, keepdim=True) / 127
    return (weight / step).round() * step


LINEARS = (
    "proj.weight",
    "w1.weight",
    "w2.weight",
    "w3.weight",
    "embeddings.weight",
    "embed_tokens.weight",
    "lm_head.weight",
)


@pytest.mark.parametrize("quantize", ["int8", "int8-experts", pytest.param("w8a8", marks=needs_native)])
@pytest.mark.parametrize("name", ["jamba-3b", "mixtral", "qwen2", "mamba"])
def test_int8_is_the_model_with_rounded_weights(name: str, quantize: Any, tiny: Tiny, tmp_path: Path) -> None:
    """Exactly that one; w8a8 rounds activations too, and is only near it."""

    def round_all(weights: dict[str, Tensor]) -> None:
        names = LINEARS if quantize != "int8-experts" else ("w1.weight", "w2.weight", "w3.weight")
        kept = (
            "x_proj.weight",
            "dt_proj.weight",
            *(() if "lm_head.weight" not in weights else ("embed_tokens.weight",)),
        )
        for key, weight in weights.items():
            if key.endswith(names) and not key.endswith(kept):
                weights[key] = round_rows(weight)

    rounded = logits(load(edit(tiny(name), tmp_path / "rounded", round_all)))
    dense = logits(load(tiny(name)))
    bf16 = relative_error(logits(load(tiny(name), dtype=torch.bfloat16)), dense)
    model = load(tiny(name), quantize=quantize)
    state, ids = model.new_state(), prompt(60)
    for ours in (logits(model), torch.cat([model.logits_of_all(ids[i : i + 3], state) for i in range(0, 60, 3)])):
        error = relative_error(ours, dense)
        print(f"{name:10} {quantize:12} {error:.1e}, bf16 {bf16:.1e}")  # noqa: T201  the table
        assert error <= 3 * bf16  # random weights lose more than trained ones, in any format
        assert relative_error(ours, rounded) <= (3 * bf16 if quantize == "w8a8" else 3e-5)


def products(model: Decoder) -> dict[str, set[type]]:
    """Kinds of product in experts and elsewhere."""
    kinds: dict[str, set[type]] = {"experts": set(), "others": set()}
    for layer in model.layers:
        networks = layer.network.experts if isinstance(layer.network, MixtureOfExperts) else [layer.network]
        where = "experts" if isinstance(layer.network, MixtureOfExperts) else "others"
        for network in networks:
            assert isinstance(network, FeedForward)
            kinds[where] |= {type(part) for part in (*network.gate_up, network.down)}
        mixer = layer.mixer
        parts = (*mixer.qkv, mixer.o) if hasattr(mixer, "qkv") else (mixer.in_proj, mixer.out_proj)
        kinds["others"] |= {type(part) for part in parts}
    return kinds


@needs_native
def test_which_products_are_quantised(tiny: Tiny) -> None:
    for quantize, experts, others in (
        (None, DenseLinear, DenseLinear),
        ("int8", Int8Linear, Int8Linear),
        ("int8-experts", Int8Linear, DenseLinear),
        ("w8a8", PackedLinear, PackedLinear),
    ):
        assert products(load(tiny(HYBRID), quantize=quantize)) == {"experts": {experts}, "others": {others}}
    for layer in load(tiny(HYBRID), quantize="int8").layers:
        small = [getattr(layer.mixer, name, None) for name in ("x_proj", "dt_proj")]
        assert all(part is None or isinstance(part, DenseLinear) for part in small)


def test_bytes_of_the_weights(tiny: Tiny) -> None:
    d, ff, vocab, layers = 64, 96, 300, 3
    shapes = layers * [(d + 2 * 32, d), (d, d), (2 * ff, d), (d, ff)] + [(vocab, d)]
    values, rows = sum(n_out * n_in for n_out, n_in in shapes), sum(n_out for n_out, _ in shapes)
    norms = (2 * layers + 1) * d
    assert load(tiny("llama")).nbytes == 4 * (values + norms)
    assert load(tiny("llama"), dtype=torch.bfloat16).nbytes == 2 * (values + norms)
    assert load(tiny("llama"), dtype=torch.bfloat16, quantize="int8").nbytes == values + 4 * rows + 2 * norms
    dense, int8 = (load(tiny("jamba-mini"), dtype=torch.bfloat16, quantize=each).nbytes for each in (None, "int8"))
    assert 0.5 < int8 / dense < 0.6


@pytest.mark.parametrize("quantize", ["int8", pytest.param("w8a8", marks=needs_native)])
def test_a_tied_embedding_is_kept_once_in_int8(quantize: Any, tiny: Tiny) -> None:
    model = load(tiny("jamba-3b"), quantize=quantize)
    ids = torch.tensor([0, 7, 299])
    weight = load_file(tiny("jamba-3b") / "model.safetensors")["model.embed_tokens.weight"]
    rows, step = model._embed(ids), weight[ids].abs().amax(-1, keepdim=True) / 127
    assert rows.dtype == torch.float32
    assert ((rows - weight[ids]).abs() <= step * 0.501).all()
    torch.testing.assert_close(model._output(torch.eye(64)).T[ids], rows)  # the same numbers serve as output matrix


def test_the_files_own_output_matrix_wins_under_int8(tiny: Tiny, oracle: Callable[[str], PreTrainedModel]) -> None:
    name = "jamba-tied-with-lm-head"
    reference = oracle_logits(oracle(name), prompt(60))
    assert relative_error(logits(load(tiny(name), quantize="int8")), reference) <= 0.05


def test_w8a8_needs_the_native_kernels(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_library", lambda: None)
    with pytest.raises(ModelError, match=r"w8a8.*native CPU kernels; use quantize='int8'"):
        load(tiny(HYBRID), quantize="w8a8")
    assert load(tiny("llama"), quantize="int8").kernels.name == "reference"


# Memory

PEAK = """
import sys
import torch
from longleaf.model.loading import load_model

def kilobytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":"))

load_model(sys.argv[2], dtype=torch.float32)  # what is imported on the way
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before = kilobytes("VmRSS")
model = load_model(sys.argv[1], dtype=torch.bfloat16, quantize=sys.argv[3] or None)
print((kilobytes("VmHWM") - before) * 1024 / model.nbytes)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 MB of zeros."""
    folder = tmp_path_factory.mktemp("large")
    config = LlamaConfig(
        vocab_size=2000, hidden_size=512, intermediate_size=2048, num_hidden_layers=24, num_attention_heads=4
    )
    with torch.device("meta"):
        names = LlamaForCausalLM(config).state_dict()
    save_file(
        {name: torch.zeros(weight.shape, dtype=torch.bfloat16) for name, weight in names.items()},
        folder / "model.safetensors",
    )
    config.save_pretrained(folder)
    return folder


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is measured on Linux")
@pytest.mark.parametrize("quantize", ["", "int8"])
def test_loading_takes_the_model_once_and_a_tensor_more(quantize: str, large: Path, tiny: Tiny) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(large), str(tiny("llama")), quantize],
        # Count what is held, not what malloc keeps for later.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    copies = float(run.stdout)
    assert 0.9 < copies < 1.4, f"{copies:.2f} times the model's size at the peak"


def test_weights_do_not_lie_in_the_file(tiny: Tiny, tmp_path: Path) -> None:
    folder = edit(tiny(HYBRID), tmp_path / "model")
    model = load(folder)
    expected = logits(model)
    path = folder / "model.safetensors"
    with path.open("r+b") as stream:  # in place: a mapping would see it
        stream.write(bytes(path.stat().st_size))
    assert torch.equal(logits(model), expected)


# Fingerprints


def test_a_fingerprint_names_weights_and_settings(tiny: Tiny, tmp_path: Path) -> None:
    source = edit(tiny("jamba-mini"), tmp_path / "source")  # so that the files differ in nothing but what was changed

    def nudge(weights: dict[str, Tensor]) -> None:
        weights[sorted(weights)[len(weights) // 2]].view(-1)[5] += 0.5

    models = {
        "as it is": load(source),
        "one weight": load(edit(source, tmp_path / "one", nudge)),
        "config": load(edit(source, tmp_path / "config", config=lambda config: config.update(rms_norm_eps=1e-5))),
        "bf16": load(source, dtype=torch.bfloat16),
        "bf16 keys": load(source, kv_dtype=torch.bfloat16),
        "int8": load(source, quantize="int8"),
        "int8 experts": load(source, quantize="int8-experts"),
    }
    fingerprints = {name: model.fingerprint for name, model in models.items()}
    assert len(set(fingerprints.values())) == len(models), fingerprints


def test_a_fingerprint_is_the_same_wherever_the_model_lies(tiny: Tiny, tmp_path: Path) -> None:
    for name in ("jamba-sharded", HYBRID):
        moved = shutil.copytree(tiny(name), tmp_path / "else where" / name)
        assert load(moved).fingerprint == load(tiny(name)).fingerprint
        state = load(moved).new_state()
        load(tiny(name)).prefill([1, 2], state)
