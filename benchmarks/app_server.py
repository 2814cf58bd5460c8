"""A real server of the browser app and a real browser, for tests, measurements and screenshots.

The browser is the system's Chromium (Debian: `apt install chromium`), driven by Playwright, which is told where it is
and so fetches none.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["AppServer", "chromium_path", "launch_chromium"]

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
_FLAGS = [
    "--no-sandbox",  # it runs as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]


class AppServer:
    """`longleaf app` in a process of its own.

        server = AppServer(home)
        server.start()
        server.url
        server.stop()

    Args:
        home: Folder of the library.
        port: To listen on; a free one by default.
        environment: Settings, as LONGLEAF_<NAME>; those of the caller's environment don't reach the server, but for
            the models' folder.
        arguments: More words of the command line.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.home, self.port = home, port or free_port()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LONGLEAF_") or k == "LONGLEAF_MODELS_DIR"}
        self._environment = kept | {"LONGLEAF_HOME": str(home)} | (environment or {})
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the app is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """What the server wrote, over all its runs."""
        return self.home.with_name(self.home.name + ".log")

    def start(self) -> "AppServer":
        """Starts it and waits until it takes connections.

        Raises:
            RuntimeError: It ended, or took too long; quotes its log.
        """
        self._log = self.log_path.open("ab")
        command = [sys.executable, "-m", "longleaf", "app", "--port", str(self.port), *self._arguments]
        self._process = subprocess.Popen(
            command, env=self._environment, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        ending = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ending:
                raise RuntimeError(f"the server did not start:\n{self.log_path.read_text()[-3_000:]}")
            time.sleep(0.1)
        return self

    def stop(self) -> int:
        """Ends it as a service manager does; returns the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it with all that it started, without a word."""
        self._end(signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Resident memory of the server and what it started, pages that they share counted once."""
        assert self._process is not None
        root = psutil.Process(self._process.pid)
        return sum(each.memory_full_info().pss for each in [root, *root.children(recursive=True)])

    def _end(self, how: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            if how is signal.SIGKILL:
                os.killpg(process.pid, how)
            else:
                process.send_signal(how)
        try:
            code = process.wait(STOP_TIMEOUT_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            if self._log:
                self._log.close()
            self._process = None
        return code

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def chromium_path() -> str | None:
    """Where the system's Chromium is; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def launch_chromium() -> Iterator["Browser"]:
    """A headless browser.

    Raises:
        RuntimeError: There is none on this machine.
    """
    path = chromium_path()
    if path is None:
        raise RuntimeError("no Chromium here: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()
