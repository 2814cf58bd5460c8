"""Make the sample document: the 2024 annual report of a water district that does not exist.

    python examples/make_sample.py            # writes examples/tamarack-valley-water-2024.pdf
    python examples/make_sample.py --check    # exit code 1 if the committed file is not what this script makes

The report is a test of everything a PDF reader meets in a real one: page labels that differ from page numbers
(i-iv, then 1-36), bookmarks, running headers, wide tables, footnotes, figures that come twice with a small
difference (budget and actual, 2023 and 2024, two plants of like size), a page in two columns and a page that is only
a scan. `questions.jsonl` beside this file asks about it. The district, its places, people and numbers are invented.

The report is in four files beside this one, which only puts them together:

- `sample_figures.py`: the figures, as data; what must add up is computed, so the statements balance by construction;
- `sample_layout.py`: headings, tables, footnotes, pages;
- `sample_pages.py`: the forty pages, one function each, in the order in which they are printed;
- `sample_scan.py`: the page that is a picture.

The same script gives the same bytes: dates are fixed and the noise of the scan has a seed. Other versions of
reportlab, Pillow or zlib may pack the same pages into other bytes; `--check` says so when it fails.
"""

import argparse
import io
import sys
import zlib
from pathlib import Path

import PIL
import reportlab
from reportlab import rl_config
from reportlab.lib.pagesizes import letter
from reportlab.pdfgen.canvas import Canvas
from sample_figures import check_figures
from sample_layout import DISTRICT, FRONT_MATTER_PAGES, draw_page, page_label
from sample_pages import report_pages

SAMPLE_PATH = Path(__file__).with_name("tamarack-valley-water-2024.pdf")
TITLE = "Annual Report, Fiscal Year Ended June 30, 2024"
PUBLISHED = "D:20241210090000+00'00'"


def make_pdf() -> bytes:
    """The whole report as the bytes of a PDF file."""
    check_figures()
    rl_config.useA85 = 0  # keep streams binary: a fifth smaller
    packed = io.BytesIO()
    canvas = Canvas(packed, pagesize=letter, pageCompression=1, invariant=1, lang="en-US")
    canvas.setDateFormatter(lambda *_: PUBLISHED)
    canvas.setTitle(f"{DISTRICT} - {TITLE}")
    canvas.setAuthor(DISTRICT)
    canvas.setSubject("Annual report of a fictional water utility, made as a sample document for Longleaf")
    canvas.setKeywords("sample, annual report, water utility, fiscal year 2024")
    canvas.setCreator("examples/make_sample.py")
    canvas.showOutline()
    canvas.addPageLabel(0, style="ROMAN_LOWER", start=1)
    canvas.addPageLabel(FRONT_MATTER_PAGES, style="ARABIC", start=1)
    for page_number, page in enumerate(report_pages(), start=1):
        draw_page(canvas, page, page_label(page_number))
        canvas.showPage()
    canvas.save()
    return packed.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed file instead of writing it")
    arguments = parser.parse_args()
    made = make_pdf()
    if not arguments.check:
        SAMPLE_PATH.write_bytes(made)
        print(f"wrote {SAMPLE_PATH} ({len(made):,} bytes)")
        return 0
    if SAMPLE_PATH.exists() and SAMPLE_PATH.read_bytes() == made:
        print(f"{SAMPLE_PATH.name} is what this script makes")
        return 0
    print(
        f"{SAMPLE_PATH.name} is missing or differs from what this script makes with reportlab {reportlab.__version__}, "
        f"Pillow {PIL.__version__} and zlib {zlib.ZLIB_RUNTIME_VERSION}. If nothing here was changed, another version "
        "of one of these may be the reason; otherwise run the script without --check and commit the file.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
