"""How much attention does a Mamba model need, and where: Jamba's design choices, tried on models that train in minutes.

    python -m benchmarks.layer_ratio --short
    python -m benchmarks.layer_ratio --parts recall,needle      # some of it; what is trained is kept and not done again
    python -m benchmarks.layer_ratio --save                     # all of it; hours, unless the parts have run

Asked, after Lieber et al. 2024 (arXiv:2403.19887, section 6), in parts:

recall      how many pairs of key and value a model tells apart: a hybrid with attention in one layer of four, pure
            Mamba with as small a state per layer, pure Mamba with one four times as large, and Transformers
longer      the same with five times as many steps: whether a state is too small, or the training was too short
ratio       attention to Mamba layers, 0:1 to 1:0, sixteen layers deep: recall of pairs
induction   the same models as in `recall`, on texts that come twice
needle      the same models, trained on texts of 64 tokens and asked in texts of up to 512
position    which of eight layers is the attention layer: recall of pairs
norms       RMSNorm of dt, B and C in Mamba layers, on and off: recall of pairs, with a high learning rate too
characters  bits per character of a real text: attention to Mamba, and experts on and off

Why it is fair: models of a part have the same width, depth and number of parameters (`small_models.py`), the same
texts, steps and test texts. In `recall`, `induction` and `needle` each shape has the better of two learning rates, by
the first seed's accuracy on the test texts, and that seed counts in the mean; the other parts have one rate for all.
Figures are means over seeds, ± the standard deviation between seeds.

What it can't show: these are models of some 50,000 to 430,000 parameters on made-up tasks. In `recall` pure Mamba's
state is small on purpose (64 channels × 4 values a layer). A low score there can have two reasons, and the part alone
can't tell them apart: the state is too small for the pairs, or so many steps do not teach the model to bind a value to
its key at all. A score near 1 / pairs means the second: the model knows which values came and guesses among them. Read
it together with `longer`, which trains five times as long and has larger states; what stays low where a larger state
does well is the state's doing. `--short` shows how soon the shapes learn and nothing about what a state holds.

Attention without positions (Jamba's) can't tell in which order tokens came but through what Mamba layers make of them.
A Transformer has no such layers, so that 1:0 is shown both without positions and, for a fair one, with rotary positions
as the Llama family has them.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from benchmarks.experiment import COLOURS, Experiment, options, refuse_to_save_part
from benchmarks.measuring import Figures
from benchmarks.small_models import Shape, Training, sized, trained
from benchmarks.small_tasks import task, text_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOUR = {
    "hybrid 1:3": Shape("mmam"),
    "mamba": Shape("mmmm"),
    "mamba, state × 4": Shape("mmmm", d_state=16),
    "transformer, RoPE": Shape("aaaa", rope=True),
    "transformer, no positions": Shape("aaaa"),
}
LONGER = {
    **{name: FOUR[name] for name in ("hybrid 1:3", "mamba", "mamba, state × 4")},
    "mamba, state × 4, no norms": replace(FOUR["mamba, state × 4"], norms=False),
    "transformer, RoPE": FOUR["transformer, RoPE"],
}
SIXTEEN = {
    "0:1": Shape("m" * 16),
    "1:15": Shape("m" * 8 + "a" + "m" * 7),
    "1:7": Shape("mmmmammm" * 2),
    "1:3": Shape("mmam" * 4),
    "1:1": Shape("ma" * 8),
    "1:0, RoPE": Shape("a" * 16, rope=True),
    "1:0, no positions": Shape("a" * 16),
}
POSITIONS = {f"layer {at}": Shape("m" * at + "a" + "m" * (7 - at)) for at in (0, 1, 2, 4, 6, 7)}
CHARACTERS = {
    "mamba": Shape("mmmmmmmm", d_model=48, d_state=8),
    "hybrid 1:7": Shape("mmmmammm", d_model=48, d_state=8),
    "hybrid 1:3": Shape("mmammmam", d_model=48, d_state=8),
    "hybrid 1:1": Shape("mamamama", d_model=48, d_state=8),
    "transformer, RoPE": Shape("aaaaaaaa", d_model=48, rope=True),
    "transformer, no positions": Shape("aaaaaaaa", d_model=48),
}
EXPERTS_LIKE = "hybrid 1:7"
STYLES = {
    "hybrid 1:3": (COLOURS["hybrid"], "-"),
    "mamba": (COLOURS["mamba"], "-"),
    "mamba, state × 4": (COLOURS["mamba"], "--"),
    "mamba, state × 4, no norms": (COLOURS["mamba"], ":"),
    "transformer, RoPE": (COLOURS["transformer"], "-"),
    "transformer, no positions": (COLOURS["transformer"], ":"),
}


@dataclass(frozen=True)
class Part:
    """Shapes that are compared on a task.

    Attributes:
        task: Of `small_tasks.py`.
        shapes: By name; `sized` as the one named in `like`.
        training: How; its rate is one of `rates`.
        like: Whose number of parameters all have.
        rates: Of which each shape takes its best.
        added: Shapes that are compared as they are, whatever their size.
    """

    task: str
    shapes: dict[str, Shape]
    training: Training
    like: str
    rates: tuple[float, ...] = (0.002, 0.004)
    added: dict[str, Shape] = field(default_factory=dict)

    def sized(self) -> dict[str, Shape]:
        """The shapes, of equal size, and those that are added as they are."""
        vocab_size = task(self.task).vocab_size
        like = self.shapes[self.like]
        return {name: sized(shape, like, vocab_size) for name, shape in self.shapes.items()} | self.added


def _with_experts(like: Shape) -> dict[str, Shape]:
    """The shape with a mixture in place of each network, for the same work per token or of the same size."""
    mixture = replace(like, n_experts=8, d_ff=like.d_ff // 2)
    vocab_size = task("characters").vocab_size
    return {
        "8 experts, same work": mixture,
        "8 experts, same size": sized(replace(like, n_experts=8), like, vocab_size),
    }


def _norms(like: Shape) -> dict[str, Shape]:
    return {"with norms": like, "without norms": replace(like, norms=False)}


PAIRS = (4, 8, 16, 32)
RECALL = Training(steps=1000, tokens=1024, rate=0, sizes=PAIRS)
PARTS: dict[str, Callable[[], list[Part]]] = {
    "recall": lambda: [Part("recall", FOUR, RECALL, "hybrid 1:3")],
    "longer": lambda: [Part("recall", LONGER, replace(RECALL, steps=5000), "hybrid 1:3", (0.004,))],
    "ratio": lambda: [Part("recall", SIXTEEN, replace(RECALL, steps=500), "1:7", (0.002,))],
    "induction": lambda: [Part("induction", FOUR, Training(1000, 1024, 0, (8, 16, 32, 64)), "hybrid 1:3")],
    "needle": lambda: [Part("needle", FOUR, Training(1200, 1024, 0, (64,)), "hybrid 1:3")],
    "position": lambda: [Part("recall", POSITIONS, replace(RECALL, steps=500), "layer 4", (0.003,))],
    "norms": lambda: [
        Part("recall", _norms(Shape("mmam")), replace(RECALL, steps=500), "with norms", (rate,))
        for rate in (0.004, 0.016)
    ],
    "characters": lambda: [
        Part(
            "characters",
            CHARACTERS,
            Training(500, 2048, 0, (256,)),
            EXPERTS_LIKE,
            (0.004,),
            added=_with_experts(CHARACTERS[EXPERTS_LIKE]),
        )
    ],
}
SHORT = Part(
    "recall",
    {name: FOUR[name] for name in ("hybrid 1:3", "mamba", "transformer, RoPE")},
    Training(steps=400, tokens=768, rate=0, sizes=(4, 8, 16)),
    "hybrid 1:3",
    (0.004,),
)


def measure(part: Part, seeds: Sequence[int], fresh: bool, say: Callable[[str], None]) -> list[Figures]:
    """A row for each shape: size, learning rate, and accuracy by test size with the spread over seeds."""
    vocab_size = task(part.task).vocab_size
    rows = []
    for name, shape in part.sized().items():
        rate = part.rates[0]
        if len(part.rates) > 1:
            scores = {}
            for tried in part.rates:
                training = replace(part.training, rate=tried)
                scores[tried] = _score(trained(part.task, shape, training, seeds[0], fresh=fresh), training)
                say(f"{part.task}: {name}, rate {tried}: {scores[tried]:.3f}")
            rate = max(scores, key=lambda one: scores[one])
        training = replace(part.training, rate=rate)
        runs = []
        for seed in seeds:
            runs.append(
                trained(part.task, shape, training, seed, fresh=fresh and (len(part.rates) == 1 or seed != seeds[0]))
            )
            say(f"{part.task}: {name}, seed {seed}: {_score(runs[-1], training):.3f} in {runs[-1]['seconds']:.0f} s")
        rows.append(
            {
                "shape": name,
                "layers": shape.layers,
                "parameters": shape.parameters(vocab_size),
                "active_parameters": shape.active_parameters(vocab_size),
                "mamba_state_values": shape.state_values(),
                "rate": rate,
                "seeds": list(seeds),
                "accuracy": _by_size(runs, "accuracy"),
                "bits": _by_size(runs, "bits"),
                "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
                "trained": _distinct(run["trained"] for run in runs),
            }
        )
    return rows


def _distinct(conditions: Iterable[Figures]) -> list[Figures]:
    """What was trained before was not trained under the conditions of this run."""
    return [json.loads(one) for one in dict.fromkeys(json.dumps(each) for each in conditions)]


def _score(figures: Figures, training: Training) -> float:
    """Mean accuracy at the sizes that were trained."""
    return statistics.mean(figures["accuracy"][str(size)] for size in training.sizes)


def _by_size(runs: Sequence[Figures], what: str) -> dict[str, Figures]:
    """Mean, standard deviation and all values, by test size."""
    by_size = {}
    for size in runs[0][what]:
        values = [run[what][size] for run in runs]
        by_size[size] = {
            "mean": round(statistics.mean(values), 4),
            "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
            "all": values,
        }
    return by_size


def shown(rows: Sequence[Figures], what: str) -> list[Figures]:
    """The rows of a printed table."""
    table = []
    for row in rows:
        line = {"shape": row["shape"], "parameters": row["parameters"]}
        if row["active_parameters"] != row["parameters"]:
            line["active"] = row["active_parameters"]
        line |= {"state": row["mamba_state_values"], "rate": row["rate"]}
        for size, figure in row[what].items():
            spread = "" if figure["sd"] is None else f"±{figure['sd']:.3f}"
            line[size] = f"{figure['mean']:.3f}{spread}"
        table.append(line)
    return table


def draw_by_size(axes: "Axes", rows: Sequence[Figures], xlabel: str, trained_up_to: int | None = None) -> None:
    """Accuracy over the task's size, a line for each shape."""
    for row in rows:
        sizes = [int(size) for size in row["accuracy"]]
        means = [figure["mean"] for figure in row["accuracy"].values()]
        spreads = [figure["sd"] or 0.0 for figure in row["accuracy"].values()]
        colour, style = STYLES.get(row["shape"], (None, "-"))
        axes.errorbar(
            sizes, means, yerr=spreads, label=row["shape"], color=colour, ls=style, marker="o", ms=4, capsize=3
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    if trained_up_to is not None:
        axes.axvline(trained_up_to, color="grey", lw=0.8, ls="--")
        axes.text(trained_up_to, 0.02, " trained up to here", color="grey", fontsize=8)
    axes.set(xlabel=xlabel, ylabel="share of right answers", ylim=(0, 1.03))
    axes.legend(fontsize=8)


def draw_bars(axes: "Axes", rows: Sequence[Figures], what: str, size: str, ylabel: str) -> None:
    """A bar for each shape, with a dot for each seed."""
    for x, row in enumerate(rows):
        figure = row[what][size]
        axes.bar(x, figure["mean"], yerr=figure["sd"] or 0.0, capsize=3, color=_bar_colour(row["layers"]), alpha=0.75)
        axes.scatter([x] * len(figure["all"]), figure["all"], s=9, color="black", zorder=3)
    axes.set_xticks(range(len(rows)), [row["shape"] for row in rows], rotation=25, ha="right", fontsize=8)
    axes.set_ylabel(ylabel)


def _bar_colour(layers: str) -> str:
    kinds = set(layers)
    return COLOURS["hybrid" if len(kinds) == 2 else "mamba" if kinds == {"m"} else "transformer"]


def draw(run: Experiment, name: str, parts: Sequence[Sequence[Figures]]) -> None:
    """The picture of a part."""
    rows = parts[0]
    if name in ("recall", "longer", "induction", "needle"):
        about = {
            "recall": ("pairs of key and value", None),
            "longer": ("pairs of key and value", None),
            "induction": ("tokens that come again", 64),
            "needle": ("tokens of the text", 64),
        }
        with run.picture(name) as axes:
            draw_by_size(axes, rows, *about[name])
    elif name == "norms":
        with run.pictures(name, len(parts), height=3.6) as several:
            for axes, part in zip(several, parts, strict=True):
                draw_bars(axes, part, "accuracy", "16", f"recall of 16 pairs, rate {part[0]['rate']}")
                axes.set_ylim(0, 1.03)
    elif name == "characters":
        with run.picture(name) as axes:
            draw_bars(axes, rows, "bits", "256", "bits per character, texts of 256")
    else:
        with run.picture(name) as axes:
            draw_bars(axes, rows, "accuracy", "32", "recall of 32 pairs")
            axes.set_ylim(0, 1.03)


def separation(rows: Sequence[Figures]) -> list[Figures]:
    """Where the hybrid recalls 95 % and pure Mamba less, whichever seeds of the two are compared."""
    hybrid, mamba = (next(row for row in rows if row["shape"] == name) for name in ("hybrid 1:3", "mamba"))
    return [
        {
            "pairs": int(size),
            "hybrid": ours["mean"],
            "mamba": theirs["mean"],
            "hybrid_lowest_seed": min(ours["all"]),
            "mamba_highest_seed": max(theirs["all"]),
            "apart": min(ours["all"]) >= 0.95 and min(ours["all"]) > max(theirs["all"]),
        }
        for (size, ours), theirs in zip(hybrid["accuracy"].items(), mamba["accuracy"].values(), strict=True)
    ]


def chart_recall(run: Experiment, rows: Sequence[Figures]) -> None:
    """For the app: the hybrid beside models of one kind only."""
    lines = {
        row["shape"]: [(int(size), figure["mean"]) for size, figure in row["accuracy"].items()]
        for row in rows
        if row["shape"] in ("hybrid 1:3", "mamba", "transformer, RoPE")
    }
    size, best = lines["hybrid 1:3"][-1]
    run.chart(
        "3-recall",
        "Pairs recalled by small models of equal size",
        x="pairs of key and value",
        y="share of right answers",
        lines=lines,
        found=f"Of {int(size)} pairs the hybrid recalls {best:.0%}, pure Mamba {lines['mamba'][-1][1]:.0%}; "
        f"mean over {len(rows[0]['accuracy'][str(size)]['all'])} trainings.",
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=3, help="how many, counted up from --seed")
    parser.add_argument("--fresh", action="store_true", help="train anew what has been trained before")
    args = parser.parse_args()
    refuse_to_save_part(parser, args, "parts", "seeds")
    names = ["recall"] if args.short else args.parts.split(",")
    for name in names:
        if name not in PARTS:
            parser.error(f"there is no part {name!r}; there are {', '.join(PARTS)}")
    run_parts(args, names)


def run_parts(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Train what is not trained yet, print and draw."""
    torch.set_num_threads(args.threads)
    run = Experiment("layer-ratio", args)
    result: Figures = {"text": text_source()} if "characters" in names else {}

    def say(line: str) -> None:
        if not args.json:
            run.console.print(line, highlight=False)

    for name in names:
        parts = [SHORT] if args.short else PARTS[name]()
        seeds = range(args.seed, args.seed + (1 if args.short else args.seeds))
        measured = [measure(part, seeds, args.fresh, say) for part in parts]
        for part, rows in zip(parts, measured, strict=True):
            what = "bits" if part.task == "characters" else "accuracy"
            run.table(f"{name}: {what} by size, mean over {len(seeds)} seeds ± standard deviation", shown(rows, what))
        result[name] = measured
        if name == "recall":
            result["separation"] = separation(measured[0])
            run.table("where the hybrid recalls 95 % and pure Mamba less, in every seed", result["separation"])
            chart_recall(run, measured[0])
        draw(run, name, measured)
    run.finish(result)


if __name__ == "__main__":
    main()
