"""Decoder states on disk: one safetensors file each, written whole or not at all, and checked when read.

keys.{layer}.{i}, values.{layer}.{i}   a piece of an attention layer's cache, in order: (K, n, head_dim)
conv.{layer}, ssm.{layer}              what a Mamba layer remembers: (W-1, E), and (N, E) fp32
token_ids                              the tokens read: (L,) uint16 where every id fits, else int32

The header's metadata names the kind of file, its version and the model's fingerprint, and has a sha256 over all of it.
Files are mapped into memory: full blocks of keys and values are used where they lie, without a copy.
`readings.py` writes its own kinds of file with the same functions.
"""

import hashlib
import json
import uuid
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longleaf.errors import DamagedStateError, StateError, StateMismatchError, StorageError

from .disk import sync
from .state import DecoderState, KVCache

__all__ = ["load_state", "save_state"]

_VERSION = "1"
_KIND, _CHECKSUM = "longleaf", "sha256"  # keys of the metadata


def save_state(state: DecoderState, path: Path) -> None:
    """Write a state to a file, whole or not at all; a file of that name is replaced.

    Raises:
        StorageError: The disk is full or can't be written to.
        StateError: The state was left in the middle of a chunk.
    """
    check_whole(state)
    token_ids = np.asarray(state.token_ids, dtype=np.int32)
    tensors = kv_tensors(state, 0, state.n_tokens) | mamba_tensors(state) | {"token_ids": pack_token_ids(token_ids)}
    write_tensors(path, "state", state.fingerprint, tensors, {"n_tokens": str(state.n_tokens)})


def load_state(path: Path, empty: DecoderState) -> DecoderState:
    """Fill a fresh state from a file.

    Args:
        path: Written by `save_state`.
        empty: From `Decoder.new_state` of the model that will go on with it. Left as it is if the file can't be used.

    Returns:
        `empty`, filled.

    Raises:
        StateMismatchError: Another model, or the same with other settings, made the file.
        DamagedStateError: The file was cut or altered, or is none of ours.
        StateError: There is no such file.
        StorageError: The file can't be read.
    """
    try:
        tensors, _ = read_tensors(path, "state", empty.fingerprint)
    except FileNotFoundError as exc:
        raise StateError(f"{path}: no such file") from exc
    fill_state(empty, unpack_token_ids(tensors, path), [tensors], path)
    return empty


def check_whole(state: DecoderState) -> None:
    """Refuse a state that some layers have moved on further than others.

    Raises:
        StateError: Reading was interrupted in the middle of a chunk.
    """
    caches = [layer for layer in state.layers if isinstance(layer, KVCache)]
    if not state.is_whole or any(cache.n_tokens != state.n_tokens for cache in caches):
        raise StateError(
            f"reading was interrupted in the middle of a chunk, after {state.n_tokens} tokens; use a fork of before"
        )


def kv_tensors(state: DecoderState, start: int, stop: int) -> dict[str, Tensor]:
    """Keys and values of the tokens from `start` to `stop`, by their names in a file; (K, n, head_dim) on the CPU."""
    tensors = {}
    for index, layer in enumerate(state.layers):
        if not isinstance(layer, KVCache):
            continue
        n_left = stop - start
        for i, (keys, values) in enumerate(layer.pieces(start)):
            take = min(n_left, keys.shape[1])
            if take == 0:
                break
            tensors[f"keys.{index}.{i}"] = keys[:, :take].cpu().contiguous()
            tensors[f"values.{index}.{i}"] = values[:, :take].cpu().contiguous()
            n_left -= take
    return tensors


def mamba_tensors(state: DecoderState) -> dict[str, Tensor]:
    """Convolution taps (W-1, E) and SSM states (N, E) fp32 by their names in a file, on the CPU."""
    tensors = {}
    for index, layer in enumerate(state.layers):
        if not isinstance(layer, KVCache):
            tensors[f"conv.{index}"] = layer.conv.cpu().contiguous()
            tensors[f"ssm.{index}"] = layer.ssm.cpu().contiguous()
    return tensors


def pack_token_ids(token_ids: NDArray[np.int32]) -> Tensor:
    """Token ids as they are stored: half the room where the vocabulary has at most 65,536 tokens."""
    fits = len(token_ids) == 0 or (token_ids.min() >= 0 and token_ids.max() < 1 << 16)
    return torch.from_numpy(token_ids.astype(np.uint16 if fits else np.int32))


def unpack_token_ids(tensors: dict[str, Tensor], path: Path) -> NDArray[np.int32]:
    """Take the token ids out of a file's tensors.

    Raises:
        DamagedStateError: There are none.
    """
    packed = tensors.pop("token_ids", None)
    if packed is None or packed.dim() != 1 or packed.dtype not in (torch.uint16, torch.int32):
        raise DamagedStateError(f"{path}: no token ids in it")
    return packed.numpy().astype(np.int32)


def read_token_ids(path: Path) -> NDArray[np.int32]:
    """The token ids of a file of ours, without a look at the rest.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: The file can't be read.
        DamagedStateError: It was cut, or has no token ids.
    """
    with _opened(path) as file:
        return unpack_token_ids({"token_ids": file.get_tensor("token_ids")}, path)


