"""Our decoder on Jamba's layers beside transformers', on a CPU: reading, writing, long texts, memory, int8.

    python -m benchmarks.decoder [--shape dense|moe] [--parts prefill,decode,long,products,memory,int8] [--json]

The shape is that of AI21's Jamba at a quarter of its width (one block of eight layers, attention at 4, d_model 1024,
bf16), dense or with 16 experts in every second layer. The weights are random, because speed does not depend on what
they say: transformers makes and saves them once, and both sides load the same files. One sequence, no batches: one
person who reads one document. Sides take turns within one run, so that a busy neighbour slows both, and ratios are
taken turn by turn.

prefill    2,048 tokens from nothing, logits of the last position on both sides (transformers runs its PyTorch scan: the
           faster ones it knows are for CUDA)
decode     tokens written one by one after them, greedy, through plain calls of the model on both sides
long       ours: 32,768 tokens in all, whether speed holds as the text grows
products   ours: the time of a prefill over that of its matrix products alone, the same shapes called one after another
memory     ours: peak memory while reading 4,096 and 65,536 tokens, in a process each, beside the growth of the reading
int8       ours: bf16, int8 and w8a8
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor

from benchmarks.measuring import (
    Figures,
    conditions,
    forget_peak,
    in_fresh_process,
    judged,
    memory_bytes,
    quiet_transformers,
    report,
    seconds,
    spread,
)
from longleaf.model import load_model
from longleaf.model.linear import DenseLinear
from longleaf.model.safetensors_weights import Quantization

PARTS = ("prefill", "decode", "long", "products", "memory", "int8")
DENSE = {
    "vocab_size": 65_536,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "num_experts": 1,
}
SHAPES = {
    "dense": DENSE,
    "moe": DENSE | {"num_experts": 16, "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1},
}
TINY = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
"""Over a shape: to see that the script runs."""


@dataclass(frozen=True)
class Sizes:
    """How many tokens are read and written."""

    prompt: int = 2048
    written: int = 64
    long: int = 32_768
    peaks: tuple[int, int] = (4096, 65_536)


QUICK = Sizes(prompt=96, written=4, long=384, peaks=(128, 1536))


def save_random_jamba(folder: Path, shape: Mapping[str, int], seed: int = 0) -> None:
    """Weights as transformers initialises them, but for dt's bias: zero there, here as Mamba's authors draw it.

    Source: Gu and Dao 2023, arXiv:2312.00752, section 3.6: softplus(bias) is log-uniform in [0.001, 0.1].
    """
    from transformers import JambaConfig, JambaForCausalLM

    quiet_transformers()
    torch.manual_seed(seed)
    model = JambaForCausalLM(JambaConfig(**shape))
    with torch.no_grad():
        for name, bias in model.named_parameters():
            if name.endswith("dt_proj.bias"):
                dt = torch.empty_like(bias).uniform_(-3, -1).mul(torch.tensor(10.0).log()).exp()
                bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus backwards
    model.to(torch.bfloat16).save_pretrained(folder)


class Side(Protocol):
    """One implementation with the state of one sequence."""

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Read from nothing and give the last token's logits (vocab_size,)."""
        ...

    def decode(self, token: int) -> Tensor:
        """Read one token more and give its logits (vocab_size,)."""
        ...


class Ours:
    """This decoder."""

    def __init__(self, folder: Path, quantize: Quantization | None = None) -> None:
        self.model = load_model(folder, dtype=torch.bfloat16, quantize=quantize)

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """See `Side`."""
        self.state = self.model.new_state()
        return self.model.prefill(ids, self.state)

    def decode(self, token: int) -> Tensor:
        """See `Side`."""
        return self.model.decode(token, self.state)


class Theirs:
    """transformers, without the cost of its `generate`."""

    def __init__(self, folder: Path) -> None:
        from transformers import JambaForCausalLM

        self.model = JambaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int]) -> Tensor:
        """See `Side`."""
        out = self.model(input_ids=torch.tensor([ids]), use_cache=True, logits_to_keep=1)
        self.past = out.past_key_values
        logits: Tensor = out.logits[0, -1].float()
        return logits

    @torch.inference_mode()
    def decode(self, token: int) -> Tensor:
        """See `Side`."""
        out = self.model(input_ids=torch.tensor([[token]]), past_key_values=self.past, use_cache=True)
        logits: Tensor = out.logits[0, -1].float()
        return logits


@dataclass(frozen=True)
class Turn:
    """What one side did in one turn."""

    read_per_s: float
    written_per_s: float
    logits: Tensor  # after the prompt


