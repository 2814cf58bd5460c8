"""What int8 weights, and bf16 keys and values, change on real text.

    python -m benchmarks.quantization [--model smollm2-135m] [--tokens 2000] [--json]

An embedded model is dequantised into a bf16 folder, as a checkpoint from the hub would be, and loaded in several ways;
each reads the same text, the beginning of a document, and every position's logits are compared with those of fp32 from
the same folder. `bf16` is the yardstick: int8 runs on bf16 activations, so what it costs is what it adds to that line.
The weights had 4 bits once, so a checkpoint that never had may fare a little differently. Speed is measured in
`benchmarks.decoder`.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor

from benchmarks.dequantised import dequantised
from benchmarks.measuring import Figures, conditions, report
from benchmarks.sample import SAMPLE, page_texts
from longleaf.model import Decoder, load_model, model_path
from longleaf.model.gguf_tokenizer import load_tokenizer, plain_ids

CHUNK_TOKENS = 256

WAYS: dict[str, dict[str, Any]] = {
    "fp32, keys and values bf16": {"dtype": torch.float32, "kv_dtype": torch.bfloat16},
    "bf16": {"dtype": torch.bfloat16},
    "bf16, keys and values fp32": {"dtype": torch.bfloat16, "kv_dtype": torch.float32},
    "int8": {"dtype": torch.bfloat16, "quantize": "int8"},
    "w8a8": {"dtype": torch.bfloat16, "quantize": "w8a8"},
}


@dataclass
class Comparison:
    """Sums over positions of one way of loading, beside the reference."""

    n: int = 0
    n_scored: int = 0
    relative_error: float = 0.0
    divergence: float = 0.0
    same_choice: int = 0
    loss: float = 0.0

    def add(self, logits: Tensor, reference: Tensor, following: Tensor) -> None:
        """A chunk: logits (L, V) of both, and the tokens that follow, (L,) or one fewer at the text's end."""
        # A constant added to all logits changes no probability, so it is no error either.
        centred, wanted = (x - x.mean(-1, keepdim=True) for x in (logits, reference))
        self.n += len(logits)
        self.relative_error += float(((centred - wanted).norm(dim=-1) / wanted.norm(dim=-1)).sum())
        ours, theirs = logits.log_softmax(-1), reference.log_softmax(-1)
        self.divergence += float((theirs.exp() * (theirs - ours)).sum())
        self.same_choice += int((logits.argmax(-1) == reference.argmax(-1)).sum())
        self.n_scored += len(following)
        self.loss += float(F.nll_loss(ours[: len(following)], following, reduction="sum"))

    @property
    def perplexity(self) -> float:
        """Of the text."""
        return float(torch.tensor(self.loss / self.n_scored).exp())

    def figures(self, reference: "Comparison") -> Figures:
        """Means over positions."""
        return {
            "relative_error_of_logits": self.relative_error / self.n,
            "mean_kl_divergence_nats": self.divergence / self.n,
            "same_most_likely_token": self.same_choice / self.n,
            "perplexity": self.perplexity,
            "perplexity_over_fp32": self.perplexity / reference.perplexity,
        }


def logits_of(model: Decoder, ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Where a chunk begins, and its logits (L, V) fp32."""
    state = model.new_state()
    for start in range(0, len(ids), CHUNK_TOKENS):
        yield start, model.logits_of_all(ids[start : start + CHUNK_TOKENS], state)


def measure(folder: Path, ids: Sequence[int]) -> Figures:
    """Every way beside fp32, one model in memory at a time beside the reference's logits."""
    text = torch.tensor(ids)
    references = [logits for _, logits in logits_of(load_model(folder, dtype=torch.float32), ids)]
    fp32 = Comparison()
    for i, logits in enumerate(references):
        fp32.add(logits, logits, text[i * CHUNK_TOKENS + 1 : (i + 1) * CHUNK_TOKENS + 1])
    figures: Figures = {"fp32": {"perplexity": fp32.perplexity}}
    for name, options in WAYS.items():
        model = load_model(folder, **options)
        comparison = Comparison()
        for (start, logits), reference in zip(logits_of(model, ids), references, strict=True):
            comparison.add(logits, reference, text[start + 1 : start + CHUNK_TOKENS + 1])
        figures[name] = {"weights_mb": model.nbytes / 1e6} | comparison.figures(fp32)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b"], default="smollm2-135m")
    parser.add_argument("--document", type=Path, default=SAMPLE, help="a PDF; the sample document by default")
    parser.add_argument("--tokens", type=int, default=2000, help="how much of it is read")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = model_path(args.model)
    ids = plain_ids(load_tokenizer(path), "\n".join(page_texts(args.document)))[: args.tokens]
    with tempfile.TemporaryDirectory() as work:
        dequantised(path).to(torch.bfloat16).save_pretrained(work)
        figures = measure(Path(work), ids)
    about = {"model": args.model, "document": args.document.name, "tokens": len(ids)}
    report({"conditions": conditions(args.threads, "gguf") | about, **figures}, as_json=args.json)


if __name__ == "__main__":
    main()
