"""The layout of the sample report: headings, tables, charts, footnotes and the page they stand on.

Built on reportlab's flowables. A page is given as a list of blocks and must fit: nothing flows on to the next page by
itself, so that the report keeps its page numbers when a sentence changes. Knows nothing of water.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_JUSTIFY
from reportlab.lib.pagesizes import letter
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Frame, Paragraph, Spacer
from sample_figures import STATEMENT_YEARS, amount, balance, flow

DISTRICT = "Tamarack Valley Water District"
FRONT_MATTER_PAGES = 4

PAGE_WIDTH, PAGE_HEIGHT = letter
MARGIN = 60.0
TOP, BOTTOM = PAGE_HEIGHT - 62, 62.0
TEXT_WIDTH = PAGE_WIDTH - 2 * MARGIN
GUTTER = 22.0

INK, BLUE, PALE, RULE = HexColor("#1c1f22"), HexColor("#1f4e66"), HexColor("#eef3f5"), HexColor("#8aa0ab")

BODY = ParagraphStyle(
    "body", fontName="Times-Roman", fontSize=10.2, leading=13.1, textColor=INK, alignment=TA_JUSTIFY, spaceAfter=6
)
HANGING = ParagraphStyle("hanging", parent=BODY, leftIndent=14, firstLineIndent=-14, spaceAfter=4)
SMALL = ParagraphStyle("small", parent=BODY, fontSize=8, leading=9.6, spaceAfter=1.5)
COLUMN = ParagraphStyle("column", parent=BODY, fontSize=9.8, leading=12.4, spaceAfter=5)
TITLES = {
    1: ParagraphStyle("h1", fontName="Helvetica-Bold", fontSize=17, leading=21, textColor=BLUE, spaceAfter=8),
    2: ParagraphStyle(
        "h2", fontName="Helvetica-Bold", fontSize=11, leading=14, textColor=BLUE, spaceBefore=5, spaceAfter=3
    ),
}


class Heading(Paragraph):
    """A heading that is also a bookmark; `level` 1 opens a chapter, 2 a section."""

    def __init__(self, level: int, title: str) -> None:
        super().__init__(title, TITLES[level])
        self.level, self.title = level, title

    def draw(self) -> None:
        """Draw the block with its lower left corner at the origin."""
        key = f"h{self.level}-{self.title}"
        self.canv.bookmarkPage(key, fit="XYZ", left=0, top=self.canv.absolutePosition(0, self.height + 12)[1])
        self.canv.addOutlineEntry(self.title, key, level=self.level - 1)
        super().draw()


@dataclass(frozen=True)
class Row:
    """One line of a table. `kind` is "plain", "total" (ruled and bold) or "section" (a bold label)."""

    cells: tuple[str, ...]
    kind: str = "plain"


class Table(Flowable):
    """A numbered table: title above, unit in brackets under it, every row drawn left to right on one baseline.

    `align` has one letter for each column, l, r or c. Columns share the page width in proportion to their widest
    cell. Header cells may have several lines. Cells never wrap: one that does not fit is an error.
    """

    def __init__(
        self,
        number: str,
        title: str,
        unit: str,
        header: Sequence[str],
        rows: Sequence[Row],
        align: str,
        size: float = 8.2,
    ) -> None:
        super().__init__()
        self.number, self.title, self.unit = number, title, unit
        self.header, self.rows, self.align, self.size = header, rows, align, size
        self.spaceBefore, self.spaceAfter = 6, 7
        self.row_height = size + 4.6
        self.head_lines = max(cell.count("\n") + 1 for cell in header)
        for row in rows:
            if row.kind != "section" and len(row.cells) != len(header):
                raise ValueError(f"table {number}: {len(row.cells)} cells under {len(header)} headers: {row.cells}")

    def wrap(self, available_width: float, _available_height: float) -> tuple[float, float]:
        """Return the width and height that the block takes."""
        natural = [self._natural_width(column) for column in range(len(self.header))]
        spare = available_width - sum(natural)
        if spare < 0:
            raise ValueError(f"table {self.number} is {-spare:.0f} points too wide")
        self.widths = [width + spare / len(natural) for width in natural]
        self.width = available_width
        self.caption_height = 14.0 + (11.0 if self.unit else 0.0)
        self.head_height = self.head_lines * (self.size + 1.8) + 6
        self.height = self.caption_height + self.head_height + len(self.rows) * self.row_height + 4
        return self.width, self.height

    def draw(self) -> None:
        """Draw the block with its lower left corner at the origin."""
        canvas, y = self.canv, self.height
        canvas.setFillColor(BLUE)
        canvas.setFont("Helvetica-Bold", 9)
        canvas.drawString(0, y - 9, f"Table {self.number}. {self.title}")
        if self.unit:
            canvas.setFillColor(INK)
            canvas.setFont("Helvetica-Oblique", 8)
            canvas.drawString(0, y - 20, f"({self.unit})")
        y -= self.caption_height
        canvas.setFillColor(PALE)
        canvas.rect(0, y - self.head_height, self.width, self.head_height, stroke=0, fill=1)
        self._rule(y, 0.9)
        for line in range(self.head_lines):
            cells = [self._head_line(cell, line) for cell in self.header]
            self._cells(cells, y - self.size - 3 - line * (self.size + 1.8), "Helvetica-Bold")
        y -= self.head_height
        self._rule(y, 0.5)
        for row in self.rows:
            if row.kind == "total":
                self._rule(y - 1, 0.35)
            bold = row.kind != "plain"
            y -= self.row_height
            self._cells(row.cells, y + 3.4, "Helvetica-Bold" if bold else "Helvetica")
        self._rule(y - 2, 0.9)

    def _head_line(self, cell: str, line: int) -> str:
        """The header's lines stand at the bottom of its box, so that short headers touch the first row."""
        lines = cell.split("\n")
        lines = [""] * (self.head_lines - len(lines)) + lines
        return lines[line]

    def _natural_width(self, column: int) -> float:
        texts = [(line, "Helvetica-Bold") for line in self.header[column].split("\n")]
        texts += [(row.cells[column], "Helvetica-Bold") for row in self.rows if row.kind != "section"]
        return max(stringWidth(text, font, self.size) for text, font in texts) + 8

    def _cells(self, cells: Sequence[str], y: float, font: str) -> None:
        self.canv.setFillColor(INK)
        self.canv.setFont(font, self.size)
        x = 0.0
        for cell, width, align in zip(cells, self.widths, self.align, strict=False):
            if align == "l":
                self.canv.drawString(x + 4, y, cell)
            elif align == "r":
                self.canv.drawRightString(x + width - 4, y, cell)
            else:
                self.canv.drawCentredString(x + width / 2, y, cell)
            x += width

    def _rule(self, y: float, thickness: float) -> None:
        self.canv.setStrokeColor(RULE)
        self.canv.setLineWidth(thickness)
        self.canv.line(0, y, self.width, y)