def in_turn(sides: Mapping[str, Side], ids: Sequence[int], n_written: int, repeats: int) -> dict[str, list[Turn]]:
    """Each side reads the prompt and writes on, one after the other, `repeats` times, after a short warm-up."""
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for side in sides.values():
        _turn(side, ids[:64], 2)
    for _ in range(repeats):
        for name, side in sides.items():
            turns[name].append(_turn(side, ids, n_written))
    return turns


def _turn(side: Side, ids: Sequence[int], n_written: int) -> Turn:
    begun = time.perf_counter()
    logits = first = side.prefill(ids)
    read = time.perf_counter()
    for _ in range(n_written):
        logits = side.decode(int(logits.argmax()))
    written = time.perf_counter()
    return Turn(len(ids) / (read - begun), n_written / (written - read), first)


def random_ids(n: int, vocab_size: int) -> list[int]:
    """The same ones each time."""
    ids: list[int] = torch.randint(vocab_size, (n,), generator=torch.Generator().manual_seed(1)).tolist()
    return ids


def beside_transformers(folder: Path, ids: Sequence[int], n_written: int, repeats: int) -> Figures:
    """Parts `prefill` and `decode`; without tokens to write only the first."""
    turns = in_turn({"longleaf": Ours(folder), "transformers": Theirs(folder)}, ids, n_written, repeats)
    ours, theirs = turns["longleaf"], turns["transformers"]
    difference = (ours[0].logits - theirs[0].logits).norm() / theirs[0].logits.norm()
    figures: Figures = {
        "prefill": {
            "tokens": len(ids),
            "longleaf_tokens_per_s": spread([turn.read_per_s for turn in ours]),
            "transformers_tokens_per_s": spread([turn.read_per_s for turn in theirs]),
            "ratio": judged([a.read_per_s / b.read_per_s for a, b in zip(ours, theirs, strict=True)], at_least=9),
            "relative_difference_of_logits": float(difference),
        }
    }
    if n_written:
        figures["decode"] = {
            "after_tokens": len(ids),
            "tokens": n_written,
            "longleaf_tokens_per_s": spread([turn.written_per_s for turn in ours]),
            "transformers_tokens_per_s": spread([turn.written_per_s for turn in theirs]),
            "ratio": judged([a.written_per_s / b.written_per_s for a, b in zip(ours, theirs, strict=True)], at_least=2),
        }
    return figures


def long_text(folder: Path, ids: Sequence[int], n_short: int, repeats: int) -> Figures:
    """Tokens per second over all of a long text, and over its first `n_short`."""
    ours = Ours(folder)
    ours.prefill(ids[:n_short])
    short, long = [], []
    for _ in range(repeats):
        short.append(n_short / seconds(lambda: ours.prefill(ids[:n_short])))
        long.append(len(ids) / seconds(lambda: ours.prefill(ids)))
    return {
        f"tokens_per_s_over_{n_short}": spread(short),
        f"tokens_per_s_over_{len(ids)}": spread(long),
        "ratio": judged([b / a for a, b in zip(short, long, strict=True)], at_least=0.75),
    }


@contextmanager
def recorded_products() -> Iterator[list[tuple[int, Tensor]]]:
    """Rows and weights of the decoder's matrix products made meanwhile, in order (a router's is not among them)."""
    made: list[tuple[int, Tensor]] = []
    product = DenseLinear.__call__

    def call(linear: DenseLinear, x: Tensor) -> Tensor:
        made.append((x.shape[0], linear.weight))
        return product(linear, x)

    with patch.object(DenseLinear, "__call__", call):
        yield made


@torch.inference_mode()
def over_products(folder: Path, ids: Sequence[int], repeats: int) -> Figures:
    """The time of a prefill over the time of its products alone."""
    ours = Ours(folder)
    with recorded_products() as products:
        ours.prefill(ids)
    inputs = {(rows, w.shape[1]): torch.randn(rows, w.shape[1], dtype=w.dtype) for rows, w in products}

    def multiply() -> None:
        for rows, weight in products:
            F.linear(inputs[rows, weight.shape[1]], weight)

    multiply()
    whole, alone = [], []
    for _ in range(repeats):
        whole.append(seconds(lambda: ours.prefill(ids)))
        alone.append(seconds(multiply))
    return {
        "tokens": len(ids),
        "products": len(products),
        "prefill_s": spread(whole),
        "products_s": spread(alone),
        "ratio": judged([a / b for a, b in zip(whole, alone, strict=True)], at_most=1.5),
    }


