"""How long a page with its marks takes to be drawn in the browser app: from the call to the finished HTML.

    python -m benchmarks.page_view [FILE...] [--page N] [--n 9] [--json]

What the viewer does for one page: the stored page, its marks, the picture from the parser process and the HTML. Cold is
the first page of a document after a start, when the parser process has to be started and the file opened; another page
is drawn by a process that has both; warm is the same page once more, whose picture is kept. Then a search through the
document for words that stand on many of its pages, and for words that stand on none.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from longleaf.app.ui.page_html import image_dpi, page_html
from longleaf.ingestion import Document, Library
from longleaf.retrieval import boxes_of
from longleaf.retrieval.find_text import find_text

from .measuring import Figures, conditions, judged, report, seconds, spread
from .sample import SAMPLE

ZOOMS = (100, 200, 300)
TARGET_S = 0.5
SEARCH_TARGET_S = 0.3


def draw(library: Library, document: Document, number: int, zoom: int, kept: dict[int, bytes] | None = None) -> int:
    """Draws a page with a mark in its middle; the bytes of its HTML."""
    page = library.page(document, number)
    middle = len(page.text) // 2
    png = (kept or {}).get(number) or library.page_image(document, number, image_dpi(page.width, page.height, zoom))
    if kept is not None:
        kept[number] = png
    return len(page_html(png, page, marks=boxes_of(page, middle, middle + 120), zoom=zoom, token="benchmark"))


def measure(home: Path, file: Path, number: int | None, n: int) -> Figures:
    with Library(home) as library:
        document = library.add(file).document
    first = number or document.n_pages // 2 or 1
    figures: Figures = {"pages": document.n_pages}
    for zoom in ZOOMS:
        cold, other, size = [], [], 0
        for _ in range(n):
            with Library(home) as library:
                begun = time.perf_counter()
                size = draw(library, document, first, zoom)
                cold.append(time.perf_counter() - begun)
                other.append(seconds(_drawing(library, document, first % document.n_pages + 1, zoom)))
        figures[f"zoom {zoom} %"] = {
            "cold_s": judged(cold, at_most=TARGET_S),
            "another_page_s": judged(other, at_most=TARGET_S),
            "html_mb": round(size / 1e6, 2),
        }
    with Library(home) as library:
        kept: dict[int, bytes] = {}
        draw(library, document, first, 100, kept)
        warm = [seconds(_drawing(library, document, first, 100, kept)) for _ in range(n)]
        figures["the same page again_s"] = spread(warm)
        figures["search_s"] = {
            words: judged([seconds(_searching(library, document, words)) for _ in range(n)], at_most=SEARCH_TARGET_S)
            for words in ("year", "long-term", "zyzzyva")
        }
    return figures


def _drawing(
    library: Library, document: Document, number: int, zoom: int, kept: dict[int, bytes] | None = None
) -> Callable[[], object]:
    return lambda: draw(library, document, number, zoom, kept)


def _searching(library: Library, document: Document, words: str) -> Callable[[], object]:
    return lambda: find_text(library, document, words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=[SAMPLE])
    parser.add_argument("--page", type=int, help="page to draw; the middle one by default")
    parser.add_argument("--n", type=int, default=9, help="times that each is measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    figures: Figures = {"conditions": conditions(1, "streamlit", "pypdfium2")}
    with tempfile.TemporaryDirectory() as home:
        for file in args.files or [SAMPLE]:
            figures[file.name] = measure(Path(home), file, args.page, args.n)
    report(figures, as_json=args.json)


if __name__ == "__main__":
    main()
