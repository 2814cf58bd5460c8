"""Builds a `tokenizers.Tokenizer` from the vocabulary that a GGUF file carries, once, and keeps it beside the file.

Reading 150,000 tokens through `gguf` takes seconds, the resulting JSON a fraction of one, so it is derived when the
model is pulled. Covers byte-level BPE (`tokenizer.ggml.model = gpt2`) with the splits of Qwen2 and SmolLM; another
kind is refused by name.

Sources: the splits are those of the models' own tokenizer.json (Qwen/Qwen2.5-*, HuggingFaceTB/SmolLM2-*). llama.cpp
(src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_QWEN2 and _SMOLLM) uses the same, except that it skips Qwen's NFC
normalisation: decomposed text (e + combining accent) has other ids there. We follow the model's own, which it was
trained with.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from longleaf.errors import ModelError

__all__ = ["build_tokenizer", "load_tokenizer", "tokenizer_path"]

_FORMAT = 1  # part of the file name: raise it when build_tokenizer changes, so that old files are not used
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # llama.cpp's token types that a tokenizer needs to tell apart

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "qwen2": [
        {"type": "Split", "pattern": {"Regex": _QWEN2_SPLIT}, "behavior": "Isolated", "invert": False},
        _BYTE_LEVEL,
    ],
    "smollm": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL | {"use_regex": True}],
    "gpt-2": [_BYTE_LEVEL | {"use_regex": True}],
}
_NORMALIZERS: dict[str, dict[str, Any]] = {"qwen2": {"type": "NFC"}}


def tokenizer_path(gguf: Path) -> Path:
    """The file beside the GGUF that keeps its tokenizer; it carries the GGUF's name, for a folder may hold several."""
    return gguf.with_name(f"{gguf.stem}.tokenizer-{_FORMAT}.json")


def load_tokenizer(gguf: Path) -> Tokenizer:
    """The GGUF's tokenizer, from the file beside it; made first if that is missing or older than the GGUF.

    Control tokens in a text are taken as text (`encode_special_tokens`); reach them through `token_to_id`.
    """
    kept = tokenizer_path(gguf)
    tokenizer = None
    if kept.exists() and kept.stat().st_mtime_ns >= gguf.stat().st_mtime_ns:
        with suppress(Exception):  # tokenizers raises plain Exception; a damaged file is made again
            tokenizer = Tokenizer.from_file(str(kept))
    if tokenizer is None:
        tokenizer = build_tokenizer(gguf)
        _keep(tokenizer, kept)
    tokenizer.encode_special_tokens = True
    return tokenizer


def build_tokenizer(gguf: Path) -> Tokenizer:
    """Build the tokenizer from the GGUF's own metadata.

    Raises:
        ModelError: The file is not a GGUF, or its tokenizer is of a kind that is not covered.
    """
    from gguf import GGUFReader

    try:
        fields = GGUFReader(str(gguf)).fields
        metadata = {
            name: fields[f"tokenizer.ggml.{name}"].contents()
            for name in ("model", "pre", "tokens", "token_type", "merges")
            if f"tokenizer.ggml.{name}" in fields
        }
    except (OSError, ValueError, IndexError) as exc:
        raise ModelError(f"{gguf}: not a readable GGUF file ({exc})") from exc
    kind, pre = metadata.get("model"), metadata.get("pre", "gpt-2")
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS or not {"tokens", "merges"} <= metadata.keys():
        raise ModelError(
            f"{gguf}: its tokenizer is {kind}/{pre}; supported are gpt2 with {', '.join(sorted(_PRE_TOKENIZERS))}"
        )
    tokens: list[str] = metadata["tokens"]
    types: list[int] = metadata.get("token_type") or [_NORMAL] * len(tokens)
    return Tokenizer.from_str(json.dumps(_tokenizer_json(tokens, types, metadata["merges"], pre)))


def _tokenizer_json(tokens: list[str], types: list[int], merges: list[str], pre: str) -> dict[str, Any]:
    added = [
        {
            "id": token_id,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == _CONTROL,
        }
        for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": _NORMALIZERS.get(pre),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS[pre]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            # Unused slots ([PAD151665], type 5) are left out: a text that spells one must not become it.
            "vocab": {
                token: token_id
                for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
                if kind in (_NORMAL, _CONTROL, _USER_DEFINED)
            },
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }


def _keep(tokenizer: Tokenizer, path: Path) -> None:
    """Write the file whole or not at all; a folder that can't be written to costs time on the next start, no more."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(tokenizer.to_str(), encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
