"""Takes the pictures of the browser app that the README and docs/app.md show: `make screenshots`.

A real server on a library of its own, with the sample report; every page in light and in dark, and the Ask page on a
phone. Needs Chromium and the embedded models. The pictures go to docs/images/.
"""

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.app_browser import AppPage  # noqa: E402
from benchmarks.app_server import AppServer, launch_chromium  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SAMPLE = ROOT / "examples" / "tamarack-valley-water-2024.pdf"
SHORT = ROOT / "docs" / "planning.md"
QUESTION = "What was the total operating revenue in fiscal year 2024?"
WIDE = {"width": 1280, "height": 720}
PHONE = {"width": 390, "height": 844}


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, launch_chromium() as browser:
        server = AppServer(Path(folder) / "home").start()
        try:
            take_all(server, lambda **options: AppPage(browser.new_context(**options).new_page(), server.url))
        finally:
            server.stop()


def take_all(server: AppServer, new_page: Callable[..., AppPage]) -> None:
    """All pictures; the library is filled on the way, after its empty pages were taken."""

    def both(name: str, path: str, ready: Callable[[AppPage], object], viewport: dict[str, int] = WIDE) -> None:
        for scheme in ("light", "dark"):
            app = new_page(viewport=viewport, color_scheme=scheme).open(path)
            ready(app)
            app.settle()
            app.page.wait_for_timeout(700)
            save(app.page.screenshot(), f"{name}-{scheme}")
            app.page.context.close()

    both("first-visit", "/", lambda app: app.wait_for_text("Drop in a report"))
    app = new_page(viewport=WIDE).open()
    app.upload([SAMPLE])
    app.wait_for_text("40 pages in")
    app.ask(QUESTION)
    app.answered()
    app.chips().first.click()
    app.page.locator(".ll-mark").first.wait_for()
    app.settle()
    address = app.page.url.removeprefix(server.url)
    app.page.get_by_role("link", name="Library").click()  # a short document, as its summary is to be there soon
    app.settle()
    app.upload([SHORT])
    app.wait_for_text(f"{SHORT.name}: ")
    app.page.get_by_role("link", name="Summaries").click()
    app.settle()
    app.button("Summarise").click()
    app.page.locator(".ll-answer").first.wait_for(timeout=300_000)
    app.settle()
    summary = app.page.url.removeprefix(server.url)
    app.page.context.close()

    def marked(app: AppPage) -> None:
        app.page.locator(".ll-mark").first.wait_for()

    both("ask", address, marked)
    both("phone", address.split("&document")[0], lambda app: app.answered(), PHONE)
    both("library", "/library", lambda app: app.wait_for_text("Or choose by name"))
    both("summary", summary, lambda app: app.page.locator(".ll-answer").first.wait_for())
    both("models", "/models", lambda app: app.page.locator("[data-testid=stVegaLiteChart]").first.wait_for())


def save(png: bytes, name: str) -> None:
    """Keeps a picture with 256 colours: a quarter of the bytes, and nobody sees it."""
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)
    print(IMAGES / f"{name}.png")


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        sys.exit("make screenshots needs Chromium: apt install chromium")
    main()
