"""The scanned page of the sample report: the auditor's letter as a picture, without a text layer.

Turned by half a degree, a little blurred, with noise from a fixed seed. What it says stands nowhere else in the report.
"""

import io
import math
import random
from pathlib import Path

import reportlab
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from sample_layout import PAGE_HEIGHT, PAGE_WIDTH

SCAN_DPI = 150
SCAN_LETTER = (
    ("bold", "Crestwell Hobbs Dane"),
    ("small", "Certified Public Accountants - 77 Tanner's Quay, Fennimore"),
    ("gap", ""),
    ("body", "October 18, 2024"),
    ("gap", ""),
    ("body", "To the Board of Directors"),
    ("body", "Tamarack Valley Water District, Port Ansel"),
    ("gap", ""),
    ("bold", "Independent auditor's letter"),
    (
        "wrap",
        "We have audited the financial statements of the Tamarack Valley Water District as of June 30, 2024 and "
        "for the year then ended, and the notes that belong to them. In our opinion they present fairly, in all "
        "material respects, the financial position of the District and the changes in it, in accordance with "
        "accounting principles generally accepted in the United States.",
    ),
    (
        "wrap",
        "Our work took 1,260 hours, of which 190 were spent at the two treatment plants counting materials. We "
        "confirmed balances with 64 customers and with all four lenders.",
    ),
    (
        "wrap",
        "We report one significant deficiency in internal control. Work orders for mains are closed, on average, "
        "74 days after the pipe is in service, so that depreciation starts late. Management has agreed to close "
        "them within 30 days from January 1, 2025. It is not a material weakness.",
    ),
    (
        "wrap",
        "We proposed three corrections, and the District recorded two of them. The third, an overstatement of unbilled "
        "water by $163,000, was not recorded because it is below our materiality of $1,450,000.",
    ),
    (
        "wrap",
        "Management is responsible for the statements; we are responsible for our opinion on them. We are "
        "independent of the District. The financial review on page 20 and the tables of Appendix A were read but "
        "not audited.",
    ),
    ("gap", ""),
    ("signature", ""),
    ("body", "Winifred A. Locksley, engagement partner"),
    ("body", "Crestwell Hobbs Dane"),
)


def scan_image() -> Image.Image:
    """The auditor's letter as a scanner would give it: grey paper, a little turned, a little noise."""
    width, height = round(8.5 * SCAN_DPI), 11 * SCAN_DPI
    fonts = Path(reportlab.__file__).parent / "fonts"  # Bitstream Vera comes with reportlab
    plain, bold = str(fonts / "Vera.ttf"), str(fonts / "VeraBd.ttf")
    styles = {
        "bold": ImageFont.truetype(bold, 25, layout_engine=ImageFont.Layout.BASIC),
        "body": ImageFont.truetype(plain, 21, layout_engine=ImageFont.Layout.BASIC),
        "small": ImageFont.truetype(plain, 17, layout_engine=ImageFont.Layout.BASIC),
    }
    sheet = Image.new("L", (width, height), 245)
    pen = ImageDraw.Draw(sheet)
    left, right, y = 165, width - 165, 170
    for kind, text in SCAN_LETTER:
        if kind == "gap":
            y += 30
        elif kind == "signature":
            strokes = [(left + 4 * t, y + 30 + round(22 * math.sin(t * 0.55) * math.cos(t * 0.13))) for t in range(70)]
            pen.line(strokes, fill=60, width=3)
            y += 78
        elif kind == "wrap":
            line = ""
            for word in text.split():
                longer = f"{line} {word}".strip()
                if pen.textlength(longer, font=styles["body"]) > right - left:
                    pen.text((left, y), line, fill=34, font=styles["body"])
                    y += 33
                    longer = word
                line = longer
            pen.text((left, y), line, fill=34, font=styles["body"])
            y += 54
        else:
            pen.text((left, y), text, fill=34, font=styles[kind])
            y += 38
    sheet = sheet.filter(ImageFilter.GaussianBlur(0.6)).rotate(0.5, resample=Image.Resampling.BILINEAR, fillcolor=236)
    noise = Image.frombytes("L", sheet.size, random.Random(2024).randbytes(width * height)).point(
        lambda value: value // 16
    )
    return Image.composite(sheet, Image.new("L", sheet.size, 205), noise.point(lambda value: 255 - 2 * value))


def draw_scan(canvas: Canvas) -> None:
    packed = io.BytesIO()
    scan_image().save(packed, "JPEG", quality=40, dpi=(SCAN_DPI, SCAN_DPI))
    packed.seek(0)
    canvas.drawImage(ImageReader(packed), 0, 0, PAGE_WIDTH, PAGE_HEIGHT)
    canvas.bookmarkPage("auditor")
    canvas.addOutlineEntry("Auditor's letter", "auditor", level=1)
