"""Stop, several people at once, files that can't be read, a long file, and a server that dies: in a real browser."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.app_browser import AppPage
from benchmarks.app_server import AppServer
from playwright.sync_api import TimeoutError  # noqa: A004
from reportlab.pdfgen import canvas

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]

SAMPLE = Path(__file__).parents[2] / "examples" / "tamarack-valley-water-2024.pdf"

Start = Callable[..., AppServer]
Open = Callable[..., AppPage]


@pytest.fixture(scope="module")
def server(start_server: Start) -> AppServer:
    return start_server("together")


@pytest.fixture(scope="module")
def log_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of some 800 tokens: it fits the reader, which takes several seconds to read it."""
    path = tmp_path_factory.mktemp("files") / "log book.txt"
    lines = (
        f"Day {n}: {n % 7} ships passed, the wind was {n % 9} Beaufort, oil {n * 3} gallons." for n in range(1, 28)
    )
    path.write_text("The log book of Fastnet lighthouse.\n" + "\n".join(lines))
    return path


def pdf(path: Path, n_pages: int) -> Path:
    drawing = canvas.Canvas(str(path), invariant=True)
    for number in range(1, n_pages + 1):
        drawing.drawString(72, 700, f"Sheet {number}: the keeper of light {number} is called Keeper{number:04d}.")
        drawing.showPage()
    drawing.save()
    return path


def test_a_bad_file_among_good_ones_says_why_and_the_others_go_in(
    server: AppServer, open_app: Open, tmp_path: Path
) -> None:
    app = open_app(server)
    bad = tmp_path / "broken.pdf"
    bad.write_bytes(b"%PDF-1.7\nnothing that follows")
    app.upload([pdf(tmp_path / "three.pdf", 3), bad, pdf(tmp_path / "four.pdf", 4)])
    app.wait_for_text("3 pages in")
    app.wait_for_text("4 pages in")
    text = app.text()
    assert "broken.pdf" in text
    assert "Traceback" not in text
    app.upload([pdf(tmp_path / "three again.pdf", 3)])
    app.wait_for_text("already in the library as three.pdf")


def test_a_file_of_500_pages_shows_how_far_it_is_and_can_be_asked(
    server: AppServer, open_app: Open, tmp_path: Path
) -> None:
    app = open_app(server)
    app.upload([pdf(tmp_path / "lights.pdf", 500)])
    app.page.get_by_text("of 500").or_(app.page.get_by_text("embedding passages")).first.wait_for()
    app.wait_for_text("500 pages in", timeout_s=300)
    app.ask("Who is the keeper of light 412?")
    app.answered()
    app.chips().first.click()
    app.page.locator(".ll-mark").first.wait_for()
    assert "Keeper0412" in app.answers()[-1]
    assert app.page.get_by_role("spinbutton", name="Page").input_value() == "412"


def test_stop_ends_reading(server: AppServer, open_app: Open, log_book: Path) -> None:
    app = open_app(server)
    app.upload([log_book])
    has_it(app)
    app.ask("How many ships passed on day 20?")
    app.page.get_by_text("reads").first.wait_for()  # "… reads (tokens): 512 of 802"
    time.sleep(2)
    stop(app)


def test_two_people_ask_and_one_stops(server: AppServer, open_app: Open, log_book: Path) -> None:
    first, second = open_app(server), open_app(server)
    for app in (first, second):
        app.upload([log_book])
        has_it(app)
    first.ask("What was the wind on day 11?")
    first.page.get_by_text("reads").first.wait_for()
    second.ask("What was the wind on day 12?")
    second.page.get_by_text("in line").first.wait_for()
    # A page view is not held up by the reading.
    second.button("log book.txt").click()
    second.page.get_by_text("The log book of Fastnet lighthouse").first.wait_for()
    assert not first.answers()
    stop(first)
    second.answered()
    assert "Day 12" in second.text() or "wind" in second.answers()[0]


def test_stop_ends_an_answer_that_is_being_written(server: AppServer, open_app: Open, tmp_path: Path) -> None:
    app = open_app(server)
    oath = tmp_path / "oath.txt"
    duties = (
        "trim the wick, wind the clock, fill the lamp, clean the glass, oil the bearings, write the log, watch the sea"
    )
    oath.write_text(
        f"The oath of the keepers.\n\nThe keeper swears to {duties}, and to {duties[::-1]}, and to {duties}.\n"
    )
    app.upload([oath])
    app.wait_for_text("1 page in")
    app.ask("What does the keeper swear to, word for word?")
    app.page.locator(".ll-draft").first.wait_for(timeout=60_000)
    stop(app)
    assert app.page.locator(".ll-draft").count() == 1, "what was written so far stays"


def test_a_server_that_is_killed_in_the_middle_of_an_answer_loses_no_chat(
    start_server: Start, open_app: Open, log_book: Path
) -> None:
    server = start_server("killed", environment={"LONGLEAF_READER": "smollm2-135m"})
    app = open_app(server)
    app.upload([log_book])
    has_it(app)
    app.ask("What was the wind on day 21?")
    app.page.get_by_text("reads").first.wait_for()
    address = app.page.url.removeprefix(server.url)
    server.kill()
    server.start()
    again = open_app(server, address)
    again.wait_for_text("What was the wind on day 21?")
    again.wait_for_text("Interrupted")
    again.button("Ask again").click()
    again.answered()
    assert "Traceback" not in server.log_path.read_text()


def has_it(app: AppPage) -> None:
    """Waits until the log book is in the library, now or from before."""
    try:
        app.page.get_by_text(re.compile(r"log book\.txt: (\d+ pages? in|already)")).first.wait_for()
    except TimeoutError as exc:
        raise AssertionError(f"the page has only: {app.text()}") from exc


def stop(app: AppPage) -> None:
    """Clicks Stop, at once (Playwright's own click waits until the page stands still), and waits for what it says."""
    app.page.locator("[class*=st-key-stop-turn] button").dispatch_event("click")
    app.page.get_by_text("Stopped").first.wait_for()
    app.settle()
    assert app.answers() == ["Stopped before the answer was complete."]
