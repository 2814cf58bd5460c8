"""What a decoder remembers of the tokens it has read: keys and values, convolution taps, SSM states.

A state is valid for exactly its own token count. It can be forked and extended, never trimmed: a Mamba state has no
way back. Keys and values lie in blocks that forks share; a block is copied only by the one who writes into it.

Files of states are written in `state_file.py`.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from .config import DecoderConfig

__all__ = ["DecoderState", "KVCache", "MambaState", "block_tokens_for"]


def block_tokens_for(device: torch.device) -> int:
    """Tokens in a block of keys and values: small where a block costs a loop step, large where it costs a launch."""
    return 16384 if device.type == "cuda" else 1024


@dataclass(slots=True)
class _Block:
    """Room for the keys and values of so many tokens."""

    keys: Tensor  # (K, block_tokens, head_dim)
    values: Tensor


class KVCache:
    """Keys and values of one attention layer.

    Args:
        n_kv_heads: K below.
        head_dim: Width of a head.
        dtype: Of what is kept.
        device: Where it is kept.
    """

    def __init__(self, n_kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> None:
        self.n_kv_heads = n_kv_heads
        self.head_dim = head_dim
        self.dtype = dtype
        self.device = device
        self.block_tokens = block_tokens_for(device)
        self.n_tokens = 0
        self._blocks: list[_Block] = []
        self._may_write_last = True  # whether no other state shares the last block

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Take in the keys and values of new tokens; what is there already is not moved.

        Args:
            keys: (L, K, head_dim)
            values: (L, K, head_dim)
        """
        done, n_new = 0, keys.shape[0]
        while done < n_new:
            used = self.n_tokens % self.block_tokens
            if used == 0:
                shape = (self.n_kv_heads, self.block_tokens, self.head_dim)
                empty = [torch.empty(shape, dtype=self.dtype, device=self.device) for _ in range(2)]
                self._blocks.append(_Block(*empty))
                self._may_write_last = True
            elif not self._may_write_last:
                self._copy_last(used)
            take = min(n_new - done, self.block_tokens - used)
            block = self._blocks[-1]
            block.keys[:, used : used + take] = keys[done : done + take].transpose(0, 1)
            block.values[:, used : used + take] = values[done : done + take].transpose(0, 1)
            self.n_tokens += take
            done += take

    def adopt(self, keys: Tensor, values: Tensor) -> None:
        """Take in a block that came from a file: full, or the last one.

        Read-only memory is fine. Dtype and device must be this cache's.

        Args:
            keys: (K, n, head_dim) with n at most `block_tokens`
            values: The same.
        """
        n_new = keys.shape[1]
        if self.n_tokens % self.block_tokens == 0 and n_new == self.block_tokens:
            self._blocks.append(_Block(keys, values))
            self._may_write_last = False
            self.n_tokens += n_new
        else:
            self.append(keys.transpose(0, 1), values.transpose(0, 1))

    def pieces(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Views of the keys and values from token `start` on, a block at a time. (K, n, head_dim) each."""
        for index in range(start // self.block_tokens, len(self._blocks)):
            first = max(start - index * self.block_tokens, 0)
            last = min(self.n_tokens - index * self.block_tokens, self.block_tokens)
            if first < last:
                block = self._blocks[index]
                yield block.keys[:, first:last], block.values[:, first:last]

    def pointers(self) -> tuple[list[int], list[int]]:
        """Addresses of all blocks' keys and values, each (K, block_tokens, head_dim) and contiguous."""
        return [b.keys.data_ptr() for b in self._blocks], [b.values.data_ptr() for b in self._blocks]

    def fork(self) -> "KVCache":
        """A cache that shares all blocks; whoever writes into the last one first copies it."""
        other = KVCache(self.n_kv_heads, self.head_dim, self.dtype, self.device)
        other.block_tokens = self.block_tokens
        other.n_tokens = self.n_tokens
        other._blocks = list(self._blocks)
        self._may_write_last = other._may_write_last = False
        return other

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens' keys and values, not of the room around them."""
        return 2 * self.n_tokens * self.n_kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def held_bytes(self) -> int:
        """Bytes of the blocks, the room for further tokens included; forks share them."""
        return 2 * len(self._blocks) * self.n_kv_heads * self.block_tokens * self.head_dim * self.dtype.itemsize

    def _copy_last(self, used: int) -> None:
        shared = self._blocks[-1]
        shape = (self.n_kv_heads, self.block_tokens, self.head_dim)
        own = _Block(*(torch.empty(shape, dtype=self.dtype, device=self.device) for _ in range(2)))
        own.keys[:, :used] = shared.keys[:, :used]
        own.values[:, :used] = shared.values[:, :used]
        self._blocks[-1] = own
        self._may_write_last = True


class MambaState:
    """What one Mamba layer remembers. W is d_conv, E d_inner, N d_state.

    Args:
        conv: The last W-1 inputs of the convolution, oldest first. (W-1, E)
        ssm: The state of the scan. (N, E) fp32
    """

    def __init__(self, conv: Tensor, ssm: Tensor) -> None:
        self.conv = conv
        self.ssm = ssm

    def fork(self) -> "MambaState":
        """A copy of its own: a scan overwrites it."""
        return MambaState(self.conv.clone(), self.ssm.clone())

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.conv.nbytes + self.ssm.nbytes

    held_bytes = nbytes


class DecoderState:
    """The state after a sequence of tokens: one entry per layer, and the tokens themselves.

    Made by `Decoder.new_state`; `Decoder.prefill` and `Decoder.decode` move it on.

        state = model.new_state()
        model.prefill(document, state)
        answer = state.fork()                  # shares the document's keys and values
        model.prefill(question, answer)

    Args:
        layers: A `KVCache` or a `MambaState` for each layer.
        fingerprint: Of the model that it belongs to; another model must not continue it.
        token_ids: The tokens read so far.
    """

    def __init__(self, layers: list[KVCache | MambaState], fingerprint: str, token_ids: Sequence[int] = ()) -> None:
        self.layers = layers
        self.fingerprint = fingerprint
        self.is_whole = True
        """False while tokens pass through the layers, and for good if that was interrupted: some layers have read
        them, others not."""
        self._token_ids = array("i", token_ids)

    @classmethod
    def empty(
        cls, config: DecoderConfig, fingerprint: str, dtype: torch.dtype, kv_dtype: torch.dtype, device: torch.device
    ) -> "DecoderState":
        """The state before the first token."""
        layers: list[KVCache | MambaState] = []
        for kind in config.layer_kinds:
            if kind == "attention":
                layers.append(KVCache(config.n_kv_heads, config.head_dim, kv_dtype, device))
            else:
                conv = torch.zeros(config.d_conv - 1, config.d_inner, dtype=dtype, device=device)  # (W-1, E)
                ssm = torch.zeros(config.d_state, config.d_inner, dtype=torch.float32, device=device)  # (N, E)
                layers.append(MambaState(conv, ssm))
        return cls(layers, fingerprint)

    @property
    def n_tokens(self) -> int:
        """How many tokens have been read."""
        return len(self._token_ids)

    @property
    def token_ids(self) -> list[int]:
        """The tokens read so far, as a new list."""
        return self._token_ids.tolist()

    def starts(self, token_ids: Sequence[int]) -> bool:
        """Whether these tokens begin with the ones that were read."""
        return len(token_ids) >= self.n_tokens and array("i", token_ids[: self.n_tokens]) == self._token_ids

    def read_the_same(self, other: "DecoderState") -> bool:
        """Whether both have read the same tokens."""
        return self._token_ids == other._token_ids

    def note(self, token_ids: Sequence[int]) -> None:
        """Count tokens as read; the decoder calls it when every layer has moved on."""
        self._token_ids.extend(token_ids)
        self.is_whole = True

    def fork(self) -> "DecoderState":
        """A state of its own from here on: keys and values shared until written to, Mamba states copied."""
        other = DecoderState([layer.fork() for layer in self.layers], self.fingerprint, self._token_ids)
        other.is_whole = self.is_whole
        return other

    def go_back(self, before: "DecoderState") -> None:
        """Become a fork that was made before; that one must not be used any more."""
        self.layers, self._token_ids, self.is_whole = before.layers, before._token_ids, before.is_whole

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values, convolution taps and SSM states."""
        return sum(layer.nbytes for layer in self.layers)

    @property
    def held_bytes(self) -> int:
        """Memory that it holds, by itself or together with its forks."""
        return sum(layer.held_bytes for layer in self.layers)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to a file that `Decoder.load_state` reads; whole or not at all.

        Raises:
            StorageError: The disk is full or can't be written to.
        """
        from .state_file import save_state

        save_state(self, Path(path))
