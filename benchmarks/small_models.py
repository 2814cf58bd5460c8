"""Small decoders of equal size, trained in minutes on one of `small_tasks.py`, with what came of each kept in a file.

Every model of a comparison has the same width, depth and number of parameters (within 2 %): what its mixers lack is
made up by wider feed-forward networks. All are trained alike: AdamW, the rate climbing for a twentieth of the steps,
held, and falling to zero over the last two fifths. Small sizes of a task come first and all sizes in the second half:
without this curriculum none of the models finds the larger ones in minutes.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Generator, Tensor, nn

from benchmarks.measuring import ROOT, Figures, conditions
from benchmarks.small_tasks import NOT_ASKED, Batch, Task, task
from longleaf.model.config import DecoderConfig
from longleaf.model.plan import count_parameters
from longleaf.model.training import TrainableDecoder

__all__ = ["Shape", "Training", "imbalance", "router_outputs", "sized", "trained"]

KEPT = ROOT / ".benchmarks" / "layer_ratio"
_VERSION = 1
"""Of tasks, shapes and training together: figures of another version are not taken up."""
_TOLERANCE = 0.02
_TEST_TOKENS = 32_768
"""Tokens of test texts for each size, at least 64 texts."""
_BALANCE = 0.01
"""Weight of the loss that keeps experts evenly used (Fedus et al. 2021, arXiv:2101.03961, section 2.2)."""


@dataclass(frozen=True)
class Shape:
    """What is compared.

    Attributes:
        layers: A letter for each layer: m is Mamba, a is attention.
        d_model: Width.
        d_state: State values of each Mamba channel.
        rope: Whether attention has rotary positions; Jamba's has none.
        norms: Whether dt, B and C are normalised in Mamba layers, as in Jamba.
        n_experts: Experts of each layer's network, two for a token; 1 is a dense network.
        d_ff: Width of a network or an expert; `sized` finds it.
    """

    layers: str
    d_model: int = 32
    d_state: int = 4
    rope: bool = False
    norms: bool = True
    n_experts: int = 1
    d_ff: int = 64

    def config(self, vocab_size: int) -> DecoderConfig:
        """The shape as the decoder has it, with two heads in attention."""
        n, D = len(self.layers), self.d_model
        return DecoderConfig(
            family="jamba",
            vocab_size=vocab_size,
            d_model=D,
            n_layers=n,
            layer_kinds=tuple("attention" if letter == "a" else "mamba" for letter in self.layers),
            moe_layers=(self.n_experts > 1,) * n,
            d_ff=self.d_ff,
            n_experts=self.n_experts,
            n_experts_per_token=min(2, self.n_experts),
            n_heads=2,
            n_kv_heads=2,
            head_dim=D // 2,
            rope_theta=10_000.0 if self.rope else None,
            d_inner=2 * D,
            d_state=self.d_state,
            d_conv=4,
            dt_rank=max(1, D // 16),
            mamba_norms=self.norms,
            tie_embeddings=True,
        )

    def parameters(self, vocab_size: int) -> int:
        """All of them."""
        return count_parameters(self.config(vocab_size)).total

    def active_parameters(self, vocab_size: int) -> int:
        """Those that one token goes through."""
        return count_parameters(self.config(vocab_size)).active

    def state_values(self) -> int:
        """Numbers that all Mamba layers' states hold together, whatever the length of the text."""
        return self.layers.count("m") * 2 * self.d_model * self.d_state


@dataclass(frozen=True)
class Training:
    """How a model is trained.

    Attributes:
        steps: Updates.
        tokens: Of a step's texts together, about.
        rate: Learning rate at its highest.
        sizes: Of the task, smallest first.
    """

    steps: int
    tokens: int
    rate: float
    sizes: tuple[int, ...]


def sized(shape: Shape, like: Shape, vocab_size: int) -> Shape:
    """The shape with the networks' width that gives it as many parameters as another.

    Raises:
        ValueError: No width does, within 2 %.
    """
    wanted = like.parameters(vocab_size)
    shapes = (replace(shape, d_ff=d_ff) for d_ff in range(4, 16 * shape.d_model, 2))
    best = min(shapes, key=lambda one: abs(one.parameters(vocab_size) - wanted))
    if abs(best.parameters(vocab_size) / wanted - 1) > _TOLERANCE:
        raise ValueError(f"{best} has {best.parameters(vocab_size):,} parameters where {wanted:,} are wanted")
    return best


