"""This decoder, transformers and llama.cpp on the same weights, on a CPU: reading, writing, keeping a state, memory.

    python -m benchmarks.against_others [--short] [--models llama,jamba,moe,real] [--save] [--json]

Asked is what a user of one machine without a GPU gets from each: tokens a second while a prompt is read and while an
answer is written, seconds and bytes to save what was read and to load it again, and the peak of memory.

llama  random weights in Llama's layers, d_model 1024, 8 layers
jamba  random weights in Jamba's layers, of the same width (the shape of `benchmarks.decoder`), dense
moe    the same with 16 experts in every second layer
real   the embedded reader, Qwen2.5-Coder 1.5B, in the 4-bit GGUF file that Longleaf and llama.cpp both run; its weights
       dequantised to bf16 for transformers, which computes no other way

What makes it fair: one checkpoint for all sides, written once more as GGUF (`random_gguf.py`) for llama.cpp; the same
number of threads, prompt, and number of tokens, greedy; each side in a process of its own which imports its own library
alone (`sides.py`); turns are taken, and ratios are those of the same turn. Seconds of reading and writing of llama.cpp
are those that its server reports. All sides write the same tokens but where rounding decides between two; how often
that is so is measured, each side choosing the token after the same text (of random weights, those in 16 bit). `goes on
same`: the tokens written after loading a state are those written before. All sides of a model are in memory together,
15 GB for the mixture.

What is not equal, and in whose favour: the wheel of llama.cpp is compiled for AVX2 and no more, as `built_for` in
the result says; Longleaf picks AVX-512 kernels where there are any, so it is measured a second time without them
("avx2"). Built from source for this very machine, llama.cpp may be faster than its wheel. Longleaf's files are checked
by a sum when loaded and written to the disk before saving ends; the others do neither. The memory of Longleaf and
transformers holds PyTorch, about 200 MB before any weight. llama.cpp spins while it waits for its threads: on a machine
with other work it loses more than the others do, so the load beforehand is among the conditions.
"""

import argparse
import gc
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoder import SHAPES, random_ids, save_random_jamba
from benchmarks.dequantised import dequantised
from benchmarks.experiment import COLOURS, Experiment, installed, options, refuse_to_save_part
from benchmarks.measuring import Figures, quiet_transformers, spread
from benchmarks.random_gguf import write_gguf
from benchmarks.sample import page_texts
from benchmarks.sides import Side
from longleaf.model.gguf_tokenizer import load_tokenizer, plain_ids

MODELS = ("llama", "jamba", "moe", "real")
MEASURES = {
    "read_per_s": "reading, tokens/s",
    "written_per_s": "writing, tokens/s",
    "save_s": "saving a state, s",
    "restore_s": "loading a state, s",
}


@dataclass(frozen=True)
class Sizes:
    """How much is read and written, and of what."""

    models: tuple[str, ...] = MODELS
    real: str = "qwen2.5-1.5b"
    prompt: int = 1024
    real_prompt: int = 512
    written: int = 65
    repeats: int = 3
    d_model: int = 1024
    d_ff: int = 4096
    vocab_size: int = 65_536
    compared_texts: int = 4
    compared_prompt: int = 256
    compared_tokens: int = 48


SHORT = Sizes(("jamba", "real"), "smollm2-135m", 256, 256, 33, 2, 512, 2048, 16_384, 2, 128, 32)


@dataclass(frozen=True)
class Contender:
    """A side before it is started. `form` says in which numbers the weights are; ratios are among equal groups."""

    name: str
    kind: str
    form: str
    path: Path
    avx2: bool = False
    group: str = ""

    def is_beside(self, other: "Contender") -> bool:
        """Whether the two are compared."""
        return (self.group or self.form) == (other.group or other.form)


def random_contenders(model: str, sizes: Sizes, seed: int, work: Path) -> list[Contender]:
    """Make a random checkpoint and both of its GGUF files."""
    # Wider than transformers draws: what comes out then depends on every layer, and a false one shows in the choices.
    shape = {"hidden_size": sizes.d_model, "intermediate_size": sizes.d_ff, "vocab_size": sizes.vocab_size}
    shape |= {"initializer_range": sizes.d_model**-0.5}  # type: ignore[dict-item]
    folder = work / model
    if model == "llama":
        _save_random_llama(folder, shape, seed)
    else:
        save_random_jamba(folder, SHAPES["dense" if model == "jamba" else model] | shape, seed)
    files = {}
    for kind in ("F16", "Q8_0"):
        files[kind] = work / f"{model}-{kind.lower()}.gguf"
        write_gguf(folder, files[kind], kind)
    return [
        Contender("longleaf", "longleaf", "16 bit", folder),
        Contender("transformers", "transformers", "16 bit", folder),
        Contender("llama.cpp", "llama.cpp", "16 bit", files["F16"]),
        Contender("longleaf", "longleaf", "Q8_0", files["Q8_0"]),
        Contender("longleaf avx2", "longleaf", "Q8_0", files["Q8_0"], avx2=True),
        Contender("llama.cpp", "llama.cpp", "Q8_0", files["Q8_0"]),
    ]


