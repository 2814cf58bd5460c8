"""The embedder's encoder: BERT in plain torch, for all-MiniLM-L6-v2 and its like, from config.json and safetensors.

Ours because importing transformers' BertModel alone takes 3.9 s here, and a whole answer must begin within 10.
Encoding only: no head, no dropout, no training. Source: Devlin et al. 2018 (arXiv:1810.04805), in the layout of
transformers' BertModel, which tests/model/test_bert.py compares with; pooling as
sentence-transformers/all-MiniLM-L6-v2 has it: mean over tokens, then length 1.

Letters: B batch, L length, D d_model, H heads, K head_dim.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from longleaf.errors import ModelError, ModelNotInstalledError

__all__ = ["Bert", "BertConfig", "best_dtype", "load_bert"]

MAX_TOKENS = 256  # what all-MiniLM-L6-v2 was trained with (its sentence_bert_config.json)
BATCH_TOKENS = 8192


@dataclass(frozen=True)
class BertConfig:
    """The model's shape."""

    d_model: int
    n_layers: int
    n_heads: int
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
            vocab_size=raw["vocab_size"],
            max_positions=raw["max_position_embeddings"],
            layer_norm_eps=raw["layer_norm_eps"],
        )


class Bert:
    """A BERT encoder with its tokenizer.

        bert = load_bert(model_path("minilm"))
        vectors = bert.encode(["net sales rose", "the weather"])     # (2, 384) fp32, each of length 1

    Args:
        config: The model's shape.
        weights: Tensors under transformers' names.
        tokenizer: As saved beside them.
        max_tokens: Longer texts are cut here, `[CLS]` and `[SEP]` included.
    """

    def __init__(
        self, config: BertConfig, weights: dict[str, Tensor], tokenizer: Tokenizer, max_tokens: int = MAX_TOKENS
    ) -> None:
        self.config = config
        self.weights = weights
        self.dtype = weights["embeddings.word_embeddings.weight"].dtype
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        for layer in range(config.n_layers):  # one matrix product for query, key and value
            for kind in ("weight", "bias"):
                names = [f"encoder.layer.{layer}.attention.self.{part}.{kind}" for part in ("query", "key", "value")]
                weights[f"encoder.layer.{layer}.qkv.{kind}"] = torch.cat([weights.pop(name) for name in names])

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

    @torch.inference_mode()
    def encode(
        self,
        texts: Sequence[str],
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """One vector of length 1 per text.

        Args:
            texts: Cut at `max_tokens` tokens.
            batch_size: Most texts in a batch; batches also hold at most 8192 tokens, padding included.
            progress: Called with (texts done, texts in all) after each batch.

        Returns:
            (n, D) fp32, in the order of the texts.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        vectors = np.zeros((len(texts), self.config.d_model), dtype=np.float32)
        done = 0
        for rows, ids in self._batches(texts, batch_size):
            mask = ids >= 0  # (B, L)
            x = self.forward(ids.clamp_min(0), mask).float()  # (B, L, D) fp32
            mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # (B, D) fp32
            vectors[rows] = F.normalize(mean, dim=-1).numpy()
            done += len(rows)
            if progress is not None:
                progress(done, len(texts))
        return vectors

    def _batches(self, texts: Sequence[str], batch_size: int) -> Iterator[tuple[list[int], Tensor]]:
        """Texts of similar length together, longest first; (their rows, ids padded with -1)."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))
        begin = 0
        while begin < len(order):
            longest = len(tokens[order[begin]])
            rows = order[begin : begin + max(1, min(batch_size, BATCH_TOKENS // longest))]
            ids = torch.full((len(rows), longest), -1)  # (B, L) int64
            for index, row in enumerate(rows):
                ids[index, : len(tokens[row])] = torch.tensor(tokens[row])
            yield rows, ids
            begin += len(rows)


def best_dtype() -> torch.dtype:
    """bf16 where this CPU computes in it (about twice as fast, the same rankings), else fp32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private in torch 2.13; fp32 if it goes away
    return torch.bfloat16 if supported is not None and supported() else torch.float32


def load_bert(folder: Path, dtype: torch.dtype | None = None) -> Bert:
    """Load config.json, model.safetensors and tokenizer.json from a folder.

    Args:
        folder: An embedder's folder, as `model_path` gives it.
        dtype: Of weights and arithmetic; `best_dtype()` if not given. Pooling is fp32 in any case.

    Raises:
        ModelNotInstalledError: A file is missing.
        ModelError: Not a plain BERT, or a tensor is missing.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ModelNotInstalledError(f"{folder / name} is missing; run: longleaf model pull minilm")
    dtype = dtype or best_dtype()
    config = BertConfig.from_json(folder / "config.json")
    weights = {
        name.removeprefix("bert."): tensor.to(dtype)
        for name, tensor in load_file(folder / "model.safetensors").items()
        if tensor.is_floating_point() and "pooler" not in name
    }
    try:
        return Bert(config, weights, Tokenizer.from_file(str(folder / "tokenizer.json")))
    except KeyError as exc:
        raise ModelError(f"{folder / 'model.safetensors'}: tensor {exc} is missing") from exc
