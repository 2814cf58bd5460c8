"""GGUF files against transformers on the same weights, dequantised: written here from tiny models in every type that
stays packed and some that do not."""

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from longleaf.errors import ModelError
from longleaf.model import native
from longleaf.model.decoder import Decoder
from longleaf.model.layers import Attention
from longleaf.model.linear import DenseLinear, PackedLinear
from longleaf.model.loading import load_model

from .tiny_gguf import write_gguf
from .tiny_models import VARIANTS, oracle_logits, prompt, relative_error, tiny_model

EXACT = 1e-4
ROUNDED = 0.08  # packed products round activations to int8; measured: 0.01 to 0.055, most where a token changes experts
BLOCKS = ["Q4_0", "Q4_1", "Q8_0", "Q5_0", "F16", "BF16"]
SUPER_BLOCKS = ["Q4_K", "Q5_K", "Q6_K"]

pytestmark = pytest.mark.usefixtures("one_thread")
needs_native = pytest.mark.skipif(not native.is_available(), reason="the native kernels were not built")
packed_or_dense = pytest.mark.parametrize("packed", [False, pytest.param(True, marks=needs_native)])


@pytest.fixture
def loaded(packed: bool, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Decoder]:
    """Loads in fp32, with the native kernels or as on a machine that has none."""
    if not packed:
        monkeypatch.setattr(native, "_library", lambda: None)
    return lambda path: load_model(path, dtype=torch.float32, kv_dtype=torch.float32)


def error_of(model: Decoder, reference: Tensor, token_ids: list[int]) -> float:
    """The larger one of a whole reading's and of one in chunks, where products of a few tokens take other ways."""
    state = model.new_state()
    chunks = [model.logits_of_all(token_ids[i : i + 3], state) for i in range(0, len(token_ids), 3)]
    whole = model.logits_of_all(token_ids, model.new_state())
    return max(relative_error(whole, reference), relative_error(torch.cat(chunks), reference))


def small(variant: str, wide: bool) -> PreTrainedModel:
    """Two layers, of which Jamba's second is attention; 256 wide for K-quants, which come 256 values at a time."""
    changes = {"num_hidden_layers": 2}
    if wide:
        changes |= {"hidden_size": 256} | ({} if variant == "mamba" else {"intermediate_size": 256})
    if variant.startswith("jamba"):
        changes |= {"attn_layer_period": 2, "attn_layer_offset": 1}
    return tiny_model(variant, **changes)


@packed_or_dense
@pytest.mark.parametrize(
    "variant",
    [
        name
        for name, (kind, _) in VARIANTS.items()
        if kind in ("jamba", "llama", "qwen2", "mamba") and "odd" not in name
    ],
)
def test_an_unquantised_file_is_the_model(variant: str, loaded: Callable[[Path], Decoder], tmp_path: Path) -> None:
    reference = tiny_model(variant)
    write_gguf(reference, tmp_path / "model.gguf")
    model = loaded(tmp_path / "model.gguf")
    error = error_of(model, oracle_logits(reference, prompt(60)), prompt(60))
    assert error <= EXACT, f"{variant}: {error:.1e}"
    assert model.config.eos_token_ids == (2,)


@packed_or_dense
@pytest.mark.parametrize("kind", [*BLOCKS, *SUPER_BLOCKS])
@pytest.mark.parametrize("variant", ["jamba-3b", "jamba-attention-last", "llama", "qwen2", "mamba"])
def test_a_quantised_file_is_the_model_of_its_dequantised_weights(
    variant: str, kind: str, packed: bool, loaded: Callable[[Path], Decoder], tmp_path: Path
) -> None:
    reference = small(variant, kind in SUPER_BLOCKS)
    write_gguf(reference, tmp_path / "model.gguf", kind)
    model = loaded(tmp_path / "model.gguf")
    error = error_of(model, oracle_logits(reference, prompt(40)), prompt(40))
    print(f"{variant:22} {kind} {'packed' if packed else 'dense':6} {error:.1e}")  # noqa: T201  the table
    stays_packed = packed and kind in native.GGUF_PACKABLE
    assert isinstance(model._output, PackedLinear if stays_packed else DenseLinear)
    assert error <= (ROUNDED if stays_packed else EXACT), f"{error:.1e}"


@packed_or_dense
@pytest.mark.parametrize("variant", ["llama", "qwen2"])
def test_products_of_one_input_may_be_of_different_types(
    variant: str, packed: bool, loaded: Callable[[Path], Decoder], tmp_path: Path
) -> None:
    """As in Q4_K_M files, where values and outputs keep more bits than queries and keys."""
    kinds = {"attn_v": "Q6_K", "ffn_up": "Q8_0", "ffn_down": "Q6_K", "token_embd": "Q5_K"}
    reference = small(variant, wide=True)
    write_gguf(reference, tmp_path / "model.gguf", lambda name: kinds.get(name.split(".")[-2], "Q4_K"))
    model = loaded(tmp_path / "model.gguf")
    error = error_of(model, oracle_logits(reference, prompt(40)), prompt(40))
    assert error <= (ROUNDED if packed else EXACT), f"{error:.1e}"
    if packed:
        mixer = model.layers[0].mixer
        assert isinstance(mixer, Attention)
        assert [part.n_out for part in mixer.qkv] == [part.n_out for part in model.layers[1].mixer.qkv]
        assert len(mixer.qkv) == 3


@needs_native
def test_bf16_activations_on_packed_weights(tmp_path: Path) -> None:
    reference = small("qwen2", wide=True)
    write_gguf(reference, tmp_path / "model.gguf", "Q4_K")
    model = load_model(tmp_path / "model.gguf", dtype=torch.bfloat16)
    assert model._output.packed.bits == 4
    assert error_of(model, oracle_logits(reference, prompt(40)), prompt(40)) <= ROUNDED


def test_what_a_file_lacks_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_tensor

    def spoil(self: gguf.GGUFWriter, name: str, tensor: object, **options: object) -> None:
        if name == "blk.0.ssm_a":
            name = "blk.0.ssm_b"
        add(self, name, tensor[:-1] if name == "blk.2.attn_k.weight" else tensor, **options)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", spoil)
    write_gguf(tiny_model("jamba-d-state-8"), tmp_path / "model.gguf")
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "model.gguf")
    message = str(caught.value)
    assert str(tmp_path / "model.gguf") in message
    assert "1 missing: blk.0.ssm_a 128×8; " in message
    assert "1 of another shape: blk.2.attn_k.weight is 31×64 instead of 32×64; " in message
    assert message.endswith("1 unknown: blk.0.ssm_b 128×8")


def test_a_gguf_file_is_not_quantised_again(tmp_path: Path) -> None:
    write_gguf(tiny_model("llama"), tmp_path / "model.gguf")
    with pytest.raises(ModelError, match="quantised as it comes"):
        load_model(tmp_path / "model.gguf", quantize="int8")
