"""How much memory a context takes: what the planner says, beside what is measured and what Jamba's papers say.

    python -m benchmarks.context_memory [--short] [--seed N] [--threads N] [--save] [--json]

measured   hybrid, pure Transformer and pure Mamba of equal size (benchmarks.shapes), random bf16 weights, on this
           decoder: bytes of the weights, of the state per token and of the fixed part of the state, exact against
           longleaf.model.plan; and by how much a process grows while it reads, against the plan's state and workspace.
           Each length is read in a process of its own, since memory that was used once is seldom given back.
papers     the keys and values at 256K tokens of 16 bits, as the planner has them from the models' shapes, beside the
           tables of Jamba (arXiv:2403.19887, table 1) and Jamba 1.5 (arXiv:2408.12570, section 3). Their GB is 2**30
           bytes: with 10**9 their figures do not come out.
gpu        the longest context that one 80 GB GPU holds, by model and form of the weights, as the planner works it out.
           This is computed: none of these models ran here, and nothing ran on a GPU. The planner counts neither the
           process nor the CUDA context. What a model was trained for is a second limit and stands beside.

A long context is filled, not read: the state of a real reading of 2,048 tokens, whose keys and values are repeated up
to the last chunk, which is read. The state's bytes are those of a whole reading. The process may grow by more while all
is read, since a reading copies the last block of keys for each chunk and the allocator keeps the holes: one length is
read both ways to show how much.
"""

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.decoder import Ours, random_ids
from benchmarks.experiment import COLOURS, Experiment, options
from benchmarks.measuring import Figures, forget_peak, in_fresh_process, memory_bytes, report
from benchmarks.shapes import SizedShape, equal_shapes, save_random
from longleaf.model import PUBLIC_MODELS, Decoder, DecoderConfig, DecoderState
from longleaf.model.plan import Quantize, count_parameters, kv_bytes_per_token, largest_context, plan_memory
from longleaf.model.state import KVCache

CONTEXTS = (1024, 4096, 16_384, 65_536, 131_072, 262_144)
SHORT_CONTEXTS = (1024, 131_072)
WHOLE = 32_768
"""The length that is filled and read, to see how far apart they are."""
SHORT_WHOLE = 8192
READ_FIRST = 2048
CHUNK = 512
GPU_BYTES = 80 * 10**9
PAPER_TOKENS = 262_144

PAPER_KV_GB = {
    "llama-2-7b": (128, "arXiv:2403.19887, table 1"),
    "mistral-7b": (32, "arXiv:2403.19887, table 1"),
    "mixtral-8x7b": (32, "arXiv:2403.19887, table 1"),
    "jamba-v0.1": (4, "arXiv:2403.19887, table 1"),
    "jamba-1.5-mini": (4, "arXiv:2408.12570, section 3"),
    "jamba-1.5-large": (9, "arXiv:2408.12570, section 3"),
}
"""Keys and values at 256K tokens, 16 bit, in the papers' GB."""
PAPER_ON_80_GB = {"jamba-v0.1": 140_000, "mixtral-8x7b": 70_000, "llama-2-70b": 20_000}
"""Tokens on one A100 of 80 GB with int8 weights: arXiv:2403.19887, section 3.1; the last two are about."""

LLAMA_2_70B = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
}
"""Touvron et al. 2023, arXiv:2307.09288; the paper on Jamba compares with it, and `PUBLIC_MODELS` lacks it."""
ON_GPU = ("jamba2-3b", "jamba-v0.1", "mistral-7b", "mixtral-8x7b", "llama-2-7b", "llama-2-70b")
FORMS: Mapping[str, Quantize | None] = {"bf16": None, "int8": "int8"}


