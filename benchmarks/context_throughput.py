"""Speed over context: hybrid, pure Transformer and pure Mamba of equal size, on this decoder, 1K to 256K tokens.

    python -m benchmarks.context_throughput [--short] [--seed N] [--threads N] [--save] [--json]

Asked: how fast a long text is read and written on, when the first token comes, and what memory that takes, for Jamba's
mixture of one attention layer and seven Mamba layers beside models of one kind only.

Fair: the three have the same width, vocabulary and number of parameters within 2 %, and attention layers of the same
heads, grouped four to a kv head (`benchmarks.shapes`); they run in one decoder, with the same kernels, chunks of 512
tokens and bf16. The weights are random: speed does not depend on them. The models read the same text in turns of 1,024
tokens, so that a neighbour who is busy for a while slows all three.

prefill    up to 128K tokens every token is read (16K in a short run), and the time to a context is the sum of its
           turns; the logits of each turn's last token are in it, which makes it the time to the first token too. Beyond
           that (256K; 64K in a short run) the state is filled with keys and values that were read before, four turns
           are read at the middles of four equal parts, and each stands for its part: exact where a turn's time grows
           evenly with its position, as a causal decoder's does. `sampled over read` shows it where all was read too
decode     32 tokens one by one after each context, in turns
memory     the state's bytes, and the peak of a process that reads the last chunk (`benchmarks.context_memory`)

The cost model is t(n) = a·n + b·n², by least squares of the relative error. a / b is the context at which attention's
part of the time is as large as all the rest together; it grows with the width (the rest grows with the square of
d_model, attention with d_model), so that large models gain less at the same context than these small ones.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.context_memory import filled, peak_in_fresh_process
from benchmarks.decoder import Ours, random_ids
from benchmarks.experiment import COLOURS, Experiment, options
from benchmarks.measuring import Figures, judged, seconds, spread
from benchmarks.shapes import SizedShape, equal_shapes, save_random
from longleaf.model import Decoder, DecoderState
from longleaf.model.plan import plan_memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TURN = 1024
WARM = 64
PARTS = 4
CLAIM_FROM = 65_536
CLAIM = 3


@dataclass(frozen=True)
class Sizes:
    """What is read, and how often.

    Attributes:
        read: Contexts that are read whole; the longest of them is read once.
        sampled: Those beyond, longest last.
        again: How far the text is read again, for a spread.
        passes: How often that far, in all.
        written: Tokens written after each context.
        memory: Contexts whose peak is taken in a process of their own.
    """

    read: tuple[int, ...] = (1024, 4096, 8192, 16_384, 65_536, 131_072)
    sampled: tuple[int, ...] = (262_144,)
    again: int = 16_384
    passes: int = 3
    written: int = 32
    memory: tuple[int, ...] = (1024, 4096, 8192, 16_384, 65_536, 131_072, 262_144)


SHORT = Sizes(
    read=(1024, 4096, 8192, 16_384), sampled=(65_536,), again=4096, passes=2, written=16, memory=(16_384, 65_536)
)


@dataclass
class Runner:
    """One model as it reads the text.

    Attributes:
        shape: Its shape.
        model: With random weights.
        state: Of what it has read in this pass.
        turns: For each pass, seconds of each turn.
        decode: For each context, tokens per second, one for each round.
        state_bytes: For each context.
        sampled: For each position, seconds of a turn there.
    """

    shape: SizedShape
    model: Decoder
    state: DecoderState
    turns: list[list[float]] = field(default_factory=list)
    decode: dict[int, list[float]] = field(default_factory=dict)
    state_bytes: dict[int, int] = field(default_factory=dict)
    sampled: dict[int, float] = field(default_factory=dict)

    def read_s(self, tokens: int) -> list[float]:
        """Seconds from nothing to a context, in each pass that came so far."""
        n = tokens // TURN
        return [sum(turns[:n]) for turns in self.turns if len(turns) >= n]


def round_of_decode(runners: Sequence[Runner], states: Mapping[str, DecoderState], tokens: int, written: int) -> None:
    """Each writes on for a while, three times in turns."""
    for _ in range(3):
        for runner in runners:
            state = states[runner.shape.name].fork()
            token = int(runner.model.decode(1, state).argmax())  # copies the last block of keys, which the fork shares
            begun = time.perf_counter()
            for _ in range(written):
                token = int(runner.model.decode(token, state).argmax())
            runner.decode.setdefault(tokens, []).append(written / (time.perf_counter() - begun))


def read_in_turns(runners: Sequence[Runner], ids: Sequence[int], sizes: Sizes) -> None:
    """All passes over the text; the last is the long one, and its states are kept."""
    longest = sizes.read[-1]
    for number in range(sizes.passes):
        last = number == sizes.passes - 1
        for runner in runners:
            runner.state = runner.model.new_state()
            runner.turns.append([])
        for start in range(0, longest if last else sizes.again, TURN):
            for runner in runners:
                runner.turns[-1].append(_turn(runner, ids[start : start + TURN], runner.state))
            if last and start + TURN in sizes.read:
                for runner in runners:
                    runner.state_bytes[start + TURN] = runner.state.nbytes
                round_of_decode(runners, {r.shape.name: r.state for r in runners}, start + TURN, sizes.written)


def sample_beyond(runners: Sequence[Runner], ids: Sequence[int], sizes: Sizes) -> dict[int, dict[str, float]]:
    """Seconds to contexts that are not read whole: for each the models' by name."""
    beyond: dict[int, dict[str, float]] = {}
    begin = sizes.read[-1]
    done = {runner.shape.name: runner.read_s(begin)[0] for runner in runners}
    for tokens in sizes.sampled:
        step = (tokens - begin) // PARTS
        for position in (_whole_turns(begin + step * part + step // 2) for part in range(PARTS)):
            for runner in runners:
                runner.sampled[position] = _sampled_turn(runner, ids, position)
        for runner in runners:
            each = [runner.sampled[at] for at in sorted(runner.sampled) if begin <= at < tokens]
            done[runner.shape.name] += statistics.mean(each) * (tokens - begin) / TURN
        beyond[tokens] = dict(done)
        states = {runner.shape.name: filled(runner.model, runner.state, tokens) for runner in runners}
        for runner in runners:
            runner.state_bytes[tokens] = states[runner.shape.name].nbytes
        round_of_decode(runners, states, tokens, sizes.written)
        begin = tokens
    return beyond


def sampled_over_read(runners: Sequence[Runner], ids: Sequence[int], sizes: Sizes) -> Figures:
    """The second half of what was read, sampled like the rings beyond it, over its true time."""
    n = sizes.read[-1] // TURN
    step = (n - n // 2) // PARTS
    taken: dict[str, list[float]] = {runner.shape.name: [] for runner in runners}
    for part in range(PARTS):
        for runner in runners:
            at = (n // 2 + part * step + step // 2) * TURN
            taken[runner.shape.name].append(_sampled_turn(runner, ids, at))
    return {
        runner.shape.name: statistics.mean(taken[runner.shape.name]) * (n - n // 2) / sum(runner.turns[-1][n // 2 :])
        for runner in runners
    }


def fit(tokens: Sequence[int], taken_s: Sequence[float]) -> tuple[float, float]:
    """The a and b of t(n) = a·n + b·n², neither below 0, with the least squares of (t(n) - t) / t."""
    n, t = np.array(tokens, dtype=float), np.array(taken_s)
    columns = np.stack([n / t, n**2 / t], axis=1)
    (a, b), *_ = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)
    if b < 0:
        (a,), *_ = np.linalg.lstsq(columns[:, :1], np.ones_like(t), rcond=None)
        b = 0.0
    return float(a), float(b)


def cost_models(times: Mapping[str, Mapping[int, float]]) -> Figures:
    """The fits, how well they fit, and from where the hybrid is the faster."""
    figures: Figures = {}
    for name, taken in times.items():
        a, b = fit(list(taken), list(taken.values()))
        matters = b * max(taken) > 0.01 * a  # else what is left of noise
        figures[name] = {
            "a_us_per_token": a * 1e6,
            "b_ns_per_token_squared": b * 1e9,
            "attention_as_large_as_the_rest_at_tokens": round(a / b) if matters else None,
            "largest_relative_error": max(abs((a * n + b * n * n) / t - 1) for n, t in taken.items()),
        }
    for name in ("transformer", "mamba"):
        mine, other = fit_of(figures, "hybrid"), fit_of(figures, name)
        figures[f"hybrid_is_faster_than_{name}"] = overtakes(mine, other)
    return figures


def fit_of(figures: Figures, name: str) -> tuple[float, float]:
    """The same in seconds."""
    return figures[name]["a_us_per_token"] / 1e6, figures[name]["b_ns_per_token_squared"] / 1e9


def overtakes(mine: tuple[float, float], other: tuple[float, float]) -> str:
    """In words: where a·n + b·n² of the one is less than that of the other."""
    (a, b), (a2, b2) = mine, other
    if a <= a2 and b <= b2:
        return "at any context"
    if a >= a2 and b >= b2:
        return "at none"
    at = f"{(a - a2) / (b2 - b):,.0f} tokens"
    return f"from {at} on" if b < b2 else f"up to {at}"


def tables(
    runners: Sequence[Runner], beyond: Mapping[int, Mapping[str, float]], peaks: Mapping[tuple[str, int], int]
) -> list[Figures]:
    """A row for each context and model."""
    rows = []
    for tokens in sorted({*runners[0].state_bytes}):
        for runner in runners:
            name = runner.shape.name
            whole = tokens not in beyond
            taken = runner.read_s(tokens) if whole else [beyond[tokens][name]]
            plan = plan_memory(runner.shape.config, tokens)
            rows.append(
                {
                    "tokens": tokens,
                    "model": name,
                    "prefill_tokens_per_s": statistics.median(tokens / t for t in taken),
                    "first_token_s": statistics.median(taken),
                    "decode_tokens_per_s": statistics.median(runner.decode[tokens]),
                    "state_bytes": runner.state_bytes[tokens],
                    "state_planned": plan.state_bytes,
                    "peak_bytes": peaks.get((name, tokens)),
                    "read": "whole" if whole else "sampled",
                    "prefill_spread": spread([tokens / t for t in taken]),
                    "decode_spread": spread(runner.decode[tokens]),
                }
            )
    return rows


def ratios(rows: Sequence[Figures]) -> list[Figures]:
    """The hybrid over the other two, by context."""
    by = {(row["tokens"], row["model"]): row for row in rows}
    found = []
    for tokens in sorted({row["tokens"] for row in rows}):
        hybrid, transformer, mamba = (by[tokens, name] for name in ("hybrid", "transformer", "mamba"))
        state = transformer["state_bytes"] / hybrid["state_bytes"]
        planned = transformer["state_planned"] / hybrid["state_planned"]
        found.append(
            {
                "tokens": tokens,
                "prefill_over_transformer": hybrid["prefill_tokens_per_s"] / transformer["prefill_tokens_per_s"],
                "decode_over_transformer": hybrid["decode_tokens_per_s"] / transformer["decode_tokens_per_s"],
                "prefill_over_mamba": hybrid["prefill_tokens_per_s"] / mamba["prefill_tokens_per_s"],
                "decode_over_mamba": hybrid["decode_tokens_per_s"] / mamba["decode_tokens_per_s"],
                "transformer_state_over_hybrid": state,
                "state_ratio_over_plan": state / planned,
                "read": hybrid["read"],
            }
        )
    return found


def claims(found: Sequence[Figures]) -> Figures:
    """What the hybrid is for: at least so many times as fast from 64K on, and a state as small as planned."""
    figures: Figures = {
        f"prefill_over_transformer_at_{row['tokens']}": judged([row["prefill_over_transformer"]], at_least=CLAIM)
        | {"read": row["read"]}
        for row in found
        if row["tokens"] >= CLAIM_FROM
    }
    furthest = max(abs(row["state_ratio_over_plan"] - 1) for row in found)
    return figures | {"state_ratio_off_plan": judged([furthest], at_most=0.02)}


def draw(run: Experiment, rows: Sequence[Figures], models: Figures) -> None:
    """Prefill with the fits, decode, the time to the first token, and the state."""
    contexts = sorted({row["tokens"] for row in rows})
    line = np.geomspace(contexts[0], contexts[-1], 100)

    def plot(axes: "Axes", key: str, curve: Callable[[float, float], np.ndarray] | None = None) -> None:
        for name in ("hybrid", "transformer", "mamba"):
            mine = [row for row in rows if row["model"] == name]
            style = "o" if curve else "o-"
            axes.plot([r["tokens"] for r in mine], [r[key] for r in mine], style, color=COLOURS[name], label=name)
            for row in mine:
                if row["read"] == "sampled":
                    axes.plot(row["tokens"], row[key], "o", color="white", markersize=3)
            if curve:
                axes.plot(line, curve(*fit_of(models, name)), color=COLOURS[name], linewidth=1)
        axes.set(xscale="log", xlabel="context, tokens")
        axes.set_xticks(contexts, [f"{n // 1024}K" for n in contexts])
        axes.minorticks_off()
        axes.legend(frameon=False)

    with run.pictures("prefill", 2, width=11, height=4.4) as (speed, first):
        plot(speed, "prefill_tokens_per_s", lambda a, b: 1 / (a + b * line))
        speed.set(ylabel="tokens per second", title="Prefill from nothing", ylim=(0, None))
        plot(first, "first_token_s", lambda a, b: a * line + b * line**2)
        first.set(yscale="log", ylabel="seconds", title="Time to the first token; lines: a·n + b·n²")
    with run.picture("decode") as axes:
        plot(axes, "decode_tokens_per_s")
        axes.set(ylabel="tokens per second", title="Writing after so many tokens", ylim=(0, None))
    with run.picture("state") as axes:
        plot(axes, "state_bytes")
        axes.set(yscale="log", ylabel="bytes", title="State of one sequence")


def chart(run: Experiment, rows: Sequence[Figures], found: Sequence[Figures]) -> None:
    """For the app: the time to the first token, and the state."""
    last = found[-1]
    whole = max(row["tokens"] for row in rows if row["read"] != "sampled")
    read = next(one for one in found if one["tokens"] == whole)

    def lines(key: str, unit: float) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [(row["tokens"], row[key] / unit) for row in rows if row["model"] == name]
            for name in ("hybrid", "transformer", "mamba")
        }

    run.chart(
        "1-first-token",
        "Time to the first token",
        x="context, tokens",
        y="seconds",
        lines=lines("first_token_s", 1),
        found=f"{whole // 1024}K tokens the hybrid reads {read['prefill_over_transformer']:.1f} times as fast as the "
        "Transformer. What lies beyond is estimated from samples.",
        log_y=True,
    )
    run.chart(
        "2-state",
        "What is kept of a text",
        x="context, tokens",
        y="MB of 10⁶ bytes",
        lines=lines("state_bytes", 1e6),
        found=f"Of {last['tokens'] // 1024}K tokens the Transformer keeps {last['transformer_state_over_hybrid']:.1f} "
        "times as much as the hybrid.",
        log_y=True,
    )


def measure(args: argparse.Namespace) -> None:
    """The whole experiment."""
    run = Experiment("context-throughput", args, "transformers")
    sizes = SHORT if args.short else Sizes()
    shapes = equal_shapes()
    ids = random_ids(sizes.read[-1], 4096)
    peaks: dict[tuple[str, int], int] = {}
    with tempfile.TemporaryDirectory() as work:
        runners = []
        for name, shape in shapes.items():
            folder = Path(work) / name
            save_random(folder, shape, args.seed)
            for tokens in sizes.memory:
                peaks[name, tokens] = peak_in_fresh_process(folder, tokens, args.threads)["peak_bytes"]
            model = Ours(folder).model
            model.prefill(ids[:TURN], model.new_state())  # the first products start the threads
            runners.append(Runner(shape, model, model.new_state()))
        begun = time.perf_counter()
        read_in_turns(runners, ids, sizes)
        beyond = sample_beyond(runners, ids, sizes)
        checked = sampled_over_read(runners, ids, sizes)
        measured_s = time.perf_counter() - begun
    rows = tables(runners, beyond, peaks)
    times = {name: {row["tokens"]: row["first_token_s"] for row in rows if row["model"] == name} for name in shapes}
    models, found = cost_models(times), ratios(rows)
    run.table("Speed and memory by context", [{k: v for k, v in row.items() if "spread" not in k} for row in rows])
    run.table("Ratios", found)
    run.table("t(n) = a·n + b·n²", [{"model": name} | models[name] for name in shapes])
    draw(run, rows, models)
    chart(run, rows, found)
    run.finish(
        {
            "shapes": {name: shape.figures() for name, shape in shapes.items()},
            "rows": rows,
            "ratios": found,
            "cost_models": models,
            "sampled_over_read": checked,
            "claims": claims(found),
            "seconds_of_reading": measured_s,
        }
    )


def _turn(runner: Runner, ids: Sequence[int], state: DecoderState) -> float:
    return seconds(lambda: int(runner.model.prefill(ids, state).argmax()))


def _sampled_turn(runner: Runner, ids: Sequence[int], position: int) -> float:
    """Seconds of a turn after a filled state of so many tokens, and a few more, as in the middle of a text."""
    state = filled(runner.model, runner.state, position)
    runner.model.prefill(ids[:WARM], state)
    return _turn(runner, ids[:TURN], state)


def _whole_turns(position: int) -> int:
    return position // TURN * TURN


def main() -> None:
    args = options(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    measure(args)


if __name__ == "__main__":
    main()
