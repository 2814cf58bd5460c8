"""The embedder's encoder: BERT for all-MiniLM-L6-v2 and its like, from config.json and safetensors.

Ours because importing transformers' BertModel alone takes 3.9 s here, and a whole answer must begin within 10.
Encoding only: no head, no dropout, no training. Here are the text side and the encoder in plain torch (fp32, bf16), the
reference for the one in int8 (bert_kernels.py). Source: Devlin et al. 2018 (arXiv:1810.04805), in the layout of
transformers' BertModel, which tests/model/test_bert.py compares with; pooling as
sentence-transformers/all-MiniLM-L6-v2 has it: mean over tokens, then length 1.

Letters: B batch, L length, D d_model, H heads, K head_dim.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from longleaf.errors import ModelError, ModelNotInstalledError

from . import bert_kernels
from .arithmetic import Asker, compute

__all__ = ["Bert", "BertConfig", "DenseEncoder", "Encoder", "best_dtype", "load_bert"]

MAX_TOKENS = 256  # what all-MiniLM-L6-v2 was trained with (its sentence_bert_config.json)
_DTYPES = (torch.int8, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class BertConfig:
    """The model's shape."""

    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    vocab_size: int
    max_positions: int
    layer_norm_eps: float

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}")

    @classmethod
    def from_json(cls, path: Path) -> "BertConfig":
        """Read transformers' config.json; what it asks for beyond plain BERT is refused."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        plain = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for key, wanted in plain.items():
            if raw.get(key, wanted) != wanted:
                raise ModelError(f"{path}: {key} is {raw[key]!r}, supported is {wanted!r}")
        return cls(
            d_model=raw["hidden_size"],
            n_layers=raw["num_hidden_layers"],
            n_heads=raw["num_attention_heads"],
            d_ff=raw["intermediate_size"],
            vocab_size=raw["vocab_size"],
            max_positions=raw["max_position_embeddings"],
            layer_norm_eps=raw["layer_norm_eps"],
        )


class Encoder(Protocol):
    """Makes vectors of token ids."""

    config: BertConfig
    dtype: torch.dtype

    @property
    def batch_tokens(self) -> int:
        """Tokens to give it at once, at most."""
        ...

    def vectors(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The mean of the last layer over each text's tokens, of length 1: (n, D) for n texts of at least one token."""
        ...


