"""Memory of the browser app's server after many uploads and questions, beside what it was after the first of each.

    python -m benchmarks.app_memory [--uploads 20] [--megabytes 10] [--questions 50] [--json]

A real server on an empty library, a real browser. Each upload is a PDF of its own, of pages with text and pictures
that can't be compressed, so that what is read and drawn has the size of a scanned report. Questions go round among the
documents, and after each one its first citation is opened, so that page pictures are drawn. The figure is the
proportional resident memory (PSS) of the server and its parser processes: files that are mapped from disk, the reader's
weights among them, count as far as they are resident. Needs Chromium and the embedded models.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen import canvas

from .app_browser import AppPage
from .app_server import AppServer, launch_chromium
from .measuring import Figures, conditions, report

LIMIT_BYTES = 200_000_000
SETTLE_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=10, help="size of each upload")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = AppServer(Path(folder) / "home").start()
        try:
            figures = measure(server, Path(folder), args.uploads, args.megabytes, args.questions)
        finally:
            server.stop()
    report({"conditions": conditions(0, "streamlit")} | figures, as_json=args.json)


def measure(server: AppServer, folder: Path, n_uploads: int, megabytes: int, n_questions: int) -> Figures:
    """The memory after each stage, and how much it grew from the first upload and question on."""
    at_start = server.memory_bytes()
    seen: list[int] = []
    with launch_chromium() as browser:
        app = AppPage(browser.new_page(), server.url).open()

        def upload(number: int) -> None:
            path = report_file(folder / f"harbour {number}.pdf", number, megabytes)
            app.upload([path])
            app.wait_for_text(f"harbour {number}.pdf: 5 pages", timeout_s=120)
            path.unlink()
            seen.append(server.memory_bytes())

        def ask(number: int) -> None:
            app.open()
            app.button("New chat").click()
            app.settle()
            app.ask(f"How many cranes does harbour {number % n_uploads} have?")
            app.answered(1)
            app.chips().first.click()
            app.page.locator(".ll-page").wait_for()
            app.settle()
            seen.append(server.memory_bytes())

        upload(0)
        ask(0)
        after_first = settled(server)
        app.open()
        app.button("New chat").click()
        app.settle()
        for number in range(1, n_uploads):
            upload(number)
        after_uploads = settled(server)
        for number in range(1, n_questions):
            ask(number)
        after_questions = settled(server)
    return {
        "uploads": n_uploads,
        "megabytes_each": megabytes,
        "questions": n_questions,
        "bytes_at_start": at_start,
        "bytes_after_first": after_first,
        "bytes_after_uploads": after_uploads,
        "bytes_after_questions": after_questions,
        "bytes_at_most": max(seen),
        "bytes_grown": after_questions - after_first,
        "target": f"<= {LIMIT_BYTES}",
        "met": after_questions - after_first <= LIMIT_BYTES,
    }


def settled(server: AppServer) -> int:
    """The memory when what was begun has ended."""
    time.sleep(SETTLE_S)
    return server.memory_bytes()


def report_file(path: Path, number: int, megabytes: int, n_pages: int = 5) -> Path:
    """A PDF of about so many megabytes."""
    random = np.random.default_rng(number)
    drawing = canvas.Canvas(str(path), invariant=True)
    side = int((megabytes * 1_000_000 / n_pages / 0.62) ** 0.5)  # a JPEG of noise in grey: 0.62 bytes a pixel
    for page in range(n_pages):
        text = f"Harbour {number} has {number + 3} cranes and {number + 20} berths; this is sheet {page + 1}."
        drawing.drawString(72, 760, text)
        noise = Image.fromarray(random.integers(0, 256, (side, side), np.uint8))
        encoded = io.BytesIO()
        noise.save(encoded, "JPEG", quality=75)
        drawing.drawImage(ImageReader(encoded), 72, 100, 450, 600)
        drawing.showPage()
    drawing.save()
    return path


if __name__ == "__main__":
    main()
