"""A SIMULATION of a model split over 1 to 8 GPUs: tokens a second and memory a device. Nothing of it ran on a GPU.

    python -m benchmarks.distributed [--short] [--device a100|h100] [--save] [--json]

Asked is which way of splitting suits which model and which link. Everything is worked out from a model's shape
(`longleaf.model.plan`) and the makers' figures of devices and links (`devices.py`); no line of Longleaf splits a model.

tensor    every matrix is cut into N; two all-reduces a layer (one more in a Mamba layer, before the norms of dt, B, C)
pipeline  N groups of layers; chunks of prompts, or groups of sequences, follow each other through them
expert    each device has all but the experts and X/N of these; it works on its own sequences and sends tokens to where
          their experts are: two all-to-alls a layer of experts; the router is even, the busiest device of random draws
          sets the pace

A step's time is the sum over its operations of the longest of three: matrix products, exponentials of the scan (which
bound it; reference measurements on a CPU say so too) and bytes of weights, keys, values and states; and the
communication, none of which is hidden behind other work.

Assumed, and the same for all models: matrix products reach 0.5 of the peak, and exponentials too (no public figure of
reading was at hand to check that); memory reaches 0.79 of its bandwidth, and 43 µs of a layer are shortened by no
splitting (launches, norms, what is too small to fill a device). The last two are set by two figures: gpt-fast's for
Llama-2 7B on one A100 and on eight; its other figures are predictions. No time for sampling or a scheduler, and none
lost by keys that do not fill their blocks. So the figures are what good software could come near to. "public figures"
compares them with what others published, good or bad, and "this machine" puts the same arithmetic, with rates measured
here, beside our decoder: the one part that is measured.

Where it is off: Mixtral on two to eight A100s in gpt-fast is slower than here, by a fifth to a half. The Jamba paper's
figure 3 is slower by two to fifteen times, and puts Jamba further before Mixtral. Neither its
software nor how it counts is known well enough to say why, so nothing was fitted to it.

There are 16 prompts of 8,192 tokens, read 2,048 at a time; 16 sequences write at that length, or one alone. Llama-2 70B
was trained for 4,096: its shape is computed all the same. Weights are bf16.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses

from benchmarks.context_memory import LLAMA_2_70B
from benchmarks.decoder import SHAPES, Ours, in_turn, random_ids, save_random_jamba
from benchmarks.devices import DEVICES, LINKS, Device, Link
from benchmarks.experiment import Experiment, options
from benchmarks.measuring import Figures, seconds
from longleaf.model import PUBLIC_MODELS, DecoderConfig
from longleaf.model.plan import count_parameters, kv_bytes_per_token, plan_memory

Split = Literal["tensor", "pipeline", "expert"]
SPLITS: tuple[Split, ...] = ("tensor", "pipeline", "expert")
COUNTS = (1, 2, 4, 8)
PROMPT_TOKENS, CHUNK_TOKENS, N_SEQUENCES = 8192, 2048, 16
WIDTH = 2  # bytes of an activation, and of a key or value
_DRAWS = 32
_COLOURS = {"tensor": "#17becf", "pipeline": "#ff7f0e", "expert": "#8c564b"}

MODELS = {
    "Jamba Mini": PUBLIC_MODELS["jamba2-mini"].config,
    "Jamba 3B": PUBLIC_MODELS["jamba2-3b"].config,
    "Mixtral 8x7B": PUBLIC_MODELS["mixtral-8x7b"].config,
    "Llama-2 70B": DecoderConfig.from_hf(LLAMA_2_70B),
}


@dataclass(frozen=True)
class Efficiency:
    """Shares of the peaks that are reached, and seconds of a layer whatever its size: assumptions."""

    compute: float = 0.5
    memory: float = 0.79
    exps: float = 0.5
    layer_s: float = 43e-6


@dataclass(frozen=True)
class Cluster:
    """N equal devices, all joined to all by one kind of link."""

    device: Device
    link: Link
    n: int = 1
    efficiency: Efficiency = Efficiency()

    def seconds(self, flops: float, size_bytes: float, exps: float = 0) -> float:
        """One operation on one device."""
        return max(
            flops / (self.device.flops * self.efficiency.compute),
            size_bytes / (self.device.bandwidth * self.efficiency.memory),
            exps / (self.device.exps * self.efficiency.exps),
        )


@dataclass(frozen=True)
class Step:
    """What goes through the layers at once.

    Args:
        n_sequences: S.
        n_tokens: Of all of them together.
        context: Keys that a token attends to, on average.
        writing: Whether each sequence reads one token and needs logits; else it is a chunk of a prompt.
        n_alike: Devices that do the same with sequences of their own, this one included.
    """

    n_sequences: int
    n_tokens: int
    context: float
    writing: bool
    n_alike: int = 1


@dataclass(frozen=True)
class Shares:
    """What part of each thing one device has; 1 is all of it."""

    queries: float = 1
    keys: float = 1
    channels: float = 1
    width: float = 1
    vocabulary: float = 1

    @classmethod
    def of(cls, config: DecoderConfig, n: int) -> "Shares":
        """Of N devices; what does not divide is rounded up, and a key head is copied to all who need it."""

        def part(size: int) -> float:
            return -(-size // n) / size if size else 1

        return cls(
            part(config.n_heads), part(config.n_kv_heads), part(config.d_inner), part(config.d_ff),
            part(config.vocab_size),
        )  # fmt: skip

    def attention(self, config: DecoderConfig) -> float:
        """Of an attention layer's weights."""
        heads = config.n_heads + config.n_kv_heads
        return (config.n_heads * self.queries + config.n_kv_heads * self.keys) / heads if heads else 1


