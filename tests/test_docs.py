"""The blocks of docs/langchain.md run as they stand, in one session, and print what the page says they print.

A ```python block is run, one marked `no-run` is not; a ```text block right after one is what it prints ("…" stands for
anything).
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longleaf.model import is_installed

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "langchain.md"
_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (is_installed("embedded")),
        reason="no weights here: run `longleaf model pull embedded`",
    ),
]


def blocks(page: Path) -> Iterator[tuple[int, str, str | None]]:
    """The blocks to run: line number, code, and what it prints if the page says so."""
    text = page.read_text(encoding="utf-8")
    found = list(_BLOCK.finditer(text))
    for block, after in zip(found, [*found[1:], None], strict=True):
        if block["info"].strip() != "python":
            continue
        follows = after is not None and after["info"] == "text" and not text[block.end() : after.start()].strip()
        line = text.count("\n", 0, block.start()) + 2
        yield line, block["text"], after["text"] if after is not None and follows else None


def test_the_langchain_guide_runs_and_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    session: dict[str, Any] = {"__name__": "guide"}
    n_compared = 0
    try:
        for line, code, expected in blocks(GUIDE):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                # Blank lines before the code: a traceback then names the line of the page.
                exec(compile("\n" * (line - 1) + code, str(GUIDE), "exec"), session)
            if expected is not None:
                n_compared += 1
                pattern = ".*?".join(re.escape(part) for part in expected.strip().split("…"))
                got = printed.getvalue().strip()
                assert re.fullmatch(pattern, got, re.DOTALL), f"{GUIDE.name}:{line} prints\n{got}\nnot\n{expected}"
    finally:
        session["library"].close()
    assert n_compared >= 8
