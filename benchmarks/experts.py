"""Mixture of experts: which experts real text is sent to, what the mixture costs, and what uneven routing does.

    python -m benchmarks.experts [--short] [--seed N] [--threads N] [--save] [--json]

routing    A small hybrid with a mixture in every second layer (8 experts, two to a token) is trained on bytes of
           tables, prose and code (`benchmarks.expert_texts`), as many of each, once with the loss that keeps the load
           even (Fedus et al. 2021, arXiv:2101.03961, section 2.2, over both choices) and once without. Then it is
           loaded as any checkpoint is, and the decoder's routers are watched while text that was held out goes through
           them: the load by expert, layer and kind, its entropy, which experts are chosen together, and how far apart
           the kinds are. Two halves of each kind, every other 256 bytes, are compared too: what they differ by is
           chance. The same model before training is a row of its own: random routers send different kinds to different
           experts as well, because their bytes differ
cost       The mixture (16 experts, two to a token, as Jamba has them) beside dense models with as many parameters in
           use for a token, and with as many in all; one decoder, in turns, random weights
imbalance  The mixture's routers are forced by a bias: all tokens to one pair, evenly round, and left alone. One machine
           that holds all experts; where experts lie on several devices, uneven load leaves devices idle, and that is
           not measured here

What it does not show: how the routers of a large model divide text. This one has a few million parameters and saw about
a megabyte for a few minutes; no trained mixture is at hand that fits here.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor, nn

from benchmarks import expert_speed
from benchmarks.experiment import Experiment, options
from benchmarks.expert_texts import KINDS, PIECE, Texts, load
from benchmarks.measuring import Figures
from benchmarks.small_models import imbalance, router_outputs
from longleaf.model import DecoderConfig, load_model
from longleaf.model.kernels import Kernels
from longleaf.model.layers import MixtureOfExperts
from longleaf.model.training import TrainableDecoder

N_EXPERTS = 8
TOP = 2
BALANCE = 0.01
PEAK_RATE = 2e-3


@dataclass(frozen=True)
class Sizes:
    """How much is trained and measured.

    Attributes:
        d_model: Of the model that is trained; its experts are twice as wide.
        steps: Of training.
        batch: Pieces in a step, a third of each kind.
        length: Bytes in a piece.
        watched: Held-out bytes of each kind that the routers are watched on, at most.
        speed_d_model: Of the models whose speed is measured.
        prompt: Tokens read there.
        written: Tokens written there.
        repeats: Turns there.
    """

    d_model: int = 128
    steps: int = 400
    batch: int = 9
    length: int = 256
    watched: int = 16_384
    speed_d_model: int = 512
    prompt: int = 2048
    written: int = 32
    repeats: int = 5


SHORT = Sizes(
    d_model=64, steps=60, batch=6, length=128, watched=4096, speed_d_model=256, prompt=1024, written=16, repeats=3
)


def shape(d_model: int) -> DecoderConfig:
    """One block of Jamba's, narrow, over bytes."""
    return DecoderConfig.from_hf(
        {
            "model_type": "jamba",
            "vocab_size": 256,
            "hidden_size": d_model,
            "intermediate_size": 2 * d_model,
            "num_hidden_layers": 8,
            "num_attention_heads": d_model // 32,
            "num_key_value_heads": 1,
            "attn_layer_period": 8,
            "attn_layer_offset": 4,
            "num_experts": N_EXPERTS,
            "num_experts_per_tok": TOP,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
        }
    )


# Training


