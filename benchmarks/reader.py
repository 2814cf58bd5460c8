"""The embedded reader on our decoder beside llama.cpp, which its file was made for: loading, reading, writing.

    python -m benchmarks.reader [--model qwen2.5-1.5b] [--agreement] [--json]

The regime is one question at a time to Qwen2.5 1.5B (Q4_K_M) on a CPU, which is what a machine without a GPU gets by
default. Both sides get the same token ids, read them from nothing and write the same number of tokens, greedy; they
take turns within one run. llama.cpp (the `xllamacpp` wheel) runs twice: with its weights packed anew for the processor,
as it does by itself, and as they lie in the file; one writes faster, the other reads faster. Ours is compared with each
of them, and with the faster one each time, which is no single llama.cpp. Its times are those that it reports itself,
without the server around it.

Loading is timed with the file in the page cache. Memory is what the process holds more after the first load than
before. --agreement asks eight short questions about a paragraph of the sample document and compares our greedy answers
with those of transformers in fp32 on the dequantised weights (6 GB of memory, some minutes).
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from benchmarks.dequantised import dequantised
from benchmarks.measuring import Figures, conditions, judged, memory_bytes, report, spread
from benchmarks.sample import page_texts
from longleaf.model import Decoder, get_spec, load_model, model_path
from longleaf.model.decoder_engine import load_chat_template
from longleaf.model.gguf_tokenizer import load_tokenizer, plain_ids

PARAGRAPH_PAGE = 6  # its text before the first table: what the district is
QUESTIONS = (
    "On which day was the district formed?",
    "What happened to the crib dam in 1934?",
    "When was Ansel Dam closed?",
    "Which reservoir followed in 1979?",
    "To which three neighbors does the district sell water wholesale?",
    "How high above the sea is the last house in Dunmore Bench?",
    "How many pressure zones does the system have?",
    "Does the district treat sewage?",
)


@dataclass(frozen=True)
class Speed:
    """Tokens per second of one turn."""

    read: float
    written: float


class Ours:
    """This decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def run(self, ids: Sequence[int], n_written: int) -> Speed:
        """Read a prompt from nothing and write so many tokens."""
        state = self.decoder.new_state()
        begun = time.perf_counter()
        token = int(self.decoder.prefill(ids, state).argmax())
        read = time.perf_counter()
        for _ in range(n_written - 1):  # reading gave the first
            token = int(self.decoder.decode(token, state).argmax())
        return Speed(len(ids) / (read - begun), (n_written - 1) / (time.perf_counter() - read))


class LlamaCpp:
    """llama.cpp in a process of its own, which sleeps while it is not asked.

    In one process the OpenMP threads of both sides count together, more than there are cores, and wait for work asleep.
    """

    def __init__(self, path: Path, n_threads: int, context_tokens: int, *, repacked: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, path, n_threads, context_tokens, repacked)
        context.Process(target=_serve_llama_cpp, args=arguments, daemon=True).start()

    def run(self, ids: Sequence[int], n_written: int) -> Speed:
        """Read a prompt from nothing and write so many tokens."""
        self._pipe.send((list(ids), n_written))
        timings = self._pipe.recv()
        if (timings["prompt_n"], timings["predicted_n"]) != (len(ids), n_written):
            raise RuntimeError(f"llama.cpp read or wrote another number of tokens than it was asked to: {timings}")
        return Speed(timings["prompt_per_second"], timings["predicted_per_second"])