def fill_state(
    empty: DecoderState, token_ids: NDArray[np.int32], files: Sequence[Mapping[str, Tensor]], path: Path
) -> None:
    """Fill a fresh state; everything is checked before the first write.

    Args:
        empty: The state before the first token.
        token_ids: The tokens that the tensors stand for.
        files: Tensors by name; keys and values of one file follow those of the file before.
        path: Named in errors.

    Raises:
        StateMismatchError: The tensors are not those of this model's layers.
    """
    if empty.n_tokens:
        raise ValueError(f"a state of {empty.n_tokens} tokens can't be filled from a file; hand in a new one")
    merged = ChainMap(*map(dict, files))
    pieces = {i: [p for file in files for p in _pieces(file, i)] for i in range(len(empty.layers))}
    n_known = 0
    for index, layer in enumerate(empty.layers):
        if isinstance(layer, KVCache):
            for keys, values in pieces[index]:
                shape = (layer.n_kv_heads, *keys.shape[1:2], layer.head_dim)
                _check(path, f"a piece of layer {index}'s keys", keys, shape, layer.dtype)
                _check(path, f"a piece of layer {index}'s values", values, shape, layer.dtype)
            n_held = sum(keys.shape[1] for keys, _ in pieces[index])
            if n_held != len(token_ids):
                raise StateMismatchError(f"{path}: layer {index} has keys of {n_held} tokens, not {len(token_ids)}")
            n_known += 2 * len(pieces[index])
        else:
            _check(path, f"conv.{index}", merged.get(f"conv.{index}"), layer.conv.shape, layer.conv.dtype)
            _check(path, f"ssm.{index}", merged.get(f"ssm.{index}"), layer.ssm.shape, layer.ssm.dtype)
            n_known += 2
    if n_known != sum(map(len, files)):
        raise StateMismatchError(f"{path}: {sum(map(len, files)) - n_known} tensors in it belong to none of the layers")

    for index, layer in enumerate(empty.layers):
        if isinstance(layer, KVCache):
            for keys, values in pieces[index]:
                layer.adopt(keys.to(layer.device), values.to(layer.device))
        else:
            # Copies: a scan overwrites them. Not written in place, which torch refuses for tensors of inference mode.
            layer.conv = merged[f"conv.{index}"].to(layer.conv.device, copy=True)
            layer.ssm = merged[f"ssm.{index}"].to(layer.ssm.device, copy=True)
    empty.note(token_ids.tolist())


def write_tensors(
    path: Path, kind: str, fingerprint: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a checked file of ours, whole or not at all: to another name beside it, to the disk, then renamed.

    Raises:
        StorageError: The disk is full or can't be written to.
    """
    facts = {_KIND: kind, "version": _VERSION, "fingerprint": fingerprint, **metadata}
    facts[_CHECKSUM] = _checksum(tensors, facts)
    scratch = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        save_file(dict(tensors), scratch, metadata=facts)
        sync(scratch)
        scratch.replace(path)
        sync(path.parent)
    except (OSError, SafetensorError) as exc:  # a full disk comes as the latter, with the system's words in it
        raise StorageError(f"{path}: can't be written ({exc}); free some space, or choose another folder") from exc
    finally:
        scratch.unlink(missing_ok=True)


def read_tensors(path: Path, kind: str, fingerprint: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, mapped into memory, and the metadata of a file of ours; checked to the last bit.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: The file can't be read.
        StateMismatchError: Another model or another version of Longleaf made it.
        DamagedStateError: It was cut or altered, or is no such file.
    """
    with _opened(path) as file:
        metadata = _metadata(file, path, kind)
        if metadata["fingerprint"] != fingerprint:
            raise StateMismatchError(
                f"{path}: made by another model, or with other settings (fingerprint {metadata['fingerprint'][:12]}, "
                f"not {fingerprint[:12]}); read the text again"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    given = metadata.pop(_CHECKSUM, "")
    if _checksum(tensors, metadata) != given:
        raise DamagedStateError(f"{path}: altered since it was written (the checksum differs); read the text again")
    return tensors, metadata


def read_metadata(path: Path, kind: str) -> dict[str, str]:
    """The metadata of a file of ours, from its header alone; the rest is checked no further than its length.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: The file can't be read.
        StateMismatchError: Another version of Longleaf made it.
        DamagedStateError: It was cut, or is no such file.
    """
    with _opened(path) as file:
        return _metadata(file, path, kind)


def _metadata(file: Any, path: Path, kind: str) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get(_KIND) != kind or "fingerprint" not in metadata:
        raise DamagedStateError(f"{path}: not a {kind} written by Longleaf")
    if metadata.get("version") != _VERSION:
        raise StateMismatchError(
            f"{path}: written by another version of Longleaf (format {metadata.get('version')}, not {_VERSION})"
        )
    return metadata


@contextmanager
def _opened(path: Path) -> Iterator[Any]:  # safetensors leaves the methods untyped
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise StorageError(f"{path}: can't be read ({exc.strerror or exc})") from exc
    except SafetensorError as exc:
        raise DamagedStateError(f"{path}: cut off or not a state ({exc})") from exc


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _pieces(file: Mapping[str, Tensor], layer: int) -> Iterator[tuple[Tensor, Tensor]]:
    for i in count():
        keys, values = file.get(f"keys.{layer}.{i}"), file.get(f"values.{layer}.{i}")
        if keys is None or values is None:
            return
        yield keys, values


def _check(path: Path, name: str, tensor: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> None:
    if tensor is None or tensor.shape != tuple(shape) or tensor.dtype != dtype:
        there = "missing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
        raise StateMismatchError(f"{path}: {name} is {there}; this model's is {dtype} {tuple(shape)}")
