"""How long the library page takes to open with many documents, in a real browser on a real server.

    python -m benchmarks.library_page [--documents 1000] [--json]

The documents are short texts, taken in as users' files are (`Library.add_many`) and not embedded. Measured is the time
from the click on "Library" until its table and its list of names are drawn, on a server that is already in use; and
from loading the page's address in a new tab, which has Streamlit's own scripts to load as well.
"""

import argparse
import tempfile
import time
from pathlib import Path

from longleaf.ingestion import Library

from .app_browser import AppPage
from .app_server import AppServer, launch_chromium
from .measuring import Figures, conditions, judged, report, seconds, spread

REPEATS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        fill(home, Path(folder), args.documents)
        server = AppServer(home, environment={"LONGLEAF_READER": "none"}).start()
        try:
            figures = measure(server)
        finally:
            server.stop()
    report({"conditions": conditions(0, "streamlit"), "documents": args.documents} | figures, as_json=args.json)


def fill(home: Path, folder: Path, n_documents: int) -> None:
    paths = []
    for number in range(n_documents):
        path = folder / f"letter {number:04d}.txt"
        path.write_text(f"Letter {number} of the harbour board.\n\nCrane {number} was oiled.\n", encoding="utf-8")
        paths.append(path)
    with Library(home) as library:
        for _ in library.add_many(paths):
            pass


def measure(server: AppServer) -> Figures:
    with launch_chromium() as browser:
        app = AppPage(browser.new_page(), server.url).open()

        def drawn() -> None:
            app.page.locator("[data-testid=stDataFrame]").wait_for()
            app.page.get_by_text("Or choose by name").wait_for()

        def click() -> None:
            app.page.get_by_role("link", name="Library").click()
            drawn()

        def load() -> None:
            app.page.goto(f"{server.url}/library")
            drawn()

        clicks, loads = [], []
        for _ in range(REPEATS + 1):
            app.page.get_by_role("link", name="Ask").click()
            app.settle()
            time.sleep(0.5)
            clicks.append(seconds(click))
        for _ in range(REPEATS):
            loads.append(seconds(load))
        return {"seconds_from_click": judged(clicks[1:], at_most=1.0), "seconds_from_address": spread(loads)}


if __name__ == "__main__":
    main()