def trained(name: str, shape: Shape, training: Training, seed: int, *, fresh: bool = False) -> Figures:
    """Train a model and test it, unless that was done before.

    Args:
        name: Of the task.
        shape: Of `sized`.
        training: How.
        seed: Of weights and texts; test texts are the same for all.
        fresh: Whether to train even so.

    Returns:
        `accuracy` and `bits` (cross entropy of an answer) by test size; `parameters`, `seconds` and the training `loss`
        at twenty points; when, where and by which commit it was `trained`.
    """
    settings = {"version": _VERSION, "task": name, "shape": asdict(shape), "training": asdict(training), "seed": seed}
    if source := task(name).source:
        settings["source"] = source
    text = json.dumps(settings, sort_keys=True)
    path = KEPT / f"{name}-{shape.layers}-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    if path.exists() and not fresh:
        figures: Figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        return figures
    where = conditions(torch.get_num_threads())
    figures = _train(task(name), shape, training, seed) | {"trained": where}
    KEPT.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".partial")
    partial_path.write_text(json.dumps({"settings": settings, "figures": figures}, indent=1), encoding="utf-8")
    partial_path.replace(path)
    return figures


def _train(task: Task, shape: Shape, training: Training, seed: int) -> Figures:
    begun = time.perf_counter()
    model = TrainableDecoder(shape.config(task.vocab_size), seed=seed)
    with torch.no_grad():
        # The usual 0.02 suits widths of a thousand: here what mixers add would drown which token it was, and none of
        # the models learns to recall for hundreds of steps.
        model.embed.weight.mul_(shape.d_model**-0.5 / model.embed.weight.std())
    optimizer = _optimizer(model, training.rate)
    rng = Generator().manual_seed(seed)
    losses, recent = [], []
    with router_outputs(model) as routed:
        for step in range(training.steps):
            for group in optimizer.param_groups:
                group["lr"] = training.rate * _schedule(step / training.steps)
            open_sizes = min(len(training.sizes), 1 + int(2 * len(training.sizes) * step / training.steps))
            size = training.sizes[int(torch.randint(open_sizes, (1,), generator=rng))]
            length = task.make(rng, 1, size).token_ids.shape[1]
            loss = F.cross_entropy(*_asked(model, task.make(rng, max(1, training.tokens // length), size)))
            recent.append(loss.item())
            for logits in routed:
                loss = loss + _BALANCE * imbalance(logits, min(2, shape.n_experts))
            routed.clear()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if (step + 1) % max(1, training.steps // 20) == 0:
                losses.append(round(sum(recent) / len(recent), 4))
                recent = []
    seconds = time.perf_counter() - begun
    accuracy, bits = {}, {}
    for size in task.test_sizes:
        accuracy[str(size)], bits[str(size)] = _test(model, task, size)
    return {
        "parameters": shape.parameters(task.vocab_size),
        "seconds": round(seconds, 1),
        "accuracy": accuracy,
        "bits": bits,
        "loss": losses,
    }


def _optimizer(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """Weight decay on matrices only: A_log is one by its shape and not by its meaning."""
    matrices, others = [], []
    for name, weight in model.named_parameters():
        (matrices if weight.dim() > 1 and not name.endswith(("A_log", "conv_weight")) else others).append(weight)
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))


def _schedule(done: float) -> float:
    return min(1.0, (done + 1e-3) / 0.05, 2.5 * (1 - done))


def _asked(model: TrainableDecoder, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits where something is asked (n, vocab_size), and the answers (n,)."""
    asked = batch.answers != NOT_ASKED
    return model.logits(model.hidden(batch.token_ids)[asked]), batch.answers[asked]


@torch.no_grad()
def _test(model: TrainableDecoder, task: Task, size: int) -> tuple[float, float]:
    """Share of right answers, and bits per answer."""
    rng = Generator().manual_seed(1_000_000 + size)  # the same texts for every model
    length = task.make_test(rng, 1, size).token_ids.shape[1]
    at_once = max(1, 4096 // length)
    right = total = 0
    nats = 0.0
    for _ in range(math.ceil(max(64, _TEST_TOKENS // length) / at_once)):
        logits, answers = _asked(model, task.make_test(rng, at_once, size))
        right += int((logits.argmax(-1) == answers).sum())
        nats += float(F.cross_entropy(logits, answers, reduction="sum"))
        total += len(answers)
    return round(right / total, 4), round(nats / total / math.log(2), 4)


@contextmanager
def router_outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """What the routers gave, layer by layer, since the list was last cleared: (tokens, X) each."""
    seen: list[Tensor] = []

    def note(seen: list[Tensor], module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
        seen.append(output)

    routers = [module for name, module in model.named_modules() if name.endswith(".router")]
    hooks = [router.register_forward_hook(partial(note, seen)) for router in routers]
    yield seen
    for hook in hooks:
        hook.remove()


def imbalance(logits: Tensor, chosen: int) -> Tensor:
    """1 where experts are evenly used, more where not: X·Σ (share of the choices)·(mean probability)."""
    probabilities = logits.float().softmax(-1)  # (tokens, X)
    picks = logits.topk(chosen, dim=-1).indices.flatten()
    share = picks.bincount(minlength=logits.shape[-1]) / len(picks)  # (X,)
    return logits.shape[-1] * (share * probabilities.mean(0)).sum()
