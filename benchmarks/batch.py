"""A batch of many documents that is killed again and again: is each good one done once, and each bad one explained?

    python -m benchmarks.batch FOLDER [--documents 100] [--kills 10] [--pages N] [-- options of longleaf summarize]

Takes a folder of real PDFs and fills it up to `--documents` with copies of them in which one page was replaced, so that
each is a document of its own, and with 8 files that can't be read. Runs `longleaf summarize` on them, kills the whole
tree of processes with SIGKILL at random moments, and runs the same command again until it ends by itself. Then checks:

- every file is in the results once; all good ones are done, each bad one has a reason; the exit code says so;
- what was done before a kill was not done again (its time of finishing is the same at the end).

What follows `--` goes to `longleaf summarize`: `-m none` (sentences as they stand, the default here) makes the batch
itself the subject and not the reader's speed; `-m openai:NAME --base-url URL` and `--ray local --workers 2` run the
same batch elsewhere. With `--kill-worker` one worker of a Ray cluster is killed instead of all.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from pypdf import PdfReader, PdfWriter
from reportlab.pdfgen import canvas

from benchmarks.measuring import conditions

__all__ = ["make_documents", "run_batch"]


def make_documents(pdfs: Sequence[Path], folder: Path, n: int, *, seed: int = 0) -> tuple[int, int]:
    """Fills a folder with `n` documents, 8 of them bad.

    Returns:
        How many good ones and how many bad ones there are.
    """
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    bad = _bad_files(pdfs[0])
    n_good = n - len(bad)
    for path in pdfs[:n_good]:
        shutil.copy(path, folder / path.name)
    for number in range(len(pdfs), n_good):
        path = pdfs[number % len(pdfs)]
        _with_one_page_changed(path, folder / f"{path.stem}-{number}.pdf", f"Copy number {number}.", rng)
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    return n_good, len(bad)


def _excerpt(path: Path, target: Path, n_pages: int) -> Path:
    """A few pages from the middle of a document, where it says most."""
    target.parent.mkdir(parents=True, exist_ok=True)
    pages = PdfReader(path).pages
    begin = max(0, (len(pages) - n_pages) // 2)
    writer = PdfWriter()
    for page in pages[begin : begin + n_pages]:
        writer.add_page(page)
    writer.write(target)
    return target


def _with_one_page_changed(path: Path, target: Path, text: str, rng: random.Random) -> None:
    page = target.with_suffix(".page")
    drawing = canvas.Canvas(str(page), invariant=True)
    drawing.drawString(72, 700, text)
    drawing.showPage()
    drawing.save()
    writer = PdfWriter(clone_from=PdfReader(path))
    index = rng.randrange(len(writer.pages))
    writer.insert_page(PdfReader(page).pages[0], index)
    writer.remove_page(index + 1)
    writer.write(target)
    page.unlink()


def _bad_files(good: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        locked, blank = Path(scratch) / "locked.pdf", Path(scratch) / "blank.pdf"
        drawing = canvas.Canvas(str(blank), invariant=True)
        drawing.showPage()
        drawing.save()
        writer = PdfWriter(clone_from=PdfReader(blank))
        writer.encrypt("secret", algorithm="AES-256")
        writer.write(locked)
        return {
            "bad-empty.pdf": b"",
            "bad-cut.pdf": good.read_bytes()[:2000],
            "bad-nothing.pdf": b"%PDF-1.7\nnothing that follows",
            "bad-zeros.pdf": bytes(5000),
            "bad-zip.pdf": b"PK\x03\x04" + bytes(range(256)) * 8,
            "bad-picture.pdf": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
            "bad-locked.pdf": locked.read_bytes(),
            "bad-blank.pdf": blank.read_bytes(),
        }


def run_batch(
    documents: Path, output: Path, home: Path, options: Sequence[str], kills: int, *,
    seconds: tuple[float, float], kill_worker: bool = False, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Runs `longleaf summarize` to its end, killing it so often on the way.

    Args:
        documents: Folder.
        output: For the results.
        home: Library.
        options: More options of `longleaf summarize`.
        kills: How often.
        seconds: Each kill comes after a random time between these two.
        kill_worker: Kills one worker of Ray each time, and lets the rest go on.
        seed: Of the times.
    """
    rng = random.Random(seed)
    command = [sys.executable, "-m", "longleaf", "summarize", str(documents), "-o", str(output), *options]
    environment = os.environ | {"LONGLEAF_HOME": str(home)}
    finished: dict[str, str] = {}
    redone = lost = killed = runs = 0
    begun = time.monotonic()
    while True:
        runs += 1
        with subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL) as process:
            while killed < kills:
                try:
                    process.wait(rng.uniform(*seconds))
                    break
                except subprocess.TimeoutExpired:
                    pass
                if kill_worker:
                    killed += _kill_a_worker(process.pid)
                    continue
                _kill_tree(process.pid)
                killed += 1
                break
            code = process.wait()
        now = {item["source"]: item["finished_at"] for item in _items(home, output) if item["state"] == "done"}
        lost += len(finished.keys() - now.keys())
        redone += sum(finished[source] != at for source, at in now.items() if source in finished)
        finished = now
        print(f"run {runs}: exit {code}, {len(now)} done", file=sys.stderr, flush=True)
        if code >= 0:
            break
    lines = [json.loads(line) for line in (output / "summaries.jsonl").read_text().splitlines()]
    items = _items(home, output)
    return {
        "exit_code": code,
        "runs": runs,
        "killed": killed,
        "lines": len(lines),
        "distinct": len({line["source"] for line in lines}),
        "done": sum(line["state"] == "done" for line in lines),
        "failed": {Path(line["source"]).name: line["reason"] for line in lines if line["state"] == "failed"},
        "markdown": len(list(output.glob("*.md"))),
        "lost": lost,
        "done_twice": redone,
        "begun_more_than_once": sum(item["attempts"] > 1 for item in items),
        "pages": sum(item["n_pages"] for item in items),
        "tokens_read": sum(item["tokens_read"] for item in items),
        "models": sorted({item["model"] for item in items if item["model"]}),
        "seconds": time.monotonic() - begun,
    }