class BarChart(Flowable):
    """A small bar chart with the value over each bar and its label below."""

    def __init__(
        self, title: str, labels: Sequence[str], values: Sequence[float], form: str, height: float = 96
    ) -> None:
        super().__init__()
        self.title, self.labels, self.values, self.form, self.height = title, labels, values, form, height
        self.spaceBefore, self.spaceAfter = 6, 8

    def wrap(self, available_width: float, _available_height: float) -> tuple[float, float]:
        """Return the width and height that the block takes."""
        self.width = available_width
        return self.width, self.height

    def draw(self) -> None:
        """Draw the block with its lower left corner at the origin."""
        canvas = self.canv
        canvas.setFillColor(BLUE)
        canvas.setFont("Helvetica-Bold", 9)
        canvas.drawString(0, self.height - 9, self.title)
        room, step = self.height - 46, self.width / len(self.values)
        canvas.setFont("Helvetica", 7.5)
        for index, (label, value) in enumerate(zip(self.labels, self.values, strict=True)):
            bar = room * value / max(self.values)
            middle = (index + 0.5) * step
            canvas.setFillColor(RULE)
            canvas.rect(middle - step * 0.32, 12, step * 0.64, bar, stroke=0, fill=1)
            canvas.setFillColor(INK)
            canvas.drawCentredString(middle, 15 + bar, self.form.format(value))
            canvas.drawCentredString(middle, 3, label)


class Leader(Flowable):
    """One line of a list of contents: text, dots, page label; a click on it goes to the page.

    `level` is that of the heading, or 3 for the line of a table.
    """

    def __init__(self, text: str, label: str, level: int, target: str | None) -> None:
        super().__init__()
        self.text, self.label, self.level, self.target = text, label, level, target

    def wrap(self, available_width: float, _available_height: float) -> tuple[float, float]:
        """Return the width and height that the block takes."""
        self.width, self.height = available_width, {1: 14.6, 2: 12.2, 3: 10.3}[self.level]
        return self.width, self.height

    def draw(self) -> None:
        """Draw the block with its lower left corner at the origin."""
        font, size = {1: ("Helvetica-Bold", 9.2), 2: ("Times-Roman", 9.8), 3: ("Times-Roman", 9.2)}[self.level]
        canvas, indent = self.canv, 14 if self.level == 2 else 0
        canvas.setFillColor(INK)
        canvas.setFont(font, size)
        start = indent + stringWidth(self.text, font, size) + 5
        end = self.width - stringWidth(self.label, font, size) - 5
        dots = "." * int((end - start) / stringWidth(".", font, size))
        canvas.drawString(indent, 2, self.text)
        canvas.drawRightString(end, 2, dots)
        canvas.drawRightString(self.width, 2, self.label)
        if self.target:
            canvas.linkRect("", self.target, (0, 0, self.width, self.height), relative=1, thickness=0)


@dataclass(frozen=True)
class Page:
    """One printed page: what stands on it, and the name of its chapter for the running header."""

    chapter: str
    blocks: list[Flowable] = field(default_factory=list)
    footnotes: tuple[str, ...] = ()
    columns: int = 1
    image: Callable[[Canvas], None] | None = None  # draws the whole page instead: the cover and the scan


