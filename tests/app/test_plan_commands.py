import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

from longleaf.app.plan_commands import binary_bytes, parse_size
from longleaf.model.snapshot_record import SnapshotFile, SnapshotRecord

from .conftest import Run

GIB = 2**30
TINY_LLAMA = {
    "model_type": "llama",
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
N_TIED = 48 * 32 + 2 * (4 * 32 * 32 + 3 * 24 * 32 + 2 * 32) + 32


@pytest.fixture
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def plan(run: Run, *words: str | Path) -> dict:
    ran = run("plan", *words, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("262144", 262_144),
        ("262,144", 262_144),
        ("256K", 262_144),
        ("256k", 262_144),
        ("1M", 2**20),
        ("80GB", 80 * 10**9),
        ("24GiB", 24 * GIB),
        ("24 G", 24 * GIB),
        ("1.5 kB", 1500),
        ("81559MiB", 81_559 * 2**20),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "many", "-5", "0", "0.2", "80 gigs", "1e9", "5X", "K", "GB"])
def test_what_is_no_size_is_refused(run: Run, text):
    with pytest.raises(typer.BadParameter, match="is no size"):
        parse_size(text)
    assert run("plan", "jamba2-3b", f"--context={text}").code == 2


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2048, "2.0 KiB"), (4 * GIB, "4.00 GiB"), (2048 * GIB, "2,048.00 GiB")],
)
def test_sizes_are_printed_in_powers_of_1024(size, text):
    assert binary_bytes(size) == text


def test_a_plan_adds_up_and_says_what_fits(run: Run, models_dir: Path):
    value = plan(run, "jamba2-mini", "--context", "256K", "--memory", "80GB")
    parts = value["bytes"]
    assert parts["kv_bytes"] == 4 * GIB
    assert value["parameters"]["total"] == 51_570_323_328
    assert parts["total_bytes"] == parts["weights_bytes"] + parts["state_bytes"] + parts["workspace_bytes"]
    bf16, int8 = value["fits"]
    assert (bf16["weights"], bf16["tokens"], bf16["limited_by"]) == ("bf16", 0, "memory")
    assert (int8["weights"], int8["tokens"], int8["limited_by"]) == ("int8", 262_144, "model")
    assert bf16["total_bytes"] > 80e9 > int8["total_bytes"]


def test_a_memory_between_gives_a_context_between(run: Run, models_dir: Path):
    (fit,) = plan(run, "jamba2-mini", "--memory", "51GiB", "--quantize", "int8")["fits"]
    assert fit["weights"] == "int8"
    assert 0 < fit["tokens"] < 262_144
    assert 0 <= 51 * GIB - fit["total_bytes"] < 20 * 16_384


def test_the_table_for_people_says_units_and_what_is_an_estimate(run: Run, models_dir: Path):
    out = run("plan", "jamba2-mini", "--memory", "80GB").out
    words = " ".join(out.split())
    for said in (
        "51.57 B parameters, 12.11 B active, 4 attention + 28 Mamba layers",
        "weights 96.07 GiB",
        "keys and values 4.00 GiB 16,384 bytes a token",
        "SSM states 14.0 MiB",
        "convolution taps 1.3 MiB",
        "estimate, for chunks of 512 tokens",
        "KiB, MiB, GiB: powers of 1024",
        "In 80.0 GB (74.51 GiB): bf16 does not fit",
        "int8 262,144 tokens, all that the model was trained for",
    ):
        assert said in words


def test_more_context_than_the_model_was_trained_for_is_said(run: Run, models_dir: Path):
    assert "262,144 tokens (trained for 32,768)" in run("plan", "mistral-7b", "--context", "256K").out


def test_a_model_without_attention_takes_any_context(run: Run, models_dir: Path):
    assert plan(run, "mamba-130m", "--memory", "1GB")["fits"][0]["tokens"] is None
    assert "any number of tokens" in run("plan", "mamba-130m", "--memory", "1GB").out


@pytest.mark.parametrize("words", [[], ["--paper"]])
def test_the_papers_table_is_computed_and_equal(run: Run, words: list[str]):
    rows = plan(run, *words)
    assert [row["model"] for row in rows] == ["llama-2-7b", "mistral-7b", "mixtral-8x7b", "jamba-v0.1"]
    for row in rows:
        assert row["kv_bytes"] == row["published_gib"] * GIB
    out = run("plan", *words).out
    assert "arXiv:2403.19887, table 1" in out
    assert "15.3 MiB" in out


def test_a_config_and_its_folder_are_the_same_model(run: Run, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(TINY_LLAMA))
    for path in (tmp_path, tmp_path / "config.json"):
        value = plan(run, path)
        assert value["parameters"]["total"] == N_TIED
        assert value["context_tokens"] == 64


