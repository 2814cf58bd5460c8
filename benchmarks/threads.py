"""Who computes, and how many answers at once: what a token costs in another thread, and beside other answers.

    python -m benchmarks.threads [--model smollm2-135m] [--tokens 64] [--json]

by hand   the decoder is called in the main thread, and in a second thread of the same process, which makes a second
          OpenMP team; then libgomp lets all of them sleep between two products
engine    the same through the engine, which has all computed in one thread: 1, 2, 4 and 8 threads write an answer each
          at the same time, and share passes

The engine's part comes last in a process of its own, so that no team of the first part is left. Needs the reader.
"""

import argparse
import threading
from collections.abc import Callable

import torch

from longleaf.model import DecoderEngine, SamplingOptions, load_model, model_path
from longleaf.model.decoder import Decoder
from longleaf.model.decoder_engine import load_chat_template

from .measuring import Figures, conditions, in_fresh_process, report, seconds, spread

AT_ONCE = (1, 2, 4, 8)


def in_thread(work: Callable[[], object]) -> None:
    """Runs work in a thread of its own."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def by_hand(decoder: Decoder, n_tokens: int, repeats: int) -> Figures:
    """Milliseconds of a token in the main thread and in another, in turns."""
    start = decoder.new_state()
    decoder.prefill(list(range(100, 356)), start)

    def write() -> None:
        state = start.fork()
        for _ in range(n_tokens):
            decoder.decode(7, state)

    main_ms, other_ms = [], []
    for _ in range(repeats):
        main_ms.append(seconds(write) / n_tokens * 1e3)
        other_ms.append(seconds(lambda: in_thread(write)) / n_tokens * 1e3)
    slower = [b / a for a, b in zip(main_ms, other_ms, strict=True)]
    return {"main_thread_ms": spread(main_ms), "second_thread_ms": spread(other_ms), "slower": spread(slower)}


def through_the_engine(model: str, n_tokens: int, repeats: int) -> Figures:
    """Tokens per second of so many answers that are written at the same time."""
    path = model_path(model)
    engine = DecoderEngine.load(path, load_chat_template(path), name=model, context_tokens=2048)

    def write(number: int) -> None:
        asked = [{"role": "user", "content": f"Tell a long story about a ship and its {number} sailors."}]
        list(engine.stream(asked, max_tokens=n_tokens, sampling=SamplingOptions()))

    def at_once(n: int) -> None:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    at_once(max(AT_ONCE))  # so that all prompts have been read
    rates: dict[int, list[float]] = {n: [] for n in AT_ONCE}
    for _ in range(repeats):
        for n in AT_ONCE:
            rates[n].append(n * n_tokens / seconds(lambda n=n: at_once(n)))
    engine.close()
    figures: Figures = {f"answers_{n}_tokens_per_s": spread(rates[n]) for n in AT_ONCE}
    figures |= {
        f"answers_{n}_over_1": spread([b / a for a, b in zip(rates[1], rates[n], strict=True)]) for n in AT_ONCE[1:]
    }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the arithmetic")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.engine:
        report(through_the_engine(args.model, args.tokens, args.repeats), as_json=True)
        return
    figures = {"by_hand": by_hand(load_model(model_path(args.model)), args.tokens, args.repeats)}
    options = ("--model", args.model, "--tokens", args.tokens, "--repeats", args.repeats, "--threads", args.threads)
    figures["engine"] = in_fresh_process("benchmarks.threads", "--engine", *options)
    report({"conditions": conditions(args.threads) | {"model": args.model}, **figures}, as_json=args.json)


if __name__ == "__main__":
    main()
