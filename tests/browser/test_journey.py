"""A person's whole way through the app, in a real browser, with the embedded models and the sample report."""

import io
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchmarks.app_browser import AppPage
from benchmarks.app_server import AppServer
from PIL import Image

from longleaf.ingestion import Library

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]

SAMPLE = Path(__file__).parents[2] / "examples" / "tamarack-valley-water-2024.pdf"
QUESTION = "What was the total operating revenue in fiscal year 2024?"


def test_from_the_first_visit_to_nothing_left(
    start_server: Callable[..., AppServer], open_app: Callable[..., AppPage]
) -> None:
    server = start_server("journey")
    app = open_app(server)
    assert "Drop in a report" in app.text()

    app.upload([SAMPLE])
    app.wait_for_text("40 pages in")

    app.ask(QUESTION)
    app.answered()  # so short that the page may miss its draft; drafts are looked for where an oath is written
    assert "77,197" in app.answers()[0]

    check_that_the_mark_lies_on_the_quoted_words(server, app)

    app.reload()
    assert "77,197" in app.answers()[0]
    assert app.page.locator(".ll-mark").count() >= 1, "the link in the address shows the same page and marks"

    exported = save(app, "Save as JSON")
    chat = json.loads(exported)
    assert chat["turns"][0]["question"] == QUESTION
    assert chat["turns"][0]["answer"]["citations"][0]["page"] > 0
    assert "77,197" in save(app, "Save as Markdown")

    sha256 = chat["turns"][0]["answer"]["citations"][0]["sha256"]
    remove_all(app)
    assert server.stop() == 0
    check_that_nothing_is_left(server.home, sha256, ("Tamarack", "77,197", "operating revenue"))


def check_that_the_mark_lies_on_the_quoted_words(server: AppServer, app: AppPage) -> None:
    """Compares the picture on the screen with the boxes of the quoted words, as the library has them."""
    app.chips().first.click()
    app.page.locator(".ll-mark").first.wait_for()
    app.settle()
    quoted = re.search(r"“(.+?)”", app.page.locator(".ll-quote").first.inner_text())
    number = re.search(r"p\. (\d+)", app.chips().first.inner_text())
    assert quoted
    assert number
    with Library(server.home) as library:
        (document,) = library.documents()
        page = library.page(document, int(number.group(1)))
    squeezed = [(i, c) for i, c in enumerate(page.text) if not c.isspace()]
    start = "".join(c for _, c in squeezed).index("".join(quoted.group(1).split()))
    n_chars = len("".join(quoted.group(1).split()))
    boxes = page.boxes[[i for i, _ in squeezed[start : start + n_chars]]]

    picture = app.page.locator(".ll-page")
    shot = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("RGB")).astype(int)
    scale = shot.shape[1] / page.width
    yellow = (shot[..., 0] > 200) & (shot[..., 1] > 180) & (shot[..., 2] < 160)
    inside = np.zeros(shot.shape[:2], bool)
    for x0, y0, x1, y1 in boxes * scale:
        inside[round(y0) : round(y1) + 1, round(x0) : round(x1) + 1] = True
    dark = shot.sum(axis=2) < 250
    near = inside.copy()  # marks stand out a little, and fill the blanks between words
    for _ in range(round(4 * scale)):
        near[1:] |= near[:-1]
        near[:-1] |= near[1:]
        near[:, 1:] |= near[:, :-1]
        near[:, :-1] |= near[:, 1:]
    rows = near.any(axis=1)
    columns = np.maximum.accumulate(near.any(axis=0)) & np.maximum.accumulate(near.any(axis=0)[::-1])[::-1]
    assert yellow[inside].mean() > 0.5, "the quoted words are marked"
    assert dark[inside].any(), "there are words under the mark"
    assert yellow[~np.outer(rows, columns)].mean() < 0.001, "and nothing else is"


def save(app: AppPage, name: str) -> str:
    app.page.locator(".st-key-chat-menu button").first.click()
    with app.page.expect_download() as download:
        app.button(name).click()
    text = Path(download.value.path()).read_text()
    app.page.keyboard.press("Escape")
    return text


def remove_all(app: AppPage) -> None:
    app.page.get_by_role("link", name="Library").click()
    app.settle()
    app.page.locator(".st-key-remove-chosen button").click()
    app.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    app.page.get_by_role("dialog").wait_for(state="detached")
    app.settle()


def check_that_nothing_is_left(home: Path, sha256: str, words: tuple[str, ...]) -> None:
    with sqlite3.connect(home / "longleaf.db") as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in ("documents", "pages", "passages", "embeddings", "chats", "turns", "summaries"):
            assert table in tables
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0, table
    connection.close()
    for path in home.rglob("*"):
        assert sha256[:12] not in path.name
        if path.is_file():
            content = path.read_bytes()
            for word in (*words, sha256):
                assert word.encode() not in content, (path, word)
    assert not list((home / "readings").rglob("*.safetensors"))