def filled(model: Decoder, state: DecoderState, n_tokens: int) -> DecoderState:
    """A state of so many tokens whose keys and values are those that were read, again and again.

    Args:
        model: Whose state it is.
        state: Of a real reading; stays as it is.
        n_tokens: May be more or fewer than were read. A Mamba layer's state stays the same: it has one size.
    """
    ids = state.token_ids
    longer = model.new_state()
    for there, here in zip(longer.layers, state.fork().layers, strict=True):
        if not isinstance(there, KVCache):
            there.conv, there.ssm = here.conv, here.ssm  # type: ignore[union-attr]
            continue
        assert isinstance(here, KVCache)
        while there.n_tokens < n_tokens:
            for keys, values in here.pieces():
                if not (room := n_tokens - there.n_tokens):
                    break
                there.append(keys[:, :room].transpose(0, 1), values[:, :room].transpose(0, 1))
    longer.note((ids * (n_tokens // len(ids) + 1))[:n_tokens])
    return longer


def peak(folder: Path, n_tokens: int, n_threads: int, *, whole: bool = False) -> Figures:
    """By how much this process grows as a model is loaded and a context of so many tokens is there.

    Args:
        folder: Of the weights.
        n_tokens: The last chunk of them is read.
        n_threads: Of the arithmetic.
        whole: Read all of them instead of filling.
    """
    torch.set_num_threads(n_threads)
    ids = random_ids(READ_FIRST, 256)
    begun = memory_bytes("VmRSS")
    model = Ours(folder).model
    loaded = memory_bytes("VmRSS")
    model.prefill(ids[:1], model.new_state())  # starts the threads
    started = memory_bytes("VmRSS")
    forget_peak()
    state = model.new_state()
    first = min(READ_FIRST, n_tokens - CHUNK)
    model.prefill(ids[:first], state)
    if whole:
        while state.n_tokens < n_tokens - CHUNK:
            model.prefill(ids[: min(READ_FIRST, n_tokens - CHUNK - state.n_tokens)], state)
    else:
        state = filled(model, state, n_tokens - CHUNK)
    model.prefill(ids[:CHUNK], state)
    highest = memory_bytes("VmHWM")
    return {
        "tokens": state.n_tokens,
        "process_bytes": begun,
        "loading_bytes": loaded - begun,
        "reading_bytes": highest - started,
        "peak_bytes": highest,
        "state_bytes": state.nbytes,
        "held_bytes": state.held_bytes,
    }


def peak_in_fresh_process(folder: Path, n_tokens: int, n_threads: int, *, whole: bool = False) -> Figures:
    """`peak` in a process of its own."""
    words = ["--peak-of", n_tokens, "--weights", folder, "--threads", n_threads]
    return in_fresh_process("benchmarks.context_memory", *words, *(["--whole"] if whole else []))


def exact(shape: SizedShape, folder: Path) -> Figures:
    """Bytes of the weights and of the state, planned and there; they have to be the same."""
    model = Ours(folder).model
    config = shape.config
    states = []
    for n in (1, 600):
        state = model.new_state()
        model.prefill(random_ids(n, config.vocab_size), state)
        states.append(state.nbytes)
    per_token = (states[1] - states[0]) / 599
    plan = plan_memory(config, 1)
    embedding = config.vocab_size * config.d_model * model.dtype.itemsize
    return {
        "model": shape.name,
        "parameters": shape.parameters.total,
        "weights_planned": plan.weights_bytes,
        # `Decoder.nbytes` leaves out an embedding that is not tied.
        "weights_there": model.nbytes + (0 if config.tie_embeddings else embedding),
        "per_token_planned": kv_bytes_per_token(config),
        "per_token_there": per_token,
        "fixed_planned": plan.ssm_bytes + plan.conv_bytes,
        "fixed_there": states[0] - per_token,
    }


def reading(shape: SizedShape, folder: Path, n_tokens: int, n_threads: int, *, whole: bool = False) -> Figures:
    """By how much a process grows as it reads, beside the plan."""
    plan = plan_memory(shape.config, n_tokens, chunk_tokens=CHUNK)
    there = peak_in_fresh_process(folder, n_tokens, n_threads, whole=whole)
    return {
        "model": shape.name,
        "tokens": n_tokens,
        "state_planned": plan.state_bytes,
        "state_there": there["state_bytes"],
        "workspace_planned": plan.workspace_bytes,
        "growth_there": there["reading_bytes"],
        "growth_beyond_state": there["reading_bytes"] - there["state_bytes"],
        "growth_over_plan": there["reading_bytes"] / (plan.state_bytes + plan.workspace_bytes),
        "peak_of_process": there["peak_bytes"],
    }


def papers() -> list[Figures]:
    """Keys and values at 256K tokens from the shapes, beside the papers'."""
    rows = []
    for name, (gb, source) in PAPER_KV_GB.items():
        plan = plan_memory(PUBLIC_MODELS[name].config, PAPER_TOKENS)
        rows.append(
            {
                "model": name,
                "parameters_billions": count_parameters(PUBLIC_MODELS[name].config).total / 1e9,
                "planned_kv_gib": plan.kv_bytes / 2**30,
                "paper_gb": gb,
                "mamba_states_mib": (plan.ssm_bytes + plan.conv_bytes) / 2**20,
                "source": source,
            }
        )
    return rows


def on_gpu() -> list[Figures]:
    """The longest context on one 80 GB GPU, by model and form. Computed."""
    rows = []
    for name in ON_GPU:
        config = PUBLIC_MODELS[name].config if name in PUBLIC_MODELS else DecoderConfig.from_hf(LLAMA_2_70B)
        for form, quantize in FORMS.items():
            weights = plan_memory(config, 1, quantize=quantize).weights_bytes
            untrained = replace(config, max_context_tokens=None)
            rows.append(
                {
                    "model": name,
                    "weights": form,
                    "weights_gb": weights / 1e9,
                    "tokens_in_80_gb": largest_context(untrained, GPU_BYTES, quantize=quantize).tokens,
                    "trained_for": config.max_context_tokens,
                    "paper_tokens": PAPER_ON_80_GB.get(name) if form == "int8" else None,
                }
            )
    return rows


def draw(run: Experiment, shapes: Mapping[str, SizedShape], rows: list[Figures], fits: list[Figures]) -> None:
    """Bytes over context for the three, and the longest contexts as bars."""
    lengths = [2**power for power in range(10, 19)]
    with run.pictures("bytes", 2, width=11, height=4.4) as (state, process):
        for name, shape in shapes.items():
            plans = [plan_memory(shape.config, n, chunk_tokens=CHUNK) for n in lengths]
            points = [row for row in rows if row["model"] == name]
            tokens = [row["tokens"] for row in points]
            colour = COLOURS[name]
            state.plot(lengths, [plan.state_bytes / 1e6 for plan in plans], color=colour, label=f"{name}, planned")
            state.plot(tokens, [row["state_there"] / 1e6 for row in points], "o", color=colour)
            grown = [(plan.state_bytes + plan.workspace_bytes) / 1e6 for plan in plans]
            process.plot(lengths, grown, color=colour, label=f"{name}, planned")
            process.plot(tokens, [row["growth_there"] / 1e6 for row in points], "o", color=colour)
        for axes, title in ((state, "State of one sequence"), (process, "State and workspace: growth of the process")):
            axes.set(xscale="log", yscale="log", xlabel="context, tokens", ylabel="MB", title=title)
            axes.set_xticks(lengths[::2], [f"{n // 1024}K" for n in lengths[::2]])
            axes.minorticks_off()
            axes.legend(frameon=False, title="points: measured")
    with run.picture("gpu", width=8, height=4.4) as axes:
        names = list(ON_GPU)
        for offset, form in ((-0.2, "bf16"), (0.2, "int8")):
            tokens = [row["tokens_in_80_gb"] for row in fits if row["weights"] == form]
            at = [index + offset for index in range(len(names))]
            bars = axes.barh(at, [n / 1024 for n in tokens], 0.36, label=f"{form} weights, bf16 keys and values")
            axes.bar_label(bars, [f"{n // 1024:,}K" if n else "" for n in tokens], padding=3, fontsize=8)
            for y in (place for place, n in zip(at, tokens, strict=True) if not n):
                axes.text(1.1, y, f"does not fit in {form}", va="center", fontsize=8)
        trained = [next(row["trained_for"] for row in fits if row["model"] == name) / 1024 for name in names]
        axes.plot(trained, range(len(names)), "k|", markersize=22, label="trained for")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="thousands (1,024) of tokens", title="Longest context in 80 GB (computed)")
        axes.set_xlim(1, 1_000_000)
        axes.legend(frameon=False, fontsize=8)


def measure(args: argparse.Namespace) -> None:
    """All parts."""
    run = Experiment("context-memory", args, "transformers")
    shapes = equal_shapes()
    there, rows, both = [], [], []
    with tempfile.TemporaryDirectory() as work:
        for name, shape in shapes.items():
            folder = Path(work) / name
            save_random(folder, shape, args.seed)
            there.append(exact(shape, folder))
            contexts = SHORT_CONTEXTS if args.short else CONTEXTS
            rows += [reading(shape, folder, n, args.threads) for n in contexts]
            whole = SHORT_WHOLE if args.short else WHOLE
            filled_there = next((row for row in rows if row["model"] == name and row["tokens"] == whole), None)
            filled_there = filled_there or reading(shape, folder, whole, args.threads)
            read = reading(shape, folder, whole, args.threads, whole=True)
            both.append(
                {
                    "model": name,
                    "tokens": whole,
                    "growth_planned": read["state_planned"] + read["workspace_planned"],
                    "growth_filled": filled_there["growth_there"],
                    "growth_read": read["growth_there"],
                    "ratio": filled_there["growth_there"] / read["growth_there"],
                }
            )
    table, fits = papers(), on_gpu()
    run.table("Weights and state in bytes: planned, and there", there)
    columns = ("state_planned", "state_there", "workspace_planned", "growth_there")
    short = [{"model": row["model"], "tokens": row["tokens"]} | {k: row[k] / 1e6 for k in columns} for row in rows]
    run.table("State, and by how much a process grows while it reads, in MB", short)
    run.table("Growth of the process in bytes when the context is filled, and when it is read", both)
    run.table("Keys and values at 256K tokens, 16 bit", table)
    run.table("One 80 GB GPU, computed", fits)
    draw(run, shapes, rows, fits)
    run.finish(
        {
            "shapes": {name: shape.figures() for name, shape in shapes.items()},
            "exact": there,
            "reading": rows,
            "filled_and_read": both,
            "papers": table,
            "on_80_gb": fits,
        }
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)  # the processes that are started
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        report(peak(args.weights, args.peak_of, args.threads, whole=args.whole), as_json=True)
        return
    torch.set_num_threads(args.threads)
    measure(args)


if __name__ == "__main__":
    main()