def page_label(page_number: int) -> str:
    """What is printed on page `page_number` (from 1) of the file."""
    if page_number <= FRONT_MATTER_PAGES:
        return ("i", "ii", "iii", "iv")[page_number - 1]
    return str(page_number - FRONT_MATTER_PAGES)


def prose(*paragraphs: str) -> list[Flowable]:
    return [Paragraph(paragraph, BODY) for paragraph in paragraphs]


def items(*paragraphs: str) -> list[Flowable]:
    return [Paragraph(paragraph, HANGING) for paragraph in paragraphs]


def notes(*paragraphs: str) -> list[Flowable]:
    """Small print right under a table."""
    return [*(Paragraph(paragraph, SMALL) for paragraph in paragraphs), Spacer(1, 5)]


def rows(table: dict[str, tuple[int, ...]], with_total: str = "") -> list[Row]:
    """A table of figures by row; `with_total` names a last row with the sums."""
    printed = [Row((name, *(amount(value) for value in values))) for name, values in table.items()]
    if with_total:
        sums = [sum(column) for column in zip(*table.values(), strict=True)]
        printed.append(Row((with_total, *(amount(value) for value in sums)), "total"))
    return printed


def by_year(label: str, figure: Callable[[int], int], kind: str = "plain") -> Row:
    """A row of a financial statement."""
    return Row((label, *(amount(figure(year)) for year in STATEMENT_YEARS)), kind)


def flows(names: Sequence[str], sign: int = 1) -> list[Row]:
    return [Row((name, *(amount(sign * flow(name, year)) for year in STATEMENT_YEARS))) for name in names]


def balances(names: Sequence[str]) -> list[Row]:
    return [Row((name, *(amount(balance(name, year)) for year in STATEMENT_YEARS))) for name in names]


def section(label: str) -> Row:
    return Row((label,), "section")


def draw_header(canvas: Canvas, chapter: str) -> None:
    canvas.setStrokeColor(RULE)
    canvas.setLineWidth(0.5)
    canvas.line(MARGIN, TOP + 14, PAGE_WIDTH - MARGIN, TOP + 14)
    canvas.setFillColor(BLUE)
    canvas.setFont("Helvetica", 8)
    canvas.drawString(MARGIN, TOP + 19, chapter)
    canvas.drawRightString(PAGE_WIDTH - MARGIN, TOP + 19, DISTRICT)


def draw_footer(canvas: Canvas, label: str) -> None:
    canvas.setFillColor(BLUE)
    canvas.setFont("Helvetica", 8)
    canvas.drawString(MARGIN, 36, "Annual Report 2024")
    canvas.drawRightString(PAGE_WIDTH - MARGIN, 36, label)


def draw_page(canvas: Canvas, page: Page, label: str) -> None:
    """Draws one page, from the header to the footer, in the order in which it is read.

    Raises:
        ValueError: The page's blocks do not fit on it.
    """
    if page.image is not None:
        page.image(canvas)
        return
    footnotes = [Paragraph(f"<super>{number}</super> {note}", SMALL) for number, note in enumerate(page.footnotes, 1)]
    heights = [note.wrap(TEXT_WIDTH, PAGE_HEIGHT)[1] + 2 for note in footnotes]
    bottom = BOTTOM + sum(heights) + (8 if footnotes else 0)

    draw_header(canvas, page.chapter)
    draw_blocks(canvas, page, label, bottom)
    if footnotes:
        canvas.setStrokeColor(RULE)
        canvas.line(MARGIN, bottom - 5, MARGIN + 120, bottom - 5)
    y = bottom - 8
    for note, height in zip(footnotes, heights, strict=True):
        y -= height
        note.drawOn(canvas, MARGIN, y)
    draw_footer(canvas, label)


def draw_blocks(canvas: Canvas, page: Page, label: str, bottom: float) -> None:
    """Fills the page's columns down to `bottom`. Only pages in columns may break a paragraph."""
    blocks, top = list(page.blocks), TOP
    if page.columns > 1:
        heading = blocks.pop(0)
        _, used = heading.wrap(TEXT_WIDTH, TOP)
        heading.drawOn(canvas, MARGIN, top - used)
        top -= used + 8
    column_width = (TEXT_WIDTH - GUTTER * (page.columns - 1)) / page.columns
    for column in range(page.columns):
        x = MARGIN + column * (column_width + GUTTER)
        frame = Frame(
            x, bottom, column_width, top - bottom, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0
        )
        while blocks and frame.add(blocks[0], canvas):
            del blocks[0]
        parts = frame.split(blocks[0], canvas) if blocks and page.columns > 1 else []
        if parts:
            frame.add(parts[0], canvas)
            blocks[:1] = parts[1:]
    if blocks:
        raise ValueError(
            f"page {label} ({page.chapter}): {len(blocks)} blocks do not fit, the first is {blocks[0]!r:.120}"
        )
