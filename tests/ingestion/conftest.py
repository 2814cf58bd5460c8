"""PDFs made on the spot, and a library in a temporary folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

MakePdf = Callable[..., Path]


@pytest.fixture
def make_pdf(tmp_path: Path) -> MakePdf:
    """`make_pdf(pages, name=…, size=…, draw=…)`: each page is a text, or a function that draws on the canvas."""

    def make(pages, name="made.pdf", size=(400, 300), draw=None) -> Path:
        path = tmp_path / name
        canvas = Canvas(str(path), pagesize=size)
        canvas.setTitle("A Made Document")
        if draw is not None:
            draw(canvas)
        for page in pages:
            if callable(page):
                page(canvas)
            else:
                text = canvas.beginText(40, size[1] - 40)
                text.setFont("Helvetica", 10)
                for line in page.split("\n"):
                    text.textLine(line)
                canvas.drawText(text)
            canvas.showPage()
        canvas.save()
        return path

    return make


@pytest.fixture
def draw_scan() -> Callable[[Canvas], None]:
    """Draws a page that is nothing but a picture of text."""
    image = pytest.importorskip("PIL.Image")
    drawing = pytest.importorskip("PIL.ImageDraw")
    font = pytest.importorskip("PIL.ImageFont").load_default(48)
    reader = pytest.importorskip("reportlab.lib.utils").ImageReader

    def draw(canvas: Canvas) -> None:
        picture = image.new("L", (1600, 1200), 255)
        drawing.Draw(picture).text((200, 200), "The reservoir holds", font=font, fill=0)
        drawing.Draw(picture).text((200, 300), "4321 million litres", font=font, fill=0)
        canvas.drawImage(reader(picture), 0, 0, 400, 300)

    return draw