def peak_while_reading(folder: Path, n_tokens: int, n_threads: int) -> Figures:
    """Peak memory of this process while it reads, loading left out, and the bytes of the reading."""
    torch.set_num_threads(n_threads)
    ours = Ours(folder)
    ids = random_ids(n_tokens, ours.model.config.vocab_size)
    forget_peak()
    ours.prefill(ids)
    return {"peak_bytes": memory_bytes("VmHWM"), "reading_bytes": ours.state.nbytes}


def memory(folder: Path, lengths: tuple[int, int], n_threads: int) -> Figures:
    """How much peak memory grows from one length to another, beside the reading itself."""
    short, long = (
        in_fresh_process("benchmarks.decoder", "--peak-of", n, "--weights", folder, "--threads", n_threads)
        for n in lengths
    )
    reading_growth = (long["reading_bytes"] - short["reading_bytes"]) / 1e6
    growth = (long["peak_bytes"] - short["peak_bytes"]) / 1e6
    return {
        f"peak_mb_at_{lengths[0]}": short["peak_bytes"] / 1e6,
        f"peak_mb_at_{lengths[1]}": long["peak_bytes"] / 1e6,
        "reading_growth_mb": reading_growth,
        "peak_growth_mb": judged([growth], at_most=round(reading_growth * 1.25 + 100, 1)),
    }


def int8(folder: Path, ids: Sequence[int], n_written: int, repeats: int) -> Figures:
    """The two kinds of int8 beside bf16."""
    sides = {"bf16": Ours(folder), "int8": Ours(folder, "int8"), "w8a8": Ours(folder, "w8a8")}
    turns = in_turn(sides, ids, n_written, repeats)
    figures: Figures = {}
    for name, side in sides.items():
        figures[name] = {
            "weights_without_embedding_mb": side.model.nbytes / 1e6,
            "prefill_tokens_per_s": spread([turn.read_per_s for turn in turns[name]]),
            "decode_tokens_per_s": spread([turn.written_per_s for turn in turns[name]]),
        }
        if name != "bf16":
            pairs = list(zip(turns[name], turns["bf16"], strict=True))
            decode = [a.written_per_s / b.written_per_s for a, b in pairs]
            figures[name]["prefill_over_bf16"] = spread([a.read_per_s / b.read_per_s for a, b in pairs])
            figures[name]["decode_over_bf16"] = judged(decode, at_least=1.6) if name == "int8" else spread(decode)
    return figures


def measure(folder: Path, shape: Mapping[str, int], sizes: Sizes, args: argparse.Namespace) -> Figures:
    """The parts that were asked for."""
    ids = random_ids(sizes.long, shape["vocab_size"])
    prompt = ids[: sizes.prompt]
    figures: Figures = {}
    if {"prefill", "decode"} & set(args.parts):
        n_written = sizes.written if "decode" in args.parts else 0
        # transformers takes its time over the mixture.
        repeats = min(args.repeats, 2) if args.shape == "moe" else args.repeats
        figures |= beside_transformers(folder, prompt, n_written, repeats)
    if "long" in args.parts:
        figures["long"] = long_text(folder, ids, sizes.prompt, args.repeats)
    if "products" in args.parts:
        figures["products"] = over_products(folder, prompt, args.repeats)
    if "memory" in args.parts:
        figures["memory"] = memory(folder, sizes.peaks, args.threads)
    if "int8" in args.parts:
        figures["int8"] = int8(folder, prompt, sizes.written, args.repeats)
    return figures


def parts(text: str) -> list[str]:
    """The names in a list with commas."""
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="dense")
    parser.add_argument("--parts", type=parts, default=list(PARTS), help="which, with commas; all by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs: no figure means anything"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)  # the process that part `memory` starts
    args = parser.parse_args()
    if args.peak_of:
        report(peak_while_reading(args.weights, args.peak_of, args.threads), as_json=True)
        return
    torch.set_num_threads(args.threads)
    shape = SHAPES[args.shape] | (TINY if args.quick else {})
    with tempfile.TemporaryDirectory() as work:
        save_random_jamba(Path(work), shape)
        figures = measure(Path(work), shape, QUICK if args.quick else Sizes(), args)
    about = {"shape": args.shape + " (tiny)" * args.quick, "dtype": "bfloat16", "repeats": args.repeats}
    report({"conditions": conditions(args.threads, "transformers") | about, **figures}, as_json=args.json)


if __name__ == "__main__":
    main()
