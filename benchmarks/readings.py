"""What a kept reading saves: the same question to the same document by two processes, the second started afterwards.

    python -m benchmarks.readings [--document PDF] [--tokens 30000] [--json]

The regime is a person who comes back to a long document. The document is a real PDF, taken in as users' files are; its
tokens are the embedded SmolLM2's; the reader has the shape of `benchmarks.decoder` and random weights, for what is
measured does not depend on what they say. Both processes do what the engine does for a prompt of document and question.
In each round the store begins empty: the first process reads the document, keeps its readings (at its end and on the
way) and reads the question; the second finds the reading and reads the question only. Time to the first token begins
with the look into the store and leaves out loading the model, which is given apart. Whether the second process comes to
the same answer is no matter of tolerance: the logits are compared bit by bit.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.decoder import SHAPES, TINY, random_ids, save_random_jamba
from benchmarks.measuring import Figures, conditions, in_fresh_process, judged, report, spread
from benchmarks.sample import SAMPLE, page_texts
from longleaf.model import ReadingStore, load_model, model_path
from longleaf.model.gguf_tokenizer import load_tokenizer, plain_ids
from longleaf.model.reading_session import ReadingSession

QUESTION_TOKENS = 30
QUICK_TOKENS = 3000


def document_tokens(file: Path, vocab_size: int, *, quick: bool) -> list[int]:
    """The tokens of the document's text, brought into the vocabulary; its bytes where no tokenizer is wanted."""
    text = "\n".join(page_texts(file))
    ids = list(text.encode()) if quick else plain_ids(load_tokenizer(model_path("smollm2-135m")), text)
    return [token % vocab_size for token in ids]


def answer(work: Path, n_threads: int) -> Figures:
    """What one process does; it leaves the logits of the question's last token in `work`."""
    torch.set_num_threads(n_threads)
    document, question = json.loads((work / "tokens.json").read_text())
    prompt = document + question
    begun = time.perf_counter()
    model = load_model(work / "weights", dtype=torch.bfloat16)
    loaded = time.perf_counter()
    model.prefill(question, model.new_state())  # the first products start the threads
    store = ReadingStore(work / "readings")
    session = ReadingSession(model, store)
    asked = time.perf_counter()
    read = session.read(prompt, [len(document)], label="document")
    int(read.logits.argmax())
    answered = time.perf_counter()
    save_file({"logits": read.logits}, work / f"logits-after-{read.cached_tokens}.safetensors")
    kept = store.find(prompt, model.new_state())
    assert kept is not None
    return {
        "first_token_s": answered - asked,
        "loading_s": loaded - begun,
        "reused_tokens": read.cached_tokens,
        "state_bytes": kept.state.nbytes,
        "reading_bytes": store.show(kept.id).size_bytes,
        "readings": len(store.list()),
    }


def measure(work: Path, n_document: int, args: argparse.Namespace) -> Figures:
    """Both processes, `repeats` times over."""
    rounds = []
    identical = True
    for _ in range(args.repeats):
        shutil.rmtree(work / "readings", ignore_errors=True)
        first, second = (
            in_fresh_process("benchmarks.readings", "--answer", work, "--threads", args.threads) for _ in range(2)
        )
        logits = [load_file(work / f"logits-after-{p['reused_tokens']}.safetensors")["logits"] for p in (first, second)]
        identical &= first["reused_tokens"] == 0 < second["reused_tokens"] and torch.equal(*logits)
        rounds.append((first, second))
    firsts, seconds = zip(*rounds, strict=True)
    on_disk = sum(file.stat().st_size for file in (work / "readings").rglob("*.safetensors"))
    return {
        "first_process": {"first_token_s": spread([process["first_token_s"] for process in firsts])},
        "second_process": {
            "first_token_s": spread([process["first_token_s"] for process in seconds]),
            "loading_the_model_s": spread([process["loading_s"] for process in seconds]),
            "reused_tokens": judged([process["reused_tokens"] for process in seconds], at_least=n_document),
            "logits_bit_identical": identical,
        },
        "ratio": {
            "second_over_first": judged([b["first_token_s"] / a["first_token_s"] for a, b in rounds], at_most=0.02)
        },
        "reading": {
            "state_mb": firsts[0]["state_bytes"] / 1e6,
            "on_disk_mb": firsts[0]["reading_bytes"] / 1e6,
            "on_disk_over_state": judged([p["reading_bytes"] / p["state_bytes"] for p in firsts], at_most=1.02),
            "readings_kept": firsts[0]["readings"],
            "all_readings_on_disk_mb": on_disk / 1e6,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=SAMPLE, help="a PDF; the sample document by default")
    parser.add_argument("--tokens", type=int, default=30_000, help="how much of it is read")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs: no figure means anything"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)  # the processes that are started
    args = parser.parse_args()
    if args.answer:
        report(answer(args.answer, args.threads), as_json=True)
        return
    shape = SHAPES["dense"] | (TINY if args.quick else {})
    document = document_tokens(args.document, shape["vocab_size"], quick=args.quick)
    document = document[: QUICK_TOKENS if args.quick else args.tokens]
    question = random_ids(QUESTION_TOKENS, shape["vocab_size"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        save_random_jamba(work / "weights", shape)
        (work / "tokens.json").write_text(json.dumps([document, question]))
        figures = measure(work, len(document), args)
    about = {
        "shape": "dense" + " (tiny)" * args.quick,
        "dtype": "bfloat16",
        "document": args.document.name,
        "document_tokens": len(document),
        "question_tokens": len(question),
        "repeats": args.repeats,
    }
    report({"conditions": conditions(args.threads, "transformers") | about, **figures}, as_json=args.json)


if __name__ == "__main__":
    main()
