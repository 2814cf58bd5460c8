"""The header held to the `gguf` package, which reads all of a file; the shape held to what writers leave unsaid."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from longleaf.errors import ModelError, ModelNotInstalledError
from longleaf.model.config import DecoderConfig
from longleaf.model.gguf_file import GGUFFile, gguf_config
from longleaf.model.rotary import Rotary

Q8_0 = gguf.GGMLQuantizationType.Q8_0


def write(path: Path, architecture: str, keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        kind = gguf.GGUFValueType.get_type(value)
        writer.add_key_value(key, value, kind if kind is not gguf.GGUFValueType.INT32 else gguf.GGUFValueType.UINT32)
    for name, values in tensors.items():
        writer.add_tensor(name, values, raw_dtype=Q8_0 if values.dtype == np.uint8 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_anything(path: Path) -> Path:
    keys = {
        "llama.context_length": 64,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.add_bos_token": True,
        "jamba.attention.head_count_kv": [0, 2, 0],
        "tokenizer.ggml.tokens": [f"token {number}" for number in range(2000)],
        "tokenizer.ggml.token_type": [1] * 2000,
        "general.name": "Größe",
    }
    rng = np.random.default_rng(0)
    floats, blocks = rng.random((3, 5), np.float32), rng.integers(0, 256, (4, 34), np.uint8)
    return write(path, "llama", keys, {"a": floats, "b": blocks})


LLAMA = {
    "llama.block_count": 2,
    "llama.context_length": 256,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 24,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 5e5,
    "llama.rope.dimension_count": 8,
    "tokenizer.ggml.eos_token_id": 7,
    "tokenizer.ggml.eot_token_id": 9,
}
JAMBA = {
    "jamba.block_count": 2,
    "jamba.embedding_length": 32,
    "jamba.feed_forward_length": 24,
    "jamba.attention.head_count": 4,
    "jamba.attention.head_count_kv": [0, 2],
    "jamba.attention.layer_norm_rms_epsilon": 1e-6,
    "jamba.expert_count": 4,
    "jamba.expert_used_count": 2,
    "jamba.ssm.conv_kernel": 4,
    "jamba.ssm.inner_size": 64,
    "jamba.ssm.state_size": 16,
    "jamba.ssm.time_step_rank": 5,
}
EMBEDDING = {"token_embd.weight": np.zeros((48, 32), np.float32)}


def test_header_is_what_the_gguf_package_reads(tmp_path):
    path = write_anything(tmp_path / "tiny.gguf")
    file, reader = GGUFFile(path), gguf.GGUFReader(str(path))
    theirs = {
        tensor.name: (tensor.tensor_type.name, tuple(map(int, reversed(tensor.shape))), tensor.data_offset)
        for tensor in reader.tensors
    }
    assert {name: (tensor.kind, tensor.shape, tensor.offset) for name, tensor in file.tensors.items()} == theirs
    assert file.tensors["b"].shape == (4, 32)
    for tensor in reader.tensors:
        assert file.raw(file.tensors[tensor.name]).numpy().tobytes() == tensor.data.tobytes()
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert file.metadata == {key: value for key, value in fields.items() if key[:20] != "tokenizer.ggml.token"}


def test_a_file_that_ends_anywhere_is_refused(tmp_path):
    path = write_anything(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    end = GGUFFile(path).tensors["b"]
    for length in [0, 3, 7, 23, *range(24, content.index(b"Gr\xc3"), 997), end.offset + end.size_bytes - 1]:
        (tmp_path / "cut.gguf").write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"cut\.gguf: (not a readable GGUF file|it ends before)"):
            GGUFFile(tmp_path / "cut.gguf")


@pytest.mark.parametrize("value", [0x00, 0x7F, 0xFF])
def test_an_altered_header_is_read_or_refused(tmp_path, value):
    content = write(tmp_path / "tiny.gguf", "llama", LLAMA, EMBEDDING).read_bytes()
    for at in range(content.index(b"token_embd.weight") + 60):
        (tmp_path / "x.gguf").write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
        try:
            gguf_config(GGUFFile(tmp_path / "x.gguf"))
        except ModelError as exc:
            assert "x.gguf: " in str(exc)  # noqa: PT017  some bytes may be altered without harm


def test_what_is_no_gguf_is_refused(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(ModelError, match="it begins with b'PK"):
        GGUFFile(path)
    with pytest.raises(ModelNotInstalledError, match=r"y\.gguf: no such file"):
        GGUFFile(tmp_path / "y.gguf")


def test_a_llama_files_shape_is_read(tmp_path):
    config = gguf_config(GGUFFile(write(tmp_path / "x.gguf", "llama", LLAMA, EMBEDDING)))
    assert config == DecoderConfig(
        family="llama",
        vocab_size=48,
        d_model=32,
        n_layers=2,
        layer_kinds=("attention", "attention"),
        moe_layers=(False, False),
        d_ff=24,
        n_heads=4,
        n_kv_heads=2,
        head_dim=8,
        rope_theta=5e5,
        norm_eps=float(np.float32(1e-5)),
        tie_embeddings=True,
        max_context_tokens=256,
        eos_token_ids=(7, 9),
    )


def test_tensors_tell_what_no_key_says(tmp_path):
    tensors = EMBEDDING | {
        "output.weight": np.zeros((48, 32), np.float32),
        "blk.0.attn_q.bias": np.zeros(32, np.float32),
    }
    config = gguf_config(GGUFFile(write(tmp_path / "x.gguf", "llama", LLAMA, tensors)))
    assert (config.tie_embeddings, config.qkv_bias) == (False, True)
    tensors = EMBEDDING | {
        "blk.0.ssm_conv1d.bias": np.zeros(64, np.float32),
        "blk.1.ffn_gate_inp.weight": np.zeros((4, 32), np.float32),
    }
    config = gguf_config(GGUFFile(write(tmp_path / "y.gguf", "jamba", JAMBA, tensors)))
    assert (config.layer_kinds, config.moe_layers) == (("mamba", "attention"), (False, True))
    assert (config.conv_bias, config.tie_embeddings, config.mamba_norms, config.rope_theta) == (True, True, True, None)
    config = gguf_config(GGUFFile(write(tmp_path / "z.gguf", "jamba", JAMBA, EMBEDDING)))
    assert (config.conv_bias, config.moe_layers) == (False, (False, False))


def test_stretched_wavelengths_are_those_of_the_scaling_they_were_worked_out_from(tmp_path):
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 400,
    }  # fmt: skip
    raw = {
        "model_type": "llama", "vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 24, "rope_theta": 5e5,
    }  # fmt: skip
    cpu = torch.device("cpu")
    plain, stretched = (
        Rotary.of(DecoderConfig.from_hf(raw | {"rope_scaling": each}), cpu)._frequencies for each in (None, scaling)
    )
    factors = (plain / stretched).numpy()
    assert len(set(factors)) > 2  # some kept, some divided by 8, some between
    path = write(tmp_path / "x.gguf", "llama", LLAMA, EMBEDDING | {"rope_freqs.weight": factors})
    torch.testing.assert_close(Rotary.of(gguf_config(GGUFFile(path)), cpu)._frequencies, stretched)


@pytest.mark.parametrize(
    ("keys", "tensors", "said"),
    [
        ({"llama.rope.scaling.type": "yarn"}, {}, "rope.scaling.type is 'yarn'"),
        ({"llama.rope.dimension_count": 4}, {}, "rope.dimension_count is 4 of a head's 8"),
        ({"llama.expert_count": 8}, {}, "mixtures of experts"),
        ({"llama.attention.head_count": 0}, {}, "attention.head_count is 0"),
        ({"llama.block_count": "two"}, {}, "block_count is 'two'"),
        ({}, {"rope_freqs.weight": np.ones(3, np.float32)}, r"rope_factors must be 4 numbers above 0, got \(1.0, 1.0"),
        ({}, {"rope_freqs.weight": np.zeros(4, np.float32)}, r"must be 4 numbers above 0, got \(0.0"),
        ({}, {"rope_freqs.weight": np.zeros((1, 34), np.uint8)}, "rope_freqs.weight is of type Q8_0"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(tmp_path, keys, tensors, said):
    path = write(tmp_path / "x.gguf", "llama", LLAMA | keys, EMBEDDING | tensors)
    with pytest.raises(ModelError, match=rf"x\.gguf: .*{said}"):
        gguf_config(GGUFFile(path))


def test_missing_keys_and_other_models_are_refused(tmp_path):
    few = {key: value for key, value in JAMBA.items() if key != "jamba.ssm.state_size"}
    for name, architecture, keys, tensors, said in (
        ("few", "jamba", few, EMBEDDING, "ssm.state_size is missing"),
        ("part", "jamba", JAMBA, {"output.weight": EMBEDDING["token_embd.weight"]}, r"has no token_embd\.weight"),
        ("other", "phi3", {}, EMBEDDING, "the architecture is 'phi3'"),
    ):
        with pytest.raises(ModelError, match=rf"{name}: .*{said}"):
            gguf_config(GGUFFile(write(tmp_path / name, architecture, keys, tensors)))


def test_a_shape_is_read_without_pytorch(tmp_path):
    path = write(tmp_path / "x.gguf", "llama", LLAMA, EMBEDDING)
    code = "import sys; from pathlib import Path; from longleaf.model.gguf_file import GGUFFile, gguf_config; "
    code += "assert gguf_config(GGUFFile(Path(sys.argv[1]))).d_model == 32; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
