import os
import signal
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from longleaf.errors import DamagedFileError, ParserLimitError, PasswordError
from longleaf.ingestion.boxes import decode_boxes
from longleaf.ingestion.parser_process import ParsedPage, ParserLimits, ParserProcess, ParserStoppedError

QUICK = ParserLimits(open_s=5, page_s=0.5, ocr_s=1, lost_s=30)


@pytest.fixture
def fake(tmp_path):
    """A parser whose process runs a few lines of our own for each page: `fake("if n == 2: …")`."""

    def make(on_page, *, on_open="", limits=QUICK):
        script = tmp_path / "fake_worker.py"
        script.write_text(
            textwrap.dedent("""
            import os, sys, time
            from longleaf.ingestion.wire import encode_frame, read_frame

            def reply(header, payload=b""):
                sys.stdout.buffer.write(encode_frame(header, payload))
                sys.stdout.buffer.flush()

            while (frame := read_frame(sys.stdin.buffer)) is not None:
                ON_OPEN
                reply({"opened": 9})
                for n in frame[0].get("numbers", []):
                    text = b"page %d" % n
                    ON_PAGE
                    reply({"page": n, "source": "text", "note": "", "width": 1, "height": 1, "n_text": len(text)}, text)
            """)
            .replace("ON_OPEN", on_open or "pass")
            .replace("ON_PAGE", on_page)
        )
        return ParserProcess(limits, command=[sys.executable, str(script)])

    return make


def read(parser, tmp_path, numbers=(1, 2, 3)):
    with parser:
        return [page for page in parser.pages(tmp_path / "x.pdf", list(numbers)) if isinstance(page, ParsedPage)]


def test_the_worker_reads_text_and_boxes(make_pdf, tmp_path):
    path = make_pdf(["one", "two"])
    with ParserProcess() as parser:
        opened = parser.open(path, scratch=tmp_path / "copy")
        pages = list(parser.pages(path, [1, 2]))
        again = list(parser.pages(path, [2]))
    assert opened.n_pages == 2
    assert opened.metadata["Title"] == "A Made Document"
    assert opened.copy is None
    assert [page.text for page in pages] == ["one", "two"]
    assert again == pages[1:]
    assert decode_boxes(pages[0].boxes).shape == (3, 4)


def test_one_process_serves_many_files(make_pdf, tmp_path):
    pids = set()
    with ParserProcess() as parser:
        for i in range(3):
            path = make_pdf([f"file {i}"], name=f"{i}.pdf")
            parser.open(path, scratch=tmp_path / "copy")
            assert [page.text for page in parser.pages(path, [1])] == [f"file {i}"]
            pids.add(parser._process.pid)
    assert len(pids) == 1


def test_a_page_that_hangs_is_lost_and_the_next_is_read(fake, tmp_path):
    pages = read(fake("if n == 2: time.sleep(60)"), tmp_path)
    assert [page.source for page in pages] == ["text", "none", "text"]
    assert pages[1].note == "not read: the parser took longer than 0.5 s"
    assert pages[2].text == "page 3"


def test_a_page_that_kills_the_process_is_lost_and_the_next_is_read(fake, tmp_path):
    pages = read(fake("if n == 2: os.kill(os.getpid(), 11)"), tmp_path)
    assert [page.source for page in pages] == ["text", "none", "text"]
    assert pages[1].note == "not read: the parser crashed (signal 11)"


def test_a_process_that_ends_says_why(fake, tmp_path):
    pages = read(fake("if n == 3: sys.exit('out of luck')"), tmp_path)
    assert pages[2].note == "not read: the parser ended (code 1: out of luck)"


def test_a_page_under_ocr_gets_more_time(fake, tmp_path):
    pages = read(fake("if n == 2: reply({'ocr': 2}); time.sleep(0.9)"), tmp_path)
    assert [page.source for page in pages] == ["text", "text", "text"]


def test_a_file_that_hangs_the_parser_on_opening_is_an_error(fake, tmp_path):
    limits = ParserLimits(open_s=0.3)
    message = r"x\.pdf: it could not be opened: the parser took longer than 0.3"
    with (
        fake("pass", on_open="time.sleep(60)", limits=limits) as parser,
        pytest.raises(ParserLimitError, match=message),
    ):
        parser.open(tmp_path / "x.pdf", scratch=tmp_path / "copy")


def test_lost_pages_end_when_they_take_too_long_together(fake, tmp_path):
    limits = ParserLimits(open_s=5, page_s=0.2, lost_s=0.5)
    with pytest.raises(ParserLimitError, match="given up at page 3"):
        read(fake("time.sleep(60)", limits=limits), tmp_path, range(1, 9))


def test_structure_that_hangs_the_parser_is_a_warning(fake, tmp_path):
    with fake("pass", limits=ParserLimits(open_s=0.5)) as parser:  # answers "opened" and then nothing
        opened = parser.open(tmp_path / "x.pdf", scratch=tmp_path / "copy")
    assert opened.n_pages == 9
    assert "could not be read" in opened.warnings[0]


def test_the_real_worker_killed_in_the_middle_loses_one_page(make_pdf):
    path = make_pdf([f"page {i}" for i in range(1, 300)])
    with ParserProcess() as parser:
        pages = []
        for page in parser.pages(path, range(1, 300)):
            pages.append(page)
            if len(pages) == 1:
                os.kill(parser._process.pid, signal.SIGKILL)
    assert [page.number for page in pages] == list(range(1, 300))
    assert sum(page.source == "none" for page in pages) <= 1  # 0 if all was in the pipe already


def test_memory_is_limited(make_pdf):
    def draw(c):
        c.setFont("Helvetica", 4)
        for i in range(1000):
            c.drawString(10, 5_900 - i * 5.5, "word " * 200)

    path = make_pdf(["small", draw, "small again"], size=(800, 6_000))
    with ParserProcess(ParserLimits(memory_bytes=100 * 2**20)) as parser:
        pages = list(parser.pages(path, [1, 2, 3]))
    assert [page.source for page in pages] == ["text", "none", "text"]
    assert pages[1].note


def test_errors_come_back_as_what_they_are(make_pdf, tmp_path):
    path = tmp_path / "broken.pdf"
    path.write_bytes(b"%PDF-1.4\nnothing\n%%EOF\n")
    with ParserProcess() as parser, pytest.raises(DamagedFileError, match=r"named\.pdf: .*broken") as caught:
        parser.open(path, scratch=tmp_path / "copy", name=tmp_path / "named.pdf")
    assert not isinstance(caught.value, PasswordError)


def test_stopping_from_another_thread_ends_the_wait(fake, tmp_path):
    parser = fake("time.sleep(60)", limits=ParserLimits(page_s=30))
    threading.Timer(0.6, parser.interrupt).start()
    started = time.monotonic()
    with pytest.raises(ParserStoppedError):
        read(parser, tmp_path)
    assert time.monotonic() - started < 5


def test_the_worker_ends_with_its_parent(tmp_path):
    parser = ParserProcess()
    parser._start()
    process = parser._process
    process.stdin.close()
    assert process.wait(10) == 0
    parser.stop()


def test_images_are_drawn(make_pdf):
    image = pytest.importorskip("PIL.Image")
    import io

    path = make_pdf(["words"], size=(200, 100))
    with ParserProcess() as parser:
        picture = image.open(io.BytesIO(parser.image(path, 1, 72)))
        with pytest.raises(DamagedFileError):
            parser.image(path.with_name("missing.pdf"), 1, 72)
    assert picture.size == (200, 100)
    assert np.asarray(picture).min() < 128