def _save_random_llama(folder: Path, shape: dict[str, Any], seed: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    quiet_transformers()
    torch.manual_seed(seed)
    heads = {"num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 1}  # Jamba's here
    LlamaForCausalLM(LlamaConfig(**shape, **heads)).to(torch.bfloat16).save_pretrained(folder)


def real_contenders(name: str, path: Path, work: Path) -> list[Contender]:
    """The embedded reader's own file, and its weights in bf16 for transformers."""
    folder = work / "real"
    dequantised(path).to(torch.bfloat16).save_pretrained(folder)
    gc.collect()
    return [
        Contender("longleaf", "longleaf", "4 bit", path, group=name),
        Contender("longleaf avx2", "longleaf", "4 bit", path, avx2=True, group=name),
        Contender("llama.cpp", "llama.cpp", "4 bit", path, group=name),
        Contender("transformers", "transformers", "16 bit", folder, group=name),
    ]


def in_turn(
    contenders: Sequence[Contender], ids: list[int], texts: Sequence[list[int]], sizes: Sizes, n_threads: int
) -> tuple[list[Figures], list[Figures], Figures]:
    """Rows of figures and of ratios of one model's contenders, and how far their tokens are the same on `texts`."""
    turns: list[list[Figures]] = [[] for _ in contenders]
    room = (max(len(ids) + sizes.written, sizes.compared_prompt + sizes.compared_tokens) // 256 + 1) * 256
    with ExitStack() as stack:
        sides = []
        for one in contenders:  # one after another: loading is not what is compared
            sides.append(stack.enter_context(Side(one.kind, one.path, n_threads, room, avx2=one.avx2)))
            sides[-1].turn(ids[:64], 4)
        for _ in range(sizes.repeats):
            for side, made in zip(sides, turns, strict=True):
                made.append(side.turn(ids, sizes.written))
        peaks = [side.peak_bytes() for side in sides]
        agreement = _agreement(contenders, sides, texts, sizes.compared_tokens)
    for made in turns:
        for turn in made:
            turn["read_per_s"] = len(ids) / turn["read_s"]
            turn["written_per_s"] = (sizes.written - 1) / turn["write_s"]
    rows = []
    for one, side, made, peak in zip(contenders, sides, turns, peaks, strict=True):
        row: Figures = {"side": one.name, "weights": one.form}
        row |= {measure: spread([turn[measure] for turn in made]) for measure in MEASURES}
        row |= {"state_mb": made[0]["state_bytes"] / 1e6, "peak_mb": peak / 1e6, "weights_mb": _size(one.path) / 1e6}
        rows.append(row | {"goes_on_same": all(turn["same"] for turn in made)} | side.loaded["about"])
    return rows, _ratios(contenders, turns, peaks), agreement


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) if path.is_dir() else path.stat().st_size


def _ratios(contenders: Sequence[Contender], turns: Sequence[Sequence[Figures]], peaks: Sequence[int]) -> list[Figures]:
    """Longleaf over the others where the weights have the same form: above 1 it is faster, or needs more memory."""
    rows = []
    for a, ours in enumerate(contenders):
        for b, theirs in enumerate(contenders):
            if ours.kind != "longleaf" or theirs.kind == "longleaf" or not ours.is_beside(theirs):
                continue
            pairs = list(zip(turns[a], turns[b], strict=True))
            row: Figures = {"side": f"{ours.name} / {theirs.name}", "weights": ours.form}
            for measure in MEASURES:
                faster = -1 if measure.endswith("_s") and not measure.endswith("per_s") else 1
                row[measure] = spread([(x[measure] / y[measure]) ** faster for x, y in pairs])
            rows.append(row | {"peak_mb": peaks[a] / peaks[b]})
    return rows


def _agreement(
    contenders: Sequence[Contender], sides: Sequence[Side], texts: Sequence[list[int]], n_tokens: int
) -> Figures:
    """How often two sides choose the same token after the same text, and how far they go on alike by themselves."""
    reference = next(i for i, one in enumerate(contenders) if one.kind == "llama.cpp")
    compared = [i for i, one in enumerate(contenders) if one.is_beside(contenders[reference]) and not one.avx2]
    chosen: dict[str, list[int]] = {contenders[i].name: [] for i in compared}
    alone: dict[str, list[int]] = {name: [] for name in chosen}
    for ids in texts:
        wanted = sides[reference].turn(ids, n_tokens)["tokens"]
        for i in compared:
            one, side = contenders[i], sides[i]
            chosen[one.name] += wanted if i == reference else side.choices(ids, wanted)
            tokens = wanted if i == reference else side.turn(ids, n_tokens)["tokens"]
            alike = (n for n, (x, y) in enumerate(zip(tokens, wanted, strict=True)) if x != y)
            alone[one.name].append(next(alike, n_tokens))
    pairs = (("longleaf", "llama.cpp"), ("transformers", "llama.cpp"), ("longleaf", "transformers"))
    shares = {
        f"{a}, {b}": sum(x == y for x, y in zip(chosen[a], chosen[b], strict=True)) / len(chosen[a]) for a, b in pairs
    }
    return {
        "texts": len(texts),
        "tokens": len(texts) * n_tokens,
        "same_choice": shares,
        "written_like_llama.cpp_until": {name: alone[name] for name in ("longleaf", "transformers")},
    }


def _flat(rows: Sequence[Figures]) -> list[Figures]:
    """Medians, for a table."""
    return [
        {key: value["median"] if isinstance(value, dict) else value for key, value in row.items() if key != "built_for"}
        for row in rows
    ]


def draw(run: Experiment, name: str, found: dict[str, Figures], measures: dict[str, str]) -> None:
    """A row of panels for each model; a bar says its value, and how many times Longleaf's of the same form it is."""
    height = 0.3 + sum(0.5 + 0.26 * len(figures["rows"]) for figures in found.values())
    with run.pictures(name, len(measures), len(found), width=4.6 * len(measures), height=height) as axes:
        for i, (model, figures) in enumerate(found.items()):
            rows = _flat(figures["rows"])
            places = range(len(rows), 0, -1)
            for j, (measure, title) in enumerate(measures.items()):
                axis = axes[i * len(measures) + j]
                bars = axis.barh(places, [row[measure] for row in rows])
                for bar, row in zip(bars, rows, strict=True):
                    bar.set(color=COLOURS[row["side"].split()[0]], alpha=0.6 if "avx2" in row["side"] else 1)
                axis.bar_label(bars, [_label(row, measure, rows) for row in rows], padding=3, fontsize=7)
                labels = [f"{row['side']}, {row['weights']}" for row in rows] if j == 0 else [""] * len(rows)
                axis.set_yticks(places, labels, fontsize=7)
                axis.tick_params("x", labelsize=7)
                axis.margins(x=0.3)  # room for what stands after the longest bar
                axis.set_title(f"{model}: {title}", fontsize=8, loc="left")


def _label(row: Figures, measure: str, rows: Sequence[Figures]) -> str:
    ours = [other for other in rows if other["side"] == "longleaf"]
    beside = next((other for other in ours if other["weights"] == row["weights"]), ours[0])
    value = f"{row[measure]:.3g}" if row[measure] < 1000 else f"{row[measure]:,.0f}"
    return value if row["side"] == "longleaf" else f"{value}  (×{row[measure] / beside[measure]:.2g})"


def models(text: str) -> list[str]:
    """The names in a list with commas."""
    names = text.split(",")
    if unknown := set(names) - set(MODELS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    return names


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--models", type=models, help="which, with commas; all by default, without moe if --short")
    args = parser.parse_args()
    refuse_to_save_part(parser, args, "models")
    torch.set_num_threads(args.threads)
    sizes = SHORT if args.short else Sizes()
    chosen = args.models or sizes.models
    real = installed(parser, sizes.real) if "real" in chosen else Path()  # before minutes are spent on the others
    run = Experiment("against-others", args, "transformers", "xllamacpp")
    run.conditions |= {"load_before": os.getloadavg()[0], "dtype": "bf16 activations; keys and values bf16, fp16"}
    run.conditions |= {"prompt_tokens": sizes.prompt, "prompt_tokens_real": sizes.real_prompt}
    run.conditions |= {"written_tokens": sizes.written, "repeats": sizes.repeats}
    found: dict[str, Figures] = {}
    for model in chosen:
        with tempfile.TemporaryDirectory() as name:
            if model == "real":
                ids = plain_ids(load_tokenizer(real), "\n".join(page_texts()))
                step = len(ids) // (sizes.compared_texts + 1)
                texts = [ids[step * i :][: sizes.compared_prompt] for i in range(1, sizes.compared_texts + 1)]
                contenders = real_contenders(sizes.real, real, Path(name))
                ids = ids[: sizes.real_prompt]
            else:
                ids = random_ids(sizes.prompt, sizes.vocab_size)
                texts = [ids[start:][: sizes.compared_prompt] for start in range(sizes.compared_texts)]
                contenders = random_contenders(model, sizes, args.seed, Path(name))
            rows, ratios, agreement = in_turn(contenders, ids, texts, sizes, args.threads)
        title = f"{sizes.real} ({model})" if model == "real" else f"{model}, d_model {sizes.d_model}, random weights"
        run.table(f"{title}: {len(ids):,} tokens read, {sizes.written} written, medians", _flat(rows))
        run.table("longleaf over others: above 1 is faster, and for memory more", _flat(ratios))
        found[model] = {"title": title, "rows": rows, "ratios": ratios, "agreement": agreement}
        same = [{"sides": pair, "same_choice": share} for pair, share in agreement["same_choice"].items()]
        run.table(f"the same token chosen after the same text, of {agreement['tokens']}", same)
    draw(run, "speed", found, {key: MEASURES[key] for key in ("read_per_s", "written_per_s")})
    state = {key: MEASURES[key] for key in ("save_s", "restore_s")}
    draw(run, "memory", found, {"peak_mb": "peak of memory, MB", **state})
    run.finish({"models": found})


if __name__ == "__main__":
    main()