class Bert:
    """A BERT encoder with its tokenizer.

        bert = load_bert(model_path("minilm"))
        vectors = bert.encode(["net sales rose", "the weather"])     # (2, 384) fp32, each of length 1

    Args:
        encoder: Makes vectors of token ids.
        tokenizer: As saved beside the weights.
        max_tokens: Longer texts are cut here, `[CLS]` and `[SEP]` included.
    """

    def __init__(self, encoder: Encoder, tokenizer: Tokenizer, max_tokens: int = MAX_TOKENS) -> None:
        self.encoder = encoder
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    @property
    def config(self) -> BertConfig:
        """The model's shape."""
        return self.encoder.config

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products: torch.int8, torch.bfloat16 or torch.float32."""
        return self.encoder.dtype

    def encode(
        self,
        texts: Sequence[str],
        batch_size: int = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """One vector of length 1 per text.

        Args:
            texts: Cut at `max_tokens` tokens.
            batch_size: Most texts in a batch; the encoder's `batch_tokens` bounds a batch as well.
            progress: Called with (texts done, texts in all) after each batch.

        Returns:
            (n, D) fp32, in the order of the texts.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        vectors = np.zeros((len(texts), self.config.d_model), dtype=np.float32)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]  # fast: without offsets
        order = sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))  # texts of similar length together
        begin = 0
        while begin < len(order):
            longest = len(tokens[order[begin]])
            rows = order[begin : begin + max(1, min(batch_size, self.encoder.batch_tokens // longest))]
            vectors[rows] = compute(partial(self._vectors, [tokens[row] for row in rows]))
            begin += len(rows)
            if progress is not None:
                progress(begin, len(texts))
        return vectors

    def _vectors(self, tokens: list[list[int]], _: Asker) -> NDArray[np.float32]:
        return self.encoder.vectors(tokens)


class DenseEncoder:
    """The encoder in torch, in fp32 or bf16.

    Args:
        config: The model's shape.
        weights: Tensors as `load_bert` names them, of one dtype.
    """

    batch_tokens = 1024  # padding included; more gain nothing, and keep a caller who wants to stop waiting

    def __init__(self, config: BertConfig, weights: dict[str, Tensor]) -> None:
        self.config = config
        self.weights = weights
        self.dtype = weights["embeddings.word_embeddings.weight"].dtype

    @torch.inference_mode()
    def vectors(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """See `Encoder.vectors`; texts of similar length waste the least."""
        ids = torch.full((len(tokens), max(map(len, tokens))), -1)  # (B, L) int64
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = torch.tensor(text)
        mask = ids >= 0  # (B, L)
        x = self.forward(ids.clamp_min(0), mask).float()  # (B, L, D) fp32
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # (B, D) fp32
        return F.normalize(mean, dim=-1).numpy()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of the last layer.

        Args:
            ids: Token ids. (B, L) int64
            mask: True where there is a token. (B, L) bool

        Returns:
            (B, L, D)
        """
        word, position, kind = (
            self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        x = word[ids] + position[: ids.shape[1]] + kind[0]  # (B, L, D)
        x = self._norm(x, "embeddings")
        attend = None if bool(mask.all()) else mask[:, None, None, :]  # (B, 1, 1, L) bool, over the keys
        for layer in range(self.config.n_layers):
            name = f"encoder.layer.{layer}"
            x = self._norm(x + self._attention(x, attend, name), f"{name}.attention.output")
            x = self._norm(x + self._feed_forward(x, name), f"{name}.output")
        return x

    def _attention(self, x: Tensor, attend: Tensor | None, name: str) -> Tensor:
        B, L, D = x.shape
        qkv = self._linear(x, f"{name}.qkv").view(B, L, 3, self.config.n_heads, -1)  # (B, L, 3, H, K)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, L, K) each
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attend)  # (B, H, L, K)
        return self._linear(y.transpose(1, 2).reshape(B, L, D), f"{name}.attention.output.dense")  # (B, L, D)

    def _feed_forward(self, x: Tensor, name: str) -> Tensor:
        return self._linear(F.gelu(self._linear(x, f"{name}.intermediate.dense")), f"{name}.output.dense")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.LayerNorm.weight"], self.weights[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, (self.config.d_model,), weight, bias, self.config.layer_norm_eps)


def best_dtype(config: BertConfig | None = None) -> torch.dtype:
    """What this CPU computes in fastest: int8 where it multiplies that in wide vectors, then bf16, then fp32.

    Rankings stay nearly the same, and vectors of one may be compared with vectors of another (see `load_bert`).

    Args:
        config: The shape that int8 has to cover, if known.
    """
    if bert_kernels.is_fast() and (config is None or bert_kernels.is_supported(config)):
        return torch.int8
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private in torch 2.13; fp32 if it goes away
    return torch.bfloat16 if supported is not None and supported() else torch.float32


def load_bert(folder: Path, dtype: torch.dtype | None = None) -> Bert:
    """Load config.json, model.safetensors and tokenizer.json from a folder.

    Vectors of all three dtypes may be mixed in one index: with all-MiniLM-L6-v2 the cosine of int8 and fp32 vectors of
    a passage is at least 0.995 (benchmarks/embedding.py measures it), of bf16 and fp32 at least 0.999.

    Args:
        folder: An embedder's folder, as `model_path` gives it.
        dtype: Of the matrix products: torch.int8, torch.bfloat16 or torch.float32; `best_dtype()` if not given.
            Pooling is fp32 in any case.

    Raises:
        ModelNotInstalledError: A file is missing.
        ModelError: Not a plain BERT, a tensor is missing, or int8 is asked for where there are no kernels for it.
        ValueError: Another dtype.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ModelNotInstalledError(f"{folder / name} is missing; run: longleaf model pull minilm")
    config = BertConfig.from_json(folder / "config.json")
    dtype = dtype or best_dtype(config)
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, _DTYPES))}, got {dtype}")
    weights = {
        name.removeprefix("bert."): tensor.to(torch.float32 if dtype == torch.int8 else dtype)
        for name, tensor in load_file(folder / "model.safetensors").items()
        if tensor.is_floating_point() and "pooler" not in name
    }
    try:
        for layer in range(config.n_layers):  # one matrix product for query, key and value
            for kind in ("weight", "bias"):
                parts = [f"encoder.layer.{layer}.attention.self.{part}.{kind}" for part in ("query", "key", "value")]
                weights[f"encoder.layer.{layer}.qkv.{kind}"] = torch.cat([weights.pop(part) for part in parts])
        encoder = (bert_kernels.Int8Encoder if dtype == torch.int8 else DenseEncoder)(config, weights)
    except KeyError as exc:
        raise ModelError(f"{folder / 'model.safetensors'}: tensor {exc} is missing") from exc
    return Bert(encoder, Tokenizer.from_file(str(folder / "tokenizer.json")))
