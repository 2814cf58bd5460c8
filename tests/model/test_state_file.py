import errno
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longleaf.errors import DamagedStateError, StateError, StateMismatchError, StorageError
from longleaf.model import state as state_module
from longleaf.model import state_file
from longleaf.model.config import DecoderConfig, LayerKind
from longleaf.model.state import DecoderState, KVCache
from longleaf.model.state_file import load_state, save_state

CONFIG = DecoderConfig(
    family="jamba",
    vocab_size=70_000,
    d_model=16,
    n_layers=3,
    layer_kinds=("mamba", "attention", "mamba"),
    moe_layers=(False,) * 3,
    d_ff=16,
    n_heads=4,
    n_kv_heads=2,
    head_dim=8,
    d_inner=32,
    d_state=4,
    d_conv=4,
    dt_rank=1,
)
HYBRID: tuple[LayerKind, ...] = ("mamba", "attention", "mamba")


def empty(kinds: tuple[LayerKind, ...] = HYBRID, fingerprint: str = "f" * 64, **other: int) -> DecoderState:
    config = replace(CONFIG, n_layers=len(kinds), layer_kinds=kinds, moe_layers=(False,) * len(kinds), **other)
    return DecoderState.empty(config, fingerprint, torch.float32, torch.bfloat16, torch.device("cpu"))


def extend(state: DecoderState, token_ids: list[int], seed: int = 0) -> DecoderState:
    """Stands for a decoder: puts random values into every layer."""
    random = torch.Generator().manual_seed(seed)
    for layer in state.layers:
        if isinstance(layer, KVCache):
            shape = (len(token_ids), layer.n_kv_heads, layer.head_dim)
            layer.append(torch.randn(shape, generator=random), torch.randn(shape, generator=random))
        else:
            layer.conv.normal_(generator=random)
            layer.ssm.normal_(generator=random)
    state.note(token_ids)
    return state


def content(state: DecoderState) -> list[torch.Tensor]:
    """Every layer's tensors, without the blocks that they lie in."""
    tensors = []
    for layer in state.layers:
        if isinstance(layer, KVCache):
            pieces = list(layer.pieces())
            tensors += [torch.cat([piece[i] for piece in pieces], dim=1) for i in (0, 1)] if pieces else []
        else:
            tensors += [layer.conv, layer.ssm]
    return tensors


def assert_same(one: DecoderState, other: DecoderState) -> None:
    assert one.token_ids == other.token_ids
    pairs = list(zip(content(one), content(other), strict=True))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "block_tokens_for", lambda device: 8)


@pytest.mark.parametrize("kinds", [("attention", "attention"), ("mamba", "mamba"), HYBRID])
@pytest.mark.parametrize("n_tokens", [0, 1, 7, 8, 9, 24, 29])
def test_a_loaded_state_is_the_saved_one_and_goes_on_like_it(
    tmp_path: Path, kinds: tuple[LayerKind, ...], n_tokens: int
) -> None:
    saved = extend(empty(kinds), list(range(69_000, 69_000 + n_tokens)))
    saved.save(tmp_path / "a.safetensors")
    loaded = load_state(tmp_path / "a.safetensors", empty(kinds))
    assert_same(loaded, saved)
    fork = loaded.fork()
    assert_same(extend(fork, [1, 2, 3], seed=1), extend(saved, [1, 2, 3], seed=1))
    assert loaded.n_tokens == n_tokens

    loaded.save(tmp_path / "b.safetensors")  # tensors that lie in a file can be written to another
    assert_same(load_state(tmp_path / "b.safetensors", empty(kinds)), loaded)
    assert len(list(tmp_path.iterdir())) == 2


def test_states_made_in_inference_mode_are_saved_and_loaded_outside_it(tmp_path: Path) -> None:
    with torch.inference_mode():
        saved, target = extend(empty(), list(range(20))), empty()
    saved.save(tmp_path / "a.safetensors")
    assert_same(load_state(tmp_path / "a.safetensors", target), saved)


def test_full_blocks_are_used_where_they_lie_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    extend(empty(), list(range(20))).save(path)
    loaded = load_state(path, empty())
    cache = loaded.layers[1]
    assert isinstance(cache, KVCache)
    mapped = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(path))
    ]
    lies_in_file = [any(a <= keys.data_ptr() < b for a, b in mapped) for keys, _ in cache.pieces()]
    assert lies_in_file == [True, True, False]  # the last one is written to


def test_a_state_saved_from_other_blocks_is_loaded_into_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "block_tokens_for", lambda device: 12)
    saved = extend(empty(), list(range(31)))
    saved.save(tmp_path / "a.safetensors")
    for block_tokens in (5, 12, 64):
        monkeypatch.setattr(state_module, "block_tokens_for", lambda device, n=block_tokens: n)
        assert_same(load_state(tmp_path / "a.safetensors", empty()), saved)


