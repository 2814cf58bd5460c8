"""What a person does in the browser app, as calls: adds files, asks, waits for the answer, opens a citation.

Elements are found by what a person would see or hear of them (roles and names), where Streamlit allows it.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import Locator, Page, TimeoutError  # noqa: A004

__all__ = ["AppPage"]

ANSWER_TIMEOUT_S = 400.0
_APP = '[data-testid="stApp"]'


class AppPage:
    """One page of a browser that shows the app.

    Args:
        page: Of Playwright.
        url: Of the app.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page, self._url = page, url

    def open(self, path: str = "/") -> "AppPage":
        """Goes to a path of the app and waits until it is drawn."""
        self.page.goto(self._url + path)
        self.settle()
        return self

    def reload(self) -> None:
        """As the browser's button does it: a new session of the server's."""
        self.page.reload()
        self.settle()

    def settle(self, timeout_s: float = 180.0) -> None:
        """Waits until something is drawn and no run of the page goes on."""
        self.page.locator(f'{_APP}[data-test-connection-state="CONNECTED"]').wait_for(timeout=timeout_s * 1000)
        self.page.locator('[data-testid="stSidebarNavLink"]').first.wait_for(state="attached", timeout=timeout_s * 1000)
        self.page.locator(f'{_APP}[data-test-script-state="notRunning"]').wait_for(timeout=timeout_s * 1000)
        # Streamlit fetches the code of some elements when they are first drawn.
        self.page.locator('[data-testid="stSkeleton"]').first.wait_for(state="detached", timeout=timeout_s * 1000)

    def upload(self, files: Sequence[Path]) -> None:
        """Gives files to the uploader of the page, opening it where it is folded."""
        box = self.page.locator('input[type="file"]').first
        folded = self.page.get_by_text("Add documents").first
        box.or_(folded).first.wait_for(state="attached")
        if not box.count():
            folded.click()
        # Where the page is drawn anew in this moment, the uploader that is given them may go: no person is so fast.
        for _ in range(3):
            box.set_input_files([str(path) for path in files])
            with suppress(TimeoutError):
                self.page.get_by_text(files[0].name).first.wait_for(timeout=20_000)
                return

    def ask(self, question: str) -> None:
        """Types a question and sends it once the page stands still.

        What a run of the page chooses reaches the browser after the line that says a file is in: no person types so
        fast.
        """
        self.settle()
        box = self.page.locator('[data-testid="stChatInputTextArea"]')
        box.fill(question)
        box.press("Enter")

    def answered(self, n: int = 1, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Waits until the page shows the receipts of `n` answers, and nothing is being answered."""
        self.page.wait_for_function(
            f"() => document.querySelectorAll('.ll-answer').length >= {n}", timeout=timeout_s * 1000
        )
        self.settle()

    def answers(self) -> list[str]:
        """The answers shown, from first to last."""
        return self.page.locator(".ll-answer").all_inner_texts()

    def chips(self) -> Locator:
        """The buttons that open a cited page."""
        return self.page.get_by_role("button", name=re.compile(r"p\. \d+"))

    def button(self, name: str) -> "Locator":
        """The first button of this name."""
        return self.page.get_by_role("button", name=name).first

    def text(self) -> str:
        """All that can be read on the page."""
        return self.page.locator('[data-testid="stAppViewContainer"]').inner_text()

    def wait_for_text(self, text: str, timeout_s: float = 180.0) -> None:
        """Waits until these words stand on the page."""
        self.page.get_by_text(text).first.wait_for(timeout=timeout_s * 1000)
