"""Builds a `tokenizers.Tokenizer` from the vocabulary that a GGUF file carries, once, and keeps it beside the file.

Reading 150,000 tokens through `gguf` takes seconds, the resulting JSON a fraction of one, so it is derived when the
model is pulled. Covers byte-level BPE (`tokenizer.ggml.model = gpt2`) with the splits of Llama 3, Qwen2, SmolLM and
GPT-2, and SentencePiece's BPE (`llama`: Llama 2, Mistral, Jamba); another kind is refused by name.

Sources: the splits are those of the models' own tokenizer.json (meta-llama/Meta-Llama-3-*, Qwen/Qwen2.5-*,
HuggingFaceTB/SmolLM2-*). llama.cpp (src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_LLAMA3, _QWEN2 and _SMOLLM) uses the
same, except that it skips Qwen's NFC normalisation: decomposed text (e + combining accent) has other ids there. We
follow the model's own, which it was trained with.

SentencePiece joins the two neighbours whose joined token has the highest score. As merges for `tokenizers` that is
every cut of a token into two tokens, best score first. Files converted from a tokenizer.json, as Jamba's are, carry the
same score for every token (gguf-py's LlamaHfVocab). Then the ids decide, for SentencePiece numbers its tokens in the
order in which it learned them; llama.cpp takes the leftmost pair.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from longleaf.errors import ModelError

__all__ = ["build_tokenizer", "load_tokenizer", "plain_ids", "tokenizer_path"]

_FORMAT = 1  # part of the file name: raise it when build_tokenizer changes, so that old files are not used
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6  # llama.cpp's token types; 5 is an unused slot

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_SPLIT = _QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": _LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False},
        _BYTE_LEVEL,
    ],
    "qwen2": [
        {"type": "Split", "pattern": {"Regex": _QWEN2_SPLIT}, "behavior": "Isolated", "invert": False},
        _BYTE_LEVEL,
    ],
    "smollm": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL | {"use_regex": True}],
    "gpt-2": [_BYTE_LEVEL | {"use_regex": True}],
}
_NORMALIZERS: dict[str, dict[str, Any]] = {"qwen2": {"type": "NFC"}}
_WHOLE_WORDS_FIRST = {"llama-bpe"}  # a word that is a token is that token, whatever its merges say

_SPACE = "▁"
_TO_SPACE_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_FROM_SPACE_MARK = [
    {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]


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


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text in which nothing counts as a control token (`tokenizer.encode_special_tokens` is on)."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


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
            for name in ("model", "pre", "tokens", "token_type", "merges", "scores", "add_space_prefix")
            if f"tokenizer.ggml.{name}" in fields
        }
    except (OSError, ValueError, IndexError) as exc:
        raise ModelError(f"{gguf}: not a readable GGUF file ({exc})") from exc
    kind, pre = metadata.get("model"), metadata.get("pre", "gpt-2")
    tokens: list[str] = metadata.get("tokens", [])
    types: list[int] = metadata.get("token_type") or [_NORMAL] * len(tokens)
    if kind == "gpt2" and pre in _PRE_TOKENIZERS and {"tokens", "merges"} <= metadata.keys():
        parts = _byte_level(tokens, types, metadata["merges"], pre)
    elif kind == "llama" and {"tokens", "scores"} <= metadata.keys():
        parts = _sentencepiece(tokens, types, metadata["scores"], metadata.get("add_space_prefix", True))
    else:
        raise ModelError(
            f"{gguf}: its tokenizer is {kind}/{pre}; supported are llama, and gpt2 with "
            f"{', '.join(sorted(_PRE_TOKENIZERS))}"
        )
    parts = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(tokens, types)} | parts
    return Tokenizer.from_str(json.dumps(parts))


def _added(tokens: list[str], types: list[int]) -> list[dict[str, Any]]:
    return [
        {
            "id": token_id,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != _USER_DEFINED,
        }
        for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]


def _byte_level(tokens: list[str], types: list[int], merges: list[str], pre: str) -> dict[str, Any]:
    return {
        "normalizer": _NORMALIZERS.get(pre),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS[pre]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(tokens, types, [merge.split(" ", 1) for merge in merges])
        | {"ignore_merges": pre in _WHOLE_WORDS_FIRST},
    }


def _sentencepiece(tokens: list[str], types: list[int], scores: list[float], space_prefix: bool) -> dict[str, Any]:
    normal = {token: i for i, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind == _NORMAL}
    merges = [
        (-scores[token_id], token_id, -cut, token[:cut], token[cut:])
        for token, token_id in normal.items()
        for cut in range(1, len(token))
        if token[:cut] in normal and token[cut:] in normal
    ]
    prepend = [{"type": "Prepend", "prepend": _SPACE}] if space_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if space_prefix else []
    unknown = tokens[types.index(_UNKNOWN)] if _UNKNOWN in types else None
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, _TO_SPACE_MARK]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [*_FROM_SPACE_MARK, *strip]},
        "model": _bpe(tokens, types, [[left, right] for *_, left, right in sorted(merges)])
        | {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True},
    }


def _bpe(tokens: list[str], types: list[int], merges: list[list[str]]) -> dict[str, Any]:
    return {
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
            if kind in (_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE)
        },
        "merges": merges,
    }


def _keep(tokenizer: Tokenizer, path: Path) -> None:
    """Write the file whole or not at all; a folder that can't be written to costs time on the next start, no more."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(tokenizer.to_str(), encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
