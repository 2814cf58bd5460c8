"""The embedded models without their quantisation, run by transformers: the independent reference for ours.

Numbers come from the `gguf` package. llama.cpp interleaves the query and key rows of its `llama` architecture for its
own rotation; here they are put back (its convert_hf_to_gguf.py, `permute`). Only what the embedded readers are: `llama`
and `qwen2`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.measuring import quiet_transformers
from longleaf.model.gguf_file import GGUFFile

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def dequantised(path: Path) -> "PreTrainedModel":
    """A transformers model in fp32 with the GGUF file's weights."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    quiet_transformers()
    file = GGUFFile(path)
    arch = file.metadata["general.architecture"]
    config_of, model_of = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[arch]

    def about(key: str) -> int | float:
        value: int | float = file.metadata[f"{arch}.{key}"]
        return value

    config = config_of(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        hidden_size=about("embedding_length"),
        intermediate_size=about("feed_forward_length"),
        num_hidden_layers=about("block_count"),
        num_attention_heads=about("attention.head_count"),
        num_key_value_heads=about("attention.head_count_kv"),
        rms_norm_eps=about("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=about("context_length"),
        rope_parameters={"rope_type": "default", "rope_theta": about("rope.freq_base")},
        tie_word_embeddings="output.weight" not in file.tensors,
    )
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads} if arch == "llama" else {}
    with torch.device("meta"):
        model = model_of(config)
    weights = {_their_name(name): _numbers(file, name, heads) for name in file.tensors}
    model.load_state_dict(weights, strict=False, assign=True)  # not strict: a tied output is not among them
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    model.tie_weights()
    if left := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise ValueError(f"{path}: no weights for {', '.join(left)}")
    return model.eval()


def _their_name(name: str) -> str:
    *layer, part, kind = name.split(".")  # blk.3.attn_q.weight
    return ".".join([*(["model.layers", layer[1]] if layer else []), _NAMES[part], kind])


def _numbers(file: GGUFFile, name: str, interleaved: dict[str, int]) -> Tensor:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    tensor = file.tensors[name]
    raw = file.raw(tensor).numpy().reshape(*tensor.shape[:-1], -1)  # (n_out, bytes of a row)
    values = torch.from_numpy(dequantize(raw, GGMLQuantizationType[tensor.kind])).reshape(tensor.shape)
    if n_heads := interleaved.get(name.split(".")[-2]):
        values = values.view(n_heads, -1, 2, tensor.shape[-1]).transpose(1, 2).reshape(tensor.shape)
    return values.clone()  # F32 tensors are the file's own memory
