"""How fast passages become vectors: ours in fp32, bf16 and int8 against a plain fp32 loop over transformers' BertModel.

    python -m benchmarks.embedding [--document PDF] [--passages N] [--rounds N] [--threads N] [--steps] [--json]

The passages are windows of 900 characters of the document's pages. The plain loop takes 32 at a time in their order,
padded to the longest, and means over tokens; ours is `Bert.encode` as the app calls it. Tokenising counts for both, and
loading for none. All run in one process and take turns, each in every round once: on a shared machine seconds say
little, and the ratios of a round are what counts. Agreement is the cosine of each vector with transformers', and how
many of the ten nearest other passages stay the same.

With --steps one document is taken in instead, step by step: where the time of indexing goes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.measuring import Figures, conditions, judged, quiet_transformers, report, seconds, spread
from benchmarks.sample import SAMPLE, page_texts
from longleaf.ingestion import Library
from longleaf.model import load_bert, model_path
from longleaf.model.bert import MAX_TOKENS, best_dtype
from longleaf.retrieval import LongleafEmbeddings, PassageStore, cut_passages

WINDOW = 900  # characters, about a passage of ours
PLAIN_BATCH = 32
NEAREST = 10
TARGET = 3  # times the plain loop

Encode = Callable[[Sequence[str]], np.ndarray]


def windows(file: Path) -> list[str]:
    """The pages' texts in pieces."""
    return [text[at : at + WINDOW] for text in page_texts(file) for at in range(0, len(text), WINDOW)]


def plain_loop(folder: Path) -> Encode:
    """The reference, as one would write it down."""
    quiet_transformers()
    from transformers import BertModel

    model = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(MAX_TOKENS)

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = []
        for begin in range(0, len(texts), PLAIN_BATCH):
            batch = tokenizer.encode_batch(list(texts[begin : begin + PLAIN_BATCH]))
            ids, mask = (torch.tensor([getattr(text, name) for text in batch]) for name in ("ids", "attention_mask"))
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            vectors.append(torch.nn.functional.normalize(mean, dim=-1))
        return torch.cat(vectors).numpy()

    return encode


def agreement(vectors: np.ndarray, reference: np.ndarray) -> Figures:
    """How near the vectors are to the reference's, and how alike the rankings."""
    cosines = (vectors * reference).sum(1)
    ours, theirs = _nearest(vectors), _nearest(reference)
    shared = [len(set(a) & set(b)) / len(b) for a, b in zip(ours, theirs, strict=True)]
    return {
        "cosine_least": round(float(cosines.min()), 5),
        "cosine_mean": round(float(cosines.mean()), 5),
        "same_among_ten_nearest": round(statistics.mean(shared), 4),
    }


def _nearest(vectors: np.ndarray) -> np.ndarray:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :NEAREST]


def speed(document: Path, n_passages: int | None, rounds: int) -> Figures:
    """All ways in turn, and what their vectors are worth."""
    texts, folder = windows(document)[:n_passages], model_path("minilm")
    ways: dict[str, Encode] = {"transformers_fp32": plain_loop(folder)}
    loading: Figures = {}
    default = _name(best_dtype())
    for dtype in dict.fromkeys((torch.float32, torch.bfloat16, best_dtype())):
        begun = time.perf_counter()
        ways[_name(dtype)] = load_bert(folder, dtype).encode
        loading[_name(dtype)] = round(time.perf_counter() - begun, 3)
    vectors = {name: encode(texts) for name, encode in ways.items()}  # a first time, not counted
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, encode in ways.items():
            taken[name].append(seconds(lambda encode=encode: encode(texts)))
    ours = [name for name in ways if name != "transformers_fp32"]
    ratios = {
        name: [plain / own for plain, own in zip(taken["transformers_fp32"], taken[name], strict=True)] for name in ours
    }
    n_tokens = _n_tokens(texts, folder)
    return {
        "texts": {"document": document.name, "passages": len(texts), "tokens": n_tokens, "default": default},
        "seconds_loading": loading,
        "passages_per_second": {name: spread([len(texts) / s for s in of]) for name, of in taken.items()},
        "tokens_per_second": {name: spread([n_tokens / s for s in of]) for name, of in taken.items()},
        "times_the_plain_loop": {
            name: judged(of, at_least=TARGET) if name == default else spread(of) for name, of in ratios.items()
        },
        "agreement_with_transformers": {
            name: agreement(vectors[name], vectors["transformers_fp32"]) for name in ours
        },
    }  # fmt: skip


def _n_tokens(texts: Sequence[str], folder: Path) -> int:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return sum(len(text.ids) for text in tokenizer.encode_batch(list(texts)))


def _name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.int8: "int8"}[dtype]


def steps(file: Path, rounds: int) -> Figures:
    """Seconds of each step of taking in one document, each round in a new library."""
    embedder = LongleafEmbeddings()
    begun = time.perf_counter()
    embedder.encode(["loads the model"])
    loading = time.perf_counter() - begun
    taken: dict[str, list[float]] = {name: [] for name in ("parse_and_keep_pages", "cut", "store_passages", "embed")}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as home, Library(Path(home)) as library:
            begun = time.perf_counter()
            document = library.add(file).document
            taken["parse_and_keep_pages"].append(time.perf_counter() - begun)
            texts = [(page.number, page.text) for page in library.pages(document)]
            taken["cut"].append(seconds(lambda: cut_passages(texts, document.outline)))  # noqa: B023  called at once
            store = PassageStore(library)
            cut_and_stored = seconds(lambda: store.cut(document))  # noqa: B023
            taken["store_passages"].append(max(0.0, cut_and_stored - taken["cut"][-1]))
            taken["embed"].append(seconds(lambda: store.embed([document], embedder)))  # noqa: B023
            n_pages, n_passages = document.n_pages, store.n_passages([document])
    medians = {name: statistics.median(of) for name, of in taken.items()}
    longest, total = max(medians, key=lambda name: medians[name]), sum(medians.values())
    return {
        "document": {"name": file.name, "pages": n_pages, "passages": n_passages},
        "seconds": {"loading_the_embedder": round(loading, 3), **{name: spread(of) for name, of in taken.items()}},
        "passages_embedded_per_second": spread([n_passages / s for s in taken["embed"]]),
        "pages_per_second": round(n_pages / total, 1),
        "limited_by": f"{longest.replace('_', ' ')}: {medians[longest] / total:.0%} of {total:.2f} s",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=SAMPLE, help="a PDF; the sample document by default")
    parser.add_argument("--passages", type=int, help="only so many from the beginning; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for the arithmetic")
    parser.add_argument("--steps", action="store_true", help="the steps of indexing the document instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = steps(args.document, args.rounds) if args.steps else speed(args.document, args.passages, args.rounds)
    about = conditions(args.threads, "tokenizers", "transformers")
    report({"conditions": about | {"rounds": args.rounds}, **figures}, as_json=args.json)


if __name__ == "__main__":
    main()