def test_a_file_is_at_most_two_hundredths_larger_than_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    state = extend(empty(n_kv_heads=1, n_heads=1, head_dim=64), list(range(30_000)))
    state.save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size <= 1.02 * state.nbytes


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    state = extend(empty(), [1, 2, 3])
    state.save(tmp_path / "a.safetensors")
    extend(state, [4], seed=1).save(tmp_path / "a.safetensors")
    assert load_state(tmp_path / "a.safetensors", empty()).token_ids == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "other",
    [
        lambda: empty(fingerprint="e" * 64),
        lambda: empty(head_dim=16),
        lambda: empty(d_inner=64),
        lambda: empty((*HYBRID, "mamba")),
        lambda: empty(HYBRID[:2]),
        lambda: empty(("attention", "mamba", "mamba")),
        lambda: DecoderState.empty(CONFIG, "f" * 64, torch.bfloat16, torch.bfloat16, torch.device("cpu")),
        lambda: DecoderState.empty(CONFIG, "f" * 64, torch.float32, torch.float32, torch.device("cpu")),
    ],
    ids=["fingerprint", "head_dim", "d_inner", "more", "fewer", "order", "conv_dtype", "kv_dtype"],
)
def test_another_models_state_is_refused_and_the_fresh_one_left_alone(
    tmp_path: Path, other: Callable[[], DecoderState]
) -> None:
    extend(empty(), list(range(20))).save(tmp_path / "a.safetensors")
    target = other()
    with pytest.raises(StateMismatchError, match=r"a\.safetensors"):
        load_state(tmp_path / "a.safetensors", target)
    assert target.n_tokens == 0
    assert all(layer.n_tokens == 0 if isinstance(layer, KVCache) else not layer.ssm.any() for layer in target.layers)


def test_a_state_in_use_is_not_filled(tmp_path: Path) -> None:
    state = extend(empty(), [1, 2, 3])
    state.save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="3 tokens"):
        load_state(tmp_path / "a.safetensors", state)


def test_any_flipped_bit_and_any_cut_is_noticed(tmp_path: Path) -> None:
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    saved = extend(empty(), list(range(20)))
    saved.save(path)
    whole = path.read_bytes()
    n_header = 8 + int.from_bytes(whole[:8], "little")
    # Every byte of the header, and a sample of the tensors: all are hashed alike.
    for position in (*range(0, n_header, 3), *range(n_header, len(whole), 97), len(whole) - 1):
        other.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        try:
            loaded = load_state(other, empty())
        except StateError:
            continue
        assert whole[position : position + 1] in b' \t\n,:"{}', f"byte {position} is not covered"
        assert_same(loaded, saved)
    for n_bytes in (0, 1, 7, 8, 100, n_header - 1, n_header, n_header + 1, len(whole) - 1):
        other.write_bytes(whole[:n_bytes])
        with pytest.raises(DamagedStateError, match=r"b\.safetensors"):
            load_state(other, empty())


def test_what_is_not_a_state_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    text = tmp_path / "text"
    text.write_text("Annual Report of the Harbour Board\n" * 40)
    weights = tmp_path / "weights"
    save_file({"x": torch.zeros(3)}, weights)
    for path in (text, weights):
        with pytest.raises(DamagedStateError):
            load_state(path, empty())
    with pytest.raises(StateError, match="no such file"):
        load_state(tmp_path / "nothing", empty())
    with pytest.raises(StorageError):
        load_state(tmp_path, empty())


def test_another_formats_version_is_a_mismatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "_VERSION", "2")
    extend(empty(), [1, 2]).save(tmp_path / "a.safetensors")
    monkeypatch.undo()
    with pytest.raises(StateMismatchError, match="another version"):
        load_state(tmp_path / "a.safetensors", empty())


def test_a_state_broken_off_inside_a_chunk_is_not_saved(tmp_path: Path) -> None:
    marked = extend(empty(("mamba",)), [1, 2])
    marked.is_whole = False
    ahead = extend(empty(), [1, 2])
    cache = ahead.layers[1]
    assert isinstance(cache, KVCache)
    cache.append(torch.zeros(5, 2, 8), torch.zeros(5, 2, 8))
    for state in (marked, ahead):
        with pytest.raises(StateError, match="middle of a chunk"):
            state.save(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_storage_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        path = disk / "a.safetensors"
        extend(empty(), list(range(30))).save(path)
        with pytest.raises(StorageError, match="No space left"):
            extend(empty(), list(range(3000))).save(path)
        assert [p.name for p in disk.iterdir()] == ["a.safetensors"]
        assert load_state(path, empty()).n_tokens == 30
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_failed_write_or_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((state_file, "sync"), (state_file, "save_file"), (Path, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fail)
            with pytest.raises(StorageError, match="No space left"):
                save_state(extend(empty(), [1, 2]), tmp_path / "a.safetensors")
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError):
        save_state(extend(empty(), [1, 2]), tmp_path / "no" / "folder.safetensors")