@cache
def part_bytes(config: DecoderConfig, quantize: Literal["int8-experts"] | None = None) -> dict[str, int]:
    """Bytes of the weights by part, which add up to the planner's; what is fp32 among them is all Mamba's."""
    parts = {name: WIDTH * size for name, size in count_parameters(config).parts().items()}
    plain = plan_memory(config, 1).weights_bytes
    parts["mamba"] += plain - sum(parts.values())
    if quantize:
        parts["experts"] -= plain - plan_memory(config, 1, quantize=quantize).weights_bytes
    return parts


@cache
def busiest(n_experts: int, n_chosen: int, n_tokens: int, n: int) -> tuple[float, float]:
    """What an even router brings to the fullest of N devices: means of random draws, the same each time.

    Returns:
        Tokens that come to the busiest one, each counted for every expert that it goes through; and experts used on the
        one that uses most.
    """
    rng = np.random.default_rng(0)
    if n_tokens > 512:  # that one token may draw the same expert twice no longer matters
        counts = rng.multinomial(n_tokens * n_chosen, np.full(n_experts, 1 / n_experts), _DRAWS)
    else:
        chosen = rng.random((_DRAWS, n_tokens, n_experts)).argpartition(n_chosen - 1, -1)[..., :n_chosen]
        counts = np.stack([np.bincount(draw.ravel(), minlength=n_experts) for draw in chosen])  # (draws, X)
    devices = [counts[:, part] for part in np.array_split(np.arange(n_experts), n)]
    tokens = np.max([one.sum(1) for one in devices], 0).mean()
    used = np.max([(one > 0).sum(1) for one in devices], 0).mean()
    return float(tokens), float(used)


