"""Whether quotes are found again: random spans of page text, looked for in the whole document, and their boxes.

    python -m benchmarks.quotes FILE... [--n 20] [--draw PNG] [--json]

From each document N spans of 40 to 160 characters are taken from random pages, with line ends and runs of spaces made
single spaces as a quotation would have them. A quote counts as found when its page and characters come back (a passage
printed twice may be found at its first place: those are counted apart), and its boxes as right when the characters that
pdfium finds inside them are those of the quote. --draw keeps a picture of one page with the boxes of its quotes.
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import pypdfium2 as pdfium

from longleaf.ingestion import Document, Library, Page
from longleaf.retrieval import boxes_of, locate, locate_in_pages

SEED = 4


def spans(library: Library, document: Document, n: int) -> list[tuple[Page, int, int]]:
    """`n` random spans that begin and end with a word, at most one a page while pages last."""
    dice = random.Random(f"{SEED} {document.sha256}")
    numbers = [page.number for page in library.pages(document) if len(page.text) > 400]
    chosen: list[tuple[Page, int, int]] = []
    while len(chosen) < n:
        page = library.page(document, dice.choice(numbers))
        start = dice.randrange(len(page.text) - 200)
        start = page.text.index(" ", start) + 1 if " " in page.text[start : start + 100] else start
        end = min(len(page.text), start + dice.randrange(40, 160))
        while end > start and not page.text[end - 1].isalnum():
            end -= 1
        if end - start > 20:
            chosen.append((page, start, end))
    return chosen


def boxes_hold(pdf: pdfium.PdfDocument, page: Page, start: int, end: int) -> bool:
    """Whether pdfium reads the quote's characters inside its boxes (drawn in by half a point: neighbours stay out)."""
    text_page = pdf[page.number - 1].get_textpage()
    read = "".join(
        text_page.get_text_bounded(left=x0 + 0.5, right=x1 - 0.5, top=page.height - y0, bottom=page.height - y1)
        for x0, y0, x1, y1 in boxes_of(page, start, end)
    )
    wanted = Counter(c for c in page.text[start:end] if c.isalnum())
    missing = wanted - Counter(c for c in read if c.isalnum())
    return missing.total() <= max(2, wanted.total() // 20)


def draw(pdf: pdfium.PdfDocument, page: Page, marked: list[tuple[int, int]], file: Path) -> None:
    """The page with the boxes of these spans over it."""
    from PIL import Image, ImageDraw

    scale = 110 / 72
    picture = pdf[page.number - 1].render(scale=scale).to_pil().convert("RGBA")
    layer = Image.new("RGBA", picture.size)
    pen = ImageDraw.Draw(layer)
    for start, end in marked:
        for box in boxes_of(page, start, end):
            pen.rectangle([scale * value for value in box], fill=(255, 210, 40, 110), outline=(220, 120, 0, 255))
    Image.alpha_composite(picture, layer).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
        file, optimize=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--n", type=int, default=20, help="quotes from each document")
    parser.add_argument("--draw", type=Path, metavar="PNG", help="keep a picture of one page with boxes")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    figures: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as home, Library(home) as library:
        for file in args.files:
            document = library.add(file).document
            pdf = pdfium.PdfDocument(library.file(document))
            counts: Counter[str] = Counter(quotes=0, on_their_page=0, at_an_earlier_twin=0, not_found=0, boxes_right=0)
            chosen = spans(library, document, args.n)
            for page, start, end in chosen:
                quote = " ".join(page.text[start:end].split())
                place = locate_in_pages(quote, library.pages(document))
                counts["quotes"] += 1
                if place is None:
                    counts["not_found"] += 1
                elif place.page == page.number and locate(quote, page.text) is not None:
                    counts["on_their_page"] += 1
                else:
                    counts["at_an_earlier_twin"] += 1
                counts["boxes_right"] += boxes_hold(pdf, page, start, end)
            figures[file.name] = dict(counts)
            if args.draw and file == args.files[0]:
                page = chosen[0][0]
                thirds = [len(page.text) * i // 4 for i in (1, 2, 3)]
                draw(pdf, page, [(chosen[0][1], chosen[0][2]), *((at, at + 90) for at in thirds)], args.draw)
            pdf.close()
    if not args.json:
        for name, counted in figures.items():
            print(f"{name:36} " + "  ".join(f"{key} {value}" for key, value in counted.items()))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