@pytest.mark.parametrize("index", [False, True])
def test_an_output_matrix_in_the_weights_counts_whatever_the_config_says(run: Run, tmp_path: Path, index: bool):
    (tmp_path / "config.json").write_text(json.dumps(TINY_LLAMA))
    save_file({"lm_head.weight": np.zeros((48, 32), np.float32)}, tmp_path / "model.safetensors")
    if index:
        weight_map = {"weight_map": {"lm_head.weight": "model.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(weight_map))
    assert plan(run, tmp_path)["parameters"]["total"] == N_TIED + 48 * 32


def test_a_gguf_is_planned_with_its_weights_as_they_are(run: Run, tmp_path: Path):
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "jamba")
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_feed_forward_length(24)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_head_count(4)
    writer.add_head_count_kv([0, 2])
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(64)
    writer.add_ssm_state_size(16)
    writer.add_ssm_time_step_rank(2)
    writer.add_tensor("token_embd.weight", np.zeros((48, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.1.ffn_gate_inp.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    value = plan(run, path, "--memory", "1MiB")
    assert value["weights"] == value["fits"][0]["weights"] == "packed"
    assert value["bytes"]["weights_bytes"] == 48 * 34 + 4 * 32 * 4
    assert value["parameters"]["experts"] == 4 * 3 * 24 * 32
    assert value["parameters"]["output"] == 0
    assert value["kv_bytes_per_token"] == 2 * 2 * 8 * 2
    assert plan(run, path, "--quantize", "int8")["weights"] == "int8"
    assert "as the file has them" in run("plan", path).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "no-such-model"], "no-such-model"),
        (["plan", "nobody/nothing"], "longleaf model pull nobody/nothing"),
        (["plan", "minilm"], "minilm makes embeddings"),
        (["plan", "missing.gguf"], "missing.gguf: no such file"),
        (["plan", "missing.json"], "missing.json: no such file"),
        (["model", "show", "no-such-model"], "no-such-model"),
        (["model", "pull", "jamba2-3b"], "did not give the list of its files"),  # sockets are off here
    ],
)
def test_errors_are_one_line(run: Run, models_dir: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    ran = run(*words)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def put(models_dir: Path, folder: str, repo: str) -> None:
    """A repository as a pull leaves it."""
    path = models_dir / folder
    path.mkdir(parents=True)
    config = json.dumps(TINY_LLAMA).encode()
    (path / "config.json").write_bytes(config)
    SnapshotRecord(repo, "c" * 40, (SnapshotFile("config.json", len(config)),)).write(path)


def test_show_of_a_model_that_is_not_here_says_what_to_run(run: Run, models_dir: Path):
    value = json.loads(run("model", "show", "jamba-1.7-mini", "--json").out)
    assert (value["installed"], value["gated"], value["path"]) == (False, True, None)
    assert value["parameters"]["active"] == 12_110_311_296
    assert value["config"]["layer_kinds"].count("attention") == 4
    assert value["hub_repo"] == "ai21labs/AI21-Jamba-Mini-1.7"
    assert value["run"].endswith("longleaf model pull jamba-1.7-mini")
    words = " ".join(run("model", "show", "jamba-1.7-mini").out.split())
    assert "accept the licence at https://huggingface.co/ai21labs/AI21-Jamba-Mini-1.7" in words
    assert "bf16 103.2 GB, int8 52.0 GB" in words


def test_a_pulled_repository_is_listed_shown_and_planned_by_its_own_files(run: Run, models_dir: Path):
    put(models_dir, "somebody--tiny", "somebody/tiny")
    put(models_dir, "jamba2-3b", "ai21labs/AI21-Jamba2-3B")
    rows = {row["name"]: row for row in json.loads(run("model", "list", "--json").out)}
    assert rows["somebody/tiny"]["installed"] is rows["jamba2-3b"]["installed"] is True
    assert rows["jamba2-3b"]["size_bytes"] == len(json.dumps(TINY_LLAMA))
    assert rows["jamba2-mini"]["installed"] is False
    assert rows["jamba2-mini"]["size_bytes"] > 100e9
    for name in ("somebody/tiny", "jamba2-3b"):
        value = json.loads(run("model", "show", name, "--json").out)
        assert value["parameters"]["total"] == plan(run, name)["parameters"]["total"] == N_TIED
        assert value["run"].startswith(f"longleaf ask --model {name} ")
    out = run("model", "list").out
    assert "somebody/tiny" in out
    assert "Jamba Open Model" in out


@pytest.mark.parametrize("name", ["minilm", "qwen2.5-1.5b", "smollm2-135m", "nobody/nothing"])
def test_show_knows_what_it_can_of_any_model(run: Run, models_dir: Path, name: str):
    value = json.loads(run("model", "show", name, "--json").out)
    assert (value["parameters"] is None) is (name in ("minilm", "nobody/nothing"))
    assert f"longleaf model pull {name}" in " ".join(run("model", "show", name).out.split())