def _serve_llama_cpp(pipe: Connection, path: Path, n_threads: int, context_tokens: int, repacked: bool) -> None:
    """Answer with llama.cpp's own timings, through direct calls of its server.

    It insists on listening: it is given a socket in a private folder, which is deleted as soon as it runs.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_batch, params.n_ubatch = context_tokens, 1, 512, 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_threads
    params.no_extra_bufts = not repacked
    params.warmup = params.fit_params = params.ctx_shift = params.ui = False
    params.cache_ram_mib, params.verbosity = 0, -1
    folder = tempfile.mkdtemp(prefix="ll-", dir="/tmp")  # a socket's path has room for 108 bytes
    params.hostnames = [f"{folder}/llama.sock"]
    try:
        server = xllamacpp.Server(params)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    while True:
        try:
            ids, n_written = pipe.recv()
        except EOFError:  # nobody asks any more
            return
        body = {"prompt": ids, "n_predict": n_written, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        done: dict[str, Any] = server.handle_completions(body)
        pipe.send(done["timings"])


def load(path: Path, repeats: int) -> tuple[Decoder, Figures]:
    """The decoder, how long it takes to load, and what it takes in memory."""
    before = memory_bytes("VmRSS")
    begun = time.perf_counter()
    decoder = load_model(path)
    first = time.perf_counter() - begun
    resident = memory_bytes("VmRSS") - before
    again = []
    for _ in range(repeats):
        del decoder
        begun = time.perf_counter()
        decoder = load_model(path)
        again.append(time.perf_counter() - begun)
    size = path.stat().st_size
    return decoder, {
        "first_load_s": first,
        "load_s": judged(again, at_most=10),
        "file_mb": size / 1e6,
        "resident_mb": resident / 1e6,
        "resident_over_file": judged([resident / size], at_most=1.5),
    }


def speeds(ours: Ours, theirs: dict[str, LlamaCpp], prompt: Sequence[int], n_written: int, repeats: int) -> Figures:
    """Ours and llama.cpp's two ways in turn over one prompt."""
    sides: dict[str, Ours | LlamaCpp] = {"longleaf": ours, **theirs}
    for side in sides.values():
        side.run(prompt[:32], 2)
    turns: dict[str, list[Speed]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            turns[name].append(side.run(prompt, n_written))
    figures: Figures = {
        name: {
            "prefill_tokens_per_s": spread([speed.read for speed in runs]),
            "decode_tokens_per_s": spread([speed.written for speed in runs]),
        }
        for name, runs in turns.items()
    }
    pairs = list(zip(*turns.values(), strict=True))
    for i, name in enumerate(theirs, 1):
        figures[f"over {name}"] = {
            "prefill_ratio": judged([turn[0].read / turn[i].read for turn in pairs], at_least=3),
            "decode_ratio": judged([turn[0].written / turn[i].written for turn in pairs], at_least=1.2),
        }
    read = [our.read / max(speed.read for speed in their) for our, *their in pairs]
    written = [our.written / max(speed.written for speed in their) for our, *their in pairs]
    figures["over the faster each time"] = {"prefill_ratio": spread(read), "decode_ratio": spread(written)}
    return figures


def agreement(path: Path, decoder: Decoder, default_system: str, n_questions: int, max_tokens: int = 24) -> Figures:
    """Greedy answers beside those of transformers on the dequantised weights."""
    paragraph = page_texts()[PARAGRAPH_PAGE - 1].split("\nTable ")[0]
    template = load_chat_template(path, default_system)
    ends = {*decoder.config.eos_token_ids, decoder.config.bos_token_id}
    reference = dequantised(path)
    answers: Figures = {}
    same = 0
    for question in QUESTIONS[:n_questions]:
        message = f"{paragraph}\n\nAnswer in a few words: {question}"
        prompt = template.prompt([{"role": "user", "content": message}]).token_ids
        ours = list(
            decoder.generate(prompt, decoder.new_state(), max_tokens=max_tokens, stop_tokens=sorted(ends - {None}))
        )
        theirs = _greedy(reference, prompt, max_tokens, ends)
        same += ours == theirs
        text = _text(template.tokenizer, ours)
        answers[question] = text if ours == theirs else f"{text} | transformers: {_text(template.tokenizer, theirs)}"
    return {"answers": answers, "equal_answers": judged([same], at_least=n_questions)}


@torch.inference_mode()
def _greedy(model: Any, prompt: Sequence[int], max_tokens: int, ends: set[int | None]) -> list[int]:
    out = model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
    tokens: list[int] = []
    while len(tokens) < max_tokens and (token := int(out.logits[0, -1].argmax())) not in ends:
        tokens.append(token)
        out = model(input_ids=torch.tensor([[token]]), past_key_values=out.past_key_values, use_cache=True)
    return tokens


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(ids))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["qwen2.5-1.5b", "qwen2.5-0.5b", "smollm2-135m"], default="qwen2.5-1.5b")
    parser.add_argument("--prompts", type=int, nargs="+", default=[400, 1500], help="their lengths in tokens")
    parser.add_argument("--written", type=int, default=64, help="tokens written after each")
    parser.add_argument("--agreement", action="store_true", help="compare answers with transformers too")
    parser.add_argument("--questions", type=int, default=len(QUESTIONS), help="how many of the questions are asked")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = model_path(args.model)
    text = plain_ids(load_tokenizer(path), "\n".join(page_texts()))
    room = max(args.prompts) + args.written
    theirs = {
        "llama.cpp": LlamaCpp(path, args.threads, room, repacked=False),
        "llama.cpp, repacked": LlamaCpp(path, args.threads, room, repacked=True),
    }
    decoder, loading = load(path, args.repeats)
    figures: Figures = {"loading": loading}
    for n in args.prompts:
        figures[f"prompt of {n} tokens"] = speeds(Ours(decoder), theirs, text[:n], args.written, args.repeats)
    if args.agreement:
        figures["agreement"] = agreement(path, decoder, get_spec(args.model).default_system, args.questions)
    about = {"model": path.name, "tokens_written": args.written, "repeats": args.repeats}
    report({"conditions": conditions(args.threads, "xllamacpp") | about, **figures}, as_json=args.json)


if __name__ == "__main__":
    main()
