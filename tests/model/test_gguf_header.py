"""Held to the `gguf` package, which reads all of a file."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from longleaf.errors import ModelError
from longleaf.model.gguf_header import read_gguf_header


def write(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_array("jamba.attention.head_count_kv", [0, 2, 0])
    writer.add_array("tokenizer.ggml.tokens", [f"token {number}" for number in range(2000)])
    writer.add_array("tokenizer.ggml.token_type", [1] * 2000)
    writer.add_string("general.name", "Größe")
    writer.add_tensor("a", np.zeros((3, 5), np.float32))
    writer.add_tensor("b", np.zeros((4, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_header_is_what_the_gguf_package_reads(tmp_path):
    path = write(tmp_path / "tiny.gguf")
    header, reader = read_gguf_header(path), gguf.GGUFReader(str(path))
    assert {name: (tensor.shape, tensor.size_bytes) for name, tensor in header.tensors.items()} == {
        tensor.name: (tuple(map(int, reversed(tensor.shape))), tensor.n_bytes) for tensor in reader.tensors
    }
    assert header.tensors["b"].shape == (4, 32)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert header.metadata == {key: value for key, value in fields.items() if key[:20] != "tokenizer.ggml.token"}


def test_a_file_that_ends_anywhere_in_its_header_is_refused(tmp_path):
    path = write(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    for length in [0, 3, 23, *range(24, content.index(b"Gr\xc3"), 997)]:
        (tmp_path / "cut.gguf").write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"cut\.gguf: not a readable GGUF file"):
            read_gguf_header(tmp_path / "cut.gguf")


def test_what_is_no_gguf_is_refused(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(ModelError, match="it begins with b'PK"):
        read_gguf_header(path)
    with pytest.raises(ModelError, match="no such file"):
        read_gguf_header(tmp_path / "y.gguf")
