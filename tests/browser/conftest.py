"""A real server and a real browser for these tests; skipped, with the way out, where there is no Chromium."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.app_browser import AppPage
from benchmarks.app_server import AppServer, chromium_path, launch_chromium

from longleaf.model import is_installed

Open = Callable[..., AppPage]


@pytest.fixture(
    scope="module"
)  # Playwright's event loop runs while this is open: async tests elsewhere need none running
def chromium() -> Iterator[Any]:
    if chromium_path() is None:
        pytest.skip("no Chromium here: apt install chromium")
    if not (is_installed("embedded") and is_installed("smollm2-135m")):
        pytest.skip("no weights here: run `longleaf model pull embedded smollm2-135m`")
    with launch_chromium() as browser:
        yield browser


@pytest.fixture
def open_app(chromium: Any) -> Iterator[Open]:
    """Opens a page of a server in a browser of its own (own cookies), and closes it at the end of the test.

    A page on which Streamlit shows an exception fails the test.
    """
    contexts = []

    def open_page(server: AppServer, path: str = "/", **options: Any) -> AppPage:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 720}} | options))
        context.set_default_timeout(90_000)  # two cores may be busy with other tests
        contexts.append(context)
        return AppPage(context.new_page(), server.url).open(path)

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.locator('[data-testid="stException"]').count() == 0
        context.close()


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., AppServer]]:
    """Starts servers on libraries of their own; those that still run at the end of the module are ended."""
    servers = []

    def start(name: str, **options: Any) -> AppServer:
        home: Path = tmp_path_factory.mktemp(name) / "home"
        server = AppServer(home, **options)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()