def _items(home: Path, output: Path) -> list[dict[str, Any]]:
    shown = subprocess.run(
        [sys.executable, "-m", "longleaf", "jobs", "show", str(output), "--json", "--home", str(home)],
        capture_output=True, check=False,
    )  # fmt: skip
    if shown.returncode:  # killed before the job was written down
        return []
    found: list[dict[str, Any]] = json.loads(shown.stdout)["items"]
    return found


def _kill_tree(pid: int) -> None:
    for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def _kill_a_worker(pid: int) -> int:
    for process in psutil.process_iter(["cmdline"]):
        if "ray::_Worker" in " ".join(process.info["cmdline"] or ()):
            print(f"killing a worker ({process.pid}) of {pid}", file=sys.stderr, flush=True)
            process.kill()
            return 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pdfs", type=Path, help="folder of PDFs")
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--between", type=float, nargs=2, default=(8.0, 40.0), metavar="S", help="seconds to a kill")
    parser.add_argument("--kill-worker", action="store_true")
    parser.add_argument("--pages", type=int, help="take so many pages from the middle of each PDF; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for all of it, kept at the end")
    parser.epilog = "What comes after -- are options of longleaf summarize."
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    given, options = parser.parse_args(words[:cut]), words[cut + 1 :]
    pdfs = sorted(given.pdfs.glob("*.pdf"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        if given.pages:
            pdfs = [_excerpt(path, folder / "excerpts" / path.name, given.pages) for path in pdfs]
        good, bad = make_documents(pdfs, folder / "documents", given.documents, seed=given.seed)
        options = options or ["-m", "none"]
        result = run_batch(
            folder / "documents", folder / "results", folder / "home", options, given.kills,
            seconds=tuple(given.between), kill_worker=given.kill_worker, seed=given.seed,
        )  # fmt: skip
    result |= {
        "good": good,
        "bad": bad,
        "options": options,
        "seed": given.seed,
        "conditions": conditions(os.cpu_count() or 1),
    }
    print(json.dumps(result, indent=2))
    fine = (
        (result["done"], len(result["failed"]), result["lost"], result["done_twice"]) == (good, bad, 0, 0)
        and result["lines"] == result["distinct"] == good + bad
        and result["exit_code"] == int(bad > 0)
    )
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