class Costs:
    """Seconds of a model's layers on one device of a cluster.

    Args:
        config: The shape.
        cluster: The devices.
        split: How the model is split over them.
        quantize: See `plan.Quantize`.
    """

    def __init__(
        self, config: DecoderConfig, cluster: Cluster, split: Split, quantize: Literal["int8-experts"] | None = None
    ) -> None:
        self.config, self.cluster, self.split = config, cluster, split
        self.bytes, self.sizes = part_bytes(config, quantize), count_parameters(config).parts()
        self.shares = Shares.of(config, cluster.n) if split == "tensor" else Shares()

    def mixer(self, kind: str, step: Step) -> float:
        """Attention or Mamba, with its communication."""
        c, shares, S, T = self.config, self.shares, step.n_sequences, step.n_tokens
        if kind == "attention":
            part = shares.attention(c) / len(c.attention_layers)
            projections = self.cluster.seconds(2 * T * self.sizes["attention"] * part, self.bytes["attention"] * part)
            read = S * step.context * kv_bytes_per_token(c) / len(c.attention_layers) * shares.keys
            return projections + self.cluster.seconds(
                4 * T * step.context * c.n_heads * c.head_dim * shares.queries, read
            ) + self._all_reduce(T * c.d_model)  # fmt: skip
        part = shares.channels / len(c.mamba_layers)
        state = S * (c.d_inner * c.d_state * 4 + (c.d_conv - 1) * c.d_inner * WIDTH) * shares.channels
        return (
            self.cluster.seconds(2 * T * self.sizes["mamba"] * part, self.bytes["mamba"] * part)
            + self.cluster.seconds(0, 2 * state, T * c.d_inner * c.d_state * shares.channels)
            + self._all_reduce(T * (c.dt_rank + 2 * c.d_state))
            + self._all_reduce(T * c.d_model)
        )

    def network(self, has_experts: bool, step: Step) -> float:
        """A feed-forward network or a mixture of experts, with its communication."""
        c, T, n = self.config, step.n_tokens, self.cluster.n
        if not has_experts:
            part = self.shares.width / (c.n_layers - sum(c.moe_layers))
            work = self.cluster.seconds(2 * T * self.sizes["dense"] * part, self.bytes["dense"] * part)
            return work + self._all_reduce(T * c.d_model)
        one = 1 / sum(c.moe_layers) / c.n_experts * self.shares.width
        apart = n if self.split == "expert" else 1
        tokens, used = busiest(c.n_experts, c.n_experts_per_token, T * step.n_alike, apart)
        work = self.cluster.seconds(2 * tokens * self.sizes["experts"] * one, self.bytes["experts"] * used * one)
        if self.split == "expert":
            sent = T * c.n_experts_per_token * c.d_model * WIDTH * (n - 1) / n
            return work + 2 * self.cluster.link.seconds(sent, n - 1)
        return work + self._all_reduce(T * c.d_model)

    def head(self, step: Step) -> float:
        """Logits, which only writing needs."""
        if not step.writing:
            return 0.0
        c, part = self.config, self.shares.vocabulary
        name = "embedding" if c.tie_embeddings else "output"
        work = self.cluster.seconds(2 * step.n_sequences * self.sizes[name] * part, self.bytes[name] * part)
        if self.split != "tensor":
            return work
        n = self.cluster.n
        return work + self.cluster.link.seconds(step.n_sequences * c.vocab_size * WIDTH * (n - 1) / n, n - 1)

    def layer(self, i: int, step: Step) -> float:
        """Layer i."""
        c, fixed = self.config, self.cluster.efficiency.layer_s
        return fixed + self.mixer(c.layer_kinds[i], step) + (self.network(c.moe_layers[i], step) if c.d_ff else 0)

    def stages(self, step: Step) -> list[float]:
        """Of each group of layers in a pipeline, with what it sends on; one group in any other split."""
        n = self.cluster.n if self.split == "pipeline" else 1
        times = [sum(self.layer(int(i), step) for i in part) for part in np.array_split(range(self.config.n_layers), n)]
        times[-1] += self.head(step)
        sent = self.cluster.link.seconds(step.n_tokens * self.config.d_model * WIDTH, 1)
        return [time + sent * (stage < n - 1) for stage, time in enumerate(times)]

    def _all_reduce(self, n_values: int) -> float:
        """In a ring: each device sends 2(N-1)/N of the values, in 2(N-1) steps."""
        n = self.cluster.n
        if self.split != "tensor" or n == 1:
            return 0.0
        return self.cluster.link.seconds(n_values * WIDTH * 2 * (n - 1) / n, 2 * (n - 1))


