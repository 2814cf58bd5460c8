import hashlib

import pytest

from longleaf.errors import ModelNotInstalledError, UnknownModelError
from longleaf.model import EMBEDDED, MODELS, is_installed, model_path, resolve
from longleaf.model.machine import physical_cores, total_memory_bytes


def test_every_wheel_and_file_is_pinned():
    for spec in MODELS.values():
        assert spec.wheels
        assert spec.hub_repo
        for sha256 in [wheel.sha256 for wheel in spec.wheels] + [file.sha256 for file in spec.files]:
            assert len(bytes.fromhex(sha256)) == hashlib.sha256().digest_size
        assert all("==" in wheel.requirement for wheel in spec.wheels)
        assert spec.default_context_tokens <= spec.context_tokens


def test_embedded_is_a_reader_and_an_embedder_by_memory():
    assert tuple(spec.name for spec in resolve("embedded", memory_bytes=16 << 30)) == EMBEDDED
    assert [spec.name for spec in resolve("embedded", memory_bytes=3 << 30)] == ["qwen2.5-0.5b", "minilm"]
    assert [spec.role for spec in resolve("embedded")] == ["reader", "embedder"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownModelError, match=r"'gpt-9'.*smollm2-135m.*embedded"):
        resolve("gpt-9")


def test_a_missing_model_says_what_to_run(tmp_path):
    with pytest.raises(ModelNotInstalledError) as error:
        model_path("qwen2.5-1.5b", tmp_path)
    assert str(error.value) == "qwen2.5-1.5b is not on this machine; run: longleaf model pull qwen2.5-1.5b"


def test_half_a_file_is_not_installed(tmp_path):
    folder = tmp_path / "smollm2-135m"
    folder.mkdir()
    (folder / MODELS["smollm2-135m"].files[0].name).write_bytes(b"GGUF")
    assert not is_installed("smollm2-135m", tmp_path)


def test_the_machine_has_cores_and_memory():
    assert physical_cores() >= 1
    assert total_memory_bytes() > 1 << 28
