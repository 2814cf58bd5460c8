"""What a mixture of experts costs beside dense models, and what uneven routing does to its speed. See `experts`."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor

from benchmarks.decoder import Ours, in_turn, random_ids
from benchmarks.measuring import Figures, seconds, spread
from benchmarks.shapes import SizedShape, hybrid_shape, save_random
from longleaf.model import Decoder

N_EXPERTS = 16
TOP = 2
BATCH = 8
_FORCED = 1e4  # beside logits of a few units


def shapes(d_model: int) -> dict[str, SizedShape]:
    """The mixture with 16 experts in every second layer, two to a token, as Jamba has it; and two dense models.

    The dense ones have every feed-forward network of one width: 1.5 times an expert's, and 8.5 times, which are the
    parameters that a token goes through in the mixture, and all that it has, but for the routers.
    """
    dense = hybrid_shape(d_model).raw
    width = dense["intermediate_size"]
    experts = {
        "num_experts": N_EXPERTS,
        "num_experts_per_tok": TOP,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    }
    return {
        "mixture": SizedShape("mixture", {**dense, **experts}),
        "dense, equal active": SizedShape(
            "dense, equal active", {**dense, "intermediate_size": width * (1 + TOP) // 2}
        ),
        "dense, equal total": SizedShape(
            "dense, equal total", {**dense, "intermediate_size": width * (1 + N_EXPERTS) // 2}
        ),
    }


def beside_dense(work: Path, d_model: int, n_prompt: int, n_written: int, repeats: int, seed: int) -> Figures:
    """Tokens per second of the mixture and of the dense models, in turns."""
    sides = {}
    figures: Figures = {}
    for name, shape in shapes(d_model).items():
        folder = work / name.replace(", ", "-").replace(" ", "-")
        save_random(folder, shape, seed)
        sides[name] = Ours(folder)
        figures[name] = {"parameters": shape.parameters.total, "active": shape.parameters.active}
    turns = in_turn(sides, random_ids(n_prompt, 4096), n_written, repeats)
    for name in sides:
        figures[name] |= {
            "prefill_tokens_per_s": spread([turn.read_per_s for turn in turns[name]]),
            "decode_tokens_per_s": spread([turn.written_per_s for turn in turns[name]]),
        }
        if name != "mixture":
            pairs = list(zip(turns["mixture"], turns[name], strict=True))
            figures[name]["mixture_over_it_prefill"] = spread([a.read_per_s / b.read_per_s for a, b in pairs])
            figures[name]["mixture_over_it_decode"] = spread([a.written_per_s / b.written_per_s for a, b in pairs])
    return figures


def bias_of(routing: str, tokens: int, first: int) -> Tensor:
    """What is added to the router's logits: (tokens, X).

    Args:
        routing: `router`, which is left alone; `even`, where token i goes to experts 2i and 2i + 1; `one pair`, where
            all go to the first two.
        tokens: T
        first: How many tokens came before: even routing goes on where it was.
    """
    start = torch.arange(first, first + tokens) * TOP if routing == "even" else torch.zeros(tokens, dtype=torch.int64)
    chosen = (start[:, None] + torch.arange(TOP)) % N_EXPERTS  # (T, top)
    return torch.zeros(tokens, N_EXPERTS).scatter(1, chosen, 0.0 if routing == "router" else _FORCED)


@contextmanager
def forced(routing: str) -> Iterator[None]:
    """Every router as `bias_of` has it, meanwhile. The product is made as always, so that all cost the same.

    The first two functions that `layers` takes from torch.nn.functional are the router's alone.
    """
    seen: Counter[int] = Counter()  # by router

    def logits(x: Tensor, router: Tensor) -> Tensor:
        bias = bias_of(routing, x.shape[0], seen[id(router)])
        seen[id(router)] += x.shape[0]
        return F.linear(x, router) + bias

    functions = SimpleNamespace(linear=logits, softmax=F.softmax)
    with patch("longleaf.model.layers.F", functions):
        yield


def imbalance(work: Path, n_prompt: int, n_written: int, repeats: int) -> Figures:
    """Speed of the mixture in `work` by routing: a chunk, one token at a time, and eight sequences side by side."""
    model = Ours(work / "mixture").model
    ids = random_ids(n_prompt, 4096)
    taken: dict[str, dict[str, list[float]]] = {}
    for turn in range(repeats + 1):
        for routing in ("router", "even", "one pair"):
            with forced(routing):
                speeds = _speeds(model, ids, n_written)
            if turn:  # the first warms up
                for key, speed in speeds.items():
                    taken.setdefault(routing, {}).setdefault(key, []).append(speed)
    figures: Figures = {}
    for routing, speeds_of in taken.items():
        figures[routing] = {key: spread(values) for key, values in speeds_of.items()}
        if routing != "even":
            figures[routing] |= {
                f"{key}_over_even": statistics.median(a / b for a, b in zip(values, taken["even"][key], strict=True))
                for key, values in speeds_of.items()
            }
    return figures


def _speeds(model: Decoder, ids: Sequence[int], n_written: int) -> dict[str, float]:
    state = model.new_state()
    prefill = len(ids) / seconds(lambda: model.prefill(ids, state))
    one = n_written / _steps(n_written, lambda step: model.decode(ids[step], state))
    several = [state.fork() for _ in range(BATCH)]
    # Each sequence goes on differently: the same tokens would be sent to the same experts.
    starts = range(0, len(ids), len(ids) // BATCH)
    tokens = [[[ids[start + step]] for start in starts] for step in range(n_written + 1)]
    batch = n_written * BATCH / _steps(n_written, lambda step: model.forward_batch(tokens[step], several))
    return {"prefill_tokens_per_s": prefill, "decode_tokens_per_s": one, "decode_of_8_tokens_per_s": batch}


def _steps(n: int, take: Callable[[int], object]) -> float:
    """Seconds of n steps after one that warms up."""
    take(0)
    begun = time.perf_counter()
    for step in range(1, n + 1):
        take(step)
    return time.perf_counter() - begun