def train(model: TrainableDecoder, texts: Texts, sizes: Sizes, balance: float, seed: int) -> Figures:
    """Next-byte loss on as many pieces of each kind, AdamW, a cosine after a short rise.

    Args:
        model: Changed in place.
        texts: What is read.
        sizes: How much of it.
        balance: Weight of the balance loss.
        seed: Of the pieces.
    """
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    rise = max(1, sizes.steps // 20)
    curve = []
    begun = time.perf_counter()
    with router_outputs(model) as logits:
        for step in range(sizes.steps):
            through = min(1.0, (step + 1) / rise) * (1 + math.cos(math.pi * step / sizes.steps)) / 2
            optimizer.param_groups[0]["lr"] = PEAK_RATE * max(through, 0.05)
            ids = pieces(texts.train, sizes, rng)  # (batch, L + 1)
            said = model(ids[:, :-1])
            loss = F.cross_entropy(said.flatten(0, 1), ids[:, 1:].flatten())
            even = torch.stack([imbalance(layer, TOP) for layer in logits]).mean()
            (loss + balance * even).backward()
            logits.clear()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            curve.append(loss.item() / math.log(2))
    last = curve[-max(1, sizes.steps // 20) :]
    return {
        "first_bits_per_byte": curve[0],
        "last_bits_per_byte": sum(last) / len(last),
        "seconds": time.perf_counter() - begun,
    }


def pieces(text: Mapping[str, Tensor], sizes: Sizes, rng: torch.Generator) -> Tensor:
    """Pieces from anywhere, as many of each kind. (batch, length + 1)."""
    rows = []
    for row in range(sizes.batch):
        ids = text[KINDS[row % len(KINDS)]]
        start = int(torch.randint(len(ids) - sizes.length, (), generator=rng))
        rows.append(ids[start : start + sizes.length + 1])
    return torch.stack(rows)


# Watching the decoder


@contextmanager
def watched_routers() -> Iterator[list[tuple[MixtureOfExperts, Tensor]]]:
    """The decoder's mixtures as they are called, each with its router's probabilities. (T, X) fp32."""
    seen: list[tuple[MixtureOfExperts, Tensor]] = []
    mixture = MixtureOfExperts.__call__

    def call(network: MixtureOfExperts, x: Tensor, kernels: Kernels) -> Tensor:
        seen.append((network, F.softmax(F.linear(x, network.router).float(), dim=-1)))
        return mixture(network, x, kernels)

    with patch.object(MixtureOfExperts, "__call__", call):
        yield seen


def held_out(texts: Texts, kind: str, most: int) -> Tensor:
    """Held-out text of a kind from all over it: whole pieces, as many as there may be. (T,)."""
    parts = texts.test[kind].split(PIECE)
    wanted = max(1, most // PIECE)
    return torch.cat([parts[i * len(parts) // wanted] for i in range(wanted)] if wanted < len(parts) else parts)


@torch.inference_mode()
def routing_of(folder: Path, texts: Texts, watched: int) -> dict[str, Tensor]:
    """For each kind the probabilities of every token and layer: (layers, T, X). Pieces of 1,024, from nothing each."""
    model = load_model(folder, dtype=torch.float32)
    found = {}
    for kind in KINDS:
        ids = held_out(texts, kind, watched).tolist()
        chunks = []
        for start in range(0, len(ids), 1024):
            with watched_routers() as seen:
                model.prefill(ids[start : start + 1024], model.new_state())
            chunks.append(torch.stack([probabilities for _, probabilities in seen]))  # (layers, T, X)
        found[kind] = torch.cat(chunks, dim=1)
    return found


def load_of(probabilities: Tensor) -> Tensor:
    """The share of the choices that each expert got: (layers, T, X) -> (layers, X)."""
    chosen = F.one_hot(probabilities.topk(TOP, dim=-1).indices, N_EXPERTS).sum(2)  # (layers, T, X)
    return chosen.float().mean(1) / TOP


def together(probabilities: Tensor) -> Tensor:
    """How often two experts are chosen together, over how often they would be by their loads alone: (layers, X, X).

    By their loads alone: the pair's two places filled independently, never twice by one expert.
    """
    chosen = F.one_hot(probabilities.topk(TOP, dim=-1).indices, N_EXPERTS).sum(2).float()  # (layers, T, X)
    pairs = torch.einsum("ltx,lty->lxy", chosen, chosen) / chosen.shape[1]
    load = chosen.mean(1) / TOP
    expected = load[:, :, None] * load[:, None, :]
    off = 1 - torch.eye(N_EXPERTS)
    expected = expected * off
    expected = TOP * (TOP - 1) * expected / expected.sum((1, 2), keepdim=True)
    return pairs * off / expected.clamp_min(1e-9)


def entropy(shares: Tensor) -> Tensor:
    """Over its greatest: 1 where all shares are the same, 0 where one has all. (..., X) -> (...)."""
    return torch.special.entr(shares).sum(-1) / math.log(shares.shape[-1])


def apart(a: Tensor, b: Tensor) -> float:
    """Of the choices, the share that would have to change to make one load the other; mean over layers."""
    return float((a - b).abs().sum(-1).mean() / 2)


def explained_by_byte(probabilities: Tensor, ids: Tensor) -> float:
    """Of the first choice's entropy the share that the byte alone explains: mutual information, mean over layers."""
    shares = []
    for layer in probabilities:
        first = F.one_hot(layer.argmax(-1), N_EXPERTS).float()  # (T, X)
        joint = torch.zeros(256, N_EXPERTS).index_add(0, ids, first) / len(ids)
        expert, byte = joint.sum(0), joint.sum(1)
        h = torch.special.entr(expert).sum()
        information = h + torch.special.entr(byte).sum() - torch.special.entr(joint).sum()
        shares.append(float(information / h) if h > 1e-6 else 1.0)
    return sum(shares) / len(shares)


def described(probabilities: Mapping[str, Tensor], texts: Texts, watched: int) -> Figures:
    """What the routers did, in figures."""
    loads = {kind: load_of(each) for kind, each in probabilities.items()}
    halves = {}
    for kind, each in probabilities.items():
        parts = each.split(256, dim=1)
        halves[kind] = [load_of(torch.cat(parts[first::2], dim=1)) for first in (0, 1)]
    every = torch.cat([probabilities[kind] for kind in KINDS], dim=1)  # (layers, T, X)
    ids = torch.cat([held_out(texts, kind, watched) for kind in KINDS])
    pairs = [(a, b) for i, a in enumerate(KINDS) for b in KINDS[i + 1 :]]
    return {
        "load": {kind: _rounded(load) for kind, load in loads.items()},
        "entropy_of_load": {kind: _rounded(entropy(load)) for kind, load in loads.items()},
        "entropy_of_load_of_all": _rounded(entropy(load_of(every))),
        "entropy_of_a_token": _rounded(entropy(every).mean(1)),
        "largest_load": float(load_of(every).max()),
        "chosen_together": _rounded(together(every)),
        "kinds_apart": {f"{a}, {b}": apart(loads[a], loads[b]) for a, b in pairs},
        "halves_apart": {kind: apart(*both) for kind, both in halves.items()},
        "explained_by_the_byte": explained_by_byte(every, ids),
    }


def _rounded(values: Tensor) -> list[float] | list[list[float]]:
    rounded: list[float] = values.double().mul(1e4).round().div(1e4).tolist()
    return rounded


@torch.inference_mode()
def held_out_bits(folder: Path, texts: Texts, watched: int) -> dict[str, float]:
    """Bits per byte by kind, by the decoder, in pieces of 1,024 from nothing each."""
    model = load_model(folder, dtype=torch.float32)
    figures = {}
    for kind in KINDS:
        ids, total, n = held_out(texts, kind, watched).tolist(), 0.0, 0
        for start in range(0, len(ids) - 1, 1024):
            piece = ids[start : start + 1025]
            logits = model.logits_of_all(piece[:-1], model.new_state())
            total += float(F.cross_entropy(logits, torch.tensor(piece[1:]), reduction="sum"))
            n += len(piece) - 1
        figures[kind] = total / n / math.log(2)
    return figures


def routing(work: Path, sizes: Sizes, seed: int) -> Figures:
    """The model before training and after both ways of training."""
    texts = load()
    config = shape(sizes.d_model)
    figures: Figures = {
        "text": texts.digest,
        "bytes_to_learn_from": {kind: len(texts.train[kind]) for kind in KINDS},
        "bytes_watched": {kind: len(held_out(texts, kind, sizes.watched)) for kind in KINDS},
    }
    for name, balance in (("untrained", None), ("balanced", BALANCE), ("not balanced", 0.0)):
        model = TrainableDecoder(config, seed=seed)
        figures["parameters"] = sum(weight.numel() for weight in model.parameters())
        trained = {} if balance is None else train(model, texts, sizes, balance, seed)
        folder = work / name.replace(" ", "-")
        model.save(folder)
        figures[name] = trained | {
            "held_out_bits_per_byte": held_out_bits(folder, texts, sizes.watched),
            **described(routing_of(folder, texts, sizes.watched), texts, sizes.watched),
        }
    return figures


# Tables and pictures


def routing_rows(figures: Figures) -> list[Figures]:
    """A row for each of the three models."""
    rows = []
    for name in ("untrained", "balanced", "not balanced"):
        found = figures[name]
        rows.append(
            {
                "model": name,
                **{f"bits_{kind}": bits for kind, bits in found["held_out_bits_per_byte"].items()},
                "entropy_of_load": sum(found["entropy_of_load_of_all"]) / len(found["entropy_of_load_of_all"]),
                "largest_load": found["largest_load"],
                "kinds_apart": sum(found["kinds_apart"].values()) / 3,
                "halves_apart": sum(found["halves_apart"].values()) / 3,
                "explained_by_the_byte": found["explained_by_the_byte"],
            }
        )
    return rows


def draw(run: Experiment, figures: Figures) -> None:
    """Loads by kind, and which experts are chosen together, as heat maps; speeds as bars."""
    found = figures["routing"]
    layers = [f"layer {2 * i + 1}" for i in range(len(found["balanced"]["entropy_of_a_token"]))]
    for name in ("untrained", "balanced", "not balanced"):
        with run.pictures(f"load-{name.replace(' ', '-')}", len(KINDS), width=11, height=3) as columns:
            for axes, kind in zip(columns, KINDS, strict=True):
                image = axes.imshow(found[name]["load"][kind], vmin=0, vmax=0.5, cmap="viridis", aspect="auto")
                axes.set(title=f"{kind}, {name}", xlabel="expert")
                axes.set_yticks(range(len(layers)), layers)
            image.axes.figure.colorbar(image, ax=columns, label="share of the choices (even: 0.125)")
    with run.pictures("together", len(layers), width=13, height=3.2) as columns:
        for axes, layer, values in zip(columns, layers, found["balanced"]["chosen_together"], strict=True):
            image = axes.imshow(values, vmin=0, vmax=3, cmap="magma")
            axes.set(title=layer, xlabel="expert", ylabel="expert")
        image.axes.figure.colorbar(image, ax=columns, label="chosen together, over chance")
    with run.pictures("speed", 2, width=11, height=3.6) as columns:
        for axes, key in zip(columns, ("prefill", "decode"), strict=True):
            names = list(figures["cost"])
            medians = [figures["cost"][name][f"{key}_tokens_per_s"]["median"] for name in names]
            axes.barh(names, medians, color=["#1f77b4", "#7f7f7f", "#bcbd22"])
            axes.invert_yaxis()
            axes.set(title=key, xlabel="tokens per second")


def speed_rows(figures: Figures) -> list[Figures]:
    """Medians only: a row for each model or routing."""
    return [
        {"which": name} | {key: value["median"] if isinstance(value, dict) else value for key, value in row.items()}
        for name, row in figures.items()
    ]


def measure(args: argparse.Namespace) -> None:
    """All three parts."""
    run = Experiment("experts", args, "transformers")
    sizes = SHORT if args.short else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cost = expert_speed.beside_dense(
            work, sizes.speed_d_model, sizes.prompt, sizes.written, sizes.repeats, args.seed
        )
        uneven = expert_speed.imbalance(work, sizes.prompt, sizes.written, sizes.repeats)
        figures: Figures = {"cost": cost, "imbalance": uneven, "routing": routing(work, sizes, args.seed)}
    run.table("The mixture beside dense models (medians)", speed_rows(cost))
    run.table("The mixture by routing (medians)", speed_rows(uneven))
    run.table("Routing of held-out text", routing_rows(figures["routing"]))
    draw(run, figures)
    run.finish(figures)


def main() -> None:
    args = options(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    measure(args)


if __name__ == "__main__":
    main()