def reading_s(costs: Costs, n_prompts: int, prompt_tokens: int) -> float:
    """Seconds to read prompts, chunk after chunk; in a pipeline one chunk behind the other."""
    chunk = min(CHUNK_TOKENS, prompt_tokens)
    n_alike = min(costs.cluster.n, n_prompts) if costs.split == "expert" else 1
    stages = costs.stages(Step(1, chunk, prompt_tokens / 2, writing=False, n_alike=n_alike))
    n_rounds = prompt_tokens / chunk * -(-n_prompts // n_alike)
    return (n_rounds - 1) * max(stages) + sum(stages)


def writing_s(costs: Costs, n_sequences: int, context: float) -> float:
    """Seconds until each sequence has one token more."""
    n = costs.cluster.n
    groups = min(n, n_sequences) if costs.split != "tensor" else 1
    each = -(-n_sequences // groups)
    n_alike = groups if costs.split == "expert" else 1
    stages = costs.stages(Step(each, each, context, writing=True, n_alike=n_alike))
    return max(groups * max(stages), sum(stages)) if costs.split == "pipeline" else sum(stages)


def device_bytes(config: DecoderConfig, split: Split, n: int, n_sequences: int, context: int) -> int:
    """Memory of the device that needs most: weights, states of the sequences, and the planner's workspace, whole."""
    parts, shares = part_bytes(config), Shares.of(config, n)
    plan = plan_memory(config, context, chunk_tokens=CHUNK_TOKENS)
    own = plan.ssm_bytes + plan.conv_bytes
    if split == "tensor":
        of = {"attention": shares.attention(config), "mamba": shares.channels, "dense": shares.width}
        of |= {"experts": shares.width, "embedding": shares.vocabulary, "output": shares.vocabulary}
        weights = sum(size * of.get(name, 1) for name, size in parts.items())
        state = plan.kv_bytes * shares.keys + own * shares.channels
    elif split == "expert":
        weights = sum(parts.values()) - parts["experts"] * (1 - -(-config.n_experts // n) / config.n_experts)
        state, n_sequences = plan.state_bytes, -(-n_sequences // n)
    else:
        needs = []
        for stage, layers in enumerate(np.array_split(range(config.n_layers), n)):
            kinds = [config.layer_kinds[i] for i in layers]
            n_moe = sum(config.moe_layers[i] for i in layers)
            attention = kinds.count("attention") / max(1, len(config.attention_layers))
            mamba = kinds.count("mamba") / max(1, len(config.mamba_layers))
            moe = n_moe / max(1, sum(config.moe_layers))
            dense = (len(layers) - n_moe) / max(1, config.n_layers - sum(config.moe_layers))
            of = {"attention": attention, "mamba": mamba, "experts": moe, "routers": moe, "dense": dense}
            of |= {"embedding": stage == 0 or (config.tie_embeddings and stage == n - 1), "output": stage == n - 1}
            weights = sum(size * of.get(name, 1) for name, size in parts.items())  # the norms: all, they are tiny
            needs.append(weights + n_sequences * (plan.kv_bytes * attention + own * mamba))
        return int(max(needs)) + plan.workspace_bytes
    return int(weights + n_sequences * state) + plan.workspace_bytes


def possible(config: DecoderConfig, split: Split, n: int) -> bool:
    """Whether a model can be split so."""
    return {"tensor": True, "pipeline": n <= config.n_layers, "expert": n <= config.n_experts > 1}[split]


def simulate(name: str, device: Device, link: Link, split: Split, n: int) -> Figures:
    """One row: a model, a split, a link, a number of devices."""
    config = MODELS[name]
    costs = Costs(config, Cluster(device, link, n), split)
    needed = device_bytes(config, split, n, N_SEQUENCES, PROMPT_TOKENS)
    return {
        "model": name,
        "split": split,
        "link": link.name,
        "devices": n,
        "read_per_s": N_SEQUENCES * PROMPT_TOKENS / reading_s(costs, N_SEQUENCES, PROMPT_TOKENS),
        f"written_per_s_of_{N_SEQUENCES}": N_SEQUENCES / writing_s(costs, N_SEQUENCES, PROMPT_TOKENS),
        "written_per_s_of_1": 1 / writing_s(costs, 1, PROMPT_TOKENS),
        "gb_a_device": needed / 1e9,
        "fits": needed <= device.memory_bytes,
    }


def public_figures() -> list[Figures]:
    """Published figures beside the same worked out here."""
    rows: list[Figures] = []

    def row(what: str, source: str, public: float, simulated: float) -> None:
        rows.append(
            {"what": what, "source": source, "public": public, "simulated": simulated, "ratio": simulated / public}
        )

    mini, mixtral = (PUBLIC_MODELS[name].config for name in ("jamba2-mini", "mixtral-8x7b"))
    llama_70b, llama_7b = MODELS["Llama-2 70B"], PUBLIC_MODELS["llama-2-7b"].config
    a100, nvlink = DEVICES["a100"], LINKS["a100"][0]
    gpt_fast = {
        "Llama-2 7B": (llama_7b, {1: 104.9, 2: 168.84, 4: 254.02, 8: 328.43}),
        "Llama-2 70B": (llama_70b, {2: 21.32, 4: 38.01, 8: 62.5}),
        "Mixtral 8x7B": (mixtral, {2: 78.75, 4: 118.23, 8: 203.69}),
    }
    for name, (config, measured) in gpt_fast.items():
        for n, public in measured.items():
            simulated = 1 / writing_s(Costs(config, Cluster(a100, nvlink, n), "tensor"), 1, 100)
            note = ", set by it" if name == "Llama-2 7B" and n in (1, 8) else ""
            row(f"{name}: {n} × A100, one sequence, tokens/s", f"gpt-fast README{note}", public, simulated)

    # Both figures count the prompt: 512 written tokens alone would mean products far above the devices' peak.
    for what, n, prompts, prompt, quantize, published in (
        ("1 × A100, int8 experts, 16 × 8K", 1, 16, 8192, "int8-experts", (1700, 550)),
        ("4 × A100, 1 × 128K", 4, 1, 131_072, None, (1500, 500)),
    ):
        made = []
        for config in (mini, mixtral):
            costs = Costs(config, Cluster(a100, nvlink, n), "tensor", quantize)  # type: ignore[arg-type]
            time = reading_s(costs, prompts, prompt) + 512 * writing_s(costs, prompts, prompt + 256)
            made.append(prompts * (prompt + 512) / time)
        for name, public, simulated in zip(("Jamba", "Mixtral"), published, made, strict=True):
            row(f"{name}: {what}, all tokens/s", "arXiv:2403.19887, fig. 3, read off", public, simulated)
        row(f"Jamba over Mixtral: {what}", "arXiv:2403.19887, fig. 3", 3, made[0] / made[1])
    return rows


def this_machine(n_threads: int, prompt_tokens: int, seed: int) -> list[Figures]:
    """The same arithmetic with rates measured here, beside our decoder on random weights: this part is measured."""
    torch.set_num_threads(n_threads)
    x, weight = (torch.randn(rows, 2048).to(torch.bfloat16) for rows in (512, 4096))
    vector, out = torch.randn(1 << 18), torch.empty(1 << 18)
    big, copy = torch.ones(1 << 27, dtype=torch.uint8), torch.empty(1 << 27, dtype=torch.uint8)

    def best(work: Callable[[], object]) -> float:
        return min(seconds(work) for _ in range(20))

    device = Device(
        "this machine",
        flops=2 * 512 * 2048 * 4096 / best(lambda: F.linear(x, weight)),
        exps=len(vector) / best(lambda: torch.exp(vector, out=out)),
        memory_bytes=0,
        bandwidth=2 * len(big) / best(lambda: copy.copy_(big)),
        source="measured: a bf16 product, exponentials in the cache, a copy of 128 MiB (read and written)",
    )
    shape, n_written = SHAPES["dense"], 16
    config = DecoderConfig.from_hf(shape | {"model_type": "jamba"})
    cluster = Cluster(device, LINKS["a100"][0], 1, Efficiency(1, 1, 1, 0))
    costs = Costs(config, cluster, "tensor")
    with TemporaryDirectory() as folder:
        save_random_jamba(Path(folder), shape, seed)
        turns = in_turn({"longleaf": Ours(Path(folder))}, random_ids(prompt_tokens, config.vocab_size), n_written, 3)
    measured_read = max(turn.read_per_s for turn in turns["longleaf"])
    measured_write = max(turn.written_per_s for turn in turns["longleaf"])
    rates = {"gflops": device.flops / 1e9, "gexps": device.exps / 1e9, "gb_per_s": device.bandwidth / 1e9}
    chunk = 512
    read = chunk / sum(costs.stages(Step(1, chunk, prompt_tokens / 2, writing=False)))
    write = 1 / writing_s(costs, 1, prompt_tokens)
    return [
        {"what": what, **rates, "predicted": predicted, "measured": measured, "ratio": predicted / measured}
        for what, predicted, measured in (
            (f"reading {prompt_tokens} tokens, tokens/s", read, measured_read),
            ("writing, tokens/s", write, measured_write),
        )
    ]


def draw(run: Experiment, rows: list[Figures], device: Device) -> None:
    """Tokens a second over devices, for both links, and memory a device."""
    links = list(dict.fromkeys(row["link"] for row in rows))
    writing = f"written_per_s_of_{N_SEQUENCES}"
    for name, measure, title in (("reading", "read_per_s", "read"), ("writing", writing, "written, 16 sequences")):
        with run.pictures(name, len(MODELS), width=4 * len(MODELS), height=4.4) as axes:
            for axis, model in zip(axes, MODELS, strict=True):
                for split in SPLITS:
                    for link, style in zip(links, ("-", ":"), strict=True):
                        line = [r for r in rows if (r["model"], r["split"], r["link"]) == (model, split, link)]
                        if line:
                            axis.plot([r["devices"] for r in line], [r[measure] for r in line], style, marker="o",
                                      markersize=4, color=_COLOURS[split], label=f"{split}, {link}")  # fmt: skip
                            large = [r for r in line if not r["fits"]]
                            axis.plot([r["devices"] for r in large], [r[measure] for r in large], "o", markersize=4,
                                      color="white", markeredgecolor=_COLOURS[split])  # fmt: skip
                one = next(r[measure] for r in rows if r["model"] == model and r["devices"] == 1)
                axis.plot(COUNTS, [one * n for n in COUNTS], color="0.8", zorder=0, label="N times one device")
                _count_axis(axis)
                axis.set_yscale("log", base=2)
                axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
                axis.set_title(f"{model}: tokens/s {title}", fontsize=9)
            axes[0].legend(fontsize=6, frameon=False)
            axes[0].set_ylabel(f"SIMULATED, {device.name}; nothing ran on a GPU\nwhite: would not fit")
    with run.pictures("memory", len(MODELS), width=4 * len(MODELS), height=4.2) as axes:
        for axis, model in zip(axes, MODELS, strict=True):
            for split in SPLITS:
                line = [r for r in rows if (r["model"], r["split"], r["link"]) == (model, split, links[0])]
                if line:
                    axis.plot([r["devices"] for r in line], [r["gb_a_device"] for r in line], marker="o",
                              linestyle=":" if split == "pipeline" else "-",  # it lies on that of tensor
                              color=_COLOURS[split], label=split)  # fmt: skip
            axis.axhline(device.memory_bytes / 1e9, color="0.5", linestyle="--", label="what one device has")
            _count_axis(axis)
            axis.set_ylim(bottom=0)
            axis.set_title(f"{model}: GB a device, 16 × 8K tokens", fontsize=9)
        axes[0].legend(fontsize=7, frameon=False)
        axes[0].set_ylabel("WORKED OUT, not measured")


def _count_axis(axis: object) -> None:
    axis.set_xscale("log", base=2)  # type: ignore[attr-defined]
    axis.set_xticks(COUNTS, COUNTS)  # type: ignore[attr-defined]
    axis.set_xlabel("devices")  # type: ignore[attr-defined]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--device", choices=sorted(DEVICES), default="a100")
    args = parser.parse_args()
    run = Experiment("distributed" + ("" if args.device == "a100" else f"-{args.device}"), args, "transformers")
    device, links = DEVICES[args.device], LINKS[args.device]
    rows = [
        simulate(name, device, link, split, n)
        for name, config in MODELS.items()
        for link in links
        for split in SPLITS
        for n in COUNTS
        if possible(config, split, n)
    ]
    public = public_figures()
    machine = this_machine(args.threads, 512 if args.short else 2048, args.seed)
    run.table(f"SIMULATED, {device.name}: nothing of this ran on a GPU", rows)
    run.table("public figures beside the simulation", public)
    run.table("this machine: predicted from measured rates, and measured", machine)
    draw(run, rows, device)
    run.finish(
        {
            "simulation": "worked out from shapes and makers' figures; nothing of it ran on a GPU",
            "device": {"name": device.name, "source": device.source},
            "links": [{"name": link.name, "source": link.source} for link in links],
            "assumed": asdict(Efficiency()),
            "rows": rows,
            "public": public,
            "this_machine": machine,
        }
    )


if __name__ == "__main__":
    main()
